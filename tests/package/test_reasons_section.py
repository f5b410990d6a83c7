"""Reasons are registered with a model, verified at each load, and refused if they are not sound."""

from __future__ import annotations

import hashlib
import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import bentoml
import lightgbm
import numpy as np
import pytest
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier

from churn_serving.errors import ModelCorruptedError
from churn_serving.features.columns import COLUMN_NAMES, FEATURE_NAMES
from churn_serving.learning.registration import save_artifact, save_booster
from churn_serving.model.artifact import Trust, load_artifact
from churn_serving.model.npz import read_arrays, write_arrays
from churn_serving.model.portable import ARRAYS, MANIFEST, describe
from churn_serving.model.reasons.section import CLIPPED, LOG_ODDS

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from churn_serving.learning.dataset import Dataset
    from tests.package.conftest import Fitted, TrainingRun

    Arrays = dict[str, NDArray[Any]]

SECONDS: Final = 1.0


def _saved(estimator: Any, data: Dataset, name: str) -> str:
    return save_artifact(
        estimator=estimator, threshold=0.5, measured={}, name=name, background=data.X[:1000]
    )


@pytest.fixture(scope="module")
def linear(telco: Dataset) -> str:
    return _saved(LogisticRegression(max_iter=5000).fit(telco.X, telco.y), telco, "linear")


@pytest.fixture(scope="module")
def patterns(boosting: Fitted, telco: Dataset) -> str:
    return _saved(boosting.pipeline, telco, "patterns")


@pytest.fixture(scope="module")
def coalitions(telco: Dataset) -> str:
    forest = RandomForestClassifier(5, max_leaf_nodes=20, random_state=0)
    return _saved(forest.fit(telco.X, telco.y), telco, "coalitions")


@pytest.mark.parametrize(
    ("model", "scale"), [("linear", LOG_ODDS), ("patterns", LOG_ODDS), ("coalitions", CLIPPED)]
)
def test_a_registered_model_gives_reasons(
    model: str,
    scale: str,
    telco: Dataset,
    request: pytest.FixtureRequest,
) -> None:
    loaded = load_artifact(request.getfixturevalue(model))
    assert loaded.has_reasons
    reasons = loaded.reasons
    assert reasons is not None
    assert reasons.exact is (model != "coalitions")
    assert reasons.slow is not reasons.exact
    assert (reasons.section.kind, reasons.section.scale) == (model, scale)
    background = reasons.section.background
    assert background.rows == 1000
    assert background.sha256 == hashlib.sha256(telco.X[:1000].astype("<f8").tobytes()).hexdigest()
    row = tuple(telco.X[7].tolist())
    z = reasons.baseline + sum(reasons.row(row))
    assert abs(1 / (1 + np.exp(-z)) - loaded.scorer.score_row(row)) <= 1e-9


def test_a_model_that_was_registered_without_customers_to_compare_with_gives_none(
    saved: str,
) -> None:
    loaded = load_artifact(saved)
    assert loaded.reasons is None
    assert not loaded.has_reasons


def test_a_pickled_model_gives_reasons_too(telco: Dataset, model_name: str) -> None:
    neighbours = KNeighborsClassifier(20).fit(telco.X[:400], telco.y[:400])
    tag = save_artifact(
        estimator=neighbours,
        threshold=0.5,
        measured={},
        name=model_name,
        allow_pickle=True,
        background=telco.X[:1000],
    )
    loaded = load_artifact(tag, Trust(allow_pickle=True))
    assert loaded.reasons is not None
    assert loaded.reasons.slow
    p = np.clip(loaded.scorer.score(telco.X[:3]), 1e-6, 1 - 1e-6)
    z = loaded.reasons.baseline + loaded.reasons.matrix(telco.X[:3]).sum(axis=1)
    np.testing.assert_allclose(1 / (1 + np.exp(-z)), p, rtol=0, atol=1e-9)


def test_a_booster_gives_reasons_too(telco: Dataset, model_name: str, tmp_path: Path) -> None:
    model = lightgbm.LGBMClassifier(n_estimators=10, num_leaves=8, n_jobs=1, verbose=-1)
    model.fit(telco.X, telco.y).booster_.save_model(tmp_path / "model.txt")
    tag = save_booster(
        path=tmp_path / "model.txt",
        threshold=0.5,
        measured={},
        name=model_name,
        background=telco.X[:1000],
    )
    reasons = load_artifact(tag).reasons
    assert reasons is not None
    assert reasons.exact


