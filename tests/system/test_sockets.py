"""Clients that do not behave, on real sockets."""

from __future__ import annotations

import http.client
import json
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import httpx2
import pytest

from churn_serving.runtime.connections import HEADER_SECONDS
from tests.bad_requests import CUSTOMER, PREDICT
from tests.system.conftest import Server, serving

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

BODY = json.dumps(CUSTOMER).encode()
HEAD = f"POST {PREDICT} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n".encode()
VALID = HEAD + f"Content-Length: {len(BODY)}\r\n\r\n".encode() + BODY
TIMEOUT_SECONDS = 5
IDLE_SECONDS = 2 * HEADER_SECONDS
PATIENCE_SECONDS = 6 * HEADER_SECONDS


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
    return socket.create_connection((url.hostname, url.port or 80), timeout=PATIENCE_SECONDS)


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


def test_a_long_chunked_body_in_equal_pieces_is_answered(server: Server) -> None:
    piece = b" " * 12_000
    with connect(server) as connection:
        connection.sendall(HEAD + b"Transfer-Encoding: chunked\r\n\r\n")
        for _ in range(10):
            connection.sendall(b"%x\r\n%b\r\n" % (len(piece), piece))
            time.sleep(0.05)  # so that each is read before the next arrives
        connection.sendall(b"%x\r\n%b\r\n0\r\n\r\n" % (len(BODY), BODY))
        status, _ = answer(connection)
    assert status == 200


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


def test_an_announced_giant_is_answered_413_and_not_waited_for(server: Server) -> None:
    with connect(server) as connection:
        connection.sendall(HEAD + b"Content-Length: 10000000000\r\n\r\n{")
        assert answer(connection)[0] == 413


def test_an_endless_chunked_body_is_answered_413(server: Server) -> None:
    with connect(server) as connection:
        connection.sendall(HEAD + b"Transfer-Encoding: chunked\r\n\r\n")
        chunk = b"10000\r\n" + b" " * 0x10000 + b"\r\n"
        for _ in range(3):  # the limit is 128 KiB
            connection.sendall(chunk)
        status, _ = answer(connection)
    assert status == 413


REFUSED = {
    404: b"POST /v1/predict HTTP/1.1\r\nHost: x\r\n",
    405: b"POST /health HTTP/1.1\r\nHost: x\r\n",
    415: b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: text/plain\r\n",
    413: HEAD,  # once it is larger than 128 KiB
    400: HEAD + b"X-Request-Timeout-Ms: soon\r\n",
}


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


@pytest.mark.parametrize("path", ["/health", "/livez", "/static_content/swagger-ui.css", PREDICT])
def test_a_query_that_is_no_text_is_refused_in_the_contract(server: Server, path: str) -> None:
    with connect(server) as connection:
        connection.sendall(f"GET {path}?".encode() + b"\xff=\xfe HTTP/1.1\r\nHost: x\r\n\r\n")
        status, body = answer(connection)
    assert (status, set(body)) == (400, {"error", "detail"})
    assert "Traceback" not in (log := server.log.read_text()), log


def test_garbage_behind_a_request_does_not_cost_its_answer(server: Server) -> None:
    with connect(server) as connection:
        connection.sendall(2 * VALID + b"GARBAGE\r\n\r\n")
        assert connection.makefile("rb").read().count(b"HTTP/1.1 200 OK") == 2


@pytest.mark.parametrize("before", [1, 2])
@pytest.mark.parametrize("pause", [0, 0.05], ids=["at once", "body later"])
def test_a_broken_body_does_not_cost_the_requests_before_it_their_answers(
    server: Server, before: int, pause: float
) -> None:
    with connect(server) as connection:
        connection.sendall(before * VALID + HEAD + b"Transfer-Encoding: chunked\r\n\r\n")
        time.sleep(pause)
        connection.sendall(b"zz\r\n")
        said = connection.makefile("rb").read()
    assert said.count(b"HTTP/1.1 200 OK") == before
    assert said.count(b"HTTP/1.1 400 Bad Request") == 1


