"""The portable form of a model: arrays and a manifest, which numpy and the standard library run.

A model's folder in BentoML's store holds, beside BentoML's pickles, ``portable.json`` (the manifest:
what the model is, the checksums of all files, everything that is served or shown of it) and
``portable.npz`` (arrays, no pickles). A row is scored as it is, unscaled: whatever scaling the
estimator had is folded into weights and thresholds when it is compiled.

The model is the mean of its members. A member is a linear function or a sum over trees, followed
by a link:

- ``linear``: ``weights . x + bias``. Array ``weights`` (columns,).
- ``trees``: ``baseline + scale * (sum of the values of the leaves reached)``. Arrays ``roots``
  (trees,), and for each node, in preorder: ``column`` (-1: a leaf), ``threshold``, ``left``,
  ``right``, ``value``, and ``missing_left`` where the trees know missing values. A node sends ``x``
  to the left if ``x[column] <= threshold``.
- Set columns, numbered behind the columns of the row, are 1 if ``x[set_column] == set_value`` for
  any of their pairs, else 0. Arrays ``set_start`` (sets + 1,), ``set_column``, ``set_value``.
- Links: ``identity`` (clipped to 0..1), ``logistic``, ``isotonic`` (arrays ``isotonic_x``,
  ``isotonic_y``, linear in between).

The arrays of member 2 are named ``2/weights`` and so on; ``golden/X`` and ``golden/p`` are rows with
the estimator's own probabilities, compared at each load.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, JsonValue

__all__ = [
    "ARRAYS",
    "MANIFEST",
    "SIGNATURE",
    "File",
    "Linear",
    "Manifest",
    "Members",
    "Pickled",
    "Trees",
]

MANIFEST: Final = "portable.json"
ARRAYS: Final = "portable.npz"
SIGNATURE: Final = "portable.json.sig"

Link: TypeAlias = Literal["identity", "logistic", "isotonic"]


class _Part(BaseModel):
    model_config = ConfigDict(strict=True, frozen=True, extra="forbid", allow_inf_nan=False)


class Linear(_Part):
    """``weights . x + bias``, then the link."""

    kind: Literal["linear"] = "linear"
    bias: float
    link: Link


class Trees(_Part):
    """``baseline + scale * (sum of leaves)``, then the link."""

    kind: Literal["trees"] = "trees"
    baseline: float
    scale: float
    link: Link


class Members(_Part):
    """A model that numpy can run: the mean of its members."""

    kind: Literal["members"] = "members"
    members: Annotated[
        tuple[Annotated[Linear | Trees, Field(discriminator="kind")], ...],
        Field(min_length=1, max_length=64),
    ]


class Pickled(_Part):
    """A model that only scikit-learn can run; served where that was allowed on purpose."""

    kind: Literal["pickle"] = "pickle"


class File(_Part):
    """A file beside the manifest."""

    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    bytes: Annotated[int, Field(ge=0)]


class Manifest(_Part):
    """Everything that is served or shown of a model.

    Attributes:
        format: Of this file and the arrays.
        tag: ``name:version``: a manifest moved to another model is refused.
        threshold: Probabilities from here on are predicted as churn.
        columns: Of the rows that the model takes.
        files: Those beside the manifest, by name.
        model: What it is.
        labels: Given by whoever registered it.
        metadata: What was measured and recorded when it was trained.
        sections: What later steps may need of it, each by its name; none is needed to score.
    """

    format: Literal[1]
    tag: str
    threshold: Annotated[float, Field(ge=0, le=1)]
    columns: tuple[str, ...]
    files: dict[str, File]
    model: Annotated[Members | Pickled, Field(discriminator="kind")]
    labels: dict[str, str] = {}
    metadata: dict[str, JsonValue] = {}
    sections: dict[str, JsonValue] = {}
