"""The portable form of a model: arrays and a manifest, which numpy and the standard library run.

A model's folder in BentoML's store holds, beside BentoML's pickles, ``portable.json`` (the
manifest: what the model is, the checksums of all files, everything that is served or shown of it)
and ``portable.npz`` (arrays, no pickles). A row is scored as it is, unscaled: whatever scaling the
estimator had is folded into weights and thresholds when it is compiled.

The model is the mean of its members. A member is a linear function or a sum over trees, followed
by a link:

- ``linear``: ``weights . x + bias``. Array ``weights`` (columns,).
- ``trees``: ``baseline + scale * (the values of the leaves reached)``. For each node, in preorder:
  ``column`` (-1: a leaf), ``number`` (the threshold of a node, the value of a leaf), and
  ``missing_left`` where the trees know missing values. A node sends ``x`` to the left, which is the
  next node, if ``x[column] <= number``.
- Set columns, numbered behind the columns of the row, are 1 if ``x[set_column] == set_value`` for
  any of their pairs, else 0. Arrays ``set_start`` (sets + 1,), ``set_column``, ``set_value``.
- Links: ``identity`` (clipped to 0..1), ``logistic``, ``isotonic`` (arrays ``isotonic_x``,
  ``isotonic_y``, linear in between).

The arrays of member 2 are named ``2/weights`` and so on. ``golden/X`` and ``golden/p`` are rows
with the estimator's own probabilities, compared at each load.
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from contextlib import suppress
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, TypeAlias

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError, field_validator

from churn_serving.model.npz import read_arrays

if TYPE_CHECKING:
    from collections.abc import Mapping
    from io import BufferedReader
    from pathlib import Path

    from numpy.typing import NDArray

__all__ = [
    "ARRAYS",
    "GOLDEN_ROWS",
    "MANIFEST",
    "SIGNATURE",
    "File",
    "Linear",
    "Manifest",
    "Members",
    "Pickled",
    "Trees",
    "check_file",
    "checked_arrays",
    "describe",
    "float_array",
    "parse_manifest",
    "read_file",
    "read_recorded",
]

MANIFEST: Final = "portable.json"
ARRAYS: Final = "portable.npz"
SIGNATURE: Final = "portable.json.sig"
GOLDEN_ROWS: Final = 256

_AT_ONCE: Final = getattr(os, "O_NONBLOCK", 0)
_MAX_MANIFEST_BYTES: Final = 8 * 1024**2
_MAX_ARRAY_BYTES: Final = 1024**3

Link: TypeAlias = Literal["identity", "logistic", "isotonic"]
Arrays: TypeAlias = "Mapping[str, NDArray[Any]]"


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, strict=True)


class Linear(_Part):
    """``weights . x + bias``, then the link."""

    kind: Literal["linear"] = "linear"
    bias: float
    link: Link


class Trees(_Part):
    """``baseline + scale * (the values of the leaves reached)``, then the link."""

    kind: Literal["trees"] = "trees"
    baseline: float
    scale: float
    link: Link


class Members(_Part):
    """A model that numpy can run: the mean of its members.

    Attributes:
        members: One for each ``CalibratedClassifierCV`` has averaged, else a single one.
        precision: In which the estimator itself adds up: XGBoost in float32.
    """

    kind: Literal["members"] = "members"
    members: Annotated[
        tuple[Annotated[Linear | Trees, Field(discriminator="kind")], ...],
        Field(min_length=1, max_length=64),
    ]
    precision: Literal["double", "single"] = "double"


class Pickled(_Part):
    """A model that only scikit-learn can run; served where that was allowed on purpose."""

    kind: Literal["pickle"] = "pickle"


class File(_Part):
    """A file beside the manifest."""

    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    bytes: Annotated[int, Field(ge=0, le=4 * 1024**3)]


class Manifest(_Part):
    """Everything that is served or shown of a model.

    Attributes:
        format: Of this file and the arrays.
        tag: ``name:version``: a manifest that was moved to another model is refused.
        threshold: Probabilities from here on are predicted as churn.
        columns: Of the rows that the model takes.
        files: Those beside the manifest, by name.
        model: What it is.
        labels: Given by whoever registered it.
        metadata: What was measured and recorded when it was trained.
        sections: What is known of the model beyond its scores, each part by its name. None is
            needed to score; arrays of a section are named ``section/array``. Whoever reads a
            section validates it: ``churn_serving.model.reasons.section`` is the first.
    """

    format: Literal[1] = 1
    tag: str
    threshold: Annotated[float, Field(ge=0, le=1)]
    columns: tuple[str, ...]
    files: Annotated[
        dict[Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}$")], File],
        Field(max_length=64),
    ]
    model: Annotated[Members | Pickled, Field(discriminator="kind")]
    labels: dict[str, str] = {}
    metadata: dict[str, JsonValue] = {}
    sections: dict[str, JsonValue] = {}

    @field_validator("metadata")
    @classmethod
    def _can_be_shown(cls, metadata: dict[str, JsonValue]) -> dict[str, JsonValue]:
        """Refuse what the service could not show as its labels."""
        versions = metadata.get("library_versions", {})
        if not isinstance(metadata.get("estimator", ""), str):
            raise ValueError("the estimator is no text")  # noqa: TRY004 - what pydantic expects
        if not isinstance(versions, dict) or not all(isinstance(v, str) for v in versions.values()):
            raise ValueError("library_versions are no texts")
        return metadata


def describe(content: bytes) -> File:
    """Return what a manifest says of a file with this content."""
    return File(sha256=hashlib.sha256(content).hexdigest(), bytes=len(content))


def read_file(path: Path, limit: int = _MAX_MANIFEST_BYTES) -> bytes:
    """Return the content of a file, once: what is verified is what is used.

    Raises:
        FileNotFoundError: It is not there.
        ValueError: It is larger than that.
    """
    with _opened(path) as file:
        content = file.read(limit + 1)
    if len(content) > limit:
        raise ValueError(f"{path.name} is larger than {limit // 1024**2} MB")
    return content


def parse_manifest(content: bytes) -> Manifest:
    """Return the manifest.

    Raises:
        ValueError: It is none.
    """
    try:
        return Manifest.model_validate_json(content)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part)[:40] for part in first["loc"][:6])
        message = first["msg"][:200]
        raise ValueError(f"{MANIFEST} says nothing sensible at '{where}': {message}") from None


def _opened(path: Path) -> BufferedReader:
    """Open a file, but no pipe and no device, whose end nobody may ever see.

    Looked at is what was opened: a look before could be at another file. No pipe is waited for.

    Raises:
        FileNotFoundError: It is no file.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | _AT_ONCE)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENOTDIR, errno.ENXIO):
            raise FileNotFoundError(path) from None
        raise
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise FileNotFoundError(path)
    return os.fdopen(descriptor, "rb")