def test_a_training_draws_the_customers_to_compare_with_from_those_it_was_fitted_on(
    training_run: TrainingRun, telco: Dataset
) -> None:
    background = training_run.result.background
    assert background.shape == (1000, len(COLUMN_NAMES))
    known = {row.tobytes() for row in telco.X}
    assert {row.tobytes() for row in background} <= known


def test_few_customers_are_a_background_too(telco: Dataset, model_name: str) -> None:
    forest = RandomForestClassifier(3, random_state=0).fit(telco.X[:500], telco.y[:500])
    tag = save_artifact(
        estimator=forest, threshold=0.5, measured={}, name=model_name, background=telco.X[:3]
    )
    reasons = load_artifact(tag).reasons
    assert reasons is not None
    assert reasons.section.background.used == 3


def _set(*path: str, to: Any) -> Callable[[dict[str, Any]], None]:
    def change(section: dict[str, Any]) -> None:
        inside = section
        for key in path[:-1]:
            inside = inside[key]
        inside[path[-1]] = to

    return change


SECTIONS: Final[dict[str, Callable[[dict[str, Any]], Any]]] = {
    "another baseline": _set("baseline", to=0.25),
    "no number as the baseline": _set("baseline", to="0"),
    "an infinite baseline": _set("baseline", to=float("inf")),
    "another kind": _set("kind", to="guessed"),
    "another scale": _set("scale", to="probability"),
    "a key too many": _set("password", to="secret"),
    "no checksum": _set("background", "sha256", to="abc"),
    "no background": _set("background", to=None),
    "more rows than there may be": _set("background", "rows", to=10**30),
    "a share too few": _set("background", "shares", "contract_type", to=[0.5, 0.5]),
    "a share that is none": _set("background", "shares", "has_internet", to=[-1.0, 2.0]),
    "no shares": _set("background", "shares", to={}),
    "no means": _set("background", "means", to={}),
    "a mean of a category": _set("background", "means", "contract_type", to=1.0),
    "a huge mean": _set("background", "means", "tenure_months", to=1e300),
    "a mean of a field that nobody knows": _set("background", "means", "x" * 1000, to=1.0),
}


@pytest.fixture
def rewritten() -> Any:
    """Rewrites a model's files as somebody with a text editor would, and puts them right again."""
    kept: dict[Path, bytes] = {}

    def rewrite(
        tag: str,
        *,
        section: Callable[[dict[str, Any]], Any] | None = None,
        arrays: Callable[[Arrays], Any] | None = None,
    ) -> None:
        folder = Path(bentoml.models.get(tag).path)
        kept.update({folder / name: (folder / name).read_bytes() for name in (MANIFEST, ARRAYS)})
        manifest = json.loads((folder / MANIFEST).read_bytes())
        if section is not None:
            section(manifest["sections"]["reasons"])
        if arrays is not None:
            changed = {k: v.copy() for k, v in read_arrays((folder / ARRAYS).read_bytes()).items()}
            arrays(changed)
            content = write_arrays(changed)
            (folder / ARRAYS).write_bytes(content)
            manifest["files"][ARRAYS] = describe(content).model_dump()
        (folder / MANIFEST).write_text(json.dumps(manifest))

    yield rewrite
    for path, content in kept.items():
        path.write_bytes(content)


def _refusal(tag: str) -> str:
    begun = time.process_time()
    with pytest.raises(ModelCorruptedError) as refused:
        load_artifact(tag)
    assert time.process_time() - begun < SECONDS
    sentence = str(refused.value)
    assert "\n" not in sentence
    assert len(sentence) < 1000
    return sentence


@pytest.mark.parametrize("model", ["linear", "patterns", "coalitions"])
@pytest.mark.parametrize("kind", list(SECTIONS))
def test_a_section_that_says_nonsense_is_refused_in_a_sentence(
    kind: str, model: str, rewritten: Callable[..., None], request: pytest.FixtureRequest
) -> None:
    tag = request.getfixturevalue(model)
    rewritten(tag, section=SECTIONS[kind])
    assert _refusal(tag)


