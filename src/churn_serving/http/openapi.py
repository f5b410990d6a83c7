"""The OpenAPI document: what each JSON route takes and answers, in groups, with real examples.

BentoML generates a document, too; it describes BentoML's own errors, so this one is ours. Its
examples are not invented: a refused one is what our own validation says, and an answer is what the
served model said when the service warmed up.
"""

from __future__ import annotations

import asyncio
import re
from functools import partial
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final, TypeVar

from pydantic import TypeAdapter
from pydantic_core import from_json, to_json

from churn_serving.errors import RequestError
from churn_serving.http.api import ENDPOINTS
from churn_serving.http.api.v2 import POLICY, PolicyAnswer, policy_answer
from churn_serving.http.problems import CLIENT_CLOSED_REQUEST, RETRYABLE, STATUS_OF, ErrorAnswer

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator, Mapping

    from pydantic.json_schema import JsonSchemaMode

    from churn_serving.http.api.endpoint import Endpoint
    from churn_serving.runtime.state import ServiceState

__all__ = ["Document", "openapi"]

T = TypeVar("T")

JSON: Final = "application/json"

# The newest comes first.
_GROUPS: Final = {
    "v2": "Probability, decision and reasons. A bad item of a batch is answered in its own place.",
    "v1": "Both probabilities and the time taken, for one customer or up to a hundred.",
    "v0": "One number, and the decision it leads to.",
}
_VERSION: Final = re.compile(r"/api/(v\d+)/")
_REF: Final = "#/components/schemas/{model}"
_MISTAKE: Final = {"tenure": 2}
"""A field that no request has."""
_MEANINGS: Final[dict[int, str]] = {
    HTTPStatus.BAD_REQUEST: "The body is not JSON, or a header makes no sense.",
    HTTPStatus.UNAUTHORIZED: "There is no valid API key.",
    HTTPStatus.REQUEST_TIMEOUT: "The body did not arrive in time.",
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: "The body is too large.",
    HTTPStatus.UNSUPPORTED_MEDIA_TYPE: "The body was not sent as JSON.",
    HTTPStatus.UNPROCESSABLE_ENTITY: "A field is missing or invalid; the detail names each.",
    HTTPStatus.TOO_MANY_REQUESTS: "Overloaded; try again later.",
    HTTPStatus.INTERNAL_SERVER_ERROR: "The model failed, or something unexpected happened.",
    HTTPStatus.SERVICE_UNAVAILABLE: "Not ready; try again later.",
    HTTPStatus.GATEWAY_TIMEOUT: "The answer was not ready in time.",
}
_RETRY_AFTER: Final = {
    "Retry-After": {
        "description": "Seconds to wait before the next try.",
        "schema": {"type": "integer", "minimum": 1},
    }
}
_SECURITY_SCHEMES: Final = {
    "bearer": {"type": "http", "scheme": "bearer"},
    "header": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
}


class Document:
    """The document of a running service; complete once the service has warmed up.

    It is made when somebody asks for it: that takes tens of milliseconds, which no start has to
    spare, nor the event loop.

    Args:
        state: Has the policy, and the answers to the examples of the routes.
        version: The version of the package.
        keys: Whether requests need an API key.
    """

    def __init__(self, *, state: ServiceState, version: str, keys: bool) -> None:
        self._state = state
        self._make = partial(openapi, version=version, keys=keys)

    def kept(self, write: Callable[[dict[str, Any]], T]) -> Callable[[], Awaitable[T]]:
        """Return a function that returns the document in some form, written once.

        Args:
            write: Writes it, in a thread; called again only when there are other answers.
        """
        known: tuple[Mapping[str, Any], T] | None = None

        async def latest() -> T:
            nonlocal known
            answers = self._state.answers
            if known is None or known[0] is not answers:
                shown = {**answers, POLICY: policy_answer(self._state.policy)}
                known = answers, await asyncio.to_thread(lambda: write(self._make(shown)))
            return known[1]

        return latest


