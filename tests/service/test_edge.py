"""What is true of every answer, whoever gives it."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import logging
import re
import time
from typing import TYPE_CHECKING, Any, Final

import pytest
from starlette.websockets import WebSocketDisconnect

from churn_serving.context import deadline, request_id
from churn_serving.http.api import ENDPOINTS
from churn_serving.http.pages import PAGES
from churn_serving.telemetry.metrics import ERRORS, HTTP_DURATION
from tests.bad_requests import BATCH, CUSTOMER, JSON, PREDICT, PREDICT_V1
from tests.doubles import count_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType

    import httpx2
    from starlette.testclient import TestClient

ID: Final = "x-request-id"
TIMEOUT: Final = "x-request-timeout-ms"
ASSET: Final = "/static_content/swagger-ui.css"

# One request for each kind of answer: its method, its path, what it sends, and its status.
ANSWERS: Final[list[tuple[str, str, dict[str, Any], int]]] = [
    ("POST", PREDICT, {"json": CUSTOMER}, 200),
    ("POST", PREDICT_V1, {"json": CUSTOMER}, 200),
    ("POST", BATCH, {"json": {"items": [CUSTOMER] * 3}}, 200),
    ("POST", PREDICT, {"content": b"{", "headers": JSON}, 400),
    ("POST", PREDICT, {"json": CUSTOMER, "headers": {TIMEOUT: "soon"}}, 400),
    ("POST", PREDICT, {"content": b" " * 200_000, "headers": JSON}, 413),
    ("POST", PREDICT, {"content": b"tenure_months=2"}, 415),
    ("POST", PREDICT, {"json": {}}, 422),
    ("GET", "/nowhere", {}, 404),
    ("POST", "/nowhere", {"json": CUSTOMER}, 404),
    ("GET", PREDICT, {}, 405),
    ("PUT", PREDICT, {"json": CUSTOMER}, 405),
    *(("GET", path, {}, 200) for path in (*PAGES, "/livez", "/readyz", ASSET)),
    *(("POST", path, {}, 405) for path in PAGES),
    *(("DELETE", path, {}, 405) for path in PAGES),
]


def _name(answer: tuple[str, str, dict[str, Any], int]) -> str:
    method, path, _, status = answer
    return f"{method} {path} {status}"


@pytest.fixture(params=ANSWERS, ids=_name)
def ask(
    request: pytest.FixtureRequest, client: TestClient
) -> Callable[[dict[str, str]], httpx2.Response]:
    """Asks for one kind of answer, with more headers."""
    method, path, sent, status = request.param

    def ask(headers: dict[str, str]) -> httpx2.Response:
        headers = {**sent.get("headers", {}), **headers}
        answer = client.request(method, path, **{**sent, "headers": headers})
        assert answer.status_code == status
        return answer

    return ask


def test_every_answer_carries_the_callers_id_once(
    ask: Callable[[dict[str, str]], httpx2.Response],
) -> None:
    assert ask({ID: "trace/42:a+b=@c"}).headers.get_list(ID) == ["trace/42:a+b=@c"]


def test_every_answer_carries_an_id_of_its_own_if_the_caller_has_none(
    ask: Callable[[dict[str, str]], httpx2.Response],
) -> None:
    (one,) = ask({}).headers.get_list(ID)
    (other,) = ask({}).headers.get_list(ID)
    assert one != other
    assert re.fullmatch(r"[0-9a-f]+-[0-9a-f]+", one)


def test_every_answer_says_how_it_may_be_used(
    ask: Callable[[dict[str, str]], httpx2.Response],
) -> None:
    answer = ask({})
    assert answer.headers.get_list("x-content-type-options") == ["nosniff"]
    assert "server" not in answer.headers
    assert "access-control-allow-origin" not in answer.headers
    if answer.request.method == "POST":
        return  # neither kept nor shown as a page
    is_page = answer.request.url.path in {"/", "/model", "/redoc"}
    is_kept = is_page and answer.status_code == 200
    assert answer.headers.get_list("cache-control") == ["no-cache" if is_kept else "no-store"]
    if answer.headers["content-type"].startswith("text/html"):
        return  # it has a policy of its own, see below
    assert answer.headers.get_list("content-security-policy") == [
        "default-src 'none'; frame-ancestors 'none'"
    ]


def test_every_error_is_written_as_the_contract_has_it(
    ask: Callable[[dict[str, str]], httpx2.Response],
) -> None:
    answer = ask({})
    if answer.status_code < 400:
        return
    assert answer.headers["content-type"] == "application/json"
    body = answer.json()
    assert set(body) == {"error", "detail"}
    assert body["error"].endswith(".")
    if answer.status_code == 405:
        assert answer.headers["allow"] in {"POST", "GET, HEAD", "HEAD, GET"}


@pytest.mark.parametrize("request_and_status", ANSWERS, ids=_name)
def test_while_the_service_drains_every_answer_asks_to_close_the_connection(
    client: TestClient,
    service: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
    request_and_status: tuple[str, str, dict[str, Any], int],
) -> None:
    method, path, sent, status = request_and_status
    monkeypatch.setattr(service.RUNTIME.state, "draining", True)
    answer = client.request(method, path, **sent)
    assert "close" in answer.headers.get_list("connection")
    # What comes is still answered, but the probes say that no more should come.
    readiness = method == "GET" and path in {"/health/ready", "/readyz"}
    assert answer.status_code == (503 if readiness else status)


def raise_an_error(_: object) -> float:
    raise RuntimeError("total_charges is 4711.25")


@pytest.fixture
def failing(service: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    """The model raises."""
    monkeypatch.setattr(service.RUNTIME.state.predictor.runner._scorer, "score_row", raise_an_error)


@pytest.mark.usefixtures("failing")
def test_an_answer_of_a_failing_model_carries_the_id_and_the_headers(client: TestClient) -> None:
    answer = client.post(PREDICT, json=CUSTOMER, headers={ID: "mine"})
    assert answer.status_code == 500
    assert answer.headers.get_list(ID) == ["mine"]
    assert answer.headers["x-content-type-options"] == "nosniff"


@pytest.mark.usefixtures("failing")
def test_a_failing_model_is_logged_once_in_the_name_of_its_request(client: TestClient) -> None:
    logged: list[tuple[str | None, logging.LogRecord]] = []

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            logged.append((request_id(), record))

    ours = logging.getLogger("churn_serving")
    handler = Handler()
    ours.addHandler(handler)
    try:
        client.post(PREDICT, json=CUSTOMER, headers={ID: "mine"})
    finally:
        ours.removeHandler(handler)
    ((logged_id, record),) = logged
    assert logged_id == "mine"
    assert record.levelno == logging.ERROR
    assert record.exc_info is not None
    assert record.exc_info[1] is not None
    # The cause, which shows where the model failed, has come along.
    assert isinstance(record.exc_info[1].__cause__, RuntimeError)
    assert "4711.25" not in record.getMessage()


@pytest.mark.parametrize(
    "unacceptable",
    ["", " ", "a b", "a\tb", '"', "<script>", "a" * 129, "a;b", "a,b", b"\xe9"],
    ids=repr,
)
def test_an_id_that_is_fit_for_no_log_is_replaced(
    client: TestClient, unacceptable: str | bytes
) -> None:
    given = unacceptable if isinstance(unacceptable, bytes) else unacceptable.encode()
    answer = client.get("/health", headers=[(ID.encode(), given)])
    (made,) = answer.headers.get_list(ID)
    assert re.fullmatch(r"[0-9a-f]+-[0-9a-f]+", made)


def test_the_longest_id_is_taken(client: TestClient) -> None:
    assert client.get("/health", headers={ID: "a" * 128}).headers[ID] == "a" * 128


@pytest.fixture
def deadlines(service: ModuleType, monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The seconds that each call of the model had left."""
    seen: list[float] = []
    runner = service.RUNTIME.state.predictor.runner
    score_row = runner.score_row

    async def score(row: Any) -> float:
        seen.append(deadline() - time.perf_counter())
        probability: float = await score_row(row)
        return probability

    monkeypatch.setattr(runner, "score_row", score)
    return seen


