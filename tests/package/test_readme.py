"""The README and the guides say what the code does."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

from churn_serving.settings import ENV_PREFIX, Settings
from churn_serving.telemetry.metrics import FAMILIES

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo

README: Final = Path(__file__).parents[2] / "README.md"
GUIDES: Final = sorted(README.parent.glob("docs/*.md"))
UPDATE: Final = "UPDATE_README"


def settings_table() -> str:
    """The table that the README must hold."""
    rows = ["| variable | default | |", "|---|---|---|"]
    for name, field in Settings.model_fields.items():
        rows.append(f"| `{ENV_PREFIX}{name.upper()}` | {default(field)} | {field.description} |")
    return "\n".join(rows) + "\n"


def default(field: FieldInfo) -> str:
    if field.default_factory is not None:
        return "the CPUs available"
    if field.default is None:
        return "unset"
    if field.default == ():
        return "none"
    text = str(field.default)
    return f"`{text.lower() if isinstance(field.default, bool) else text}`"


def metrics_table() -> str:
    """The table that the operations guide must hold."""
    rows = ["| metric | |", "|---|---|"]
    for family in FAMILIES.values():
        suffix = "_total" if family.kind == "counter" else ""
        labels = f"{{{','.join(family.labels)}}}" if family.labels else ""
        rows.append(f"| `{family.name}{suffix}{labels}` ({family.kind}) | {family.help} |")
    return "\n".join(rows) + "\n"


def check(path: Path, section: str, table: str) -> None:
    """Compare a marked section with what it must hold, or write it."""
    marked = re.compile(rf"(<!-- {section}: .*? -->\n)(.*?)(<!-- /{section} -->)", re.DOTALL)
    text = path.read_text()
    if os.environ.get(UPDATE):
        text = marked.sub(lambda match: match[1] + table + match[3], text)
        path.write_text(text)
    found = marked.search(text)
    assert found is not None
    assert found[2] == table, f"run the test with {UPDATE}=1 to update {path.name}"


def test_the_settings_table_is_complete() -> None:
    check(README, "settings", settings_table())


def test_the_metrics_table_is_complete() -> None:
    check(README.with_name("docs") / "operations.md", "metrics", metrics_table())


@pytest.mark.parametrize("path", [README, *GUIDES], ids=lambda path: path.name)
def test_every_link_to_a_file_leads_somewhere(path: Path) -> None:
    links = re.findall(r"\]\((?!https?:)([^)#]*)(?:#[^)]*)?\)", path.read_text())
    for link in filter(None, links):
        assert (path.parent / link).exists(), link


def test_every_make_target_named_in_the_readme_exists() -> None:
    makefile = README.with_name("Makefile").read_text()
    targets = set(re.findall(r"^([a-z-]+):", makefile, re.MULTILINE))
    text = "\n".join(path.read_text() for path in (README, *GUIDES))
    named = set(re.findall(r"(?:`|\$ )make ([a-z-]+)", text))
    assert {"serve", "test"} <= named <= targets
