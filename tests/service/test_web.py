"""The page for people, as it is sent."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest
import yaml

import churn_serving
from churn_serving.http.web import INDEX, WEB

if TYPE_CHECKING:
    from starlette.testclient import TestClient

FOLDER: Final = Path(churn_serving.__file__).parent / "web"
PROJECT: Final = Path(__file__).parents[2]
FILES: Final = sorted(WEB - {INDEX})
SOURCES: Final = sorted(FOLDER.iterdir())
TYPES: Final = {"css": "text/css", "js": "text/javascript", "svg": "image/svg+xml"}


def test_every_file_is_served(client: TestClient) -> None:
    assert {f"/web/{file.name}" for file in SOURCES if file.name != "index.html"} == set(FILES)
    for path in FILES:
        answer = client.get(path)
        assert answer.status_code == 200
        assert answer.content == (FOLDER / Path(path).name).read_bytes()
        assert answer.headers["content-type"].startswith(TYPES[path.rpartition(".")[2]])
        assert answer.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize("path", sorted(WEB))
def test_the_page_may_load_what_is_its_own_and_nothing_else(client: TestClient, path: str) -> None:
    (policy,) = client.get(path).headers.get_list("content-security-policy")
    assert {part.strip() for part in policy.split(";")} == {
        *("default-src 'none'", "script-src 'self'", "style-src 'self'", "connect-src 'self'"),
        *("img-src 'self' data:", "form-action 'none'", "base-uri 'none'"),
        "frame-ancestors 'none'",
    }


@pytest.mark.parametrize("path", sorted(WEB))
def test_a_browser_keeps_the_page_and_asks_about_it(client: TestClient, path: str) -> None:
    first = client.get(path)
    assert first.headers["cache-control"] == "no-cache"
    again = client.get(path, headers={"if-none-match": f'"another", W/{first.headers["etag"]}'})
    assert (again.status_code, again.content) == (304, b"")


def test_the_page_names_everything_relative_to_itself(client: TestClient) -> None:
    named = re.findall(r'(?:href|src)="([^"#]+)"', client.get(INDEX).text)
    assert {"web/main.js", "web/page.css", "model", "docs"} <= set(named)
    for name in named:
        assert not name.startswith("/")
        assert client.get(f"/{name}").status_code == 200
    # So do the modules: of each other, and of the API.
    for file in FOLDER.glob("*.js"):
        text = file.read_text()
        for module in re.findall(r'^(?:import|export).* from "(.*)";$', text, re.MULTILINE):
            assert (FOLDER / module).is_file(), file.name
        assert not re.search(r"""["'`]/(?:api|openapi|metrics|web)""", text), file.name


@pytest.mark.parametrize("file", SOURCES, ids=lambda file: file.name)
def test_no_file_leads_to_the_internet_or_makes_markup_of_data(file: Path) -> None:
    text = file.read_text()
    places = set(re.findall(r"https?://[^\"'\s]+", text))
    assert places <= {"http://www.w3.org/2000/svg"}  # a name, not a place
    # The policy forbids the first three; the others would make elements of text.
    assert not re.search(r"\son\w+=|javascript:|\sstyle=|innerHTML|outerHTML|insertAdjacent", text)
    assert not re.search(r"\beval\(|new Function|document\.write|localStorage|sessionStorage", text)


def test_the_files_are_in_the_bento() -> None:
    include = yaml.safe_load((PROJECT / "bentofile.yaml").read_text())["include"]
    assert "/src/churn_serving/web/*" in include
