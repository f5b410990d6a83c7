"""Requests that hypothesis makes up from the server's own OpenAPI document.

A request starts as one that the document describes, and most are then spoiled: one value replaced,
a field left out or added or given twice, the text cut or overwritten, another method or path or
media type, headers that nobody expects. Equal seeds make equal requests.
"""

from __future__ import annotations

import json
from functools import reduce
from operator import getitem
from typing import TYPE_CHECKING, Any, Final

from hypothesis import strategies as st

from tests.system.chaos.client import request

if TYPE_CHECKING:
    from collections.abc import Mapping

    from hypothesis.strategies import DrawFn, SearchStrategy

__all__ = ["described", "mutated", "requests"]

_METHODS: Final = ("GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "HEAD", "TRACE", "BREW")
_PATHS: Final = ("/predict/", "//predict", "/predict/../health", "/%00", "/schema.json", "/*")
_PAGES: Final = (
    "/",
    "/docs",
    "/redoc",
    "/health",
    "/health/ready",
    "/livez",
    "/readyz",
    "/metrics",
)
_PATH: Final = r"/[!-~\xa1-\xff]{0,30}"
_MEDIA_TYPES: Final = (
    *("application/json; charset=utf-8", "application/json; charset=utf-16", "APPLICATION/JSON"),
    *("text/plain", "application/xml", "application/vnd.bentoml+pickle", "multipart/form-data"),
    *("application/x-www-form-urlencoded", "image/png", "application/json,text/html", "/", ";"),
)
_HEADERS: Final = {
    "X-Request-ID": ("", "a" * 5000, "\x7f", "\xff\xfe", "{}", "../../etc/passwd"),
    "X-Request-Timeout-Ms": ("", "soon", "-5", "NaN", "1e9", "9" * 30, "60000", "\xb2"),
    "Authorization": ("", "Bearer", "Bearer \xe9", "Basic ====", "a" * 5000),
    "X-API-Key": ("", "\xe9", "a" * 5000),
    "Accept": ("", "*/*;q=x", "image/png", "text/html"),
    "Accept-Encoding": ("gzip", "br;q=nan", "identity;q=0"),
    "Content-Encoding": ("gzip", "deflate", "br"),
    "Origin": ("null", "http://\xff", "javascript:"),
    "Access-Control-Request-Method": ("POST", "\xff"),
    "traceparent": ("", "00-0-0-00", "00-" + "f" * 32 + "-" + "0" * 16 + "-01"),
    "Cookie": ("a=b; a=c", "\xff", ";" * 1000),
    "Range": ("bytes=5-1",),
    "If-Modified-Since": ("yesterday",),
    "Host": ("", "a, b", "\xff", "[::1"),
    "Expect": ("100-continue", "patience"),
    "BentoML-Run-ID": ("\xff",),
}
_WHOLE: Final = st.integers() | st.sampled_from([2**31, 2**63, -(2**63) - 1, 10**40])
_SCALARS: Final = (
    st.none() | st.booleans() | _WHOLE | st.floats() | st.text(max_size=20) | st.just("\ud800")
)
_ANYTHING: Final[SearchStrategy[Any]] = st.recursive(
    _SCALARS,
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4)
    ),
    max_leaves=8,
)


