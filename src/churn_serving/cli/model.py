"""``churn model``: the commands that look after models; what they do is in the modules beside."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["ALLOW_PICKLE_VARIABLE", "PUBLIC_KEY_VARIABLE", "TAG_VARIABLE", "model_commands"]

# Their names in ``churn_serving.settings``, which takes a sixth of a second to import.
TAG_VARIABLE: Final = "CHURN_MODEL_TAG"
PUBLIC_KEY_VARIABLE: Final = "CHURN_MODEL_PUBLIC_KEY_FILE"
ALLOW_PICKLE_VARIABLE: Final = "CHURN_ALLOW_PICKLE"

_NAME: Final = re.compile(r"[a-z0-9]([a-z0-9_.-]{0,61}[a-z0-9])?")
_MAX_REASON: Final = 500
_FILE: Final = click.Path(path_type=Path)


def _name(_context: click.Context, _parameter: click.Parameter, value: str) -> str:
    if not _NAME.fullmatch(value):
        raise click.BadParameter("expected up to 63 lower case letters, digits, '_', '.' and '-'")
    return value


def _labels(
    _context: click.Context, _parameter: click.Parameter, values: tuple[str, ...]
) -> dict[str, str]:
    pairs = [value.partition("=") for value in values]
    if not all(key and equals for key, equals, _ in pairs):
        raise click.BadParameter("expected KEY=VALUE")
    return {key: value for key, _, value in pairs}


def _reason(_context: click.Context, _parameter: click.Parameter, value: str) -> str:
    if len(value) > _MAX_REASON or not value.isprintable():
        raise click.BadParameter(f"expected one line of up to {_MAX_REASON} characters")
    return value


def _tag(*, required: bool = False) -> Callable[[Any], Any]:
    """Declare the TAG argument; a service's environment names its model."""
    if required:
        return click.argument("tag", required=True)
    return click.argument("tag", envvar=TAG_VARIABLE, default="churn_classifier")


def _examples(*lines: str) -> str:
    r"""Return what stands at the end of a help text; ``\b`` keeps click from filling its lines."""
    return "\n".join(("\b", "Examples:", *(f"  {line}" for line in lines)))


_PUBLIC_KEY = click.option(
    "--public-key",
    type=_FILE,
    metavar="FILE",
    envvar=PUBLIC_KEY_VARIABLE,
    help=f"Check the signature with this key.  [default: {PUBLIC_KEY_VARIABLE}, as serving does]",
)
_ALLOW_PICKLE = click.option(
    "--allow-pickle",
    is_flag=True,
    envvar=ALLOW_PICKLE_VARIABLE,
    help="Also take a model that only scikit-learn can run; loading it runs code in its file.  "
    f"[default: {ALLOW_PICKLE_VARIABLE}]",
)
_JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")
_DATA = click.option(
    "--data",
    type=_FILE,
    metavar="TABLE",
    help="Measure the model on this table (CSV or Parquet, as for training); its reasons compare "
    "a customer with those of the table.",
)
_SIGN_KEY = click.option(
    "--sign-key",
    type=_FILE,
    metavar="FILE",
    help="Sign the model with this private key (see: churn model keygen).",
)


_REASON = click.option(
    "--reason",
    default="",
    callback=_reason,
    metavar="TEXT",
    help="Kept in the history, for those who ask why.",
)


@click.group("model")
def model_commands() -> None:
    """Look at, compare, promote, sign, register and convert models.

    A TAG is name:version. name:champion is the version that was promoted, name:latest the newest,
    and name alone the champion, or else the latest. BENTOML_HOME chooses the model store.
    """


@model_commands.command(
    "list",
    epilog=_examples(
        "churn model list",
        "churn model list churn_classifier",
        "churn model list --public-key churn-model.pub.pem",
        "churn model list --json",
    ),
)
@click.argument("name", required=False)
@_PUBLIC_KEY
@_JSON
def list_(name: str | None, public_key: Path | None, *, as_json: bool) -> None:
    """List the models of the store, the newest first."""
    from churn_serving.cli import inspection  # noqa: PLC0415 - --help must be quick

    inspection.list_models(name, public_key, as_json=as_json)