def openapi(answers: Mapping[str, Any], *, version: str, keys: bool) -> dict[str, Any]:
    """Return the document.

    Args:
        answers: What the routes answered to their examples, by path.
        version: The version of the package.
        keys: Whether requests need an API key.
    """
    adapters: list[tuple[Any, JsonSchemaMode, TypeAdapter[Any]]] = [
        (answer, "serialization", TypeAdapter(answer)) for answer in (ErrorAnswer, PolicyAnswer)
    ]
    for endpoint in ENDPOINTS.values():
        adapters.append((endpoint.request, "validation", TypeAdapter(endpoint.request)))
        adapters.append((endpoint.response, "serialization", TypeAdapter(endpoint.response)))
    references, definitions = TypeAdapter.json_schemas(adapters, ref_template=_REF)
    error = references[ErrorAnswer, "serialization"]
    schemas = definitions["$defs"]
    grouped: dict[str, dict[str, Any]] = {name: {} for name in _GROUPS}
    for path, endpoint in ENDPOINTS.items():
        group = _group_of(path)
        operation = {
            "operationId": endpoint.name,
            "summary": endpoint.summary,
            "tags": [group],
            "requestBody": {
                "required": True,
                "content": _json(
                    references[endpoint.request, "validation"], from_json(endpoint.example)
                ),
            },
            "responses": {
                "200": {
                    "description": "The prediction.",
                    "content": _json(
                        references[endpoint.response, "serialization"], answers.get(path)
                    ),
                },
                **{str(status): {"$ref": _response(status)} for status in _statuses()},
                **_refused(error, endpoint),
            },
        }
        grouped[group][path] = {"post": operation}
    grouped[_group_of(POLICY)][POLICY] = {
        "get": _policy(references[PolicyAnswer, "serialization"], answers.get(POLICY))
    }
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "churn-serving",
            "version": version,
            "description": "Estimates how likely telecom customers are to leave. What the served "
            "model is for, and how good it is, stands on its [card](model).",
        },
        "tags": [
            {"name": name, "description": _GROUPS[name]} for name, paths in grouped.items() if paths
        ],
        "paths": {path: item for paths in grouped.values() for path, item in paths.items()},
        "components": {
            "schemas": {name: _tidy(each, schemas) for name, each in schemas.items()},
            "responses": dict(_errors(error)),
            **({"securitySchemes": _SECURITY_SCHEMES} if keys else {}),
        },
        **({"security": [{name: []} for name in _SECURITY_SCHEMES]} if keys else {}),
    }


def _tidy(schema: Any, named: Mapping[str, Any], *, whole: bool = True) -> Any:  # noqa: ANN401 - JSON
    """Return a schema of pydantic's that says more plainly what it says.

    Where one of several named schemas applies it is exactly one, and what has a name is referred to
    by it: pydantic repeats a schema that it does not validate.
    """
    if isinstance(schema, list):
        return [_tidy(each, named, whole=False) for each in schema]
    if not isinstance(schema, dict):
        return schema
    name = schema.get("title")
    if not whole and isinstance(name, str) and named.get(name) == schema:
        return {"$ref": _REF.format(model=name)}
    tidy = {key: _tidy(each, named, whole=False) for key, each in schema.items()}
    if all("$ref" in each for each in schema.get("anyOf", [{}])):
        tidy["oneOf"] = tidy.pop("anyOf")
    return tidy


def _policy(schema: Mapping[str, Any], example: Any) -> dict[str, Any]:  # noqa: ANN401 - JSON
    return {
        "operationId": "policy",
        "summary": "The policy that decides, and its version.",
        "tags": [_group_of(POLICY)],
        "responses": {
            "200": {
                "description": "The policy in force.",
                "content": _json(schema, example),
            },
            "401": {"$ref": _response(HTTPStatus.UNAUTHORIZED)},
        },
    }


def _group_of(path: str) -> str:
    found = _VERSION.match(path)
    return found[1] if found else "v0"


def _refused(schema: Mapping[str, Any], endpoint: Endpoint[Any, Any, Any]) -> dict[str, Any]:
    """Return what is answered to the example with one field too many."""
    try:
        endpoint.parse(to_json(from_json(endpoint.example) | _MISTAKE))
    except RequestError as error:
        status = HTTPStatus(STATUS_OF[type(error)])
        example = {"error": str(error), "detail": error.detail}
        return {str(status.value): _problem(status, schema, example)}
    raise AssertionError(f"{endpoint.path} takes a field that it does not have")


def _statuses() -> list[HTTPStatus]:
    return sorted(map(HTTPStatus, set(STATUS_OF.values()) - {CLIENT_CLOSED_REQUEST}))


def _response(status: HTTPStatus) -> str:
    return f"#/components/responses/{status.name}"


def _errors(schema: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for status in _statuses():
        yield status.name, _problem(status, schema)


def _problem(status: HTTPStatus, schema: Mapping[str, Any], example: Any = None) -> dict[str, Any]:  # noqa: ANN401 - JSON
    answer = {"description": _MEANINGS[status], "content": _json(schema, example)}
    return answer | ({"headers": _RETRY_AFTER} if status in RETRYABLE else {})


def _json(schema: Mapping[str, Any], example: Any = None) -> dict[str, Any]:  # noqa: ANN401 - JSON
    content = {"schema": dict(schema)}
    return {JSON: content if example is None else {**content, "example": example}}
