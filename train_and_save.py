#!/usr/bin/env python
"""Train the churn model and register it in BentoML's model store.

Reads the public Telco table (or your own), compares the candidate models by cross-validation,
measures the chosen one on customers it has never seen, and registers it with its scaler, unless a
gate stops it. If anything fails or is interrupted, the store is left as it was.
"""

from __future__ import annotations

import argparse
import os
import re
import signal
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

# Before BentoML is imported: a training run reports to nobody.
os.environ.setdefault("BENTOML_DO_NOT_TRACK", "True")

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

from churn_serving.errors import (
    ChurnServingError,
    ModelCorruptedError,
    ModelError,
    ModelNotFoundError,
    ModelStoreError,
)
from churn_serving.model.aliases import CHAMPION
from churn_serving.model.artifact import MODEL_NAME, Trust, aliases_of, load_artifact
from churn_serving.model.policy import Policy, read_policy
from churn_serving.model.signature import read_private_key

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from churn_serving.learning.dataset import Dataset
    from churn_serving.learning.training import Champion

    Told = Callable[[str, int, int], None]

MODELS: Final = (
    "auto",
    "logistic",
    "decision-tree",
    "hist-gradient-boosting",
    "gradient-boosting",
    "random-forest",
    "extra-trees",
)
FAILED: Final = 1
INTERRUPTED: Final = 130  # what a shell reports for Ctrl-C
TERMINATED: Final = 143  # and for SIGTERM

console = Console()


class _StoppedError(Exception):
    """The gates keep the model from being registered; the text has their sentences."""


class _Terminated(KeyboardInterrupt):
    """SIGTERM: the training ends as with Ctrl-C."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    options = _parser().parse_args(arguments)
    try:
        with _orderly_end():
            if options.if_missing and (tag := _registered(options.name)):
                console.print(f"The model store already has {tag}.", soft_wrap=True)
                return 0
            tag = _train_and_save(options)
    except _StoppedError as error:
        return _told(f"[red]stopped:[/red] {escape(str(error))}", FAILED)
    except (ChurnServingError, OSError) as error:
        hint = " (Can BENTOML_HOME be written, and is there room?)"
        text = f"{error}{hint if isinstance(error, OSError) else ''}"
        return _told(f"[red]error:[/red] {escape(text)}", FAILED)
    except KeyboardInterrupt as error:
        is_terminated = isinstance(error, _Terminated)
        return _told(
            f"\n{'Terminated' if is_terminated else 'Interrupted'}.",
            TERMINATED if is_terminated else INTERRUPTED,
        )
    console.print(f"Registered [bold]{tag}[/bold]. {_how_to_serve(tag)}", soft_wrap=True)
    return 0


def _told(sentence: str, code: int) -> int:
    Console(stderr=True).print(f"{sentence}\nNo model was registered.", soft_wrap=True)
    return code


@contextmanager
def _orderly_end() -> Iterator[None]:
    """Have SIGTERM end the training as Ctrl-C does: what was begun is removed."""

    def end(*_: object) -> None:
        raise _Terminated

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _train_and_save(options: argparse.Namespace) -> str:
    # Imported late: --help and --if-missing need none of it, and it takes a second.
    from churn_serving.learning.comparison import FINGERPRINTS  # noqa: PLC0415
    from churn_serving.learning.dataset import load_dataset  # noqa: PLC0415
    from churn_serving.learning.measuring.summary import summary  # noqa: PLC0415
    from churn_serving.learning.registration import (  # noqa: PLC0415
        require_writable_store,
        save_artifact,
    )
    from churn_serving.learning.training import train  # noqa: PLC0415

    # What is wrong is told before the training, not after.
    require_writable_store(options.name)
    if options.sign_key is not None:
        read_private_key(options.sign_key)
    policy = Policy() if options.policy is None else read_policy(options.policy)
    champion = _champion(options)
    with _progress() as told:
        dataset = load_dataset(options.data, time=options.time, progress=told)
        _say_what_was_read(dataset)
        result = train(
            dataset,
            model=options.model,
            seed=options.seed,
            progress=told,
            champion=champion,
            policy=policy,
        )
    console.print(summary(result))
    measured = {"data": dataset.provenance, "seed": options.seed, **result.measured}
    labels = dict(options.label)
    if result.stopped:
        if not options.force:
            raise _StoppedError(
                f"{' '.join(result.stopped)} To register it all the same, pass --force."
            )
        labels["forced"] = ",".join(v.gate for v in result.verdicts if v.outcome == "stopped")
        measured["forced"] = list(result.stopped)
        console.print(
            f"[yellow]Registered by force[/yellow], labelled forced={labels['forced']}.",
            soft_wrap=True,
        )
    attachments = {FINGERPRINTS: result.known.to_bytes()}
    return save_artifact(
        estimator=result.estimator,
        scaler=result.scaler,
        threshold=result.threshold,
        measured=measured,
        name=options.name,
        labels=labels,
        sign_key=options.sign_key,
        attachments=attachments,
        background=result.background,
    )


@contextmanager
def _progress() -> Iterator[Told]:
    """Show what is done, and how much of it; what is printed meanwhile stands above."""
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TimeElapsedColumn(),
        console=console,
    ) as bar:
        task = bar.add_task("starting", total=None)

        def told(description: str, done: int, steps: int) -> None:
            bar.update(task, description=description, completed=done, total=steps or None)

        yield told


def _say_what_was_read(dataset: Dataset) -> None:
    console.print(
        f"{dataset.rows:,} rows, {dataset.y.mean():.1%} left: {escape(dataset.source)}",
        soft_wrap=True,
    )
    for notice in dataset.notices:
        console.print(f"[yellow]note:[/yellow] {escape(notice)}", soft_wrap=True)


def _champion(options: argparse.Namespace) -> Champion | None:
    """Return the model that the new one is compared with; None: there is none."""
    from churn_serving.learning.comparison import champion_of  # noqa: PLC0415 - as above

    if options.champion is not None:
        return champion_of(load_artifact(options.champion))
    try:
        return champion_of(load_artifact(f"{options.name}:{CHAMPION}"))
    except ModelStoreError:
        raise
    except ModelError as error:
        if _has_champion(options.name):
            console.print(
                f"[yellow]note:[/yellow] Not compared with the champion: {escape(str(error))}",
                soft_wrap=True,
            )
        return None


def _has_champion(name: str) -> bool:
    """Tell whether somebody has promoted a version, also if it cannot be told which."""
    try:
        return aliases_of(name).champion is not None
    except ModelCorruptedError:
        return True


def _registered(name: str) -> str | None:
    """Return the tag of the model that would be served; None: a new one is to be trained."""
    try:
        # Whether a pickled model may be served is decided where it is.
        return load_artifact(name, Trust(allow_pickle=True)).tag
    except ModelStoreError:
        raise
    except ModelError as error:
        if _has_champion(name):
            raise  # a new model would not be served in its place
        if not isinstance(error, ModelNotFoundError):
            console.print(f"{escape(str(error))} A new one is trained beside it.", soft_wrap=True)
        return None


def _how_to_serve(tag: str) -> str:
    """Say how a new model is served; where a champion serves, it takes a person's decision."""
    name = tag.partition(":")[0]
    if _has_champion(name):
        return (
            f"The champion is still served; compare them with: churn model compare {tag} "
            f"{name} --data TABLE, and serve the new one with: churn model promote {tag}"
        )
    return f"Serve it with: make serve{'' if name == MODEL_NAME else f' CHURN_MODEL_TAG={tag}'}"


