"""What the image must be: run as a cluster would run it, and looked at from inside."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.error import URLError
from urllib.request import ProxyHandler, build_opener

from churn_serving.model.signature import generate_key_pair
from deploy.container.engine import IMAGE, ImageError, output, run, say, succeeds

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
HARDENED = (
    *("--read-only", "--cap-drop=all", "--security-opt=no-new-privileges", "--tmpfs=/tmp"),
    *("--memory=512m", "--cpus=1"),
)
USER = "1034"
CODE = "/home/bentoml/bento/src/churn_serving"
READY_SECONDS = 60
STOP_SECONDS = 45
REST_SECONDS = 2
MAX_BYTES = 255_000_000
BYTES_OF_SKLEARN = 140_000_000
BYTES_OF_ARROW = 170_000_000
MAX_REST_MB = 200
SKLEARN = ("joblib", "scipy", "sklearn", "threadpoolctl")
OTHERS = ("pandas", "pyarrow")
# Ours are on this machine: no proxy leads there.
open_url = build_opener(ProxyHandler({})).open

CUSTOMER = {
    "customer_id": "1",
    "tenure_months": "5",
    "monthly_charges": "89.5",
    "total_charges": "447.5",
    "num_products": "2",
    "has_phone_service": "true",
    "has_internet": "true",
    "contract_type": "month-to-month",
    "payment_method": "electronic",
}

# Run inside, where only the standard library is sure to be there.
MEASURE = """
import json, pathlib, re
found = {}
for process in pathlib.Path("/proc").glob("[0-9]*"):
    try:
        command = (process / "cmdline").read_text()
        share = (process / "smaps_rollup").read_text()
        maps = (process / "maps").read_text()
    except OSError:
        continue
    for role, sign in {"worker": "worker.service", "supervisor": "bentoml\\0serve"}.items():
        if sign in command:
            kilobytes = int(re.search(r"^Pss: +(\\d+)", share, re.MULTILINE)[1])
            found[role] = found.get(role, 0) + kilobytes / 1000
            names = re.findall(r"/site-packages/(\\w+)", maps)
            found.setdefault("mapped", []).extend(set(names))
