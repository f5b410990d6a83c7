"""Requests that must be refused, each with the status and the field that the answer must name."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from math import inf, nextafter
from typing import Any, Final

from churn_serving.features.columns import CATEGORIES, bounds_of
from churn_serving.schema import EXAMPLE, Customer

PREDICT: Final = "/predict"
PREDICT_V1: Final = "/api/v1/predict"
BATCH: Final = "/api/v1/predict/batch"
PREDICT_V2: Final = "/api/v2/predict"
PREDICT_BATCH_V2: Final = "/api/v2/predict/batch"

CUSTOMER: Final[dict[str, Any]] = dict(EXAMPLE)
JSON: Final = {"content-type": "application/json"}
ECHO: Final = "do-not-repeat-me"


@dataclass(frozen=True, slots=True)
class BadRequest:
    """A request and what must come back.

    Attributes:
        name: What is wrong with it.
        body: The raw body.
        status: The status that the contract demands.
        loc: The location that one of the failures must have; None if there is none to name.
        path: The route.
        headers: The headers.
    """

    name: str
    body: bytes
    status: int = 422
    loc: tuple[str | int, ...] | None = None
    path: str = PREDICT
    headers: dict[str, str] = field(default_factory=lambda: dict(JSON))

    def __str__(self) -> str:
        return self.name


def raw(**changes: str) -> bytes:
    """Return the customer as JSON, some values replaced by raw JSON text."""
    values = {name: json.dumps(value) for name, value in CUSTOMER.items()} | changes
    return ("{" + ", ".join(f'"{name}": {value}' for name, value in values.items()) + "}").encode()


def _without(name: str) -> bytes:
    return json.dumps({k: v for k, v in CUSTOMER.items() if k != name}).encode()


def _items(count: int) -> bytes:
    return json.dumps({"items": [CUSTOMER] * count}).encode()


def wrong_values() -> dict[str, dict[str, str]]:
    """Return for each field of the schema what is wrong with a value, and the value as raw JSON."""
    bounds = bounds_of(Customer)
    wrong: dict[str, dict[str, str]] = {}
    for name, schema_field in Customer.model_fields.items():
        values = {"an object": "{}", "an array": "[1]"}
        if name in CATEGORIES:
            known = CATEGORIES[name][0]
            values |= {
                "an unknown value": f'"{ECHO}"',
                "a number": "0",
                "a boolean": "false",
                "empty text": '""',
                "the wrong case": f'"{known.capitalize()}"',
                "capitals": f'"{known.upper()}"',
                "a space in front": f'" {known}"',
            }
        elif schema_field.annotation is bool:
            values |= {"1": "1", "0.0": "0.0", "true in text": '"true"', "text": f'"{ECHO}"'}
        else:
            whole = schema_field.annotation is int
            low, high = bounds[name]
            below, above = (
                (low - 1, high + 1) if whole else (nextafter(low, -inf), nextafter(high, inf))
            )
            values |= {
                "text": f'"{ECHO}"',
                "a boolean": "true",
                "a number in text": f'"{low}"',
                "NaN": "NaN",
                "Infinity": "Infinity",
                "-Infinity": "-Infinity",
                "1e400": "1e400",
                "1e308": "1e308",
                "a number of 400 digits": "1" + "0" * 399,
                "far below": str(low - 4711),
                "just below": str(below),
                "just above": str(above),
            }
            if whole:
                values |= {"a fraction": f"{low}.5", "a point": f"{low}.0", "an exponent": "1e0"}
        wrong[name] = values
    wrong["total_charges"]["less than monthly_charges"] = str(CUSTOMER["monthly_charges"] - 0.01)
    return wrong


WRONG_VALUES: Final = wrong_values()

_FIELDS: Final = [
    request
    for name, values in WRONG_VALUES.items()
    for request in [
        BadRequest(f"{name} missing", _without(name), loc=(name,)),
        BadRequest(f"{name} null", raw(**{name: "null"}), loc=(name,)),
        *(
            BadRequest(f"{name}: {what}", raw(**{name: value}), loc=(name,))
            for what, value in values.items()
        ),
    ]
]

_BODIES: Final = [
    BadRequest("an extra field", raw(churn_reason=f'"{ECHO}"'), loc=("churn_reason",)),
    BadRequest("an array of customers", json.dumps([CUSTOMER]).encode(), loc=()),
    BadRequest("text instead of an object", b'"a customer"', loc=()),
    BadRequest("a number instead of an object", b"42", loc=()),
    BadRequest("null instead of an object", b"null", loc=()),
    BadRequest("an empty object", b"{}", loc=(next(iter(CUSTOMER)),)),
    BadRequest("an empty body", b"", 400),
    BadRequest("white space", b"  \n ", 400),
    BadRequest("not JSON", b"tenure_months=2", 400),
    BadRequest("cut off", json.dumps(CUSTOMER).encode()[:-10], 400),
    BadRequest("trailing garbage", json.dumps(CUSTOMER).encode() + b"}", 400),
    BadRequest("single quotes", str(CUSTOMER).encode(), 400),
    BadRequest("invalid UTF-8", b'{"contract_type": "\xff\xfe"}', 400),
    BadRequest("a lone surrogate", b'{"contract_type": "\\ud800"}', 400),
    BadRequest("UTF-16", json.dumps(CUSTOMER).encode("utf-16"), 400),
    BadRequest("a byte order mark", b"\xef\xbb\xbf" + json.dumps(CUSTOMER).encode(), 400),
    BadRequest("deep arrays", b"[" * 100_000, 400),
    BadRequest("deep objects", b'{"a":' * 10_000 + b"1" + b"}" * 10_000, 400),
    BadRequest("a number of 100 digits", raw(tenure_months="9" * 100), loc=("tenure_months",)),
    BadRequest("a number of 5,000 digits", raw(tenure_months="9" * 5000), 400),
]

_MEDIA_TYPES: Final = [
    BadRequest(f"sent as {name}", json.dumps(CUSTOMER).encode(), 415, headers=headers)
    for name, headers in {
        "nothing": {},
        "a form": {"content-type": "application/x-www-form-urlencoded"},
        "a multipart form": {"content-type": "multipart/form-data; boundary=x"},
        "text": {"content-type": "text/plain"},
        "a pickle": {"content-type": "application/vnd.bentoml+pickle"},
        "JSON's cousin": {"content-type": "application/jsonp"},
    }.items()
]

_BATCHES: Final = [
    BadRequest("no items", b"{}", loc=("items",), path=BATCH),
    BadRequest("items null", b'{"items": null}', loc=("items",), path=BATCH),
    BadRequest("items an object", b'{"items": {}}', loc=("items",), path=BATCH),
    BadRequest("0 items", _items(0), loc=("items",), path=BATCH),
    BadRequest("101 items", _items(101), loc=("items",), path=BATCH),
    BadRequest("a bare customer", json.dumps(CUSTOMER).encode(), loc=("items",), path=BATCH),
    BadRequest(
        "an extra field beside items",
        json.dumps({"items": [CUSTOMER], "limit": 1}).encode(),
        loc=("limit",),
        path=BATCH,
    ),
    BadRequest(
        "one bad item among 100",
        json.dumps(
            {"items": [*[CUSTOMER] * 41, CUSTOMER | {"num_products": 0}, *[CUSTOMER] * 58]}
        ).encode(),
        loc=("items", 41, "num_products"),
        path=BATCH,
    ),
    BadRequest("an item that is null", b'{"items": [null]}', loc=("items", 0), path=BATCH),
]

_VERSION_1: Final = [
    BadRequest(f"{request.name}, to v1", request.body, request.status, request.loc, PREDICT_V1)
    for request in (_FIELDS[0], _FIELDS[1], _BODIES[0], _BODIES[6], _BODIES[8])
]


def _case(**fields: Any) -> bytes:
    return json.dumps({"customer": CUSTOMER, **fields}).encode()


def _cases(count: int, **fields: Any) -> bytes:
    return json.dumps({"items": [{"customer": CUSTOMER}] * count, **fields}).encode()


_VERSION_2: Final = [
    BadRequest(name, body, loc=loc, path=PREDICT_V2)
    for name, body, loc in (
        ("a bare customer, to v2", json.dumps(CUSTOMER).encode(), ("customer",)),
        ("a customer that is null", b'{"customer": null}', ("customer",)),
        ("an id of 65 characters", _case(customer_id=65 * "x"), ("customer_id",)),
        ("an id with a line break", _case(customer_id=f"{ECHO}\n"), ("customer_id",)),
        ("an id that is a fraction", _case(customer_id=1.5), ("customer_id",)),
        ("a value of 0", _case(customer_value=0), ("customer_value",)),
        ("a value in text", _case(customer_value="250"), ("customer_value",)),
        ("an infinite value", _case(customer_value=inf), ("customer_value",)),
        ("8 reasons", _case(max_reasons=8), ("max_reasons",)),
        ("what_if as a number", _case(what_if=1), ("what_if",)),
    )
] + [
    BadRequest(name, body, loc=loc, path=PREDICT_BATCH_V2)
    for name, body, loc in (
        ("0 items, to v2", _cases(0), ("items",)),
        ("1,001 items", _cases(1001), ("items",)),
        ("a bare customer, to v2's batches", json.dumps(CUSTOMER).encode(), ("items",)),
        ("a capacity of 0", _cases(1, capacity=0), ("capacity",)),
        ("a budget of 0", _cases(1, budget=0), ("budget",)),
        ("an extra field beside v2's items", _cases(1, limit=1), ("limit",)),
    )
]

BAD_BODIES: Final = [*_FIELDS, *_BODIES, *_BATCHES, *_VERSION_1, *_VERSION_2]
"""All that is wrong with a body."""

BAD_REQUESTS: Final = [*BAD_BODIES, *_MEDIA_TYPES]
"""All of them."""

_CHOSEN: Final = {
    "tenure_months missing",
    "monthly_charges null",
    "tenure_months: a fraction",
    "total_charges: less than monthly_charges",
    "num_products: NaN",
    "has_internet: 1",
    "contract_type: an unknown value",
    "an extra field",
    "an array of customers",
    "an empty body",
    "cut off",
    "invalid UTF-8",
    "a byte order mark",
    "deep arrays",
    "a number of 5,000 digits",
    "0 items",
    "101 items",
    "one bad item among 100",
    "not JSON, to v1",
    "an id with a line break",
    "a capacity of 0",
}

OVER_HTTP: Final = [*(bad for bad in BAD_BODIES if bad.name in _CHOSEN), *_MEDIA_TYPES]
"""One of each kind, and the media types, which only HTTP knows."""