@model_commands.command(
    epilog=_examples(
        "churn model show",
        "churn model show churn_classifier:pjvavrxjykfbyax4",
        "churn model show --json",
    )
)
@_tag()
@_PUBLIC_KEY
@_JSON
def show(tag: str, public_key: Path | None, *, as_json: bool) -> None:
    """Show what is known of a model.

    That is its figures, versions, checksum and signature, and where it came from.
    """
    from churn_serving.cli import inspection  # noqa: PLC0415 - likewise

    inspection.show_model(tag, public_key, as_json=as_json)


@model_commands.command(
    epilog=_examples(
        "churn model verify churn_classifier:latest",
        "churn model verify churn_classifier:latest --public-key churn-model.pub.pem",
    )
)
@_tag(required=True)
@_PUBLIC_KEY
@_ALLOW_PICKLE
def verify(tag: str, public_key: Path | None, *, allow_pickle: bool) -> None:
    """Load a model as serving would, and say what was checked.

    The exit code is 1 if serving would refuse it.
    """
    from churn_serving.cli import inspection  # noqa: PLC0415 - likewise

    inspection.verify_model(tag, public_key, allow_pickle=allow_pickle)


@model_commands.command(
    epilog=_examples(
        "churn model compare churn_classifier:latest churn_classifier --data march.csv",
        "churn model compare churn_classifier:latest other:v2 --data march.csv --json",
    )
)
@click.argument("a")
@click.argument("b")
@click.option(
    "--data",
    type=_FILE,
    required=True,
    metavar="TABLE",
    help="Compare them on this table (as for training); customers whom one of them was trained on "
    "are left out.",
)
@_PUBLIC_KEY
@_ALLOW_PICKLE
@_JSON
def compare(**options: Any) -> None:  # noqa: ANN401 - click checked their types
    """Tell which of two models is better.

    Both are measured on the same customers, whom neither was trained on. The intervals are those
    of the difference, customer by customer.
    """
    from churn_serving.cli import championship  # noqa: PLC0415 - likewise

    championship.compare_models(**options)


@model_commands.command(
    epilog=_examples(
        "churn model promote churn_classifier:latest",
        "churn model promote churn_classifier:pjvavrxjykfbyax4 --reason ticket-17",
    )
)
@_tag(required=True)
@_REASON
@_PUBLIC_KEY
@_ALLOW_PICKLE
def promote(**options: Any) -> None:  # noqa: ANN401 - click checked their types
    """Make a model the champion of its name, to be served.

    It is loaded first, as serving would. A service takes it at its next start, or at SIGHUP.
    """
    from churn_serving.cli import championship  # noqa: PLC0415 - likewise

    championship.promote_model(**options)


@model_commands.command(
    epilog=_examples(
        "churn model rollback churn_classifier",
        "churn model rollback churn_classifier --reason alerts",
    )
)
@click.argument("name", callback=_name)
@_REASON
@_PUBLIC_KEY
@_ALLOW_PICKLE
def rollback(**options: Any) -> None:  # noqa: ANN401 - click checked their types
    """Make the champion before this one the champion again.

    A second rollback goes back one further.
    """
    from churn_serving.cli import championship  # noqa: PLC0415 - likewise

    championship.roll_back_model(**options)


@model_commands.command(
    epilog=_examples(
        "churn model history churn_classifier",
        "churn model history churn_classifier --json",
    )
)
@click.argument("name", callback=_name)
@_JSON
def history(name: str, *, as_json: bool) -> None:
    """Show which versions were the champion, and why.

    Each change has the time, in UTC, and the user who decided it.
    """
    from churn_serving.cli import championship  # noqa: PLC0415 - likewise

    championship.show_history(name, as_json=as_json)


