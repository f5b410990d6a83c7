"""The card of the served model over HTTP."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from starlette.applications import Starlette
from starlette.testclient import TestClient

from churn_serving.http.card import card_route
from churn_serving.model.card import read_card

if TYPE_CHECKING:
    from churn_serving.model.artifact import Artifact

PAGE = "/model"


def test_the_page_is_the_card_of_the_served_model(client: TestClient, artifact: Artifact) -> None:
    answer = client.get(PAGE)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert answer.content == read_card(artifact)
    assert artifact.version in answer.text


def test_the_page_may_show_itself_and_no_more(client: TestClient) -> None:
    (policy,) = client.get(PAGE).headers.get_list("content-security-policy")
    parts = {part.strip() for part in policy.split(";")}
    assert parts >= {
        "default-src 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
        "sandbox",
    }
    assert "script" not in policy


def test_a_head_has_the_headers_of_a_get(client: TestClient) -> None:
    got, asked = client.get(PAGE), client.head(PAGE)
    assert asked.status_code == 200
    for name in ("content-type", "content-length", "etag", "cache-control"):
        assert asked.headers[name] == got.headers[name], name


@pytest.mark.parametrize("known", ["{etag}", "W/{etag}", '"another", {etag}'])
def test_who_has_the_page_does_not_get_it_again(client: TestClient, known: str) -> None:
    first = client.get(PAGE)
    assert first.headers["cache-control"] == "no-cache"
    etag = first.headers["etag"]
    again = client.get(PAGE, headers={"if-none-match": known.format(etag=etag)})
    assert (again.status_code, again.content) == (304, b"")
    assert again.headers["etag"] == etag
    assert client.get(PAGE, headers={"if-none-match": '"another"'}).status_code == 200


def test_a_model_without_a_card_says_how_to_get_one() -> None:
    with TestClient(Starlette(routes=[card_route(None, "churn_classifier:v1")])) as client:
        answer = client.get(PAGE)
    assert answer.status_code == 404
    assert answer.json()["detail"] == []
    assert "churn model card churn_classifier:v1" in answer.json()["error"]


def test_the_documentation_leads_to_the_page(client: TestClient) -> None:
    # Relative to the page that shows it: a proxy may put a prefix before both.
    assert "[card](model)" in client.get("/openapi.json").json()["info"]["description"]
