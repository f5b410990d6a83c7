"""Build and test the container image; ``make image`` and ``make image-test`` run this.

Works with docker, podman or buildah, whichever is there (``ENGINE=`` chooses; buildah only builds).
"""

from __future__ import annotations

import argparse
import shutil
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import bentoml

from churn_serving import __version__
from deploy.container.checks import run_tests_inside, test
from deploy.container.engine import NAME, ImageError, find_engine, run, say

if TYPE_CHECKING:
    from collections.abc import Sequence

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
CONTEXT = ROOT / "build" / "image"


def build(engine: str, bento: bentoml.Bento, *, sklearn: bool = False, bulk: bool = False) -> None:
    """Build the slim image of a Bento; the last good one stays until this one is complete.

    Args:
        engine: What builds it.
        bento: What it serves.
        sklearn: Whether it can serve a pickled model, too.
        bulk: Whether it can score whole tables, too.
    """
    shutil.rmtree(CONTEXT, ignore_errors=True)
    CONTEXT.mkdir(parents=True)
    bento.export(str(CONTEXT / "bento"), output_format="folder")
    shutil.copy(HERE / "serve_once.py", CONTEXT)
    for name in ("bulk", "sklearn"):
        shutil.copy(ROOT / "requirements" / f"{name}.txt", CONTEXT)
    arguments = {
        "VERSION": __version__,
        "REVISION": bento.info.labels.get("git_commit", "unknown"),
        "MODEL": ",".join(str(model.tag) for model in bento.info.all_models),
    }
    if sklearn:
        arguments["SKLEARN"] = "1"
    if bulk:
        arguments["BULK"] = "1"
    command = [engine, "build", "--file", str(HERE / "Containerfile")]
    if engine != "docker":
        # Else HEALTHCHECK is left out.
        command += ["--format", "docker"]
    for name, value in arguments.items():
        command += ["--build-arg", f"{name}={value}"]
    for tag in (__version__, "latest"):
        command += ["--tag", f"{NAME}:{tag}"]
    run([*command, str(CONTEXT)], "The image could not be built; what was there before is kept.")


def containerize(engine: str, bento: bentoml.Bento) -> None:
    """Build the image that BentoML makes by itself."""
    program = str(Path(sys.executable).with_name("bentoml"))
    options = ("--backend", engine, "--image-tag", f"{NAME}:containerize")
    run([program, "containerize", str(bento.tag), *options], "bentoml containerize failed.")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=("build", "test", "containerize"))
    parser.add_argument("--bento", default="churn_service:latest", help="which Bento")
    parser.add_argument(
        "--sklearn", action="store_true", help="with scikit-learn, which runs pickled models"
    )
    parser.add_argument(
        "--bulk", action="store_true", help="with Arrow, which reads and writes whole tables"
    )
    options = parser.parse_args(arguments)
    try:
        engine = find_engine()
        if options.what == "test":
            say(f"Testing the image with {engine}")
            test(engine, sklearn=options.sklearn, bulk=options.bulk)
            run_tests_inside(engine)
            return 0
        bento = bentoml.get(options.bento)
        say(f"Building the image of {bento.tag} with {engine}")
        if options.what == "build":
            build(engine, bento, sklearn=options.sklearn, bulk=options.bulk)
        else:
            containerize(engine, bento)
    except (ImageError, bentoml.exceptions.NotFound) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    # As Ctrl-C does, it ends what was started here, too.
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    raise SystemExit(main())