@pytest.mark.parametrize(
    ("given", "seconds"),
    [
        (None, 5),
        ("1000", 1),
        ("0001000", 1),
        ("60000", 5),  # never longer than ours
        ("999999999", 5),
    ],
)
def test_a_caller_may_shorten_the_deadline_and_never_lengthen_it(
    client: TestClient, deadlines: list[float], given: str | None, seconds: float
) -> None:
    headers = {} if given is None else {TIMEOUT: given}
    assert client.post(PREDICT, json=CUSTOMER, headers=headers).status_code == 200
    assert deadlines == [pytest.approx(seconds, abs=0.5)]
    assert deadlines[0] < seconds


@pytest.mark.parametrize("given", ["0", "-1", "1.5", "1e3", "soon", "", "+5", "1 000", "9" * 10])
def test_a_deadline_that_makes_no_sense_is_a_400_that_names_the_header(
    client: TestClient, service: ModuleType, deadlines: list[float], given: str
) -> None:
    def counted() -> tuple[int, int]:
        return (
            count_of(service.RUNTIME.state.metrics, HTTP_DURATION, PREDICT, "400"),
            count_of(service.RUNTIME.state.metrics, ERRORS, PREDICT, "MalformedHeaderError"),
        )

    before = counted()
    answer = client.post(PREDICT, json=CUSTOMER, headers={TIMEOUT: given, ID: "mine"})
    assert answer.status_code == 400
    assert answer.json() == {
        "error": "X-Request-Timeout-Ms must be a whole number of milliseconds, from 1.",
        "detail": [],
    }
    assert answer.headers[ID] == "mine"
    assert counted() == (before[0] + 1, before[1] + 1)
    assert deadlines == []


