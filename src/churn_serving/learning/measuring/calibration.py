"""Whether a probability means what it says: of those told 30%, do 30 in 100 leave?

Slope and intercept are those of a logistic regression of what happened on the log-odds of what was
said: a slope below 1 says that the model exaggerates. The expected calibration error (ECE) is never
0, not even of a perfect model: it is shown beside what a perfect model would show by chance.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from scipy.special import expit, logit
from sklearn.isotonic import IsotonicRegression

from churn_serving.learning.measuring.resampling import (
    Cells,
    Counts,
    Estimate,
    cells_of,
    interval,
    resamples,
)

if TYPE_CHECKING:
    from churn_serving.features.columns import FloatArray
    from churn_serving.learning.dataset import Labels
    from churn_serving.learning.splits import Indices

__all__ = ["Bin", "Calibration", "Chance", "calibration", "complaints", "wilson"]

BINS: Final = 10
ALLOWED_SLOPE: Final = 0.1
ALLOWED_SHIFT: Final = 0.01
ALLOWED_ERROR: Final = 0.01
"""Smaller faults than these change no decision, however certain a large table makes them."""

_Z_99: Final = 2.5758293035489
"""A model is blamed for what chance would do once in a hundred tables, not once in twenty."""

_CLIP: Final = 1e-6
_MAX_SCORES: Final = 2048
_MAX_STEPS: Final = 50
_MAX_SLOPE: Final = 100.0
_Z_95: Final = 1.959963984540054


@dataclass(frozen=True, slots=True)
class Bin:
    """Customers of neighbouring probabilities.

    Attributes:
        rows: How many.
        predicted: The mean of their probabilities.
        observed: The share that left, with its interval (Wilson's).
    """

    rows: int
    predicted: float
    observed: Estimate


@dataclass(frozen=True, slots=True)
class Chance:
    """The ECE that a model would show if each of its probabilities were right.

    Attributes:
        mean: Over many tables.
        high: More than this is no chance.
    """

    mean: float
    high: float


@dataclass(frozen=True, slots=True)
class Calibration:
    """How far probabilities can be believed.

    Attributes:
        bins: The reliability diagram.
        slope: 1 is right; None if the labels are too few, or separated, to tell.
        intercept: In log-odds, the slope held at 1; 0 is right.
        shift: Mean probability minus the share that left, with its interval.
        error: The expected calibration error, over ``bins``.
        chance: The error of a perfect model.
        brier: Its parts: ``miscalibration - discrimination + uncertainty`` is the Brier score
            (Dimitriadis, Gneiting and Jordan, PNAS 2021).
        errors: The standard errors of slope, intercept and shift, for ``complaints``.
    """

    bins: tuple[Bin, ...]
    slope: Estimate | None
    intercept: Estimate | None
    shift: Estimate
    error: float
    chance: Chance
    brier: dict[str, float]
    errors: dict[str, float]

    def as_json(self) -> dict[str, Any]:
        """Return what is kept with the model; what could not be told is not there."""
        figures = asdict(self)
        del figures["errors"]
        figures["bins"] = list(figures["bins"])
        return {name: value for name, value in figures.items() if value is not None}


def calibration(
    y: Labels, probabilities: FloatArray, customers: Indices, *, samples: int, seed: int
) -> Calibration:
    """Measure calibration.

    Args:
        y: The labels, shape ``(n,)``.
        probabilities: Of churn, shape ``(n,)``.
        customers: The customer of each row, numbered from 0 on.
        samples: How many resamples the intervals are made of.
        seed: Decides the resamples.
    """
    bin_of_row = _bins(probabilities)
    rows = np.bincount(bin_of_row)
    predicted, observed = (
        np.bincount(bin_of_row, values) / rows for values in (probabilities, y.astype(float))
    )
    shift = float(probabilities.mean() - y.mean())
    moved = _resampled_lines(y, probabilities, customers, samples, seed)
    lines = {name: interval(value, moved[name]) for name, value in _lines(y, probabilities).items()}
    return Calibration(
        bins=tuple(
            Bin(int(n), float(p), wilson(float(o), int(n)))
            for n, p, o in zip(rows, predicted, observed, strict=True)
        ),
        slope=lines.get("slope"),
        intercept=lines.get("intercept"),
        shift=interval(shift, moved["shift"]),
        error=float(np.sum(rows * np.abs(predicted - observed)) / len(y)),
        chance=_chance(probabilities, bin_of_row, customers, samples, seed),
        brier=_brier_parts(y, probabilities),
        errors={name: float(values[np.isfinite(values)].std()) for name, values in moved.items()},
    )


def complaints(measured: Calibration) -> list[str]:
    """Return a sentence for each fault that is larger than allowed and no chance; none: passed."""
    found = []
    slope = measured.slope
    if slope and abs(slope.value - 1) > max(ALLOWED_SLOPE, _Z_99 * measured.errors["slope"]):
        found.append(
            f"The calibration slope is {slope.value:.2f}: the model "
            + ("exaggerates." if slope.value < 1 else "is too cautious.")
        )
    if abs(measured.shift.value) > max(ALLOWED_SHIFT, _Z_99 * measured.errors["shift"]):
        found.append(
            f"The mean probability is {abs(measured.shift.value):.3f} too "
            f"{'high' if measured.shift.value > 0 else 'low'}."
        )
    error, chance = measured.error, measured.chance
    if error > chance.high and error - chance.mean > ALLOWED_ERROR:
        found.append(
            f"The expected calibration error is {error:.3f}; a perfect model shows "
            f"{chance.mean:.3f} by chance."
        )
    return found


def wilson(share: float, rows: int) -> Estimate:
    """Return a share with Wilson's 95% interval, which holds for few rows, and for 0 and 1, too."""
    square = _Z_95**2
    middle = (share + square / (2 * rows)) / (1 + square / rows)
    half = (
        _Z_95 * np.sqrt(share * (1 - share) / rows + square / (4 * rows**2)) / (1 + square / rows)
    )
    # Rounding must not put the share itself outside.
    low, high = min(share, float(middle - half)), max(share, float(middle + half))
    return Estimate(share, max(low, 0.0), min(high, 1.0))


def _bins(probabilities: FloatArray) -> Indices:
    """Return the bin of each row: of equal number, but equal probabilities stay together."""
    edges = np.unique(np.quantile(probabilities, np.linspace(0, 1, BINS + 1)[1:-1]))
    used = np.searchsorted(edges, probabilities, side="left")
    _, bin_of_row = np.unique(used, return_inverse=True)
    return bin_of_row


def _lines(y: Labels, probabilities: FloatArray) -> dict[str, float]:
    """Return slope and intercept; nothing if the labels are separated."""
    z = logit(np.clip(probabilities, _CLIP, 1 - _CLIP))
    fitted = _fitted(y, z)
    if fitted is None:
        return {}
    return {"slope": float(fitted[1]), "intercept": _moved_intercept(y, z)}


def _fitted(y: Labels, z: FloatArray) -> FloatArray | None:
    """Fit ``y ~ expit(a + b z)`` by Newton's method; return a and b, None if they do not exist."""
    line = np.array([0.0, 1.0])
    for _ in range(_MAX_STEPS):
        p = expit(line[0] + line[1] * z)
        weight = p * (1 - p)
        slopes = np.array([np.sum(y - p), np.sum((y - p) * z)])
        a, b, c = np.sum(weight), np.sum(weight * z), np.sum(weight * z * z)
        determinant = a * c - b * b
        if not determinant > np.finfo(float).eps * a * c:
            return None  # a constant probability has no slope
        step = (
            np.array([c * slopes[0] - b * slopes[1], a * slopes[1] - b * slopes[0]]) / determinant
        )
        # Far from the end a whole step may throw the line away.
        line += step / max(1.0, float(np.abs(step).max()) / 2)
        if abs(line[1]) > _MAX_SLOPE:
            return None
        if np.abs(step).max() < 1e-10:  # noqa: PLR2004 - far below what is shown
            return line
    return None


def _moved_intercept(y: Labels, z: FloatArray) -> float:
    """Return the shift of all log-odds that makes their mean right."""
    low, high = -2 * np.log(1 / _CLIP), 2 * np.log(1 / _CLIP)
    for _ in range(_MAX_STEPS):
        middle = (low + high) / 2
        low, high = (middle, high) if expit(z + middle).mean() < y.mean() else (low, middle)
    return float((low + high) / 2)


def _resampled_lines(
    y: Labels, probabilities: FloatArray, customers: Indices, samples: int, seed: int
) -> dict[str, FloatArray]:
    """Return slope, intercept and shift of each resample."""
    cells = cells_of(y, probabilities, _MAX_SCORES)
    logits = logit(np.clip(probabilities, _CLIP, 1 - _CLIP))
    line = _fitted(y, logits)
    z, said = (_mean_by_score(cells, values) for values in (logits, probabilities))
    found: dict[str, list[FloatArray]] = {"shift": []}
    for (counts,) in resamples([cells], customers, samples=samples, seed=seed):
        rows = counts.left + counts.stayed
        left = counts.left.sum(1)
        found["shift"].append((rows @ said - left) / rows.sum(1))
        if line is not None:
            found.setdefault("slope", []).append(_refitted(counts, z, line))
            moved = expit(z + _moved_intercept(y, logits))
            step = (left - rows @ moved) / (rows @ (moved * (1 - moved)))
            found.setdefault("intercept", []).append(_moved_intercept(y, logits) + step)
    return {name: np.concatenate(batches) for name, batches in found.items()}


def _mean_by_score(cells: Cells, values: FloatArray) -> FloatArray:
    rows = cells.counts.left[0] + cells.counts.stayed[0]
    mean: FloatArray = cells.of_weights(values).reshape(-1, 2).sum(1) / rows
    return mean


def _refitted(counts: Counts, z: FloatArray, line: FloatArray) -> FloatArray:
    """Return the slope of each sample: two of Newton's steps from the line of all rows."""
    rows = counts.left + counts.stayed
    a, b = (np.full((len(rows), 1), each) for each in line)
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        for _ in range(2):
            p = expit(a + b * z)
            up = counts.left - rows * p
            weight = rows * p * (1 - p)
            up_a, up_b = up.sum(1), up @ z
            aa, ab, bb = weight.sum(1), weight @ z, weight @ (z * z)
            determinant = aa * bb - ab * ab
            a += ((bb * up_a - ab * up_b) / determinant)[:, None]
            b += ((aa * up_b - ab * up_a) / determinant)[:, None]
    slopes: FloatArray = b[:, 0]
    return slopes


def _chance(
    probabilities: FloatArray, bin_of_row: Indices, customers: Indices, samples: int, seed: int
) -> Chance:
    """Let customers leave as the probabilities say, again and again, and measure the error.

    The rows of a customer share his fate, as they do in the table.
    """
    random = np.random.default_rng(seed)
    people, bins = int(customers.max()) + 1, int(bin_of_row.max()) + 1
    predicted = np.bincount(bin_of_row, probabilities)
    errors = np.empty(samples)
    for sample in range(samples):
        left = random.random(people)[customers] < probabilities
        observed = np.bincount(bin_of_row[left], minlength=bins)
        errors[sample] = np.abs(predicted - observed).sum() / len(probabilities)
    return Chance(float(errors.mean()), float(errors.mean() + _Z_99 * errors.std()))


def _brier_parts(y: Labels, probabilities: FloatArray) -> dict[str, float]:
    """Return the parts by the best monotone recalibration: no bins, and they add up exactly."""
    recalibrated = IsotonicRegression(y_min=0, y_max=1).fit_transform(probabilities, y)
    brier, best, constant = (
        float(np.mean((y - each) ** 2)) for each in (probabilities, recalibrated, y.mean())
    )
    return {
        "score": brier,
        "miscalibration": brier - best,
        "discrimination": constant - best,
        "uncertainty": constant,
    }
