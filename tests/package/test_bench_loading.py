from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from bench.loading import main, write_table
from churn_serving.learning.dataset import load_dataset

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


def test_the_table_that_is_loaded_has_as_many_customers_as_rows(tmp_path: Path) -> None:
    write_table(tmp_path / "table.csv", 500)
    dataset = load_dataset(tmp_path / "table.csv")
    assert dataset.rows == 500
    assert dataset.groups is not None
    assert len(np.unique(dataset.groups)) == 500


def test_both_read_it_in_processes_of_their_own(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--rows", "300", "--rounds", "1"]) == 0
    said = capsys.readouterr().out
    assert "training  " in said
    assert "pandas    " in said
    assert "times the CPU time of pandas" in said
