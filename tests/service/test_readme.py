"""The README's example is a real request with a real answer."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest

if TYPE_CHECKING:
    from starlette.testclient import TestClient

_NUMBER: Final = re.compile(r"[0-9][0-9.,]*")
README: Final = Path(__file__).parents[2] / "README.md"


def test_the_readmes_request_gets_the_readmes_answer(client: TestClient) -> None:
    found = re.search(
        r"<!-- example: .*?localhost:3000(/\S+) -H '(\S+): (\S+)' -d '(.*?)'\n(.*?)\n```",
        README.read_text(),
        re.DOTALL,
    )
    assert found is not None
    path, name, value, body, shown = found.groups()
    answer = client.post(path, content=body, headers={name: value})
    assert answer.status_code == 200
    told, expected = answer.json(), json.loads(shown)
    # The model is fitted anew for the tests, on a few customers more.
    assert told.pop("model_version") != expected.pop("model_version")
    assert told == _about(expected)


def _about(value: Any) -> Any:
    """Return what is equal to a value whose numbers, also in its texts, are another model's."""
    if isinstance(value, float):
        return pytest.approx(value, rel=0.1, abs=0.05)
    if isinstance(value, dict):
        return {name: _about(each) for name, each in value.items()}
    if isinstance(value, list):
        return [_about(each) for each in value]
    return _Text(value) if isinstance(value, str) else value


class _Text(str):
    """Text that is equal to any that differs in numbers only."""

    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, str) and _NUMBER.sub("#", self) == _NUMBER.sub("#", other)

    __hash__ = str.__hash__
