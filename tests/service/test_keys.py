"""API keys: who may come in, and who may not."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any, Final

import pytest

from churn_serving.errors import SettingsError
from churn_serving.http.keys import key_digests
from churn_serving.http.pages import PAGES
from churn_serving.http.web import WEB
from churn_serving.settings import Settings
from churn_serving.telemetry.metrics import ERRORS, HTTP_DURATION
from tests.bad_requests import BATCH, CUSTOMER, PREDICT, PREDICT_V1
from tests.doubles import count_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager
    from pathlib import Path
    from types import ModuleType

    from starlette.testclient import TestClient
    from starlette.types import ASGIApp

KEY: Final = "correct-horse-battery-staple"
OTHER: Final = "another-callers-key"
PROBES: Final = ("/health", "/health/ready", "/livez", "/readyz")
GUARDED: Final = (
    *(("POST", path) for path in (PREDICT, PREDICT_V1, BATCH)),
    *(("GET", path) for path in PAGES if path not in {*PROBES, *WEB}),
    ("GET", "/nowhere"),
    ("GET", PREDICT),
    ("GET", "/static_content/swagger-ui.css"),
    ("GET", "/health/"),
    ("GET", "/metrics/"),
    ("GET", "//health"),
)


def digest(key: str) -> str:
    return f"sha256:{hashlib.sha256(key.encode()).hexdigest()}"


@pytest.fixture
def client(
    served: Callable[..., ASGIApp],
    running: Callable[[ASGIApp], AbstractContextManager[TestClient]],
) -> Iterator[TestClient]:
    """A client of the service that takes two keys."""
    with running(served(api_keys=f"{digest(KEY)},{digest(OTHER)}")) as client:
        yield client


@pytest.mark.parametrize(
    "headers",
    [
        {"authorization": f"Bearer {KEY}"},
        {"authorization": f"bearer {KEY}"},
        {"authorization": f"BEARER   {KEY} "},
        {"x-api-key": KEY},
        {"x-api-key": OTHER},
        {"authorization": "Basic dXNlcjpwYXNz", "x-api-key": KEY},
    ],
    ids=str,
)
def test_a_key_opens_the_door(client: TestClient, headers: dict[str, str]) -> None:
    assert client.post(PREDICT, json=CUSTOMER, headers=headers).status_code == 200
    assert client.get("/metrics", headers=headers).status_code == 200
    assert client.get("/nowhere", headers=headers).status_code == 404


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"authorization": ""},
        {"authorization": "Bearer"},
        {"authorization": "Bearer "},
        {"authorization": KEY},
        {"authorization": f"Basic {KEY}"},
        {"authorization": f"Bearer {KEY}x"},
        {"authorization": f"Bearer {KEY[:-1]}"},
        {"authorization": f"Bearer {KEY.upper()}"},
        {"authorization": f"Bearer {digest(KEY)}"},  # the digest is no key
        {"x-api-key": digest(KEY).removeprefix("sha256:")},
        {"x-api-key": ""},
        {"x-api-key": f"{KEY},{OTHER}"},
        {"cookie": f"x-api-key={KEY}"},
    ],
    ids=str,
)
def test_without_one_of_the_keys_nobody_comes_in(
    client: TestClient, headers: dict[str, str]
) -> None:
    answer = client.post(PREDICT, json=CUSTOMER, headers=headers)
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"] == "Bearer"
    assert answer.json() == {
        "error": "Send an API key: Authorization: Bearer KEY, or X-API-Key: KEY.",
        "detail": [],
    }


def test_a_key_in_the_address_is_none(client: TestClient) -> None:
    assert client.post(f"{PREDICT}?x-api-key={KEY}", json=CUSTOMER).status_code == 401


@pytest.mark.parametrize(("method", "path"), GUARDED)
def test_everything_is_behind_the_door(client: TestClient, method: str, path: str) -> None:
    answer = client.request(method, f"http://testserver{path}")
    assert answer.status_code == 401
    assert answer.headers["x-request-id"]
    assert answer.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize("path", PROBES)
def test_probes_need_no_key(client: TestClient, path: str) -> None:
    assert client.get(path).status_code == 200


@pytest.mark.parametrize("path", sorted(WEB))
def test_the_page_for_people_needs_no_key_as_it_asks_for_one(client: TestClient, path: str) -> None:
    assert client.get(path).status_code == 200
    assert client.post(path, json={}).status_code == 405
    for other in ("/web", "/web/", f"{path}x", "/web/../metrics/model"):
        assert client.get(other).status_code == 401


@pytest.mark.parametrize("public", [False, True])
def test_metrics_are_public_only_if_the_operator_says_so(
    served: Callable[..., ASGIApp],
    running: Callable[[ASGIApp], AbstractContextManager[TestClient]],
    *,
    public: bool,
) -> None:
    with running(served(api_keys=digest(KEY), metrics_public=public)) as client:
        assert client.get("/metrics").status_code == (200 if public else 401)
        for path in ("/metrics/model", "/metrics/", "/docs"):
            assert client.get(path).status_code == 401


def test_a_stranger_is_counted(client: TestClient, service: ModuleType) -> None:
    def counted() -> dict[str, int]:
        return {
            "401": count_of(service.RUNTIME.state.metrics, HTTP_DURATION, PREDICT, "401"),
            "200": count_of(service.RUNTIME.state.metrics, HTTP_DURATION, PREDICT, "200"),
            "other": count_of(service.RUNTIME.state.metrics, HTTP_DURATION, "other", "401"),
            "error": count_of(service.RUNTIME.state.metrics, ERRORS, PREDICT, "UnauthorizedError"),
        }

    before = counted()
    for _ in range(3):
        client.post(PREDICT, json=CUSTOMER)
    client.post(PREDICT, json=CUSTOMER, headers={"x-api-key": KEY})
    client.get("/secret")
    after = counted()
    grown = {name: after[name] - before[name] for name in after}
    assert grown == {"401": 3, "200": 1, "other": 1, "error": 3}


def test_a_stranger_never_reaches_the_model(
    client: TestClient, service: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    def score_row(_: object) -> float:
        raise AssertionError

    monkeypatch.setattr(service.RUNTIME.state.predictor.runner._scorer, "score_row", score_row)
    assert client.post(PREDICT, json=CUSTOMER).status_code == 401


def test_without_any_key_none_is_asked_for(
    served: Callable[..., ASGIApp],
    running: Callable[[ASGIApp], AbstractContextManager[TestClient]],
) -> None:
    with running(served()) as client:
        assert client.post(PREDICT, json=CUSTOMER).status_code == 200
        assert "security" not in client.get("/openapi.json").json()


def test_the_documentation_says_how_a_key_is_sent(client: TestClient) -> None:
    document = client.get("/openapi.json", headers={"x-api-key": KEY}).json()
    assert document["security"] == [{"bearer": []}, {"header": []}]
    assert document["components"]["securitySchemes"]["header"] == {
        "type": "apiKey",
        "in": "header",
        "name": "X-API-Key",
    }


def _digests(tmp_path: Path, text: str | bytes, **settings: Any) -> tuple[bytes, ...]:
    path = tmp_path / "keys"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return key_digests(Settings(api_keys_file=path, **settings))


def _sha256(*keys: str) -> tuple[bytes, ...]:
    return tuple(hashlib.sha256(key.encode()).digest() for key in keys)


@pytest.mark.parametrize(
    "text",
    [
        f"\ufeff{KEY}\n{OTHER}\n",
        f"{digest(KEY).upper()}\nsha256: {digest(OTHER).removeprefix('sha256:')}",
        f"{KEY}\n{OTHER}\n",
        f"{KEY}\r\n{OTHER}",
        f"\n{digest(KEY)}\n\n  {OTHER}  \n",
        f"{digest(KEY)}\n{digest(OTHER)}\n",
    ],
    ids=["byte order mark", "spelt otherwise", "plain", "from Windows", "mixed", "digests"],
)
def test_a_file_has_a_key_or_its_digest_in_each_line(tmp_path: Path, text: str) -> None:
    assert _digests(tmp_path, text) == _sha256(KEY, OTHER)


def test_a_key_with_a_space_is_one_key_and_its_words_are_none(tmp_path: Path) -> None:
    assert _digests(tmp_path, "the key of our team\n") == _sha256("the key of our team")


def test_keys_of_the_environment_and_of_the_file_are_all_taken(tmp_path: Path) -> None:
    assert _digests(tmp_path, OTHER, api_keys=digest(KEY)) == _sha256(KEY, OTHER)


@pytest.mark.parametrize(
    "text",
    ["", " \n\n", b"\xff\xfe\x00"],
    ids=["empty", "blank", "binary"],
)
def test_a_file_that_cannot_be_right_is_refused_by_the_name_of_its_variable(
    tmp_path: Path, text: str | bytes
) -> None:
    with pytest.raises(SettingsError, match=r"^CHURN_API_KEYS_FILE ") as refused:
        _digests(tmp_path, text)
    message = str(refused.value)
    assert message.endswith(".")
    assert KEY not in message
    assert "hexadecimal" not in message
    # Nor would a traceback show what is in the file.
    assert refused.value.__context__ is None or refused.value.__suppress_context__


def test_a_file_that_vanishes_is_refused_by_the_name_of_its_variable(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    path.write_text(KEY)
    settings = Settings(api_keys_file=path)
    path.unlink()
    with pytest.raises(SettingsError, match=r"^CHURN_API_KEYS_FILE "):
        key_digests(settings)


@pytest.mark.parametrize(
    "line",
    [
        *(digest(KEY)[:-2], f"{digest(KEY)}00", "sha256:", "sha256:not-hexadecimal", "sha256:abc"),
        *(digest(""), "a\tkey", "a\x00key"),
    ],
)
def test_a_line_that_can_be_no_key_is_refused_by_its_number(tmp_path: Path, line: str) -> None:
    with pytest.raises(SettingsError, match=r"^CHURN_API_KEYS_FILE, line 3: ") as refused:
        _digests(tmp_path, f"# ours\n{KEY}\n{line}\n")
    assert line not in str(refused.value).removeprefix("CHURN_API_KEYS_FILE, line 3: sha256:")


def test_a_comment_in_the_file_is_no_key(tmp_path: Path) -> None:
    assert _digests(tmp_path, f"# the retention team\n{KEY}\n") == _digests(tmp_path, f"{KEY}\n")