print(json.dumps(found))
"""
FIND = "import importlib.util, sys; print(*filter(importlib.util.find_spec, sys.argv[1:]))"
CACHED = "import importlib.util, sys; print(importlib.util.cache_from_source(sys.argv[1]))"


def test(engine: str, *, sklearn: bool, bulk: bool) -> None:
    """Run the image as a cluster would, and check what it does.

    Args:
        engine: What runs it.
        sklearn: Whether it was built to run pickled models, too.
        bulk: Whether it was built to score whole tables, too.

    Raises:
        ImageError: It is not as it should be.
    """
    if engine == "buildah":
        raise ImageError("buildah builds images but does not run them; install podman or docker.")
    size = int(output([engine, "image", "inspect", "--format", "{{.Size}}", IMAGE]))
    port = _free_port()
    allowed = ("--env=CHURN_ALLOW_PICKLE=true",) if sklearn else ()
    with _running(engine, port, *allowed) as (container, started):
        origin = f"http://127.0.0.1:{port}"
        ready = _wait_until_ready(engine, container, origin, started)
        time.sleep(REST_SECONDS)
        rest = json.loads(output([engine, "exec", container, "python", "-c", MEASURE]))
        run([sys.executable, str(ROOT / "deploy" / "check.py"), origin], "The contract is broken.")
        user = output([engine, "exec", container, "id", "-u"])
        _require(user == USER, f"it runs as user {user}, not {USER}")
        _require(
            not succeeds([engine, "exec", container, "touch", "/home/bentoml/x"]),
            "its root can be written",
        )
        _check_configuration(engine, container)
        run([engine, "stop", "--time", str(STOP_SECONDS), container], "It could not be stopped.")
        state = output([engine, "inspect", "--format", "{{.State.ExitCode}}", container])
        _require(state == "0", f"it ended with {state} on SIGTERM")
        for line in _log(engine, container):
            _require(line.startswith("{") and line.endswith("}"), f"its log has the line {line!r}")
    memory = rest["supervisor"] + rest["worker"]
    say(
        f"{size / 1e6:.0f} MB, ready in {ready:.1f} s; at rest the supervisor takes "
        f"{rest['supervisor']:.0f} MB and the worker {rest['worker']:.0f} MB (PSS)"
    )
    largest = MAX_BYTES + sklearn * BYTES_OF_SKLEARN + bulk * BYTES_OF_ARROW
    _require(size <= largest, f"it is larger than {largest / 1e6:.0f} MB")
    if not sklearn:
        _require(memory <= MAX_REST_MB, f"at rest it takes more than {MAX_REST_MB} MB")
        mapped = {*SKLEARN, *OTHERS} & set(rest["mapped"])
        _require(not mapped, f"it has {mapped} in memory")
    _check_libraries(engine, {*(SKLEARN if sklearn else ()), *(("pyarrow",) if bulk else ())})
    if bulk:
        _check_that_a_table_is_scored(engine)
    _check_that_no_code_can_be_written(engine)
    _check_that_a_patch_takes_effect(engine)
    _check_that_a_foreign_key_stops_it(engine)


def run_tests_inside(engine: str) -> None:
    """Run the project's own tests with the image's Python and libraries.

    What the tests need beyond the image comes from this environment, after the image's own.
    """
    version = _inside(engine, "-V")
    if version.split()[1].split(".")[:2] != [str(part) for part in sys.version_info[:2]]:
        say(f"NOT RUN: the tests inside the image, which has {version} and not this Python")
        return
    site = next(path for path in sys.path if path.endswith("site-packages"))
    program = (
        "import sys; sys.path.append(sys.argv.pop(1)); import pytest; "
        "sys.exit(pytest.main(sys.argv[1:]))"
    )
    run(
        [
            *(engine, "run", "--rm", "--entrypoint=python", "--user=root", "--tmpfs=/tmp"),
            *("--volume", f"{ROOT}:{ROOT}:ro", "--volume", f"{site}:{site}:ro"),
            *("--workdir", str(ROOT), "--env=HOME=/tmp", f"--env=PYTHONPATH={ROOT / 'src'}"),
            *(IMAGE, "-c", program, site, "-q", "-p", "no:cacheprovider"),
            *("tests/package/test_scoring.py", "tests/package/test_batching.py", "tests/service"),
        ],
        "The tests fail inside the image.",
    )


def _check_configuration(engine: str, container: str) -> None:
    image = json.loads(output([engine, "image", "inspect", IMAGE]))[0]
    _require(
        "CHURN_WORKERS=1" in image["Config"]["Env"],
        "it starts as many workers as its host has CPUs",
    )
    # podman has it elsewhere than docker.
    health = image["Config"].get("Healthcheck") or image["Healthcheck"]
    _require(succeeds([engine, "exec", container, *health["Test"][1:]]), "its health check fails")


def _check_libraries(engine: str, wanted: set[str]) -> None:
    found = set(_inside(engine, "-c", FIND, *SKLEARN, *OTHERS).split())
    _require(found == wanted, f"of what it could do without it has {found or 'nothing'}")


def _check_that_a_table_is_scored(engine: str) -> None:
    """Run what the nightly job runs: the table is only read, one folder is written."""
    with tempfile.TemporaryDirectory() as folder:
        table, scores = Path(folder, "customers"), Path(folder, "scores")
        table.mkdir()
        scores.mkdir(mode=0o777)
        scores.chmod(0o777)
        Path(folder).chmod(0o755)
        (table / "customers.csv").write_text(
            ",".join(CUSTOMER) + "\n" + ",".join(CUSTOMER.values())
        )
        (table / "customers.csv").chmod(0o644)
        table.chmod(0o755)
        printed = output(
            [
                *(engine, "run", "--rm", *HARDENED, "--network=none", "--entrypoint=churn"),
                *(f"--volume={table}:/customers:ro", f"--volume={scores}:/scores", IMAGE),
                *("score", "/customers", "--output=/scores/runs", "--workers=2", "--json"),
            ]
        )
        rows = json.loads(printed)["rows"]
        _require(rows == {"in": 1, "scored": 1, "rejected": 0}, f"of one customer it made {rows}")
        _require(bool(list(scores.glob("runs/run=*/_SUCCESS"))), "its run is not complete")


def _check_that_no_code_can_be_written(engine: str) -> None:
    # Without --read-only: it must not hang on an option that somebody forgets.
    shell = (engine, "run", "--rm", "--entrypoint=sh", IMAGE, "-c")
    # Some folders it cannot even look into.
    find = "find / -xdev -writable -not -type l 2>/dev/null || true"
    places = ("/tmp", "/var/tmp", "/run/lock", "/proc", "/dev")  # noqa: S108 - inside
    writable = [path for path in output([*shell, find]).splitlines() if not path.startswith(places)]
    _require(not writable, f"its user can write {writable[:3]}")
    change = f"echo >> {CODE}/__init__.py || mv /home/bentoml/bento /home/bentoml/other"
    _require(not succeeds([*shell, change]), "its user can change the code")


def _check_that_a_patch_takes_effect(engine: str) -> None:
    module = f"{CODE}/__init__.py"
    show = ("-c", "import churn_serving; print(churn_serving.__version__)")
    version, patched = _inside(engine, *show), "x" * len(_inside(engine, *show))
    bytecode = _inside(engine, "-c", CACHED, module)
    _require(
        succeeds([engine, "run", "--rm", "--entrypoint=test", IMAGE, "-f", bytecode]),
        "its code has no bytecode",
    )
    with tempfile.TemporaryDirectory() as folder:
        # Of the same size and age: that is all that the usual bytecode would look at.
        copy = Path(folder, "__init__.py")
        run_in = (engine, "run", "--rm", "--entrypoint=python", IMAGE, "-c")
        text = output([*run_in, f"print(open({module!r}).read(), end='')"]) + "\n"
        age = output([*run_in, f"import os; print(os.stat({module!r}).st_mtime_ns)"])
        copy.write_text(text.replace(f'"{version}"', f'"{patched}"'))
        copy.chmod(0o644)
        os.utime(copy, ns=(int(age), int(age)))
        mounted = f"--volume={copy}:{module}:ro"
        command = [engine, "run", "--rm", mounted, "--entrypoint=python", IMAGE, *show]
        _require(output(command) == patched, "a patched module has no effect")


def _check_that_a_foreign_key_stops_it(engine: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        key = Path(folder, "key.pem")
        key.write_bytes(generate_key_pair()[1])
        key.chmod(0o644)
        done = subprocess.run(
            [
                *(engine, "run", "--rm", *HARDENED, f"--volume={key}:/run/secrets/key.pem:ro"),
                *("--env=CHURN_MODEL_PUBLIC_KEY_FILE=/run/secrets/key.pem", IMAGE),
            ],
            check=False,
            capture_output=True,
            text=True,
            timeout=READY_SECONDS,
        )
    _require(
        done.returncode != 0 and "Traceback" not in done.stderr and "sign" in done.stderr,
        "it starts with a model that the key's owner has not signed",
    )


def _inside(engine: str, *arguments: str) -> str:
    """Return what the image's Python prints."""
    return output([engine, "run", "--rm", "--entrypoint=python", IMAGE, *arguments])


