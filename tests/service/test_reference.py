"""The reference: a page of the OpenAPI document, without a script."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from itertools import count
from typing import TYPE_CHECKING

import pytest

from churn_serving.http.api import ENDPOINTS
from churn_serving.http.api.v2 import POLICY
from churn_serving.http.fields import fields
from churn_serving.http.openapi import Document
from churn_serving.http.reference import REFERENCE, reference_route
from churn_serving.schema import Customer
from tests.doubles import service_state

if TYPE_CHECKING:
    from typing import Any

    from starlette.testclient import TestClient


class Outline(HTMLParser):
    """What is in a page: its elements, and the text without markup."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in {"meta", "link", "wbr"}:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


def test_the_page_shows_every_route_and_every_field(client: TestClient) -> None:
    answer = client.get(REFERENCE)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    page = Outline(answer.text)
    assert page.open == []
    for path, endpoint in ENDPOINTS.items():
        assert f"POST {path} {endpoint.summary}" in page.text
    assert f"GET {POLICY} " in page.text
    for name, field in Customer.model_fields.items():
        assert name in page.text
        assert field.description is not None
        assert field.description in page.text


def test_each_link_leads_to_a_place_of_the_page_or_to_another_page(client: TestClient) -> None:
    page = Outline(client.get(REFERENCE).text)
    places = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(set(places)) == len(places)
    for link in page.all("a"):
        target = link["href"]
        assert target is not None
        # Relative, so that it is found below any prefix.
        assert not target.startswith("/")
        assert target.removeprefix("#") in places or client.get(f"/{target}").status_code == 200


def test_everything_is_folded_and_nothing_is_a_script(client: TestClient) -> None:
    answer = client.get(REFERENCE)
    page = Outline(answer.text)
    assert len(page.all("details")) >= len(ENDPOINTS)
    assert all("open" not in details for details in page.all("details"))
    assert page.all("script") == []
    assert all(not re.match("on|style", name) for _, found in page.elements for name in found)
    policy = answer.headers["content-security-policy"]
    assert "script" not in policy
    assert "unsafe" not in policy
    assert policy.startswith("default-src 'none'; ")


def test_who_has_the_page_does_not_get_it_again(client: TestClient) -> None:
    first = client.get(REFERENCE)
    etag = first.headers["etag"]
    for known in (etag, f"W/{etag}", f'"another", {etag}'):
        again = client.get(REFERENCE, headers={"if-none-match": known})
        assert (again.status_code, again.content) == (304, b"")
        assert again.headers["etag"] == etag
    assert client.get(REFERENCE, headers={"if-none-match": '"another"'}).status_code == 200


def test_text_of_the_document_is_never_markup() -> None:
    from starlette.applications import Starlette
    from starlette.testclient import TestClient

    evil = {"model_tag": "</pre><script>alert(1)</script>"}
    state = service_state(answers={"/predict": evil})
    document = Document(state=state, version="<b>1</b>", keys=True)
    with TestClient(Starlette(routes=[reference_route(document)])) as client:
        page = Outline(client.get(REFERENCE).text)
    assert page.all("script") == page.all("b") == []
    assert "</pre><script>alert(1)</script>" in page.text
    assert "<b>1</b>" in page.text


async def test_the_page_is_written_anew_only_for_new_answers() -> None:
    state = service_state()
    document = Document(state=state, version="1", keys=False)
    times = count(1)
    latest = document.kept(lambda _: next(times))
    assert [await latest(), await latest()] == [1, 1]
    state.answers = {"/predict": {"churn_probability": 0.5}}
    assert [await latest(), await latest()] == [2, 2]


@pytest.mark.parametrize(
    ("schema", "kind", "limits"),
    [
        ({"type": "integer", "minimum": 0, "maximum": 120}, "integer", "0 to 120"),
        (
            {"type": "number", "exclusiveMinimum": 0, "maximum": 1e9},
            "number",
            "above 0, at most 1,000,000,000",
        ),
        ({"type": "string", "maxLength": 64}, "string", "at most 64 characters"),
        ({"enum": ["a", True]}, '`"a"` or `true`', ""),
        ({"const": 1}, "`1`", ""),
        (
            {"type": "array", "items": {"type": "string"}, "minItems": 1, "maxItems": 1000},
            "array of string",
            "1 to 1,000 items",
        ),
        (
            {"anyOf": [{"type": "number", "minimum": 0}, {"type": "null"}]},
            "number or null",
            "at least 0",
        ),
        ({"anyOf": [{"type": "string"}, {"type": "integer"}]}, "string or integer", ""),
        ({}, "any", ""),
    ],
)
def test_a_field_is_described_in_words(schema: dict[str, Any], kind: str, limits: str) -> None:
    (field,) = fields({"properties": {"it": schema}}, {})
    assert (field.path, field.kind, field.limits, field.required) == ("it", kind, limits, False)


def test_the_fields_of_what_a_field_holds_follow_it_and_end() -> None:
    definitions = {
        "Node": {
            "type": "object",
            "properties": {
                "name": {"type": "string"},
                "nodes": {"type": "array", "items": {"$ref": "#/components/schemas/Node"}},
            },
            "required": ["name"],
        }
    }
    choice = {"oneOf": [{"$ref": "#/components/schemas/Node"}, {"type": "null"}]}
    found = fields({"properties": {"root": choice}}, definitions)
    assert [(each.path, each.kind, each.required) for each in found] == [
        ("root", "object or null", False),
        ("root.name", "string", True),
        ("root.nodes", "array of object", False),
    ]
