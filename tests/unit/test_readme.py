"""The README says what the code does."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Final

from churn_serving.settings import ENV_PREFIX, Settings

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo

README: Final = Path(__file__).parents[2] / "README.md"
SECTION: Final = re.compile(r"(<!-- settings: .*? -->\n)(.*?)(<!-- /settings -->)", re.DOTALL)
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


def test_the_settings_table_is_complete() -> None:
    text = README.read_text()
    if os.environ.get(UPDATE):
        text = SECTION.sub(lambda match: match[1] + settings_table() + match[3], text)
        README.write_text(text)
    section = SECTION.search(text)
    assert section is not None
    assert section[2] == settings_table(), f"run the test with {UPDATE}=1 to update the README"


def test_every_make_target_named_in_the_readme_exists() -> None:
    makefile = README.with_name("Makefile").read_text()
    targets = set(re.findall(r"^([a-z-]+):", makefile, re.MULTILINE))
    named = set(re.findall(r"(?:`|\$ )make ([a-z-]+)", README.read_text()))
    assert {"serve", "test"} <= named <= targets