def check_file(path: Path, recorded: File) -> None:
    """Compare a file with what the manifest says of it, without keeping it.

    Raises:
        ValueError: It is another one; the text names it.
    """
    try:
        with _opened(path) as file:
            same = (
                os.fstat(file.fileno()).st_size == recorded.bytes
                and hashlib.file_digest(file, "sha256").hexdigest() == recorded.sha256
            )
    except FileNotFoundError:
        same = False
    if not same:
        raise ValueError(f"the file {path.name} is not the one that was registered")


def read_recorded(folder: Path, name: str, files: Mapping[str, File]) -> bytes:
    """Return the content of a file of which the manifest knows the checksum.

    Raises:
        ValueError: It is not that file; the text names it.
    """
    if (recorded := files.get(name)) is not None:
        with suppress(FileNotFoundError, ValueError):
            content = read_file(folder / name, min(recorded.bytes, _MAX_ARRAY_BYTES))
            if describe(content) == recorded:
                return content
    raise ValueError(f"the file {name} is not the one that was registered")


def checked_arrays(content: bytes, model: Members | Pickled, columns: int) -> Arrays:
    """Return the arrays of a model, each of its shape and type, with finite numbers in its bounds.

    Raises:
        ValueError: One is not; the text names it. That nodes make trees is not looked at here.
    """
    arrays = read_arrays(content)
    shape_of_golden = arrays["golden/X"].shape if "golden/X" in arrays else ()
    _require(shape_of_golden == (GOLDEN_ROWS, columns), "it has no golden rows of these columns")
    float_array(arrays, "golden/X", 2)
    golden = float_array(arrays, "golden/p")
    _require(len(golden) == GOLDEN_ROWS, "the golden rows have other probabilities")
    _require(bool(((golden >= 0) & (golden <= 1)).all()), "a golden probability is none")
    for number, member in enumerate(model.members if isinstance(model, Members) else ()):
        if isinstance(member, Linear):
            weights = float_array(arrays, f"{number}/weights")
            _require(len(weights) == columns, f"{number}/weights is not one for each column")
        else:
            _check_nodes(arrays, f"{number}/", columns)
        if member.link == "isotonic":
            _check_isotonic(arrays, f"{number}/")
    return arrays


