"""The comparison of scorers with their estimators, as it is run."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

from bench.kinds import CALIBRATED, FOREST
from bench.kinds.__main__ import main
from bench.kinds.found import SIZES
from bench.kinds.register import main as register

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

QUICK = ("--pairs", "1", "--seconds", "0.001")


def test_a_kind_is_fitted_registered_checked_and_timed(tmp_path: Path) -> None:
    assert main(["--kind", CALIBRATED, *QUICK, "--output", str(tmp_path)]) == 0
    made = json.loads((tmp_path / "kinds.json").read_text())
    (kind,) = made["kinds"]
    assert kind["kind"] == CALIBRATED
    assert kind["largest_difference"] <= 1e-9
    assert set(kind["duels"]) == {str(size) for size in SIZES}
    assert f"| {CALIBRATED} | " in (tmp_path / "kinds.md").read_text()


def test_a_kind_that_cannot_be_measured_is_left_out_and_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bench.kinds.__main__.ROOT", tmp_path)
    assert main(["--kind", FOREST, *QUICK, "--output", str(tmp_path)]) == 1
    made = json.loads((tmp_path / "kinds.json").read_text())
    assert made["kinds"] == []
    assert "bench" in made["missing"][FOREST]


def test_a_checkout_that_cannot_take_a_kind_says_null(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    # As where ``churn_serving`` is that of a commit which had no such function.
    for module in ("learning.registration", "model.artifact", "artifact"):
        monkeypatch.setitem(sys.modules, f"churn_serving.{module}", None)
    register("xgboost", "nothing")
    assert capsys.readouterr().out == "null"
