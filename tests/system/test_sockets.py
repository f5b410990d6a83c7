"""Clients that do not behave, on real sockets."""

from __future__ import annotations

import http.client
import json
import socket
import time
from contextlib import suppress
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import httpx2
import pytest

from churn_serving.runtime.connections import HEADER_SECONDS
from tests.bad_requests import CUSTOMER, PREDICT
from tests.system.conftest import Server, serving

if TYPE_CHECKING:
    from collections.abc import Iterator

BODY = json.dumps(CUSTOMER).encode()
HEAD = f"POST {PREDICT} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n".encode()
TIMEOUT_SECONDS = 1
IDLE_SECONDS = 13  # longer than a header may take


@pytest.fixture(scope="module")
def server(models: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    env = {
        "CHURN_MODEL_TAG": models["logistic"],
        "CHURN_REQUEST_TIMEOUT_SECONDS": str(TIMEOUT_SECONDS),
        "CHURN_IDLE_TIMEOUT_SECONDS": str(IDLE_SECONDS),
    }
    with serving("service.py:ChurnService", tmp_path_factory.mktemp("serve") / "log", env=env) as s:
        yield s


def connect(server: Server) -> socket.socket:
    url = urlsplit(server.url)
    assert url.hostname is not None
    return socket.create_connection((url.hostname, url.port or 80), timeout=30)


def answer(connection: socket.socket) -> tuple[int, dict[str, object]]:
    """Read one answer: its status and its JSON. After 408 and 413 the server must hang up."""
    with connection.makefile("rb") as file:
        status = int(file.readline().split()[1])
        length = 0
        while line := file.readline().strip():
            name, _, value = line.partition(b":")
            if name.lower() == b"content-length":
                length = int(value)
        body = json.loads(file.read(length))
        if status in {408, 413}:
            assert file.read() == b""
        return status, body


def test_a_chunked_body_in_many_packets_is_answered(server: Server) -> None:
    with connect(server) as connection:
        connection.sendall(HEAD + b"Transfer-Encoding: chunked\r\n\r\n")
        for start in range(0, len(BODY), 20):
            piece = BODY[start : start + 20]
            connection.sendall(f"{len(piece):x}\r\n".encode() + piece + b"\r\n")
            time.sleep(0.005)
        connection.sendall(b"0\r\n\r\n")
        status, body = answer(connection)
    assert status == 200
    assert set(body) == {"churn_prediction", "churn_probability", "model_tag"}


def test_a_body_that_stalls_is_answered_408(server: Server) -> None:
    with connect(server) as connection:
        connection.sendall(HEAD + f"Content-Length: {len(BODY)}\r\n\r\n".encode() + BODY[:50])
        start = time.monotonic()
        status, body = answer(connection)
    assert status == 408
    assert time.monotonic() - start < TIMEOUT_SECONDS + 1
    assert body == {"error": "The request body did not arrive in time.", "detail": []}


def test_an_announced_giant_is_answered_413_at_once(server: Server) -> None:
    with connect(server) as connection:
        connection.sendall(HEAD + b"Content-Length: 10000000000\r\n\r\n{")
        start = time.monotonic()
        status, _ = answer(connection)
    assert status == 413
    assert time.monotonic() - start < TIMEOUT_SECONDS


def test_an_endless_chunked_body_is_answered_413(server: Server) -> None:
    with connect(server) as connection:
        connection.sendall(HEAD + b"Transfer-Encoding: chunked\r\n\r\n")
        chunk = b"10000\r\n" + b" " * 0x10000 + b"\r\n"
        for _ in range(3):  # the limit is 128 KiB
            connection.sendall(chunk)
        status, _ = answer(connection)
    assert status == 413


def test_others_are_served_while_a_hundred_bodies_stall(server: Server) -> None:
    stalled = [connect(server) for _ in range(100)]
    try:
        for connection in stalled:
            connection.sendall(HEAD + b"Content-Length: 100\r\n\r\n{")
        with httpx2.Client(base_url=server.url) as client:
            for _ in range(20):
                assert client.post(PREDICT, json=CUSTOMER, timeout=1).status_code == 200
        assert {answer(connection)[0] for connection in stalled} == {408}
    finally:
        for connection in stalled:
            connection.close()


REFUSED = {
    404: b"POST /v1/predict HTTP/1.1\r\nHost: x\r\n",
    405: b"POST /health HTTP/1.1\r\nHost: x\r\n",
    415: b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: text/plain\r\n",
    413: HEAD,  # once it is larger than 128 KiB
    400: HEAD + b"X-Request-Timeout-Ms: soon\r\n",
}
VALID = HEAD + f"Content-Length: {len(BODY)}\r\n\r\n".encode() + BODY


def refusal(connection: socket.socket) -> tuple[int, bool]:
    """Read one answer; return its status, and whether the connection ends with it."""
    response = http.client.HTTPResponse(connection)
    response.begin()
    response.read()
    return response.status, response.will_close


@pytest.mark.parametrize("framing", ["length", "chunked"])
@pytest.mark.parametrize("size", [140_000, 200_000, 262_144, 1_048_576, 1_048_577, 10_000_000])
@pytest.mark.parametrize("status", REFUSED)
def test_a_refused_body_costs_nobody_the_next_request(
    server: Server, status: int, size: int, framing: str
) -> None:
    """The refusal is read, and the next request on the connection answered, if it stays open."""
    piece = b" " * min(size, 65_536)
    with connect(server) as connection:
        for _ in range(3):
            if framing == "length":
                connection.sendall(REFUSED[status] + b"Content-Length: %d\r\n\r\n" % size)
            else:
                connection.sendall(REFUSED[status] + b"Transfer-Encoding: chunked\r\n\r\n")
            # Like most clients: all of the body, and only then a look at the answer.
            for start in range(0, size, len(piece)):
                part = piece[: size - start]
                chunk = b"%x\r\n%b\r\n" % (len(part), part)
                connection.sendall(part if framing == "length" else chunk)
            if framing == "chunked":
                connection.sendall(b"0\r\n\r\n")
            answered, ends = refusal(connection)
            assert answered == status
            if ends:
                assert connection.recv(1) == b""
                break
            connection.sendall(VALID)
            assert refusal(connection) == (200, False)


def test_a_body_that_may_never_come_ends_the_connection(server: Server) -> None:
    with connect(server) as connection:
        connection.sendall(REFUSED[404] + b"Expect: 100-continue\r\nContent-Length: 10\r\n\r\n")
        assert refusal(connection) == (404, True)


def test_a_connection_is_kept_as_long_after_a_refused_body_as_after_any(server: Server) -> None:
    with connect(server) as connection:
        connection.sendall(REFUSED[404] + b"Content-Length: 200000\r\n\r\n")
        assert refusal(connection) == (404, False)
        connection.sendall(b" " * 200_000)  # only now: uvicorn's clock for idleness is off
        assert IDLE_SECONDS - 0.5 < seconds_until_closed(connection) < IDLE_SECONDS + 2


UPGRADE = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n"


@pytest.mark.parametrize("pause", [0, 0.05], ids=["at once", "body later"])
@pytest.mark.parametrize("framing", ["length", "chunked"])
def test_a_request_to_speak_http_2_is_answered_as_if_it_had_not_asked(
    server: Server, framing: str, pause: float
) -> None:
    """Java's client and ``curl --http2`` ask so, and send a body all the same."""
    fields, body = b"Content-Length: %d\r\n\r\n" % len(BODY), BODY
    if framing == "chunked":
        fields = b"Transfer-Encoding: chunked\r\n\r\n"
        body = b"%x\r\n%b\r\n0\r\n\r\n" % (len(BODY), BODY)
    with connect(server) as connection:
        for _ in range(3):
            connection.sendall(HEAD + UPGRADE + fields)
            time.sleep(pause)
            connection.sendall(body)
            assert refusal(connection) == (200, False)
        connection.sendall(REFUSED[404] + UPGRADE + b"Content-Length: 3000000\r\n\r\n")
        connection.sendall(b" " * 3_000_000)
        assert refusal(connection) == (404, True)


def test_garbage_behind_a_request_does_not_cost_its_answer(server: Server) -> None:
    with connect(server) as connection:
        connection.sendall(2 * VALID + b"GARBAGE\r\n\r\n")
        assert connection.makefile("rb").read().count(b"HTTP/1.1 200 OK") == 2


def test_a_broken_body_behind_a_request_leaves_no_traceback(server: Server) -> None:
    with connect(server) as connection:
        connection.sendall(VALID + HEAD + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n")
        assert connection.makefile("rb").read().startswith(b"HTTP/1.1 400")
    assert "Traceback" not in (log := server.log.read_text()), log
    assert "Exception" not in log


def test_a_client_that_sends_on_after_its_refusal_is_closed_in_the_end(server: Server) -> None:
    with connect(server) as connection:
        connection.sendall(REFUSED[404] + b"Transfer-Encoding: chunked\r\n\r\n")
        assert refusal(connection) == (404, True)
        start = time.monotonic()
        with suppress(OSError):
            while time.monotonic() - start < HEADER_SECONDS + 5:
                connection.sendall(b"1\r\na\r\n")
                time.sleep(0.1)
        assert HEADER_SECONDS - 0.5 < time.monotonic() - start < HEADER_SECONDS + 2.5


def seconds_until_closed(connection: socket.socket) -> float:
    """Return how long the server lets a connection live that says nothing more."""
    start = time.monotonic()
    with suppress(ConnectionResetError):
        assert connection.recv(1) == b""
    return time.monotonic() - start


@pytest.mark.parametrize("start", [b"", HEAD[:20], HEAD], ids=["silent", "half", "no end"])
def test_a_connection_that_sends_no_whole_header_is_closed(server: Server, start: bytes) -> None:
    with connect(server) as connection:
        connection.sendall(start)
        assert HEADER_SECONDS - 0.5 < seconds_until_closed(connection) < HEADER_SECONDS + 2.5


def test_a_connection_that_drips_its_header_is_closed(server: Server) -> None:
    with connect(server) as connection:
        connection.sendall(HEAD + b"X: ")
        start = time.monotonic()
        with suppress(OSError):
            while time.monotonic() - start < 2 * HEADER_SECONDS + 5:
                connection.sendall(b"a")
                time.sleep(0.1)
        assert HEADER_SECONDS - 0.5 < time.monotonic() - start < HEADER_SECONDS + 2.5


def test_a_connection_is_kept_open_for_the_next_request_but_not_for_ever(server: Server) -> None:
    request = HEAD + f"Content-Length: {len(BODY)}\r\n\r\n".encode() + BODY
    with connect(server) as connection:
        connection.sendall(request)
        assert answer(connection)[0] == 200
        time.sleep(HEADER_SECONDS + 1.5)  # longer than a header may take
        connection.sendall(request)
        assert answer(connection)[0] == 200
        assert IDLE_SECONDS - 0.5 < seconds_until_closed(connection) < IDLE_SECONDS + 2


def test_the_second_header_of_a_connection_has_no_more_time_than_the_first(server: Server) -> None:
    request = HEAD + f"Content-Length: {len(BODY)}\r\n\r\n".encode() + BODY
    with connect(server) as connection:
        connection.sendall(request)
        assert answer(connection)[0] == 200
        connection.sendall(HEAD)
        assert seconds_until_closed(connection) < HEADER_SECONDS + 2.5


@pytest.mark.parametrize(
    "garbage",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 100,
        b"GET\r\n\r\n",
        HEAD + b"Content-Length: -5\r\n\r\n" + BODY,
        HEAD + b"Content-Length: five\r\n\r\n" + BODY,
        HEAD + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"POST /predict HTTP/1.1\r\nX: " + b"a" * 2_000_000 + b"\r\n\r\n",
    ],
    ids=["TLS", "half a request", "negative length", "text length", "bad chunk", "2 MB header"],
)
def test_garbage_harms_nobody(server: Server, garbage: bytes) -> None:
    with connect(server) as connection:
        try:
            connection.sendall(garbage)
            first = connection.recv(12)
        except OSError:
            first = b""  # the server hung up, which is an answer
    assert first[:9] != b"HTTP/1.1 5"
    assert httpx2.post(server.url + PREDICT, json=CUSTOMER).status_code == 200


def test_a_header_without_an_end_is_cut_off_by_its_size(server: Server) -> None:
    with connect(server) as connection:
        start = time.monotonic()
        with pytest.raises(ConnectionError):
            connection.sendall(HEAD + b"X-Long: " + b"a" * 50_000_000)
        assert time.monotonic() - start < 5
    assert httpx2.post(server.url + PREDICT, json=CUSTOMER).status_code == 200
