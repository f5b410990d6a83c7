"""Put load on a service with Locust, check every answer, and hold it against limits.

The service is the one at --host; without one, a service that answers on this machine at --port;
without that, one that is started for the test. The exit code is 1 if a limit was broken. What
users do and what is checked stands in locustfile.py; docs/load-testing.md is the guide.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
from contextlib import ExitStack
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Final

from rich.console import Console
from rich.markup import escape

from bench.errors import BenchmarkError
from bench.load.drive import drive, require_locust
from bench.load.report import tables
from bench.load.service import is_ready, require_service, started
from bench.tables import markdown, print_tables

if TYPE_CHECKING:
    from collections.abc import Sequence

FAILED: Final = 1
INTERRUPTED: Final = 130  # what a shell reports for Ctrl-C

_USERS: Final = 50
_SECONDS: Final = 30
_SPAWN_SECONDS: Final = 5
_LOG_LINES: Final = 10

# Rich takes 80 columns where there is no terminal, too few for the tables.
console = Console(width=None if sys.stdout.isatty() else 120)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    options = _parser().parse_args(arguments)
    # A polite kill ends it as Ctrl-C does, so that nothing which was started stays behind; and a
    # shell lets what it starts in the background ignore Ctrl-C, Locust with it.
    for stop in (signal.SIGINT, signal.SIGTERM):
        signal.signal(stop, signal.default_int_handler)
    try:
        require_locust()
        options.output.mkdir(parents=True, exist_ok=True)
        return _load(options)
    except BenchmarkError as error:
        complaint = f"[red]error:[/red] {escape(str(error))}"
        Console(stderr=True, soft_wrap=True).print(complaint, highlight=False)
        return FAILED
    except KeyboardInterrupt:
        Console(stderr=True).print("\nInterrupted.")
        return INTERRUPTED


def _load(options: argparse.Namespace) -> int:
    output: Path = options.output
    summary_file = output / "summary.json"
    summary_file.unlink(missing_ok=True)
    with ExitStack() as stack:
        host = options.host
        if host is None and is_ready(local := f"http://localhost:{options.port}"):
            console.print(f"A service answers at {local}.", highlight=False)
            host = local
        if host is None:
            log = output / "server.log"
            with console.status("Starting the service"):
                host = stack.enter_context(started(log))
            console.print(f"Started the service at {host}; its log is {log}.", highlight=False)
        require_service(host, os.environ.get("CHURN_LOAD_API_KEY", ""))
        seconds = options.run_time or (None if options.step_users else _SECONDS)
        driven = drive(host, _locust_options(options, seconds), output=output, console=console)
    if not summary_file.exists():
        if driven.interrupted:
            raise KeyboardInterrupt
        end = (output / "locust.log").read_text(encoding="utf-8").splitlines()[-_LOG_LINES:]
        raise BenchmarkError("\n".join(["Locust failed:", *end]))
    summary = json.loads(summary_file.read_text(encoding="utf-8"))
    print_tables(console, tables(summary))
    text = "\n\n".join(["# Load test", _about(host, options), *driven.sentences]) + "\n"
    (output / "summary.md").write_text(text + markdown(tables(summary)), encoding="utf-8")
    console.print(
        f"Written to {output}: report.html, summary.md, summary.json, locust.log", highlight=False
    )
    if driven.interrupted:
        raise KeyboardInterrupt
    return driven.code


def _locust_options(options: argparse.Namespace, seconds: int | None) -> list[str]:
    spawn_rate = options.spawn_rate or max(1.0, options.users / _SPAWN_SECONDS)
    # Users end what they are doing: a request that is cut off would worry the service's logs.
    given = {
        "--stop-timeout": 10,
        "--run-time": seconds and f"{seconds}s",
        "--processes": options.processes,
        "--max-fail-ratio": options.max_fail_ratio,
        "--max-p99-ms": options.max_p99_ms,
        "--step-users": options.step_users,
        "--step-seconds": options.step_seconds,
    }
    if not options.step_users:
        given |= {"--users": options.users, "--spawn-rate": spawn_rate}
    return [
        part for name, value in given.items() if value is not None for part in (name, f"{value}")
    ]


def _about(host: str, options: argparse.Namespace) -> str:
    users = f"{options.step_users} more each step" if options.step_users else str(options.users)
    return (
        f"{datetime.now(UTC).isoformat(timespec='seconds')}, {host}, users: {users}, "
        f"Locust {version('locust')} in {options.processes or 1} process(es) on a machine with "
        f"{os.cpu_count()} cores."
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="make load",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="CHURN_LOAD_API_KEY is the API key, if the service wants one.",
    )
    parser.add_argument(
        "--host",
        type=_url,
        metavar="URL",
        help="a service that runs, like https://churn.example.com",
    )
    parser.add_argument(
        "--port", type=int, default=3000, help="else, look here first (default: %(default)s)"
    )
    parser.add_argument(
        "--users", type=_count, default=_USERS, metavar="N", help="default: %(default)s"
    )
    parser.add_argument(
        "--spawn-rate",
        type=float,
        metavar="N",
        help=f"users that come each second (default: all within {_SPAWN_SECONDS} s)",
    )
    parser.add_argument(
        "--run-time",
        type=_count,
        metavar="SECONDS",
        help=f"default: {_SECONDS}; a search for the capacity ends by itself",
    )
    parser.add_argument(
        "--processes", type=_count, metavar="N", help="Locust's; one uses one core (default: 1)"
    )
    parser.add_argument(
        "--max-fail-ratio", type=float, metavar="SHARE", help="limit: default 0, no failure at all"
    )
    parser.add_argument(
        "--max-p99-ms", type=float, metavar="MS", help="limit for the 99th percentile: default 500"
    )
    parser.add_argument(
        "--step-users",
        type=_count,
        metavar="N",
        help="search the capacity: so many more users each step, until a limit is broken",
    )
    parser.add_argument(
        "--step-seconds", type=float, metavar="SECONDS", help="how long a step lasts: default 15"
    )
    parser.add_argument(
        "--output",
        type=Path,
        default=Path("results", "load"),
        metavar="FOLDER",
        help="default: %(default)s",
    )
    return parser


def _url(text: str) -> str:
    if not text.startswith(("http://", "https://")):
        raise argparse.ArgumentTypeError("expected an address like https://churn.example.com")
    return text.rstrip("/")


def _count(text: str) -> int:
    count = int(text)
    if count < 1:
        raise argparse.ArgumentTypeError("expected a whole number from 1")
    return count


if __name__ == "__main__":
    sys.exit(main())
