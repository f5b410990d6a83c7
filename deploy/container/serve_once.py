"""Serve a Bento for one request, and keep the bytecode of all that was imported for it.

Run while the image is built, with ``PYTHONPYCACHEPREFIX`` set: ``python serve_once.py BENTO``. It
needs nothing but the standard library and the environment that it is run in.
"""

from __future__ import annotations

import importlib.util
import os
import py_compile
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from http.client import HTTPConnection
from pathlib import Path

PORT = 3999
SECONDS = 60
CHECKED = py_compile.PycInvalidationMode.CHECKED_HASH
UNCHECKED = py_compile.PycInvalidationMode.UNCHECKED_HASH


def serve(bento: str, home: str) -> None:
    """Start the Bento, wait until it is ready, and stop it.

    Raises:
        SystemExit: It was not ready in time, or did not stop cleanly.
    """
    server = subprocess.Popen(
        [sys.executable, "-m", "bentoml", "serve", bento, "--port", str(PORT)],
        env={**os.environ, "BENTOML_HOME": home, "CHURN_WORKERS": "1"},
        start_new_session=True,
    )
    try:
        deadline = time.monotonic() + SECONDS
        while not is_ready():
            if server.poll() is not None or time.monotonic() > deadline:
                raise SystemExit("error: the Bento cannot be served; its log is above")
            time.sleep(0.2)
        server.send_signal(signal.SIGTERM)
        try:
            code: int | None = server.wait(SECONDS)
        except subprocess.TimeoutExpired:
            code = None
        if code != 0:
            raise SystemExit("error: the Bento did not stop cleanly")
    finally:
        # All of its group: a worker that lives on would hold the port.
        with suppress(ProcessLookupError):
            os.killpg(server.pid, signal.SIGKILL)
        server.wait()


def is_ready() -> bool:
    """Ask for readiness; the service has then answered a request of its own on each route."""
    connection = HTTPConnection("127.0.0.1", PORT, timeout=2)
    try:
        connection.request("GET", "/health/ready")
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()


def keep_bytecode(folder: Path, code: Path) -> int:
    """Compile what was imported once more, so that it is valid whatever the files' times are.

    Copying an image's layers rounds them, and Python would take all of it for stale. What lies in
    the code's folder is compared with its source at each import: a module that is patched, or
    mounted over ours, takes effect. The libraries' are believed, which is faster.
    """
    written = list(folder.rglob("*.pyc"))
    for bytecode in written:
        # The folder mirrors the whole file system: FOLDER/usr/lib/x.cpython-311.pyc
        name = bytecode.name.partition(".")[0] + ".py"
        source = Path("/", bytecode.parent.relative_to(folder), name)
        if not source.is_file() or importlib.util.cache_from_source(str(source)) != str(bytecode):
            bytecode.unlink()
            continue
        py_compile.compile(
            str(source),
            doraise=True,
            invalidation_mode=CHECKED if source.is_relative_to(code) else UNCHECKED,
        )
    return len(written)


def main() -> None:
    """Run the command line."""
    prefix = sys.pycache_prefix
    if prefix is None or len(sys.argv) != 2:
        raise SystemExit("usage: PYTHONPYCACHEPREFIX=FOLDER python serve_once.py BENTO")
    with tempfile.TemporaryDirectory() as home:
        serve(sys.argv[1], home)
    print(f"kept the bytecode of {keep_bytecode(Path(prefix), Path(sys.argv[1]))} modules")


if __name__ == "__main__":
    main()
