"""Serve one worker, and replace it at each save of the code: ``make dev``.

``bentoml serve --reload`` takes seven seconds for that. Here the libraries are imported once; each
worker is a fork of the process that has them, and only imports the project. The port stays open in
between, so that requests wait for the new code instead of being refused.
"""

from __future__ import annotations

import argparse
import importlib
import ipaddress
import json
import multiprocessing
import os
import signal
import socket
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final, NoReturn

if TYPE_CHECKING:
    from multiprocessing.context import ForkProcess

# One process, at whose end nobody waits, whatever the environment says. A library that has started
# a pool of threads cannot be forked.
ENVIRONMENT: Final = {
    "CHURN_WORKERS": "1",
    "CHURN_TOPOLOGY": "embedded",
    "CHURN_DRAIN_DELAY_SECONDS": "0",
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
}
# What the code imports. One that is missing here costs its time at each save.
LIBRARIES: Final = (
    "_bentoml_impl.loader",
    "_bentoml_impl.server.app",
    "_bentoml_impl.worker.service",
    "opentelemetry.exporter.otlp.proto.http.trace_exporter",
    "opentelemetry.instrumentation.asgi",
    "pydantic_settings",
    "structlog",
    "uvicorn.protocols.http.httptools_impl",
    "uvloop",
)
TARGET: Final = "service.py:ChurnService"
# The page's files, too: a worker reads them when it starts.
CODE: Final = (".py", ".html", ".css", ".js")
LOOK_SECONDS: Final = 0.1
END_SECONDS: Final = 2.0
SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)
FORK: Final = multiprocessing.get_context("fork")


def saved(root: Path) -> dict[Path, tuple[int, int]]:
    """Return when each file of the code was last written, and its size."""
    found = {}
    files = (path for path in (root / "src").rglob("*") if path.suffix in CODE)
    for path in (root / "service.py", *files):
        with suppress(FileNotFoundError):  # editors replace files
            status = path.stat()
            found[path] = status.st_mtime_ns, status.st_size
    return found


def listen(host: str, port: int) -> socket.socket:
    """Open the port on which one worker after the other will answer."""
    family = socket.AF_INET6 if ipaddress.ip_address(host).version == 6 else socket.AF_INET
    return socket.create_server((host, port), family=family, backlog=2048)


def work(fd: int) -> None:
    """Be a worker, as BentoML's supervisor would start it."""
    from _bentoml_impl.worker.service import main  # noqa: PLC0415 - only once it may be slow
    from bentoml.exceptions import BentoMLException  # noqa: PLC0415 - likewise

    for number in SIGNALS:
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
    options = {"--fd": fd, "--service-name": "ChurnService", "--worker-id": 1, "--args": "{}"}
    arguments = [str(part) for option in options.items() for part in option]
    try:
        main([TARGET, *arguments], standalone_mode=False)
    except BentoMLException as error:
        sys.exit(f"Error: {error}")


def start(fd: int) -> ForkProcess:
    """Fork a worker. No signal reaches it before it can tell that it is not its parent."""
    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        worker = FORK.Process(target=work, args=(fd,))
        worker.start()
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
    return worker


def end(worker: ForkProcess) -> None:
    """End a worker, by force if it takes its time."""
    worker.terminate()
    worker.join(END_SECONDS)
    worker.kill()
    worker.join()


def serve(door: socket.socket, root: Path) -> NoReturn:
    """Have a worker of the newest code, until a signal comes."""
    while True:
        code = saved(root)
        worker = start(door.fileno())
        told = False
        try:
            while saved(root) == code:
                time.sleep(LOOK_SECONDS)
                if not worker.is_alive() and not told:
                    told = True
                    print("The worker has ended; the next save starts another", flush=True)
        finally:
            end(worker)


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n\n")[0])
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=3000)
    options = parser.parse_args()
    try:
        door = listen(options.host, options.port)
    except (OSError, ValueError) as error:
        print(
            f"Error: {options.host}:{options.port} cannot be listened on: {error}", file=sys.stderr
        )
        return 1
    os.environ.update(ENVIRONMENT)
    for library in LIBRARIES:
        importlib.import_module(library)
    from bentoml.serving import ensure_prometheus_dir  # noqa: PLC0415 - after the port's check

    url = f"http://{options.host}:{options.port}"
    os.environ["BENTOML_RUNNER_MAP"] = json.dumps({"ChurnService": url})
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = ensure_prometheus_dir()
    for number in SIGNALS:  # also where a shell has told it to ignore them
        signal.signal(number, signal.default_int_handler)
    with door, suppress(KeyboardInterrupt):
        serve(door, Path.cwd())
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