def described(schema: Mapping[str, Any], document: Mapping[str, Any]) -> SearchStrategy[Any]:
    """Return values that a JSON schema of the document allows, as far as it is used there."""
    if "$ref" in schema:
        keys = schema["$ref"].removeprefix("#/").split("/")
        return described(reduce(getitem, keys, document), document)
    if choices := schema.get("anyOf") or schema.get("oneOf"):
        return st.one_of([described(choice, document) for choice in choices])
    if "enum" in schema:
        return st.sampled_from(schema["enum"])
    kind = schema.get("type")
    if kind == "object":
        fields = {
            name: described(field, document) for name, field in schema.get("properties", {}).items()
        }
        required = schema.get("required", ())
        return st.fixed_dictionaries(
            {name: field for name, field in fields.items() if name in required},
            optional={name: field for name, field in fields.items() if name not in required},
        )
    if kind == "array":
        # Beyond a few items nothing new is found, only time is spent.
        return st.lists(
            described(schema["items"], document), min_size=schema.get("minItems", 0), max_size=5
        )
    above = schema.get("exclusiveMinimum")
    bounds = schema.get("minimum", above), schema.get("maximum")
    simple = {
        "integer": st.integers(*bounds),
        "number": st.floats(
            *bounds, allow_nan=False, allow_infinity=False, exclude_min=above is not None
        ),
        "boolean": st.booleans(),
        "null": st.none(),
        "string": st.text(
            # No surrogates, and nothing of the kind that a pattern here forbids.
            st.characters(codec="utf-8", exclude_categories=("C", "Zl", "Zp")),
            min_size=schema.get("minLength", 0),
            max_size=schema.get("maxLength"),
        ),
    }
    return simple.get(kind or "", _ANYTHING)


@st.composite
def mutated(draw: DrawFn, data: bytes) -> bytes:
    """Cut out, double or overwrite a piece of the bytes."""
    start = draw(st.integers(0, len(data)))
    end = draw(st.integers(start, min(len(data), start + 40)))
    middle = draw(st.just(b"") | st.binary(max_size=20) | st.just(data[start:end] * 3))
    return data[:start] + middle + data[end:]


def requests(document: Mapping[str, Any]) -> SearchStrategy[bytes]:
    """Return requests, as bytes, to what an OpenAPI document describes and to all around it."""
    operations = [
        (path, method.upper(), _body_schema(operation))
        for path, operations in document["paths"].items()
        for method, operation in operations.items()
        if method.upper() in _METHODS
    ]
    # Most of what can go wrong is behind the operations that are described.
    operations = 4 * operations + [(path, "GET", None) for path in _PAGES]
    return st.sampled_from(operations).flatmap(
        lambda operation: _request(*operation, document=document)
    )


def _body_schema(operation: Mapping[str, Any]) -> Mapping[str, Any] | None:
    content = operation.get("requestBody", {}).get("content", {})
    schema: Mapping[str, Any] | None = content.get("application/json", {}).get("schema")
    return schema


@st.composite
def _request(
    draw: DrawFn,
    path: str,
    method: str,
    schema: Mapping[str, Any] | None,
    *,
    document: Mapping[str, Any],
) -> bytes:
    body = draw(_body(schema, document)) if schema else draw(st.just(b"") | st.binary(max_size=50))
    headers: dict[str, str] = {}
    match draw(st.integers(0, 9)):
        case 1:
            method = draw(st.sampled_from(_METHODS))
        case 2:
            path = draw(st.sampled_from(_PATHS) | st.from_regex(_PATH, fullmatch=True))
        case 3:
            path += "?" + draw(st.from_regex(r"[!-~]{0,30}", fullmatch=True))
        case 4:
            headers["Content-Type"] = draw(st.sampled_from(_MEDIA_TYPES))
        case 5 | 6:
            name = draw(st.sampled_from(sorted(_HEADERS)))
            headers[name] = draw(st.sampled_from(_HEADERS[name]))
    return request(method, path, body, headers)


@st.composite
def _body(draw: DrawFn, schema: Mapping[str, Any], document: Mapping[str, Any]) -> bytes:
    value = draw(described(schema, document))
    spoil = draw(st.integers(0, 7))
    if spoil == 7:
        value = draw(_ANYTHING)
    target = value
    if isinstance(value, dict) and isinstance(items := value.get("items"), list) and items:
        target = draw(st.sampled_from([value, *items]))
    if isinstance(target, dict) and target:
        name = draw(st.sampled_from(sorted(target)))
        if spoil in {1, 2}:
            target[name] = draw(_ANYTHING)
        elif spoil == 3:
            del target[name]
        elif spoil == 4:
            target[draw(st.text(max_size=20))] = draw(_ANYTHING)
    text = json.dumps(value).encode()
    if spoil == 5:
        return draw(mutated(text))
    if spoil == 6 and text.startswith(b"{"):  # each key twice
        return text[:-1] + b"," + text[1:]
    return text