@pytest.mark.parametrize("model", ["linear", "patterns", "coalitions"])
@pytest.mark.parametrize("kind", ["linear", "patterns", "coalitions"])
def test_a_section_of_another_kind_of_model_is_refused(
    kind: str, model: str, rewritten: Callable[..., None], request: pytest.FixtureRequest
) -> None:
    tag = request.getfixturevalue(model)
    rewritten(tag, section=_set("kind", to=kind))
    if kind == model:
        assert load_artifact(tag).reasons
    else:
        assert _refusal(tag)


def _put(name: str, place: Any, value: float) -> Callable[[Arrays], None]:
    return lambda arrays: arrays[name].__setitem__(place, value)


def _replace(name: str, array: Any) -> Callable[[Arrays], None]:
    return lambda arrays: arrays.__setitem__(name, array)


FIELDS: Final = len(FEATURE_NAMES)
HOSTILE: Final[dict[str, tuple[str, Callable[[Arrays], Any], str]]] = {
    "no mean": ("linear", lambda a: a.pop("reasons/mean"), "reasons/mean is missing"),
    "a short mean": ("linear", _replace("reasons/mean", np.zeros(3)), "for each column"),
    "whole means": ("linear", _replace("reasons/mean", np.zeros(13, "<i4")), "another type"),
    "a mean that is none": ("linear", _put("reasons/mean", 0, np.nan), "no finite number"),
    "another mean": ("linear", _put("reasons/mean", 0, 1e3), "do not add up"),
    "a huge mean": ("linear", _put("reasons/mean", 0, 1e308), "do not add up"),
    "no table": ("patterns", lambda a: a.pop("reasons/table"), "reasons/table is missing"),
    "a short table": (
        "patterns",
        _replace("reasons/table", np.zeros((1, FIELDS))),
        "not one row for each pattern",
    ),
    "a flat table": ("patterns", _replace("reasons/table", np.zeros(8)), "another type or shape"),
    "a narrow table": (
        "patterns",
        lambda a: a.update({"reasons/table": a["reasons/table"][:, 1:]}),
        "not one row for each pattern",
    ),
    "an infinite impact": ("patterns", _put("reasons/table", (3, 2), np.inf), "no finite number"),
    "a huge impact": ("patterns", _put("reasons/table", (3, 2), 1e300), "holds huge numbers"),
    "an impact that adds up to something else": (
        "patterns",
        lambda a: a["reasons/table"].__setitem__((-1, 0), a["reasons/table"][-1, 0] + 1e-6),
        "does not add up to what the trees say",
    ),
    "a tree's impacts shifted": (
        "patterns",
        lambda a: a["reasons/table"].__setitem__(slice(None), a["reasons/table"] + 1e-6),
        "do not add up",
    ),
    "no background": (
        "coalitions",
        lambda a: a.pop("reasons/background"),
        "reasons/background is missing",
    ),
    "an empty background": (
        "coalitions",
        _replace("reasons/background", np.zeros((0, 13))),
        "of another shape",
    ),
    "a large background": (
        "coalitions",
        _replace("reasons/background", np.zeros((100_000, 13))),
        "of another shape",
    ),
    "a background that is none": (
        "coalitions",
        _put("reasons/background", (0, 0), np.nan),
        "no finite number",
    ),
    "another background": (
        "coalitions",
        lambda a: a["reasons/background"].__setitem__(slice(None), a["reasons/background"][0]),
        "do not add up",
    ),
}


@pytest.mark.parametrize("kind", list(HOSTILE))
def test_hostile_arrays_are_refused_in_a_sentence_that_names_them(
    kind: str, rewritten: Callable[..., None], request: pytest.FixtureRequest
) -> None:
    model, change, told = HOSTILE[kind]
    tag = request.getfixturevalue(model)
    rewritten(tag, arrays=change)
    assert told in _refusal(tag)


def test_impacts_that_add_up_but_are_moved_between_fields_are_not_noticed_by_adding_up(
    patterns: str, rewritten: Callable[..., None]
) -> None:
    """What only the signature protects: nobody can tell without the background."""

    def move(arrays: Arrays) -> None:
        arrays["reasons/table"][:, 0] += 0.25
        arrays["reasons/table"][:, 1] -= 0.25

    rewritten(patterns, arrays=move)
    assert load_artifact(patterns).reasons
