"""Which pages of other origins a browser lets call the service."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Final

import pytest

from churn_serving.telemetry.metrics import HTTP_DURATION
from tests.bad_requests import CUSTOMER, PREDICT
from tests.doubles import count_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager
    from types import ModuleType

    import httpx2
    from starlette.testclient import TestClient
    from starlette.types import ASGIApp

    Running = Callable[[ASGIApp], AbstractContextManager[TestClient]]
    Served = Callable[..., ASGIApp]

OURS: Final = "https://app.example.com"
OTHER_OF_OURS: Final = "http://localhost:8080"
THEIRS: Final = "https://evil.example.com"
ORIGINS: Final = f"{OURS},{OTHER_OF_OURS}"
KEY: Final = "correct-horse-battery-staple"
DIGEST: Final = f"sha256:{hashlib.sha256(KEY.encode()).hexdigest()}"


def _preflight(client: TestClient, origin: str, *headers: str) -> httpx2.Response:
    """Ask as a browser does before it sends JSON from a page of the origin."""
    return client.options(
        PREDICT,
        headers={
            "origin": origin,
            "access-control-request-method": "POST",
            "access-control-request-headers": ", ".join(("content-type", *headers)),
        },
    )


def _allowed(answer: httpx2.Response) -> str | None:
    origin: str | None = answer.headers.get("access-control-allow-origin")
    return origin


def test_it_is_closed_unless_an_operator_opens_it(served: Served, running: Running) -> None:
    with running(served()) as client:
        answer = client.post(PREDICT, json=CUSTOMER, headers={"origin": OURS})
        preflight = _preflight(client, OURS)
    assert answer.status_code == 200
    assert preflight.status_code == 405
    assert set(preflight.json()) == {"error", "detail"}
    for each in (answer, preflight):
        assert not [name for name in each.headers if name.startswith("access-control-")]
        assert each.headers["x-request-id"]


@pytest.mark.parametrize("origin", [OURS, OTHER_OF_OURS])
def test_pages_of_named_origins_may_call_and_read_what_helps_them(
    served: Served, running: Running, origin: str
) -> None:
    with running(served(cors_origins=ORIGINS)) as client:
        answers = [
            client.post(PREDICT, json=CUSTOMER, headers={"origin": origin}),
            client.post(PREDICT, json={}, headers={"origin": origin}),
            client.post(PREDICT, content=b"x", headers={"origin": origin}),
            client.get("/nowhere", headers={"origin": origin}),
            client.get("/health/ready", headers={"origin": origin}),
        ]
    assert [answer.status_code for answer in answers] == [200, 422, 415, 404, 200]
    for answer in answers:
        assert _allowed(answer) == origin
        assert "origin" in answer.headers["vary"].lower()
        exposed = answer.headers["access-control-expose-headers"].lower()
        assert {"x-request-id", "retry-after"} <= set(exposed.split(", "))
        assert "access-control-allow-credentials" not in answer.headers


@pytest.mark.parametrize(
    "origin",
    [
        THEIRS,
        "null",
        "http://app.example.com",  # not the scheme that was named
        "https://app.example.com:444",
        "https://app.example.com.evil.example",
        "https://x.app.example.com",
        "https://APP.example.com",
    ],
)
def test_pages_of_other_origins_may_not(served: Served, running: Running, origin: str) -> None:
    with running(served(cors_origins=ORIGINS)) as client:
        answer = client.post(PREDICT, json=CUSTOMER, headers={"origin": origin})
        preflight = _preflight(client, origin)
    assert _allowed(answer) is None
    assert _allowed(preflight) is None
    assert preflight.status_code == 400
    assert preflight.headers["x-request-id"]


def test_a_preflight_is_answered_with_what_may_be_sent(served: Served, running: Running) -> None:
    with running(served(cors_origins=ORIGINS)) as client:
        answer = _preflight(
            client, OURS, "authorization", "x-api-key", "x-request-id", "x-request-timeout-ms"
        )
        refused = _preflight(client, OURS, "x-something-else")
    assert answer.status_code == 200
    assert _allowed(answer) == OURS
    methods = answer.headers["access-control-allow-methods"].split(", ")
    assert set(methods) == {"GET", "POST"}
    assert answer.headers["x-request-id"]
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert refused.status_code == 400


def test_a_preflight_needs_no_key_and_is_counted(
    served: Served, running: Running, service: ModuleType
) -> None:
    def counted() -> int:
        return count_of(service.RUNTIME.state.metrics, HTTP_DURATION, PREDICT, "200")

    before = counted()
    with running(served(cors_origins=ORIGINS, api_keys=DIGEST)) as client:
        assert _preflight(client, OURS, "authorization").status_code == 200
        assert counted() == before + 1
        # What follows it does; and the page is told what it lacks.
        stranger = client.post(PREDICT, json=CUSTOMER, headers={"origin": OURS})
        headers = {"origin": OURS, "authorization": f"Bearer {KEY}"}
        assert client.post(PREDICT, json=CUSTOMER, headers=headers).status_code == 200
    assert stranger.status_code == 401
    assert _allowed(stranger) == OURS


def test_credentials_are_taken_only_if_the_operator_says_so(
    served: Served, running: Running
) -> None:
    with running(served(cors_origins=ORIGINS, cors_credentials=True)) as client:
        ours = client.post(PREDICT, json=CUSTOMER, headers={"origin": OURS, "cookie": "a=b"})
        theirs = client.post(PREDICT, json=CUSTOMER, headers={"origin": THEIRS, "cookie": "a=b"})
        assert _preflight(client, OURS).headers["access-control-allow-credentials"] == "true"
    assert ours.headers["access-control-allow-credentials"] == "true"
    assert _allowed(ours) == OURS
    assert _allowed(theirs) is None


def test_opened_to_all_it_takes_no_credentials(served: Served, running: Running) -> None:
    with running(served(cors_origins="*")) as client:
        answer = client.post(PREDICT, json=CUSTOMER, headers={"origin": THEIRS, "cookie": "a=b"})
    assert _allowed(answer) == "*"
    assert "access-control-allow-credentials" not in answer.headers