def test_a_request_is_in_flight_until_it_is_answered(
    client: TestClient, service: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []

    def score_row(_: object) -> float:
        seen.append(service.RUNTIME.state.in_flight)
        raise RuntimeError

    monkeypatch.setattr(service.RUNTIME.state.predictor.runner._scorer, "score_row", score_row)
    assert client.post(PREDICT, json=CUSTOMER).status_code == 500
    assert seen == [1]
    assert service.RUNTIME.state.in_flight == 0


def test_every_request_is_counted_once_by_route_and_status(
    ask: Callable[[dict[str, str]], httpx2.Response], service: ModuleType
) -> None:
    def counted() -> dict[tuple[str, ...], int]:
        return {
            labels: count_of(service.RUNTIME.state.metrics, HTTP_DURATION, *labels)
            for family, labels, _ in service.RUNTIME.state.metrics
            if family is HTTP_DURATION
        }

    before = counted()
    answer = ask({})
    path, status = answer.request.url.path, str(answer.status_code)
    route = path if path not in {"/nowhere", ASSET} else "other"
    grown = {key: count for key, count in counted().items() if count != before.get(key, 0)}
    assert grown == {(route, status): before.get((route, status), 0) + 1}


def test_random_paths_add_one_series(client: TestClient, service: ModuleType) -> None:
    def series() -> set[tuple[str, ...]]:
        return {(family.name, *labels) for family, labels, _ in service.RUNTIME.state.metrics}

    client.get("/scan")
    client.post("/scan")
    before = series()
    for index in range(50):
        for path in (f"/scan/{index}", f"/predict/{index}", f"/{index}/metrics", f"/{index}/"):
            assert client.get(path).status_code == 404
            assert client.post(path, json=CUSTOMER).status_code == 404
    assert series() == before


@pytest.mark.parametrize("path", ["/docs"])
def test_the_documentation_may_run_its_own_script_and_no_other(
    client: TestClient, path: str
) -> None:
    answer = client.get(path)
    (policy,) = answer.headers.get_list("content-security-policy")
    directives = {
        name: sources.split()
        for name, _, sources in (part.strip().partition(" ") for part in policy.split(";"))
    }
    scripts = re.findall(r"<script>(.*?)</script>", answer.text, re.DOTALL)
    digests = [base64.b64encode(hashlib.sha256(s.encode()).digest()).decode() for s in scripts]
    assert len(digests) == 1
    assert directives["script-src"] == ["'self'", *(f"'sha256-{digest}'" for digest in digests)]
    assert directives["default-src"] == ["'none'"]
    assert directives["connect-src"] == ["'self'"]
    assert directives["frame-ancestors"] == ["'none'"]
    # Nothing on the page needs what the policy forbids.
    assert not re.search(r"\son\w+=|javascript:", answer.text)


@pytest.mark.usefixtures("failing")
def test_a_failing_model_is_counted(client: TestClient, service: ModuleType) -> None:
    def counted() -> int:
        return count_of(service.RUNTIME.state.metrics, ERRORS, PREDICT, "ScoringError")

    before = counted()
    assert client.post(PREDICT, json=CUSTOMER).status_code == 500
    assert counted() == before + 1


@pytest.mark.parametrize(
    ("path", "part"),
    [
        ("/metrics", "churn_serving.http.pages.exposition"),
        (PREDICT, "churn_serving.http.lane.Lane._ready_predictor"),
    ],
)
def test_an_error_that_nobody_foresaw_is_answered_in_the_contract(
    client: TestClient, monkeypatch: pytest.MonkeyPatch, path: str, part: str
) -> None:
    def fail(*_: object) -> bytes:
        raise RuntimeError("no internals")

    monkeypatch.setattr(part, fail)
    answer = client.post(path, json=CUSTOMER) if path == PREDICT else client.get(path)
    assert answer.status_code == 500
    assert set(answer.json()) == {"error", "detail"}
    assert "no internals" not in answer.text


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize(
    "path",
    [
        *(f"{path}/" for path in (PREDICT, PREDICT_V1, BATCH, "/health", "/livez", "/schema.json")),
        *("//predict", "/predict%2F", "/%2Fpredict", "/api//v1/predict", "/api/v1/predict%2Fbatch"),
        *("/docs.json", "/static_content/", "/static_content/index.css", "/static_content"),
        *("/static_content/%2e%2e/schema.json", "/health%2fready", "/assets/x"),
    ],
)
def test_nothing_is_let_through_that_is_not_listed(
    client: TestClient, method: str, path: str
) -> None:
    url = f"http://evil.example.com{path}"
    answer = client.request(method, url, follow_redirects=False)
    assert answer.status_code == 404
    assert answer.json() == {"error": "There is nothing at this path; see /docs.", "detail": []}
    assert "evil" not in str(answer.headers)


def test_bentomls_client_finds_its_schema(client: TestClient) -> None:
    schema = client.get("/schema.json").json()
    routes = {route["name"]: route["route"] for route in schema["routes"]}
    assert routes == {endpoint.name: path for path, endpoint in ENDPOINTS.items()}


def test_a_websocket_is_refused(client: TestClient) -> None:
    with pytest.raises(WebSocketDisconnect), client.websocket_connect(PREDICT):
        pass


@pytest.mark.parametrize(
    "twin",
    [
        ("content-type", "application/json", "text/plain"),
        ("content-type", "application/json", "application/json"),
        ("authorization", "Bearer a", "Bearer b"),
        ("x-api-key", "a", "b"),
        (TIMEOUT, "1000", "2000"),
        ("content-encoding", "identity", "gzip"),
    ],
    ids=str,
)
def test_a_header_that_decides_is_not_taken_twice(
    client: TestClient, twin: tuple[str, str, str]
) -> None:
    name, one, other = twin
    given = [(name, one), (name, other)]
    if name != "content-type":
        given.append(("content-type", "application/json"))
    answer = client.post(PREDICT, content=json.dumps(CUSTOMER), headers=given)
    assert answer.status_code == 400
    assert answer.json() == {"error": f"The header {name.title()} is there twice.", "detail": []}


def test_a_header_that_decides_nothing_may_be_there_twice(client: TestClient) -> None:
    given = [("accept", "a/b"), ("accept", "c/d"), *JSON.items()]
    answer = client.post(PREDICT, content=json.dumps(CUSTOMER), headers=given)
    assert answer.status_code == 200


@pytest.mark.parametrize("encoding", ["gzip", "GZIP", "br", "deflate", "zstd", "gzip, identity"])
def test_a_compressed_body_is_a_415_that_says_what_is_taken(
    client: TestClient, encoding: str
) -> None:
    headers = {**JSON, "content-encoding": encoding}
    answer = client.post(PREDICT, content=gzip.compress(b"{}"), headers=headers)
    assert answer.status_code == 415
    assert answer.headers["accept-encoding"] == "identity"
    assert "Content-Encoding" in answer.json()["error"]


def test_a_body_that_says_it_is_not_compressed_is_taken(client: TestClient) -> None:
    answer = client.post(PREDICT, json=CUSTOMER, headers={"content-encoding": "identity"})
    assert answer.status_code == 200


@pytest.mark.parametrize(
    ("path", "body"),
    [(PREDICT, CUSTOMER), (PREDICT_V1, CUSTOMER), (BATCH, {"items": [CUSTOMER] * 2})],
)
def test_an_answer_of_the_model_says_which_one_it_is(
    client: TestClient, service: ModuleType, path: str, body: Any
) -> None:
    answer = client.post(path, json=body)
    assert answer.headers.get_list("x-model-version") == [service.RUNTIME.model.version]
    assert "x-model-version" not in client.post(path, json={}).headers
