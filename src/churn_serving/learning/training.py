"""Train the churn model: compare candidates, pick one honestly, measure it on unseen customers.

A fifth of the customers is held out: by lot, or the latest where the table has a time. On the
rest, every candidate is cross-validated on the same folds. A candidate whose probabilities do not
mean what they say gets a sigmoid fitted on top of it. The simplest candidate within one standard
error of the best log-loss is chosen, its decision threshold tuned on out-of-fold probabilities and
the model fitted. The held-out customers are scored once, by the very model that is registered. All
rows of a customer are on one side of each split.

The label is a snapshot: who had left when the table was made. It says nothing of when.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import numpy as np
from threadpoolctl import threadpool_limits

from churn_serving.errors import DataError
from churn_serving.learning.candidates import (
    CANDIDATES,
    KINDS,
    SCALER,
    Candidate,
    calibrated,
    churn_probabilities,
    fit,
)
from churn_serving.learning.explaining import background_of
from churn_serving.learning.measuring import evaluation, gates
from churn_serving.learning.measuring.calibration import calibration, complaints
from churn_serving.learning.measuring.effects import effects
from churn_serving.learning.measuring.evaluation import (
    METRICS,
    best_threshold,
    curves,
    evaluate,
    no_skill,
)
from churn_serving.learning.measuring.fields import cost_of_fields
from churn_serving.learning.measuring.fingerprints import fingerprints, seen
from churn_serving.learning.measuring.profit import profit_curve
from churn_serving.learning.measuring.subgroups import blind_spots, subgroups
from churn_serving.learning.selection import FOLDS, mean_over_folds, simplest
from churn_serving.learning.splits import (
    Customers,
    Split,
    customers_of,
    folds,
    hold_out,
    hold_out_latest,
    identical_rows,
    number_customers,
    repeats,
)
from churn_serving.model.policy import Policy

if TYPE_CHECKING:
    from collections.abc import Callable

    import pandas as pd
    from numpy.typing import NDArray
    from sklearn.pipeline import Pipeline
    from sklearn.preprocessing import StandardScaler

    from churn_serving.features.columns import FloatArray
    from churn_serving.learning.dataset import Dataset, Labels
    from churn_serving.learning.measuring.calibration import Calibration
    from churn_serving.learning.measuring.fingerprints import Fingerprints
    from churn_serving.learning.measuring.gates import Verdict
    from churn_serving.learning.measuring.resampling import Estimate
    from churn_serving.learning.splits import Indices

__all__ = [
    "LABEL_MEANING",
    "Champion",
    "CrossValidation",
    "TrainingResult",
    "measure",
    "train",
]

REPEATS: Final = 3
TEST_SHARE: Final = 0.2
BOOTSTRAP_SAMPLES: Final = 1000
MIN_CUSTOMERS: Final = 10
"""Of each label; with a fifth held out, ``MIN_TRAINED`` are left, so that every fold has both."""
MIN_TRAINED: Final = 8

LABEL_MEANING: Final = (
    "Whether the customer had left when the table was made. A snapshot without a horizon: it does "
    "not say when, nor who leaves next month."
)

_LARGE: Final = 100_000
"""From so many rows on, the folds are not repeated and fewer samples are drawn: chance plays so
small a part that nobody need know exactly how small."""

_FEW_SAMPLES: Final = 200

_FIELD_ROWS: Final = 20_000
"""As many rows tell what other columns would add."""

Progress: TypeAlias = "Callable[[str, int, int], None]"


@dataclass(frozen=True, slots=True)
class CrossValidation:
    """One candidate's figures over all folds.

    Attributes:
        candidate: The candidate's name.
        calibrated: A sigmoid corrects its probabilities.
        metrics: Mean and 95% interval of each of ``METRICS``.
        scores: The figures of each fold, by metric.
        probabilities: Out-of-fold churn probabilities of the first repeat, shape ``(n,)``.
    """

    candidate: str
    calibrated: bool
    metrics: dict[str, Estimate]
    scores: dict[str, FloatArray]
    probabilities: FloatArray


@dataclass(frozen=True, slots=True)
class Champion:
    """The model that serves now, to be compared with.

    Attributes:
        predict: Feature rows to churn probabilities.
        known: What it was trained on; None if nobody knows.
    """

    predict: Callable[[FloatArray], FloatArray]
    known: Fingerprints | None


@dataclass(frozen=True, slots=True)
class TrainingResult:
    """A fitted model and everything measured about it.

    Attributes:
        candidate: The name of the chosen candidate.
        estimator: Scaler and classifier in one pipeline; takes unscaled rows.
        threshold: The decision threshold that maximises F1 out of fold.
        cross_validation: One entry per compared candidate.
        held_out: Figures on customers the model has never seen.
        train_rows: Number of rows it was fitted on.
        test_rows: Number of rows held out.
        verdicts: What each gate found.
        notices: What a person should know of table and model, in sentences; may name customers.
        known: The fingerprints of the rows that it was fitted on.
        background: Whom a customer is compared with in reasons: a row of each of 1,000 customers
            that it was fitted on, or of all if there are fewer; drawn by lot.
        measured: All figures as JSON knows them, to be kept with the model; names no customer.
    """

    candidate: str
    estimator: Pipeline
    threshold: float
    cross_validation: tuple[CrossValidation, ...]
    held_out: dict[str, Estimate]
    train_rows: int
    test_rows: int
    verdicts: tuple[Verdict, ...]
    notices: tuple[str, ...]
    known: Fingerprints
    background: FloatArray
    measured: dict[str, Any]

    @property
    def scaler(self) -> StandardScaler:
        """The pipeline's scaler."""
        return self.estimator[SCALER]

    @property
    def stopped(self) -> tuple[str, ...]:
        """Why this model should not be registered; nothing if it may be."""
        return tuple(each.sentence for each in self.verdicts if each.outcome == "stopped")


