"""``churn model card``: the page that says what a model is for, and how good it is."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Final

import click

from churn_serving.cli.model import TAG_VARIABLE

__all__ = ["card_command"]

_EPILOG: Final = """\b
Examples:
  churn model card --open
  churn model card churn_classifier:pjvavrxjykfbyax4 --output card.html
"""


@click.command("card", epilog=_EPILOG)
@click.argument("tag", envvar=TAG_VARIABLE, default="churn_classifier")
@click.option(
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Write the page there.  [default: standard output]",
)
@click.option("--open", "show", is_flag=True, help="Show the page in a browser.")
def card_command(tag: str, output: Path | None, *, show: bool) -> None:
    """Write the card of a model: a page of HTML that loads nothing.

    A running service shows the card of its model at /model. A model that was registered without a
    card gets one here, of what is known of it.
    """
    from churn_serving.cli.terminal import say  # noqa: PLC0415 - --help must be quick

    if output is None and not show and sys.stdout.isatty():
        raise click.UsageError("A terminal shows no page: pass --output FILE, or --open.")
    page, version = _card(tag)
    if output is None and not show:
        click.echo(page, nl=False)
        return
    path = output or Path(tempfile.mkdtemp(prefix="churn-card-")) / f"{version}.html"
    path.write_bytes(page)
    say(f"The card of {tag} is in {path}.")
    if show and click.launch(path.resolve().as_uri()):
        say("No browser was found here; open the file in yours.")


def _card(tag: str) -> tuple[bytes, str]:
    """Return the page of a model, and the model's version.

    Raises:
        ModelError: The store has no such model, or it is not intact.
    """
    from churn_serving.cli.terminal import note  # noqa: PLC0415 - likewise
    from churn_serving.model.artifact import Trust, find_model  # noqa: PLC0415 - likewise
    from churn_serving.model.card import read_card  # noqa: PLC0415 - likewise

    model = find_model(tag, Trust(allow_pickle=True))
    if (page := read_card(model)) is not None:
        return page, model.version
    from churn_serving.learning.card.page import Subject, make_card  # noqa: PLC0415 - likewise

    note(
        f"{model.tag} was registered without a card; this one is made of what is kept with it, and "
        "its checksum is nowhere"
    )
    subject = Subject(
        tag=model.tag,
        threshold=model.threshold,
        metadata=model.metadata,
        labels=model.manifest.labels,
    )
    return make_card(subject), model.version
