"""The README and the guides say what the code does, and lead where they say."""

from __future__ import annotations

import ast
import inspect
import os
import re
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest

from churn_serving.http.problems import CLIENT_CLOSED_REQUEST, STATUS_OF
from churn_serving.schema import Customer
from churn_serving.settings import ENV_PREFIX, Settings
from churn_serving.telemetry.metrics import FAMILIES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

PROJECT: Final = Path(__file__).parents[2]
README: Final = PROJECT / "README.md"
DOCS: Final = PROJECT / "docs"
PAGES: Final = sorted(
    page
    for place in ("*.md", "bench/**/*.md", "deploy/**/*.md", "docs/**/*.md")
    for page in PROJECT.glob(place)
)
UPDATE: Final = "UPDATE_DOCS"

# The changelog may name what is no longer there.
GUIDES: Final = [page for page in PAGES if page.name != "CHANGELOG.md"]


def table(columns: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    """A Markdown table."""
    lines = [columns, ("---",) * len(columns), *rows]
    cells = ([" ".join(cell.split()) for cell in line] for line in lines)
    return "".join(f"| {' | '.join(line)} |\n" for line in cells).replace("| --- ", "|---")


def attribute_docstrings(kind: type) -> dict[str, str]:
    """The text below each attribute of a class; pydantic would read it at each start."""
    (body,) = ast.parse(inspect.getsource(kind)).body
    assert isinstance(body, ast.ClassDef)
    return {
        field.target.id: text.value.value
        for field, text in pairwise(body.body)
        if isinstance(field, ast.AnnAssign)
        and isinstance(field.target, ast.Name)
        and isinstance(text, ast.Expr)
        and isinstance(text.value, ast.Constant)
        and isinstance(text.value.value, str)
    }


def settings_table() -> str:
    fields = Settings.model_json_schema()["properties"]
    meanings = attribute_docstrings(Settings)
    rows = [
        (f"`{ENV_PREFIX}{name.upper()}`", default(field), allowed(field), meanings[name])
        for name, field in fields.items()
    ]
    return table(("variable", "default", "allowed", "meaning"), rows)


def metrics_table() -> str:
    rows = []
    for family in FAMILIES.values():
        suffix = "_total" if family.kind == "counter" else ""
        labels = f"{{{','.join(family.labels)}}}" if family.labels else ""
        rows.append((f"`{family.name}{suffix}{labels}`", family.kind, family.help))
    return table(("metric", "kind", "meaning"), rows)


def customer_table() -> str:
    rows = [
        (f"`{name}`", allowed(field), field["description"])
        for name, field in Customer.model_json_schema()["properties"].items()
    ]
    return table(("field", "allowed", "meaning"), rows)


def default(field: Mapping[str, Any]) -> str:
    """What a setting is, if nobody sets it."""
    if "default" not in field:
        return "the CPUs available"
    value = field["default"]
    if value is None:
        return "unset"
    if value == []:
        return "none"
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


def allowed(field: Mapping[str, Any]) -> str:
    """Which values a field may have, as its JSON schema says."""
    (kind,) = (kind for kind in field.get("anyOf", [field]) if kind["type"] != "null")
    if "enum" in kind:
        return ", ".join(f"`{value}`" for value in kind["enum"])
    words = {"array": "list", "boolean": "`true`, `false`", "string": "text"}
    name, least, most = kind["type"], kind.get("minimum"), kind.get("maximum")
    if name in words:
        return words[name]
    if least is None:
        return f"{name} above {kind['exclusiveMinimum']}" + (f", at most {most:,}" if most else "")
    return f"{name}, at least {least:,}" if most is None else f"{name}, {least:,} to {most:,}"


@pytest.mark.parametrize(
    ("page", "section", "make_table"),
    [
        ("settings.md", "settings", settings_table),
        ("metrics.md", "metrics", metrics_table),
        ("api.md", "customer", customer_table),
    ],
)
def test_a_table_says_what_the_code_says(
    page: str, section: str, make_table: Callable[[], str]
) -> None:
    content = make_table()
    marked = re.compile(rf"(<!-- {section}: .*? -->\n)(.*?)(<!-- /{section} -->)", re.DOTALL)
    path = DOCS / page
    text = path.read_text()
    if os.environ.get(UPDATE):
        text = marked.sub(lambda match: match[1] + content + match[3], text)
        path.write_text(text)
    found = marked.search(text)
    assert found is not None
    assert found[2] == content, f"{page} is out of date; run: {UPDATE}=1 make test"


def test_the_api_guide_knows_every_status_of_an_error() -> None:
    told = re.findall(r"^\| ([45]\d\d(?:, \d+)*) \|", (DOCS / "api.md").read_text(), re.MULTILINE)
    statuses = {int(status) for cell in told for status in cell.split(", ")}
    assert statuses == set(STATUS_OF.values()) - {CLIENT_CLOSED_REQUEST} | {404, 405}


def test_the_readme_stays_short() -> None:
    assert len(README.read_text().splitlines()) <= 130


def test_the_index_leads_to_every_guide() -> None:
    for index in (DOCS / "index.md", DOCS / "decisions" / "index.md"):
        linked = set(re.findall(r"\]\(([\w-]+\.md)\)", index.read_text()))
        assert linked == {page.name for page in index.parent.glob("*.md")} - {index.name}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(PROJECT)))
def test_every_link_leads_somewhere(page: Path) -> None:
    for path, anchor in re.findall(r"\]\((?!https?:|\$)([^)#\s]*)#?([^)\s]*)\)", page.read_text()):
        target = page.parent / path if path else page
        assert target.exists(), path
        if anchor:
            assert anchor in anchors(target), f"{path}#{anchor}"


def anchors(page: Path) -> set[str]:
    """The anchors that a hosting platform gives to a page's headings."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {
        re.sub(r"[^\w -]", "", heading).strip().lower().replace(" ", "-") for heading in headings
    }


@pytest.mark.parametrize("page", GUIDES, ids=lambda page: str(page.relative_to(PROJECT)))
def test_every_file_that_is_named_exists(page: Path) -> None:
    for name in re.findall(r"`([\w./-]+/[\w.-]+\.\w+)`", page.read_text()):
        places = (PROJECT, page.parent, PROJECT / "src" / "churn_serving")
        assert name.startswith("/") or any((place / name).exists() for place in places), name


def test_every_setting_that_is_named_exists() -> None:
    pages = [page for page in GUIDES if page.parent in {PROJECT, DOCS}]
    text = "\n".join(page.read_text() for page in pages)
    named = set(re.findall(r"\bCHURN_(?!LOAD_)[A-Z_]+", text))  # the load test has its own
    known = {f"{ENV_PREFIX}{name.upper()}" for name in Settings.model_fields}
    assert named <= known, named - known


def test_every_make_target_that_is_named_exists() -> None:
    makefile = (PROJECT / "Makefile").read_text()
    targets = set(re.findall(r"^([a-z-]+):", makefile, re.MULTILINE))
    text = "\n".join(page.read_text() for page in GUIDES)
    named = set(re.findall(r"(?:`|\$ )make ([a-z][a-z-]*)", text))
    assert {"serve", "test"} <= named
    assert named <= targets, named - targets
