"""Build and test the container image; ``make image`` and ``make image-test`` run this.

Works with docker, podman or buildah, whichever is there (``ENGINE=`` chooses; buildah only builds).
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.error import URLError
from urllib.request import ProxyHandler, build_opener

import bentoml

from churn_serving import __version__

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
CONTEXT = ROOT / "build" / "image"
NAME = "churn-serving"
ENGINES = ("docker", "podman", "buildah")
HARDENED = (
    *("--read-only", "--cap-drop=all", "--security-opt=no-new-privileges", "--tmpfs=/tmp"),
    *("--memory=512m", "--cpus=1"),
)
USER = "1034"
READY_SECONDS = 60
STOP_SECONDS = 45
MAX_BYTES = 400_000_000
# Ours are on this machine: no proxy leads there.
open_url = build_opener(ProxyHandler({})).open


class ImageError(Exception):
    """What went wrong, in one sentence that says what to do."""


def build(engine: str, bento: bentoml.Bento) -> None:
    """Build the slim image of a Bento; the last good one stays until this one is complete."""
    shutil.rmtree(CONTEXT, ignore_errors=True)
    CONTEXT.mkdir(parents=True)
    bento.export(str(CONTEXT / "bento"), output_format="folder")
    shutil.copy(HERE / "serve_once.py", CONTEXT)
    arguments = {
        "VERSION": __version__,
        "REVISION": bento.info.labels.get("git_commit", "unknown"),
        "MODEL": ",".join(str(model.tag) for model in bento.info.all_models),
    }
    command = [engine, "build", "--file", str(HERE / "Containerfile")]
    if engine != "docker":
        # Else HEALTHCHECK is left out.
        command += ["--format", "docker"]
    for name, value in arguments.items():
        command += ["--build-arg", f"{name}={value}"]
    for tag in (__version__, "latest"):
        command += ["--tag", f"{NAME}:{tag}"]
    _run([*command, str(CONTEXT)], "The image could not be built; what was there before is kept.")


def test(engine: str) -> None:
    """Run the image as a cluster would, and check what it does."""
    if engine == "buildah":
        raise ImageError("buildah builds images but does not run them; install podman or docker.")
    size = int(_output([engine, "image", "inspect", "--format", "{{.Size}}", f"{NAME}:latest"]))
    port = _free_port()
    with _running(engine, port) as (container, started):
        origin = f"http://127.0.0.1:{port}"
        ready = _wait_until_ready(engine, container, origin, started)
        _run([sys.executable, str(ROOT / "deploy" / "check.py"), origin], "The contract is broken.")
        user = _output([engine, "exec", container, "id", "-u"])
        _require(user == USER, f"it runs as user {user}, not {USER}")
        _require(
            not _succeeds([engine, "exec", container, "touch", "/home/bentoml/x"]),
            "its root can be written",
        )
        image = json.loads(_output([engine, "image", "inspect", f"{NAME}:latest"]))[0]
        _require(
            "CHURN_WORKERS=1" in image["Config"]["Env"],
            "it starts as many workers as its host has CPUs",
        )
        # podman has it elsewhere than docker.
        health = image["Config"].get("Healthcheck") or image["Healthcheck"]
        _require(
            _succeeds([engine, "exec", container, *health["Test"][1:]]), "its health check fails"
        )
        with open_url(f"{origin}/health/ready", timeout=5) as answer:
            memory = json.load(answer)["memory_usage_mb"]
        _run([engine, "stop", "--time", str(STOP_SECONDS), container], "It could not be stopped.")
        state = _output([engine, "inspect", "--format", "{{.State.ExitCode}}", container])
        _require(state == "0", f"it ended with {state} on SIGTERM")
        for line in _log(engine, container):
            _require(line.startswith("{") and line.endswith("}"), f"its log has the line {line!r}")
    _say(f"{size / 1e6:.0f} MB, ready in {ready:.1f} s, a worker at rest takes {memory:.0f} MB")
    _require(size <= MAX_BYTES, f"it is larger than {MAX_BYTES / 1e6:.0f} MB")


def run_tests_inside(engine: str) -> None:
    """Run the project's own tests with the image's Python and libraries.

    What the tests need beyond the image comes from this environment, after the image's own.
    """
    version = _output([engine, "run", "--rm", "--entrypoint=python", f"{NAME}:latest", "-V"])
    if version.split()[1].split(".")[:2] != [str(part) for part in sys.version_info[:2]]:
        _say(f"NOT RUN: the tests inside the image, which has {version} and not this Python")
        return
    site = next(path for path in sys.path if path.endswith("site-packages"))
    program = (
        "import sys; sys.path.append(sys.argv.pop(1)); import pytest; "
        "sys.exit(pytest.main(sys.argv[1:]))"
    )
    _run(
        [
            *(engine, "run", "--rm", "--entrypoint=python", "--user=root", "--tmpfs=/tmp"),
            *("--volume", f"{ROOT}:{ROOT}:ro", "--volume", f"{site}:{site}:ro"),
            *("--workdir", str(ROOT), "--env=HOME=/tmp", f"--env=PYTHONPATH={ROOT / 'src'}"),
            *(f"{NAME}:latest", "-c", program, site, "-q", "-p", "no:cacheprovider"),
            *("tests/package/test_scoring.py", "tests/package/test_batching.py", "tests/service"),
        ],
        "The tests fail inside the image.",
    )


def find_engine() -> str:
    """Return the engine to use.

    Raises:
        ImageError: There is none, or not the one that is asked for.
    """
    wanted = os.environ.get("ENGINE")
    for engine in (wanted,) if wanted else ENGINES:
        # docker may be installed without its daemon running.
        if shutil.which(engine) and _succeeds([engine, "info"]):
            return engine
    names = wanted or "docker, podman or buildah"
    raise ImageError(f"There is no {names} that works here; install one, or start it.")


@contextmanager
def _running(engine: str, port: int) -> Iterator[tuple[str, float]]:
    started = time.monotonic()
    container = _output(
        [
            *(engine, "run", "--detach", *HARDENED, f"--publish=127.0.0.1:{port}:{port}"),
            *(f"--env=PORT={port}", f"{NAME}:latest"),
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
            _output([engine, "inspect", "--format", "{{.State.Running}}", container]) == "true",
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


def _run(command: Sequence[str], problem: str) -> None:
    if subprocess.run(command, check=False).returncode != 0:
        raise ImageError(problem)


def _succeeds(command: Sequence[str]) -> bool:
    return subprocess.run(command, check=False, capture_output=True).returncode == 0


def _output(command: Sequence[str]) -> str:
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode == 0:
        return done.stdout.strip()
    raise ImageError(f"{' '.join(command[:3])} failed: {done.stderr.strip()}")


def _log(engine: str, container: str) -> list[str]:
    done = subprocess.run(
        [engine, "logs", container],
        check=True,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    return done.stdout.splitlines()


def _say(text: str) -> None:
    print(f"==> {text}", flush=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=("build", "test", "containerize"))
    parser.add_argument("--bento", default="churn_service:latest", help="which Bento")
    options = parser.parse_args(arguments)
    try:
        engine = find_engine()
        bento: Any = bentoml.get(options.bento)
        if options.what == "build":
            _say(f"Building the image of {bento.tag} with {engine}")
            build(engine, bento)
        elif options.what == "containerize":
            _say(f"bentoml containerize {bento.tag}, with {engine}")
            _run(
                [
                    *(str(Path(sys.executable).with_name("bentoml")), "containerize"),
                    *(str(bento.tag), "--backend", engine, "--image-tag", f"{NAME}:containerize"),
                ],
                "bentoml containerize failed.",
            )
        else:
            _say(f"Testing the image with {engine}")
            test(engine)
            run_tests_inside(engine)
    except (ImageError, bentoml.exceptions.NotFound) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    # As Ctrl-C does, it ends what was started here, too.
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    raise SystemExit(main())