def train(
    dataset: Dataset,
    *,
    model: str = "auto",
    seed: int = 42,
    progress: Progress | None = None,
    champion: Champion | None = None,
    policy: Policy | None = None,
) -> TrainingResult:
    """Train and evaluate.

    Args:
        dataset: The validated training table.
        model: The name of one of ``KINDS``, or ``auto`` to compare ``CANDIDATES``.
        seed: Decides the held-out customers, the folds and the estimator's own randomness.
        progress: Called with a description, the steps done and the steps in all.
        champion: The model that this one is meant to replace.
        policy: Costs and value that the profit is measured with; None: the default.

    The arithmetic runs on one thread, so the same data and seed give the same model, bit for bit,
    whatever the number of cores.

    Raises:
        DataError: The table has too few customers of either class.
    """
    candidates = CANDIDATES if model == "auto" else tuple(k for k in KINDS if k.name == model)
    with threadpool_limits(limits=1):
        return _Run(dataset, seed, progress, policy).result(candidates, champion)


def measure(
    dataset: Dataset, probabilities: FloatArray, threshold: float | None = None, *, seed: int = 42
) -> tuple[float, dict[str, Estimate], dict[str, Any]]:
    """Measure a model that was trained elsewhere.

    Args:
        dataset: The customers, and who of them left.
        probabilities: What the model says of each row, shape ``(n,)``.
        threshold: Probabilities from here on are predicted as churn. None: the one with the best
            F1 on these very customers, which makes that F1 look a little better than it is.
        seed: Decides which customers are resampled.

    Returns:
        The threshold, the figures of ``evaluation.evaluate``, and the default policy's
        ``profit.profit_curve``.
    """
    resampled = {"samples": BOOTSTRAP_SAMPLES, "seed": seed}
    y, customers = dataset.y, customers_of(dataset).of_row
    if threshold is None:
        threshold = best_threshold(y, probabilities, customers, **resampled).value
    figures = evaluate(y, probabilities, threshold, customers, **resampled)
    return threshold, figures, profit_curve(y, probabilities, customers, Policy(), **resampled)