def test_a_broken_body_behind_a_request_leaves_no_traceback(server: Server) -> None:
    with connect(server) as connection:
        connection.sendall(VALID + HEAD + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n")
        assert b"HTTP/1.1 400" in connection.makefile("rb").read()
    assert httpx2.post(server.url + PREDICT, json=CUSTOMER).status_code == 200  # the log is written
    assert "Traceback" not in (log := server.log.read_text()), log
    assert "Exception" not in log


def until_closed(connection: socket.socket) -> None:
    """Wait until the server closes a connection that says nothing more."""
    with suppress(ConnectionResetError):
        assert connection.recv(1) == b""


def drip(connection: socket.socket, drop: bytes) -> None:
    """Send a little, again and again, until the server has closed the connection."""
    end = time.monotonic() + PATIENCE_SECONDS
    with suppress(OSError):
        while time.monotonic() < end:
            connection.sendall(drop)
            time.sleep(0.1)
        pytest.fail("the server took it for ever")


def silent(connection: socket.socket) -> None:
    until_closed(connection)


def half(connection: socket.socket) -> None:
    connection.sendall(HEAD[:20])
    until_closed(connection)


def no_end(connection: socket.socket) -> None:
    connection.sendall(HEAD)
    until_closed(connection)


def dripping(connection: socket.socket) -> None:
    connection.sendall(HEAD + b"X: ")
    drip(connection, b"a")


def second_header(connection: socket.socket) -> None:
    connection.sendall(VALID)
    assert answer(connection)[0] == 200
    connection.sendall(HEAD)
    until_closed(connection)


def header_behind_a_refused_body(connection: socket.socket) -> None:
    connection.sendall(REFUSED[404] + b"Content-Length: 3000\r\n\r\n")
    assert refusal(connection) == (404, False)
    # In one packet: the end of one body, and another request.
    connection.sendall(b" " * 3000 + VALID)
    assert refusal(connection) == (200, False)
    connection.sendall(HEAD + b"X: ")
    drip(connection, b"a")


def refused_and_goes_on(connection: socket.socket) -> None:
    connection.sendall(REFUSED[404] + b"Transfer-Encoding: chunked\r\n\r\n")
    assert refusal(connection) == (404, True)
    drip(connection, b"1\r\na\r\n")


def idle(connection: socket.socket) -> None:
    connection.sendall(VALID)
    assert answer(connection)[0] == 200
    until_closed(connection)


def idle_after_a_refused_body(connection: socket.socket) -> None:
    connection.sendall(REFUSED[404] + b"Content-Length: 200000\r\n\r\n")
    assert refusal(connection) == (404, False)
    connection.sendall(b" " * 200_000)  # stops uvicorn's clock, which has begun with the answer
    until_closed(connection)


def rests_between_requests(connection: socket.socket) -> None:
    connection.sendall(VALID)
    assert answer(connection)[0] == 200
    time.sleep(HEADER_SECONDS + 2)  # longer than a header may take
    connection.sendall(VALID)
    assert answer(connection)[0] == 200


def stalled_body(connection: socket.socket) -> None:
    connection.sendall(HEAD + f"Content-Length: {len(BODY)}\r\n\r\n".encode() + BODY[:50])
    assert answer(connection) == (
        408,
        {"error": "The request body did not arrive in time.", "detail": []},
    )


NO_WHOLE_HEADER = (
    silent,
    half,
    no_end,
    dripping,
    second_header,
    header_behind_a_refused_body,
    refused_and_goes_on,
)
IDLE = (idle, idle_after_a_refused_body)
SLOW = (*NO_WHOLE_HEADER, *IDLE, rests_between_requests, stalled_body)


@pytest.fixture(scope="module")
def lives(server: Server) -> Mapping[str, Callable[[], float]]:
    """How long each slow connection lived. All begin together, so that they wait side by side."""

    def live(behave: Callable[[socket.socket], None]) -> float:
        start = time.monotonic()
        with connect(server) as connection:
            behave(connection)
        return time.monotonic() - start

    with ThreadPoolExecutor(len(SLOW)) as pool:
        return {behave.__name__: pool.submit(live, behave).result for behave in SLOW}


@pytest.mark.parametrize("behave", NO_WHOLE_HEADER, ids=lambda behave: behave.__name__)
def test_a_connection_that_sends_no_whole_header_is_closed(
    lives: Mapping[str, Callable[[], float]], behave: Callable[[socket.socket], None]
) -> None:
    # What closes it is not the time that a connection may idle.
    assert HEADER_SECONDS <= lives[behave.__name__]() < lives["idle"]()


def test_a_connection_may_rest_between_two_requests(
    lives: Mapping[str, Callable[[], float]],
) -> None:
    assert lives["rests_between_requests"]() > HEADER_SECONDS


@pytest.mark.parametrize("behave", IDLE, ids=lambda behave: behave.__name__)
def test_a_connection_may_idle_so_long_but_not_for_ever(
    lives: Mapping[str, Callable[[], float]], behave: Callable[[socket.socket], None]
) -> None:
    assert lives[behave.__name__]() >= IDLE_SECONDS


def test_a_body_that_stalls_is_answered_408(lives: Mapping[str, Callable[[], float]]) -> None:
    assert lives["stalled_body"]() >= TIMEOUT_SECONDS


def test_a_header_without_an_end_is_cut_off_by_its_size(server: Server) -> None:
    with connect(server) as connection, pytest.raises(ConnectionError):
        connection.sendall(HEAD + b"X-Long: " + b"a" * 50_000_000)
    assert httpx2.post(server.url + PREDICT, json=CUSTOMER).status_code == 200
