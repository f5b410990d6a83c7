"""What ``churn score`` refuses before it looks at the table."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from churn_serving.cli import main

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("share", ["nan", "inf", "-0.1", "1.5", "some"])
def test_a_share_that_is_none_is_wrong_usage(
    share: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["score", "a.csv", "--output", "scores", "--max-reject-rate", share]) == 2
    assert "--max-reject-rate" in capsys.readouterr().err


def test_a_link_to_itself_is_no_table(tmp_path: Path, saved: str) -> None:
    link = tmp_path / "link"
    link.symlink_to(link)
    assert main(["score", str(link), "--output", str(tmp_path / "o"), "--model", saved]) == 1