def _parser() -> argparse.ArgumentParser:
    summary, _, description = (__doc__ or "").partition("\n\n")
    parser = argparse.ArgumentParser(
        prog="train_and_save.py", description=f"{summary} {description}"
    )
    parser.add_argument(
        "--data",
        type=Path,
        metavar="FILE",
        help="a table: the raw Telco columns, or a customer's fields and 'churn'; CSV, JSON lines "
        "or Parquet, packed or not, a folder of Parquet parts, or '-' for standard input "
        "(default: the public Telco table)",
    )
    parser.add_argument(
        "--time",
        metavar="COLUMN",
        help="when each row was true: the latest customers are held out, instead of a lot",
    )
    parser.add_argument(
        "--model",
        choices=MODELS,
        default="auto",
        help="auto compares logistic and hist-gradient-boosting (default: %(default)s)",
    )
    parser.add_argument(
        "--champion",
        metavar="TAG",
        help="do not register a model that is worse than this one "
        "(default: the champion, if a version was promoted)",
    )
    parser.add_argument(
        "--policy",
        type=Path,
        metavar="FILE",
        help="measure the profit of contacts with the costs and values of this file, TOML or JSON "
        "(default: those of Verbraken et al. 2013); a service reads its own",
    )
    parser.add_argument(
        "--force",
        action="store_true",
        help="register a model that a gate has stopped, with a label that says which",
    )
    parser.add_argument(
        "--seed",
        type=_seed,
        default=42,
        help="the same data and seed give the same model (default: %(default)s)",
    )
    parser.add_argument(
        "--name", type=_name, default=MODEL_NAME, help="in the model store (default: %(default)s)"
    )
    parser.add_argument(
        "--label",
        type=_label,
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="kept with the model; may be repeated",
    )
    parser.add_argument(
        "--sign-key",
        type=Path,
        metavar="FILE",
        help="sign the model with this private key (see: churn model keygen)",
    )
    parser.add_argument(
        "--if-missing", action="store_true", help="do nothing if the store has a model of this name"
    )
    return parser


def _seed(text: str) -> int:
    if not text.isdecimal() or int(text) >= 2**32:
        raise argparse.ArgumentTypeError("expected a whole number from 0 to 4294967295")
    return int(text)


def _name(text: str) -> str:
    if not re.fullmatch(r"[a-z0-9]([a-z0-9_.-]{0,61}[a-z0-9])?", text):
        raise argparse.ArgumentTypeError(
            "expected up to 63 lower case letters, digits, '_', '.' and '-'"
        )
    return text


def _label(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not key or not equals:
        raise argparse.ArgumentTypeError("expected KEY=VALUE")
    return key, value


if __name__ == "__main__":
    sys.exit(main())
