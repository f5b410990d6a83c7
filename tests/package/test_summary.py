from __future__ import annotations

from dataclasses import replace
from io import StringIO
from typing import TYPE_CHECKING

from rich.console import Console

from churn_serving.learning.measuring.gates import Verdict
from churn_serving.learning.measuring.summary import summary

if TYPE_CHECKING:
    from churn_serving.learning.training import TrainingResult
    from tests.package.conftest import TrainingRun


def _printed(result: TrainingResult) -> str:
    file = StringIO()
    Console(width=80, file=file).print(summary(result))
    return file.getvalue()


def test_the_figures_fit_one_screen(training_run: TrainingRun) -> None:
    lines = _printed(training_run.result).splitlines()
    assert len(lines) <= 35
    assert max(map(len, lines)) <= 80


def test_what_a_reviewer_asks_for_first_is_there(training_run: TrainingRun) -> None:
    text = " ".join(_printed(training_run.result).split())
    for part in (
        "AUC 0.840 0.829-0.851 0.841",
        "1,409 held-out",
        "no skill",
        "PR-AUC",
        "lift, 10%",
        "Chosen: logistic, the simplest within one standard error of hist-gradient-boosting",
        "Calibration: slope 1.00 [0.",
        "(by chance 0.023): passed.",
        "of all 19 columns 0.84",
        "two-year 336 2.7% 3.1% 0.0% 0% 0%-30%",
        "note: two-year: none of the 9 customers who left is found",
        "passed: test-size, skill, leak",
    ):
        assert part in text, part


def test_a_gate_that_stops_says_why(training_run: TrainingRun) -> None:
    verdicts = (
        Verdict("skill", "stopped", "No better than a coin [50%]."),
        Verdict("champion", "skipped", "Nobody knows."),
    )
    text = _printed(replace(training_run.result, verdicts=verdicts))
    assert "stopped: No better than a coin [50%]." in text
    assert "skipped: Nobody knows." in text
    assert "passed: nothing" in text
