"""The README's example is a real request with a real answer."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

if TYPE_CHECKING:
    from starlette.testclient import TestClient

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
    assert told.pop("model_tag").partition(":")[0] == expected.pop("model_tag").partition(":")[0]
    assert told == pytest.approx(expected, abs=0.02)
