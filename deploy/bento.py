"""Build the Bento and serve it once; ``make bento`` runs this.

It holds the model that ``CHURN_MODEL_TAG`` names, by default the champion or, if none was promoted,
the latest; its version is written into the Bento. A Bento that cannot be served is deleted again,
so that the latest one in the store is a good one.
"""

from __future__ import annotations

import argparse
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.error import URLError
from urllib.request import ProxyHandler, build_opener

import bentoml
import yaml

from churn_serving.errors import ModelError
from churn_serving.model.artifact import MODEL_NAME, Trust, find_model
from churn_serving.revision import git_commit

if TYPE_CHECKING:
    from collections.abc import Sequence

ROOT = Path(__file__).parents[1]
BENTOML = str(Path(sys.executable).with_name("bentoml"))
READY_SECONDS = 60
STOP_SECONDS = 45
# Ours are on this machine: no proxy leads there.
open_url = build_opener(ProxyHandler({})).open


class BentoError(Exception):
    """What went wrong, in one sentence."""


def build(model: str) -> str:
    """Build the Bento of a model and return its tag."""
    content = yaml.safe_load((ROOT / "bentofile.yaml").read_text())
    try:
        # The version as of now. Inside the Bento, the alias is what the service asks for.
        content["models"][0]["tag"] = find_model(model, Trust(allow_pickle=True)).tag
    except ModelError as error:
        raise BentoError(str(error)) from None
    content["labels"]["git_commit"] = git_commit()
    with tempfile.TemporaryDirectory() as folder:
        bentofile = Path(folder, "bentofile.yaml")
        bentofile.write_text(yaml.safe_dump(content))
        done = subprocess.run(
            [BENTOML, "build", "--output", "tag", "--bentofile", str(bentofile), str(ROOT)],
            capture_output=True,
            text=True,
            check=False,
        )
    if done.returncode != 0:
        raise BentoError(f"The Bento could not be built:\n{done.stderr.strip()}")
    return done.stdout.strip().rpartition("__tag__:")[2]


def try_it(tag: str) -> None:
    """Export the Bento, import it into an empty store, serve it there, and drive the contract."""
    with tempfile.TemporaryDirectory() as folder:
        exported = bentoml.bentos.export_bento(tag, f"{folder}/")
        # The settings of whoever runs this are not the Bento's. A pickled model could not be tried.
        settings = (name for name in os.environ if name.startswith("CHURN_"))
        others = {*settings} - {"CHURN_ALLOW_PICKLE"}
        env = {name: value for name, value in os.environ.items() if name not in others}
        env |= {"BENTOML_HOME": f"{folder}/home", "CHURN_WORKERS": "1"}
        Path(folder, "home").mkdir()
        imported = subprocess.run(
            [BENTOML, "import", exported], env=env, cwd=folder, capture_output=True, check=False
        )
        if imported.returncode != 0:
            raise BentoError(f"It could not be imported:\n{imported.stderr.decode().strip()}")
        port = _free_port()
        log = Path(folder, "log")
        with log.open("wb") as output:
            server = subprocess.Popen(
                [BENTOML, "serve", tag, "--port", str(port), "--host", "127.0.0.1"],
                env=env,
                cwd=folder,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        origin = f"http://127.0.0.1:{port}"
        try:
            _wait_until_ready(server, origin)
            _check(origin)
            server.send_signal(signal.SIGTERM)
            _require_clean_end(server)
        except BentoError:
            sys.stderr.write(log.read_text(errors="replace"))
            raise
        finally:
            # All of its group: a worker that lives on would hold the port.
            with suppress(ProcessLookupError):
                os.killpg(server.pid, signal.SIGKILL)
            server.wait()


def _wait_until_ready(server: subprocess.Popen[bytes], origin: str) -> None:
    deadline = time.monotonic() + READY_SECONDS
    while time.monotonic() < deadline and server.poll() is None:
        try:
            with open_url(f"{origin}/health/ready", timeout=2):
                return
        except (URLError, OSError):
            time.sleep(0.1)
    raise BentoError(f"It was not ready within {READY_SECONDS} s.")


def _check(origin: str) -> None:
    check = subprocess.run(
        [sys.executable, str(ROOT / "deploy" / "check.py"), origin],
        capture_output=True,
        text=True,
        check=False,
    )
    if check.returncode != 0:
        raise BentoError(f"It breaks the contract:\n{check.stdout}{check.stderr}")


def _require_clean_end(server: subprocess.Popen[bytes]) -> None:
    try:
        code: int | None = server.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        code = None
    if code != 0:
        raise BentoError("It did not stop cleanly.")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--write-tag", type=Path, metavar="FILE", help="where to write the tag of the Bento"
    )
    options = parser.parse_args(arguments)
    try:
        print("==> Building the Bento", flush=True)
        tag = build(os.environ.get("CHURN_MODEL_TAG") or MODEL_NAME)
        try:
            print(f"==> Trying {tag} in an empty store", flush=True)
            try_it(tag)
        except BaseException:
            bentoml.bentos.delete(tag)
            raise
    except BentoError as error:
        print(
            f"error: {error}\nNo Bento was kept; the last good one is still there.", file=sys.stderr
        )
        return 1
    if options.write_tag:
        options.write_tag.parent.mkdir(parents=True, exist_ok=True)
        options.write_tag.write_text(f"{tag}\n")
    bento = bentoml.get(tag)
    size = sum(path.stat().st_size for path in Path(bento.path).rglob("*") if path.is_file())
    models = ", ".join(str(model.tag) for model in bento.info.all_models)
    print(f"{tag}: {size / 1e6:.1f} MB, model {models}. Serve it with: bentoml serve {tag}")
    return 0


if __name__ == "__main__":
    # As Ctrl-C does, it ends what was started here, too.
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    raise SystemExit(main())
