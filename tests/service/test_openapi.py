"""The OpenAPI document is true: its examples are answers, and answers are as it says."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from churn_serving.http.api import ENDPOINTS
from churn_serving.http.openapi import Document, openapi
from tests.bad_requests import OVER_HTTP, BadRequest
from tests.doubles import service_state
from tests.system.chaos.strategies import described

if TYPE_CHECKING:
    from collections.abc import Iterator

    from starlette.testclient import TestClient

JSON: Final = "application/json"


def spec(client: TestClient) -> dict[str, Any]:
    document: dict[str, Any] = client.get("/openapi.json").json()
    return document


@pytest.fixture(scope="module")
def document(client: TestClient) -> dict[str, Any]:
    return spec(client)


def operations(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield path, method, operation


def response(document: dict[str, Any], path: str, method: str, status: int) -> dict[str, Any]:
    """What the document says of an answer, wherever it says so."""
    found: dict[str, Any] = document["paths"][path][method]["responses"][str(status)]
    name = found.get("$ref", "").rpartition("/")[2]
    return document["components"]["responses"][name] if name else found


def validator(document: dict[str, Any], schema: dict[str, Any]) -> Draft202012Validator:
    """A validator of one schema of the document, with all that it refers to."""
    whole = {**schema, "components": document["components"]}
    Draft202012Validator.check_schema(whole)
    return Draft202012Validator(whole)


def without_times(answer: Any) -> Any:
    """An answer without what is measured anew each time."""
    return {name: value for name, value in answer.items() if not name.endswith("_time_ms")}


def test_operations_are_in_groups_the_newest_first(client: TestClient) -> None:
    document = spec(client)
    groups = [tag["name"] for tag in document["tags"]]
    assert groups == sorted(groups, reverse=True)
    assert all(tag["description"].endswith(".") for tag in document["tags"])
    found = [operation["tags"] for _, _, operation in operations(document)]
    assert all(len(tags) == 1 for tags in found)
    assert list(dict.fromkeys(tag for (tag,) in found)) == groups


def test_every_operation_has_a_name_of_its_own(client: TestClient) -> None:
    names = [operation["operationId"] for _, _, operation in operations(spec(client))]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("path", ENDPOINTS)
def test_the_example_of_an_answer_is_what_the_service_answers(
    client: TestClient, path: str
) -> None:
    operation = spec(client)["paths"][path]["post"]
    example = operation["requestBody"]["content"][JSON]["example"]
    shown = operation["responses"]["200"]["content"][JSON]["example"]
    answer = client.post(path, json=example)
    assert answer.status_code == 200
    assert without_times(answer.json()) == without_times(shown)


@pytest.mark.parametrize("path", ENDPOINTS)
def test_the_example_of_an_error_is_what_the_service_answers(client: TestClient, path: str) -> None:
    operation = spec(client)["paths"][path]["post"]
    example = operation["requestBody"]["content"][JSON]["example"]
    (status, shown) = next(
        (status, answer["content"][JSON]["example"])
        for status, answer in operation["responses"].items()
        if status >= "400" and "example" in answer.get("content", {}).get(JSON, {})
    )
    (wrong,) = (failure["loc"][0] for failure in shown["detail"])
    answer = client.post(path, json={**example, wrong: 2})
    assert (answer.status_code, answer.json()) == (int(status), shown)


def test_every_schema_and_every_example_is_valid(client: TestClient) -> None:
    document = spec(client)
    examples = 0
    for path, method, operation in operations(document):
        contents = [operation["requestBody"]["content"][JSON]] if "requestBody" in operation else []
        statuses = map(int, operation["responses"])
        contents += [response(document, path, method, each)["content"][JSON] for each in statuses]
        for content in contents:
            checked = validator(document, content["schema"])
            if "example" in content:
                checked.validate(content["example"])
                examples += 1
    assert examples >= 3 * len(ENDPOINTS)


@pytest.mark.parametrize("bad", OVER_HTTP, ids=str)
def test_the_document_knows_each_refusal_and_how_it_looks(
    client: TestClient, bad: BadRequest
) -> None:
    document = spec(client)
    answer = client.post(bad.path, content=bad.body, headers=bad.headers)
    said = response(document, bad.path, "post", answer.status_code)
    validator(document, said["content"][JSON]["schema"]).validate(answer.json())


def test_who_must_wait_is_told_how_long(client: TestClient) -> None:
    responses = spec(client)["components"]["responses"]
    waiting = {
        name for name, answer in responses.items() if "Retry-After" in answer.get("headers", ())
    }
    assert waiting == {"TOO_MANY_REQUESTS", "SERVICE_UNAVAILABLE"}


async def test_before_the_warm_up_there_is_no_example_of_an_answer() -> None:
    document = Document(state=service_state(), version="1", keys=False)
    paths = await document.kept(lambda content: content["paths"])()
    for path in ENDPOINTS:
        assert "example" not in paths[path]["post"]["responses"]["200"]["content"][JSON]


@pytest.mark.parametrize("keys", [True, False])
def test_the_document_asks_for_a_key_only_where_the_service_does(*, keys: bool) -> None:
    document = openapi({}, version="1", keys=keys)
    assert ("security" in document) == ("securitySchemes" in document["components"]) == keys


@pytest.mark.parametrize("path", ENDPOINTS)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_any_described_body_is_answered_as_described(
    document: dict[str, Any], client: TestClient, path: str, data: st.DataObject
) -> None:
    content = document["paths"][path]["post"]["requestBody"]["content"]
    answer = client.post(path, json=data.draw(described(content[JSON]["schema"], document)))
    # What no schema can say is refused: a total below the monthly charges, or an id that is twice.
    assert answer.status_code in {200, 422}, answer.text
    said = response(document, path, "post", answer.status_code)
    validator(document, said["content"][JSON]["schema"]).validate(answer.json())