def _check_nodes(arrays: Arrays, prefix: str, columns: int) -> None:
    column = _is(arrays, f"{prefix}column", "<i2")
    number = float_array(arrays, f"{prefix}number")
    sets = _check_sets(arrays, prefix, columns) if f"{prefix}set_start" in arrays else 0
    _require(len(number) == len(column), f"{prefix}number is not one for each node")
    _require(
        len(column) > 0 and column.min() >= -1 and column.max() < columns + sets,
        f"{prefix}column names columns that are not there",
    )
    if f"{prefix}missing_left" in arrays:
        missing_left = _is(arrays, f"{prefix}missing_left", "|b1")
        _require(len(missing_left) == len(column), f"{prefix}missing_left is not one for each node")


def _check_sets(arrays: Arrays, prefix: str, columns: int) -> int:
    start = _is(arrays, f"{prefix}set_start", "<i4")
    column = _is(arrays, f"{prefix}set_column", "<i2")
    value = float_array(arrays, f"{prefix}set_value")
    _require(
        len(start) > 0
        and start[0] == 0
        and start[-1] == len(column) == len(value)
        and bool((np.diff(start) >= 0).all()),
        f"{prefix}set_start does not divide the pairs",
    )
    _require(
        not len(column) or (column.min() >= 0 and column.max() < columns),
        f"{prefix}set_column names columns that are not there",
    )
    # Behind the columns, a set is a number of 16 bits.
    _require(len(start) - 1 <= np.iinfo(np.int16).max - columns, f"{prefix}set_start is too long")
    return len(start) - 1


def _check_isotonic(arrays: Arrays, prefix: str) -> None:
    x, y = (float_array(arrays, f"{prefix}isotonic_{axis}") for axis in "xy")
    _require(
        len(x) == len(y) > 0
        and bool((np.diff(x) > 0).all())
        and bool((np.diff(y) >= 0).all())
        and 0 <= y[0] <= y[-1] <= 1,
        f"{prefix}isotonic is no ascending function to 0..1",
    )


def _is(arrays: Arrays, name: str, dtype: str, dimensions: int = 1) -> NDArray[Any]:
    _require(name in arrays, f"the array {name} is missing")
    array = arrays[name]
    _require(
        array.dtype == np.dtype(dtype) and array.ndim == dimensions,
        f"the array {name} is of another type or shape",
    )
    return array


def float_array(arrays: Arrays, name: str, dimensions: int = 1) -> NDArray[np.float64]:
    """Return an array of finite numbers, with so many dimensions.

    Raises:
        ValueError: It is missing or another one; the text names it.
    """
    array = _is(arrays, name, "<f8", dimensions)
    _require(bool(np.isfinite(array).all()), f"the array {name} holds what is no finite number")
    return array


def _require(holds: bool, problem: str) -> None:  # noqa: FBT001 - reads like a sentence
    if not holds:
        raise ValueError(problem)