@contextmanager
def _running(engine: str, port: int, *options: str) -> Iterator[tuple[str, float]]:
    started = time.monotonic()
    container = output(
        [
            *(engine, "run", "--detach", *HARDENED, f"--publish=127.0.0.1:{port}:{port}"),
            *(f"--env=PORT={port}", *options, IMAGE),
        ]
    ).splitlines()[-1]
    try:
        yield container, started
    except Exception:
        subprocess.run([engine, "logs", container], check=False)
        raise
    finally:
        subprocess.run([engine, "rm", "--force", container], check=False, capture_output=True)


def _wait_until_ready(engine: str, container: str, origin: str, started: float) -> float:
    while time.monotonic() - started < READY_SECONDS:
        try:
            with open_url(f"{origin}/health/ready", timeout=2):
                return time.monotonic() - started
        except (URLError, OSError):
            time.sleep(0.02)
        _require(
            output([engine, "inspect", "--format", "{{.State.Running}}", container]) == "true",
            "it ended by itself",
        )
    raise ImageError(f"The container was not ready within {READY_SECONDS} s.")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _require(holds: bool, problem: str) -> None:  # noqa: FBT001 - reads like a sentence
    if not holds:
        raise ImageError(f"The image is not as it should be: {problem}.")


def _log(engine: str, container: str) -> list[str]:
    done = subprocess.run(
        [engine, "logs", container],
        check=True,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    return done.stdout.splitlines()
