#!/usr/bin/env python
"""Train the churn model and register it in BentoML's model store.

Reads the public Telco table (or your own), compares the candidate models by cross-validation,
measures the chosen one on customers it has never seen, and registers it with its scaler. If
anything fails or is interrupted, the store is left as it was.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Final

# Before BentoML is imported: a training run reports to nobody.
os.environ.setdefault("BENTOML_DO_NOT_TRACK", "True")

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from churn_serving.errors import (
    ChurnServingError,
    ModelError,
    ModelNotFoundError,
    ModelStoreError,
)
from churn_serving.model.artifact import MODEL_NAME, Trust, load_artifact
from churn_serving.model.signature import read_private_key

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from churn_serving.learning.dataset import Dataset
    from churn_serving.learning.measuring.resampling import Estimate
    from churn_serving.learning.training import TrainingResult

MODELS: Final = ("auto", "logistic", "hist-gradient-boosting")
FAILED: Final = 1
INTERRUPTED: Final = 130  # what a shell reports for Ctrl-C

_TITLES: Final = {"auc": "AUC", "log_loss": "log-loss", "brier": "Brier", "f1": "F1"}

console = Console()


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    options = _parser().parse_args(arguments)
    try:
        if options.if_missing and (tag := _registered(options.name)):
            console.print(f"The model store already has {tag}.")
            return 0
        tag = _train_and_save(options)
    except (ChurnServingError, OSError) as error:
        hint = " (Can BENTOML_HOME be written, and is there room?)"
        text = f"{error}{hint if isinstance(error, OSError) else ''}"
        Console(stderr=True).print(
            f"[red]error:[/red] {escape(text)}\nNo model was registered.", soft_wrap=True
        )
        return FAILED
    except KeyboardInterrupt:
        Console(stderr=True).print("\nInterrupted. No model was registered.")
        return INTERRUPTED
    serve = "make serve" if options.name == MODEL_NAME else f"make serve CHURN_MODEL_TAG={tag}"
    console.print(f"Registered [bold]{tag}[/bold]. Serve it with: {serve}")
    return 0


def _train_and_save(options: argparse.Namespace) -> str:
    # Imported late: --help and --if-missing need none of it, and it takes a second.
    from churn_serving.learning.dataset import load_dataset  # noqa: PLC0415
    from churn_serving.learning.registration import save_artifact  # noqa: PLC0415
    from churn_serving.learning.training import train  # noqa: PLC0415

    if options.sign_key is not None:
        read_private_key(options.sign_key)  # a wrong one is told before the training, not after
    dataset = load_dataset(options.data)
    console.print(
        f"{dataset.rows:,} customers, {dataset.y.mean():.1%} left: {escape(dataset.source)}"
    )
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=console,
    ) as bar:
        task = bar.add_task("starting", total=None)

        def progress(description: str, done: int, steps: int) -> None:
            bar.update(task, description=description, completed=done, total=steps)

        result = train(dataset, model=options.model, seed=options.seed, progress=progress)
    _print_summary(result)
    return save_artifact(
        estimator=result.estimator,
        scaler=result.scaler,
        threshold=result.threshold,
        measured=_measured(dataset, result, options.seed),
        name=options.name,
        labels=dict(options.label),
        sign_key=options.sign_key,
    )


def _registered(name: str) -> str | None:
    try:
        # Whether a pickled model may be served is decided where it is.
        return load_artifact(f"{name}:latest", Trust(allow_pickle=True)).tag
    except ModelNotFoundError:
        return None
    except ModelStoreError:
        raise
    except ModelError as error:
        console.print(f"{escape(str(error))} A new one is trained beside it.", soft_wrap=True)
        return None


def _measured(dataset: Dataset, result: TrainingResult, seed: int) -> Mapping[str, Any]:
    """Return the metadata that is kept with the model."""
    return {
        "data": {"source": dataset.source, "sha256": dataset.sha256, "rows": dataset.rows},
        "seed": seed,
        "candidate": result.candidate,
        "train_rows": result.train_rows,
        "test_rows": result.test_rows,
        "cross_validation": {
            validation.candidate: {name: asdict(e) for name, e in validation.metrics.items()}
            for validation in result.cross_validation
        },
        "held_out": {name: asdict(estimate) for name, estimate in result.held_out.items()},
    }


def _print_summary(result: TrainingResult) -> None:
    columns: dict[str, Mapping[str, Estimate]] = {
        f"{v.candidate}\ncross-validated": v.metrics for v in result.cross_validation
    }
    columns[f"{result.candidate}\n{result.test_rows:,} held-out"] = result.held_out
    table = Table("", *columns, title="Value and 95% confidence interval", title_justify="left")
    for metric, title in _TITLES.items():
        cells = (_cell(metrics.get(metric)) for metrics in columns.values())
        table.add_row(title, *cells, end_section=True)
    console.print(table)
    if len(result.cross_validation) > 1:
        console.print(
            f"Chosen: [bold]{result.candidate}[/bold], the simplest within one standard error of "
            "the best log-loss."
        )
    console.print(f"Churn is predicted from a probability of {result.threshold:.3f} on.")


def _cell(estimate: Estimate | None) -> str:
    """Show the value above its interval, so that the table fits a narrow terminal."""
    if estimate is None:
        return ""
    return f"{estimate.value:.4f}\n[dim]{estimate.low:.4f} to {estimate.high:.4f}[/dim]"


def _parser() -> argparse.ArgumentParser:
    summary, _, description = (__doc__ or "").partition("\n\n")
    parser = argparse.ArgumentParser(
        prog="train_and_save.py", description=f"{summary} {description}"
    )
    parser.add_argument(
        "--data",
        type=Path,
        metavar="FILE",
        help="a CSV or Parquet table: the raw Telco columns, or a customer's fields and 'churn' "
        "(default: the public Telco table)",
    )
    parser.add_argument("--model", choices=MODELS, default="auto", help="default: %(default)s")
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