@model_commands.command(
    epilog=_examples("churn model keygen", "churn model keygen --output ~/.keys/churn")
)
@click.option(
    "--output",
    default="churn-model",
    show_default=True,
    metavar="PREFIX",
    help="Write PREFIX.key.pem and PREFIX.pub.pem, or into a folder.",
)
@click.option("--force", is_flag=True, help="Replace keys that are there.")
def keygen(output: str, *, force: bool) -> None:
    """Make a pair of keys, to sign and to check models.

    The private key signs them, the public one checks what it has signed. Both are usual PEM
    files of Ed25519; openssl reads them.
    """
    from churn_serving.cli import keys  # noqa: PLC0415 - likewise

    keys.make_keys(output, force=force)


@model_commands.command(
    epilog=_examples(
        "churn model sign --key churn-model.key.pem",
        "churn model sign churn_classifier:pjvavrxjykfbyax4 --key churn-model.key.pem",
    )
)
@_tag()
@click.option(
    "--key", required=True, type=_FILE, metavar="FILE", help="The private key to sign with."
)
@_ALLOW_PICKLE
def sign(tag: str, key: Path, *, allow_pickle: bool) -> None:
    """Sign a registered model, after it was verified.

    The signature, 64 bytes, is kept in the model's folder. One that is there is replaced.
    """
    from churn_serving.cli import keys  # noqa: PLC0415 - likewise

    keys.sign_model(tag, key, allow_pickle=allow_pickle)


@model_commands.command(
    epilog=_examples(
        "churn model register forest.joblib --data customers.csv",
        "churn model register booster.ubj --threshold 0.3 --label team=retention",
        "churn model register lightgbm.txt --preprocess columns.json",
    )
)
@click.argument("file", type=_FILE)
@_DATA
@click.option(
    "--preprocess",
    type=_FILE,
    metavar="FILE",
    help="What a model file of XGBoost or LightGBM sees of a customer (JSON).  "
    "[default: the columns that the service makes, in their order]",
)
@click.option(
    "--threshold",
    type=click.FloatRange(0, 1),
    metavar="P",
    help="Predict churn from this probability on.  [default: the best F1 on --data, or 0.5]",
)
@click.option(
    "--name",
    default="churn_classifier",
    show_default=True,
    callback=_name,
    help="In the model store.",
)
@click.option(
    "--label",
    "labels",
    multiple=True,
    metavar="KEY=VALUE",
    callback=_labels,
    help="Kept with the model; may be repeated.",
)
@_SIGN_KEY
@_ALLOW_PICKLE
def register(**options: Any) -> None:  # noqa: ANN401 - click checked their types
    """Register a model of your own.

    It is compiled, so that the service runs it without the library that has trained it.

    FILE is a joblib or pickle file of a fitted scikit-learn classifier or Pipeline, or the model
    file of XGBoost (.json, .ubj) or LightGBM (.txt). Loading a joblib or pickle file runs code in
    it: only load your own.
    """
    from churn_serving.cli import registration  # noqa: PLC0415 - likewise

    registration.register_model(registration.Order(**options))


@model_commands.command(
    epilog=_examples(
        "churn model convert churn_classifier:latest",
        "churn model convert churn_classifier:pjvavrxjykfbyax4 --data customers.csv",
    )
)
@_tag(required=True)
@_DATA
@_SIGN_KEY
def convert(tag: str, data: Path | None, sign_key: Path | None) -> None:
    """Make a new version of a model that version 0.1 has registered.

    Version 0.1 kept a pickle, which is not served any more. The old version stays as it is. Its
    figures and its threshold are taken over. Unpickling runs code in the file: only convert your
    own models.
    """
    from churn_serving.cli import conversion  # noqa: PLC0415 - likewise

    conversion.convert_model(tag, data, sign_key)
