"""The project's console command, ``churn``.

``python -m churn_serving.cli`` does the same where no script is installed, as in a Bento. Commands
are declared in one module a group; what they do is in modules of their own, which are imported when
a command runs: ``--help`` loads neither BentoML nor numpy.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

import click

from churn_serving import __version__
from churn_serving.cli.card import card_command
from churn_serving.cli.model import model_commands
from churn_serving.cli.score import score_command
from churn_serving.errors import ChurnServingError

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["churn", "main"]

FAILED: Final = 1
INTERRUPTED: Final = 130  # what a shell reports for Ctrl-C

_LEARNING: Final = "churn_serving.learning"
_EXTRA_OF: Final = {
    "joblib": "train",
    "lightgbm": "boosters",
    "pandas": "train",
    "py4j": "spark",
    "pyarrow": "bulk",
    "pyspark": "spark",
    "scipy": "train",
    "sklearn": "train",
    "threadpoolctl": "train",
    "xgboost": "boosters",
}
"""Which extra of this package brings a module that the service itself needs not."""


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="churn-serving")
def churn() -> None:
    """Look after the models of the churn service, and score whole tables with them."""


model_commands.add_command(card_command)
churn.add_command(model_commands)
churn.add_command(score_command)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code; what goes wrong is told in one sentence."""
    # Before BentoML is imported: a command reports to nobody.
    os.environ.setdefault("BENTOML_DO_NOT_TRACK", "True")
    try:
        code = churn.main(arguments, prog_name="churn", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        return _told("Interrupted.", INTERRUPTED)
    except (ChurnServingError, ModuleNotFoundError, OSError) as error:
        sentence = _sentence(error)
        if sentence is None:
            raise
        return _told(sentence)
    return code if isinstance(code, int) else 0


def _sentence(error: Exception) -> str | None:
    """Say what went wrong; None if it is a fault of ours."""
    if isinstance(error, ModuleNotFoundError):
        name = error.name or ""
        package = name.partition(".")[0]
        if name.startswith(_LEARNING):
            return "A Bento leaves out what makes models; run this where models are trained."
        if package not in _EXTRA_OF:
            return None
        return (
            f"This command needs {package}, which is not installed here; install it with: "
            f"pip install 'churn-serving[{_EXTRA_OF[package]}]'"
        )
    if isinstance(error, OSError) and error.filename:
        return f"{error.filename}: {error.strerror}"
    return str(error)


def _told(sentence: str, code: int = FAILED) -> int:
    click.echo(
        f"{click.style('error:', fg='red')} {sentence}" if code == FAILED else sentence, err=True
    )
    return code
