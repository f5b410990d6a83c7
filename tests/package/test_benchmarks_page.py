"""Each claim of the feature comparison has a source, and what is claimed of ours is there."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from typing import Final

import pytest

PROJECT: Final = Path(__file__).parents[2]
SECTION: Final = re.compile(r"<!-- features: .*? -->\n(.*)<!-- /features -->", re.DOTALL)
FOUND: Final = SECTION.search((PROJECT / "docs" / "benchmarks.md").read_text())
assert FOUND is not None
TEXT: Final = FOUND[1]

MARK: Final = r"\[\^([a-z]\d+)\]"
FOOTNOTE: Final = re.compile(rf"^{MARK}: (.+)$", re.MULTILINE)
FOOTNOTES: Final = dict(FOOTNOTE.findall(TEXT))
BODY: Final = FOOTNOTE.sub("", TEXT)
URL: Final = re.compile(r"<https://[^\s<>]+>")
PACKAGE: Final = re.compile(r"`[\w-]+ \d[\w.]*: [\w.*]+`")
CODE: Final = re.compile(r"`([^`]+)`")

OURS: Final = {mark: text for mark, text in FOOTNOTES.items() if mark.startswith("o")}
THEIRS: Final = {mark: text for mark, text in FOOTNOTES.items() if mark not in OURS}
LETTERS: Final = {
    "churn-serving": "o",
    "FastAPI and Uvicorn": "f",
    "BentoML": "b",
    "TorchServe": "t",
    "Triton": "n",
    "MLflow's scoring server": "m",
    "MLServer": "s",
    "LitServe": "l",
    "Ray Serve": "r",
}
"""What the sources of each column begin with; x is of several."""


def tables() -> list[list[list[str]]]:
    """Return the tables, each a list of rows, each a list of cells."""
    found = re.findall(r"(?:^\|.*\|\n)+", TEXT, re.MULTILINE)
    return [
        [
            [cell.strip() for cell in line.strip("|").split("|")]
            for line in table.splitlines()
            if not line.startswith("|---")
        ]
        for table in found
    ]


HEADS: Final = [table[0] for table in tables()]
ROWS: Final = [
    (head, row)
    for head, *rows in tables()
    for row in rows
    if not re.fullmatch(r"\*\*.+\*\*", row[0])
]


def test_each_framework_has_a_column_and_each_table_the_same_rows() -> None:
    assert [name for head in HEADS for name in head[1:]] == list(LETTERS)
    assert len({tuple(row[0] for row in table[1:]) for table in tables()}) == 1


@pytest.mark.parametrize(("head", "row"), ROWS, ids=lambda cells: cells[0] or cells[1])
def test_every_cell_has_a_source_of_its_column(head: list[str], row: list[str]) -> None:
    assert len(row) == len(head)
    for name, cell in zip(head[1:], row[1:], strict=True):
        letters = {mark[0] for mark in re.findall(MARK, cell)}
        assert letters, f"{name}: {cell}"
        assert letters <= {LETTERS[name], "x"}, f"{name}: {cell}"


def test_every_mark_leads_to_a_source_and_every_source_is_used() -> None:
    assert set(re.findall(MARK, BODY)) == set(FOOTNOTES)


def test_no_source_is_given_twice() -> None:
    marks = Counter(mark for mark, _ in FOOTNOTE.findall(TEXT))
    assert set(marks.values()) == {1}
    assert set(Counter(FOOTNOTES.values()).values()) == {1}


@pytest.mark.parametrize("mark", THEIRS)
def test_what_is_claimed_of_others_is_in_a_page_or_a_package(mark: str) -> None:
    text = THEIRS[mark]
    assert URL.search(text) or PACKAGE.search(text), text
    # An address that is not between < and > is no link.
    assert "https://" not in URL.sub("", text), text


@pytest.mark.parametrize("mark", OURS)
def test_what_is_claimed_of_ours_is_in_a_test_or_a_file(mark: str) -> None:
    claims = CODE.findall(OURS[mark])
    assert claims
    for claim in claims:
        path, _, name = claim.partition("::")
        assert (PROJECT / path).is_file(), claim
        if name:
            source = (PROJECT / path).read_text()
            assert re.search(rf"^(?:async )?def {name}\(", source, re.MULTILINE), claim


@pytest.mark.parametrize("name", LETTERS)
def test_it_is_said_when_to_choose_which(name: str) -> None:
    choice = "This project" if name == "churn-serving" else name
    assert re.search(rf"^- \*\*{choice}\*\*: ", TEXT, re.MULTILINE)