class _Run:
    """One training: what its steps share."""

    def __init__(
        self,
        dataset: Dataset,
        seed: int,
        progress: Progress | None,
        policy: Policy | None = None,
    ) -> None:
        self.policy = policy or Policy()
        self.customers = customers_of(dataset)
        _require(self.customers, MIN_CUSTOMERS, "The table has")
        self.dataset, self.seed, self.progress = dataset, seed, progress
        self.done = self.steps = 0
        self.split = self._split()
        self.X, self.y, self.of_row = self._rows(self.split.train)
        self.seen = number_customers(self.of_row, self.y)
        _require(self.seen, MIN_TRAINED, "What is left to train on has")
        large = len(self.y) >= _LARGE
        self.repeats = 1 if large else REPEATS
        self.folds = folds(self.seen, parts=FOLDS, repeats=self.repeats, seed=seed)
        # What the bootstrap needs; the number of samples is looked up late, for the tests.
        samples = min(BOOTSTRAP_SAMPLES, _FEW_SAMPLES) if large else BOOTSTRAP_SAMPLES
        self.resampled = {"samples": samples, "seed": seed}

    def result(
        self, candidates: tuple[Candidate, ...], champion: Champion | None
    ) -> TrainingResult:
        self.steps = len(candidates) * len(self.folds) + 2
        compared = [self._best_calibrated(candidate) for candidate in candidates]
        at = simplest([validation.scores["log_loss"] for _, validation in compared])
        candidate, chosen = compared[at]
        fitted = fit(candidate, self.X, self.y, self.seed, self.of_row)
        self._step(f"fitting {candidate.name}")
        threshold = best_threshold(self.y, chosen.probabilities, self.seen.of_row, **self.resampled)
        validations = tuple(validation for _, validation in compared)
        result = self._measured(candidate, fitted, threshold, validations, champion)
        self._step("measuring on held-out customers")
        return result

    def _step(self, description: str) -> None:
        self.done += 1
        if self.progress is not None:
            self.progress(description, self.done, self.steps)

    def _split(self) -> Split:
        if self.dataset.time is None:
            return hold_out(self.customers, share=TEST_SHARE, seed=self.seed)
        split = hold_out_latest(self.customers, self.dataset.time, share=TEST_SHARE, seed=self.seed)
        left = int(self.dataset.y[split.test].sum())
        if not 0 < left < len(split.test):
            raise DataError(
                f"Of the {len(split.test)} customers held out, those since {split.since}, {left} "
                "left: to measure takes some who left and some who stayed."
            )
        return split

    def _rows(self, rows: Indices) -> tuple[FloatArray, Labels, Indices]:
        """Return features, labels and customers of some rows."""
        numbered = np.unique(self.customers.of_row[rows], return_inverse=True)[1]
        return self.dataset.X[rows], self.dataset.y[rows], numbered

    def _raw(self, rows: Indices) -> pd.DataFrame | None:
        """Return all columns of some rows, if the table was a raw one."""
        return self.dataset.take(rows).raw

    def _best_calibrated(self, candidate: Candidate) -> tuple[Candidate, CrossValidation]:
        """Cross-validate; once more with a sigmoid on top if the probabilities are wrong."""
        plain = self._cross_validate(candidate)
        if not self._complaints(plain):
            return candidate, plain
        self.steps += len(self.folds)
        corrected = self._cross_validate(calibrated(candidate))
        if (
            self._complaints(corrected)
            and corrected.metrics["log_loss"].value > plain.metrics["log_loss"].value
        ):
            return candidate, plain
        return calibrated(candidate), corrected

    def _complaints(self, validation: CrossValidation) -> list[str]:
        return complaints(
            calibration(self.y, validation.probabilities, self.seen.of_row, **self.resampled)
        )

    def _cross_validate(self, candidate: Candidate) -> CrossValidation:
        scores: dict[str, list[float]] = {metric: [] for metric in METRICS}
        out_of_fold = np.full(len(self.y), np.nan)
        doing = "calibrating" if candidate.calibrated else "cross-validating"
        for number, (train_rows, test_rows) in enumerate(self.folds):
            fitted = fit(
                candidate,
                self.X[train_rows],
                self.y[train_rows],
                self.seed,
                self.of_row[train_rows],
            )
            probabilities = churn_probabilities(fitted, self.X[test_rows])
            for metric, value in evaluation.measure(self.y[test_rows], probabilities).items():
                scores[metric].append(value)
            if number < FOLDS:
                out_of_fold[test_rows] = probabilities
            self._step(f"{doing} {candidate.name}")
        by_metric = {metric: np.array(values) for metric, values in scores.items()}
        return CrossValidation(
            candidate=candidate.name,
            calibrated=candidate.calibrated,
            metrics={metric: mean_over_folds(values) for metric, values in by_metric.items()},
            scores=by_metric,
            probabilities=out_of_fold,
        )

    def _measured(
        self,
        candidate: Candidate,
        fitted: Pipeline,
        threshold: Estimate,
        validations: tuple[CrossValidation, ...],
        champion: Champion | None,
    ) -> TrainingResult:
        """Measure the fitted model on the held-out customers."""
        X, y, of_row = self._rows(self.split.test)
        probabilities = churn_probabilities(fitted, X)
        held_out = evaluate(y, probabilities, threshold.value, of_row, **self.resampled)
        reliability = calibration(y, probabilities, of_row, **self.resampled)
        groups = subgroups(X, y, probabilities, threshold.value, self._raw(self.split.test))
        verdicts = self._verdicts(X, y, of_row, probabilities, champion)
        said = (*complaints(reliability), *blind_spots(groups, threshold.value))
        prevalence = float(self.y.mean())
        measured = {
            "candidate": candidate.name,
            "label": LABEL_MEANING,
            "train_rows": len(self.y),
            "test_rows": len(y),
            "split": self._split_facts(),
            "cross_validation": {
                each.candidate: {name: asdict(e) for name, e in each.metrics.items()}
                for each in validations
            },
            "selection": _selection(candidate.name, validations),
            "held_out": {name: asdict(each) for name, each in held_out.items()},
            "no_skill": {"probability": prevalence, **no_skill(y, prevalence)},
            "threshold": {"maximises": "f1", "rows": len(self.y), **asdict(threshold)},
            "calibration": _calibration_facts(candidate, reliability),
            "curves": curves(y, probabilities),
            "profit": profit_curve(y, probabilities, of_row, self.policy, **self.resampled),
            "effects": effects(
                lambda rows: churn_probabilities(fitted, rows), self.X, seed=self.seed
            ),
            "subgroups": {
                by: [each.as_json() for each in groups if each.by == by]
                for by in dict.fromkeys(each.by for each in groups)
            },
            **self._fields(),
            "gates": [each.as_json() for each in verdicts],
            "notices": list(said),
        }
        return TrainingResult(
            candidate=candidate.name,
            estimator=fitted,
            threshold=threshold.value,
            cross_validation=validations,
            held_out=held_out,
            train_rows=len(self.y),
            test_rows=len(y),
            verdicts=verdicts,
            notices=(*repeats(self.dataset, self.customers), *said),
            known=fingerprints(self.X, self._ids(self.split.train)),
            background=background_of(self.X, self.of_row, seed=self.seed),
            measured=measured,
        )

    def _verdicts(
        self,
        X: FloatArray,
        y: Labels,
        of_row: Indices,
        probabilities: FloatArray,
        champion: Champion | None,
    ) -> tuple[Verdict, ...]:
        found = [
            gates.enough(y, of_row),
            gates.skill(y, probabilities, float(self.y.mean()), of_row, **self.resampled),
            gates.leak(self.X, self.y, X, y, seed=self.seed),
        ]
        if champion is not None:
            known = champion.known
            found.append(
                gates.UNKNOWN_CHAMPION
                if known is None
                else gates.champion(
                    y,
                    probabilities,
                    champion.predict(X),
                    of_row,
                    ~_whole(of_row, seen(known, X, self._ids(self.split.test))),
                    **self.resampled,
                )
            )
        return tuple(found)

    def _ids(self, rows: Indices) -> NDArray[np.object_] | None:
        return None if self.dataset.ids is None else self.dataset.ids[rows]

    def _split_facts(self) -> dict[str, Any]:
        split, customers = self.split, self.customers
        return {
            "by": "time" if split.since else "customer",
            **({"since": split.since} if split.since else {}),
            "customers": customers.count,
            "rows_left_out": split.left_out,
            "repeated_rows": customers.repeated_rows,
            "conflicting_customers": len(customers.conflicting),
            "customers_on_both_sides": len(
                np.intersect1d(customers.of_row[split.train], customers.of_row[split.test])
            ),
            "identical_rows_on_both_sides": identical_rows(self.dataset.X, split),
        }

    def _fields(self) -> dict[str, Any]:
        rows = np.sort(np.random.default_rng(self.seed).permutation(len(self.y))[:_FIELD_ROWS])
        raw = self._raw(self.split.train[rows])
        if raw is None:
            return {}
        y = self.y[rows]
        parts = folds(
            number_customers(self.of_row[rows], y),
            parts=FOLDS,
            repeats=self.repeats,
            seed=self.seed,
        )
        return {"fields": cost_of_fields(raw, self.X[rows], y, parts, seed=self.seed)}


