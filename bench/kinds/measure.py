"""Measure one kind of model, in a process of its own: ``python -m bench.kinds.measure KIND ...``.

It prints what it found as JSON. Whoever starts it chooses its core before numpy is imported, which
starts a thread for each core that it sees.
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from bench.kinds import tolerance
from bench.kinds.duel import duel
from bench.kinds.found import SIZES, Found
from bench.kinds.reasons import measure_reasons
from bench.kinds.register import load_dataset, register
from churn_serving.model.artifact import load_artifact

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from bench.kinds.duel import Duel
    from churn_serving.model.scoring import Scorer

__all__ = ["difference", "measure"]

# So many different ones are asked for one at a time: a processor soon knows a single one by heart.
SINGLE_ROWS: Final = 500


def measure(kind: str, pairs: int, seconds: float) -> Found:
    """Measure one kind of model.

    Args:
        kind: Which.
        pairs: How often both are timed, for each number of rows.
        seconds: About how long each timing lasts.

    Raises:
        ModuleNotFoundError: Its library or shap is not installed.
        SystemExit: It cannot be registered, or the scorer's answers are wrong.
    """
    made = register(kind, f"bench_{kind.replace('-', '_')}")
    if made is None:
        raise SystemExit("There is no way to register it.")
    tag, fitted = made
    loaded = load_artifact(tag)
    scorer, whole = loaded.scorer, fitted.whole
    customers = load_dataset().X
    X = customers[np.random.default_rng(0).integers(len(customers), size=SIZES[-1])]
    worst = difference(scorer, whole, X)
    if not worst <= tolerance(kind):
        raise SystemExit(f"The probabilities differ by up to {worst:.1e}.")
    duels = {str(size): _duel(scorer, whole, X[:size], pairs, seconds) for size in SIZES[1:]}
    single = _duel_of_rows(scorer, whole, X[:SINGLE_ROWS], pairs, seconds)
    reasons = measure_reasons(kind, loaded, fitted, X, pairs=pairs, seconds=seconds)
    return Found(kind, worst, {str(SIZES[0]): single, **duels}, reasons)


def difference(scorer: Scorer, whole: Any, X: NDArray[Any]) -> float:  # noqa: ANN401 - of different libraries
    """Return by how much the scorer's probabilities differ at most, at once and one by one."""
    expected = whole.predict_proba(X)[:, 1]
    single = np.array([scorer.score_row(tuple(row)) for row in X[:SINGLE_ROWS].tolist()])
    differences = np.concatenate([scorer.score(X) - expected, single - expected[:SINGLE_ROWS]])
    return float(np.abs(differences).max())


def _duel(scorer: Scorer, whole: Any, X: NDArray[Any], pairs: int, seconds: float) -> Duel:  # noqa: ANN401 - see above
    return duel(scorer.score, whole.predict_proba, [X], pairs=pairs, seconds=seconds)


def _duel_of_rows(scorer: Scorer, whole: Any, X: NDArray[Any], pairs: int, seconds: float) -> Duel:  # noqa: ANN401 - see above
    """Give each what it takes: a tuple, and a matrix with one row."""
    return duel(
        lambda row: scorer.score_row(row[0]),
        lambda row: whole.predict_proba(row[1]),
        [(tuple(row.tolist()), row.reshape(1, -1)) for row in X],
        pairs=pairs,
        seconds=seconds,
    )


def main(kind: str, pairs: str, seconds: str) -> None:
    """Measure one kind of model and print what was found."""
    json.dump(asdict(measure(kind, int(pairs), float(seconds))), sys.stdout)


if __name__ == "__main__":
    main(*sys.argv[1:])
