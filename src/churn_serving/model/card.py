"""The card of a model: a page for people, one of the files whose checksums the manifest has."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from churn_serving.errors import ModelCorruptedError
from churn_serving.model.portable import read_recorded

if TYPE_CHECKING:
    from churn_serving.model.artifact import RegisteredModel

__all__ = ["CARD", "read_card"]

CARD: Final = "card.html"
"""Its name in the model's folder."""

_MAX_BYTES: Final = 4 * 1024**2


def read_card(model: RegisteredModel) -> bytes | None:
    """Return the page as it was registered; None if the model has none.

    Raises:
        ModelCorruptedError: It is another one, or too large for a page.
    """
    files = model.manifest.files
    if CARD not in files:
        return None
    if files[CARD].bytes > _MAX_BYTES:
        raise ModelCorruptedError(
            f"The model '{model.tag}' cannot be served: {CARD} is larger than "
            f"{_MAX_BYTES // 1024**2} MB."
        )
    try:
        return read_recorded(model.folder, CARD, files)
    except ValueError as error:
        raise ModelCorruptedError(f"The model '{model.tag}' cannot be served: {error}.") from None