def _require(customers: Customers, least: int, what: str) -> None:
    """Refuse to train on fewer customers than the folds need."""
    left, stayed = int(customers.left.sum()), int(customers.stayed.sum())
    if min(left, stayed) < least:
        raise DataError(
            f"{what} {left} customers who left and {stayed} customers who stayed: training needs "
            f"at least {least} of each."
        )


def _whole(of_row: Indices, known: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Tell of each row whether any row of its customer is known."""
    return np.isin(of_row, of_row[known])


def _selection(chosen: str, validations: tuple[CrossValidation, ...]) -> dict[str, Any]:
    """Return how much worse than the best each candidate's log-loss is, fold by fold."""
    best = min(validations, key=lambda each: each.metrics["log_loss"].value)
    return {
        "rule": "the simplest within one standard error of the paired difference in log-loss",
        "chosen": chosen,
        "best": best.candidate,
        "behind_the_best": {
            each.candidate: asdict(
                mean_over_folds(each.scores["log_loss"] - best.scores["log_loss"])
            )
            for each in validations
        },
    }


def _calibration_facts(candidate: Candidate, reliability: Calibration) -> dict[str, Any]:
    found = complaints(reliability)
    return {
        **reliability.as_json(),
        "corrected": candidate.calibrated,
        "passed": not found,
        "complaints": found,
    }
