"""Requests that make no sense."""

from __future__ import annotations

import json
import socket
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Final

from hypothesis import HealthCheck, Phase, Verbosity, given, settings
from hypothesis.configuration import set_hypothesis_home_dir

from tests.bad_requests import BAD_REQUESTS, BATCH, CUSTOMER, PREDICT
from tests.system.chaos.client import ASK_PREDICTION, ask, parse, percentile_ms, request
from tests.system.chaos.report import Report
from tests.system.chaos.server import wait_for
from tests.system.chaos.strategies import mutated, requests

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from hypothesis.strategies import SearchStrategy

    from tests.system.chaos.server import Server
    from tests.system.chaos.stage import Stage

__all__ = ["garbage"]

SERVER_ERRORS: Final = 500
TIMEOUT_SECONDS: Final = 1
# What sends no whole header is closed after 10 s, and has answered then.
HANG_SECONDS: Final = 60
GROWTH_MB: Final = 10
SPARE_FDS: Final = 4
THREADS: Final = 64
SHOWN: Final = 3

_HEAD: Final = (
    f"POST {PREDICT} HTTP/1.1\r\nHost: chaos\r\nContent-Type: application/json\r\n".encode()
)
_BODY: Final = json.dumps(CUSTOMER).encode()
_CHUNKED: Final = _HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
_MB: Final = 1_000_000

RAW: Final = [
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(100),  # TLS
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    bytes(1000),
    b"\r\n" * 1000,
    b"GET\r\n\r\n",
    b"GET /\r\n\r\n",
    b"GET / HTTP/9.9\r\n\r\n",
    b"GET /health HTTP/1.0\r\n\r\n",
    b"GET http://[/ HTTP/1.1\r\nHost: chaos\r\n\r\n",
    b"GET http://elsewhere/predict HTTP/1.1\r\nHost: chaos\r\n\r\n",
    b"GET /\xff\xfe HTTP/1.1\r\nHost: chaos\r\n\r\n",
    b"GET /%ff%00%zz HTTP/1.1\r\nHost: chaos\r\n\r\n",
    b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\nHost: chaos\r\n\r\n",
    b"CONNECT elsewhere:443 HTTP/1.1\r\nHost: chaos\r\n\r\n",
    b"OPTIONS * HTTP/1.1\r\nHost: chaos\r\n\r\n",
    b"GET /predict HTTP/1.1\r\nHost: chaos\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n%b"
    % b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: chaos\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n\r\n",
    b"GET / HTTP/1.1\r\nno colon\r\n\r\n",
    b"GET / HTTP/1.1\r\n folded: x\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: chaos\r\nX: a\x00b\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: chaos\r\nX: " + b"a" * _MB + b"\r\n\r\n",  # a header of 1 MB
    b"GET / HTTP/1.1\r\n" + b"X: a\r\n" * 20_000 + b"\r\n",
    _HEAD + b"Content-Length: -5\r\n\r\n" + _BODY,
    _HEAD + b"Content-Length: five\r\n\r\n" + _BODY,
    _HEAD + b"Content-Length: 99999999999999999999999\r\n\r\n" + _BODY,
    _HEAD + b"Content-Length: 5\r\nContent-Length: 500\r\n\r\n" + _BODY,
    _HEAD + b"Content-Length: 100000\r\n\r\n" + _BODY,  # and no more of it
    _HEAD + b"Content-Length: 10000000\r\n\r\n" + b" " * 10 * _MB,  # a body of 10 MB
    _HEAD + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    _HEAD + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    _HEAD + b"Transfer-Encoding: cow\r\n\r\n" + _BODY,
    _CHUNKED + b"zz\r\n",
    _CHUNKED + b"-1\r\n\r\n",
    _CHUNKED + b"fffffffffffffffff\r\n{",
    _CHUNKED + b"5\r\n{\r\n0\r\n\r\n",
    _CHUNKED + b"1\r\n{}0\r\n\r\n",
    _CHUNKED + b"0\r\nTrailer\r\n\r\n",
    _CHUNKED + (b"10000\r\n" + b" " * 0x10000 + b"\r\n") * 160,  # the same in chunks
    _CHUNKED + b"1\r\n \r\n" * 10_000 + b"0\r\n\r\n",
    _HEAD + b"Expect: 100-continue\r\nContent-Length: 10\r\n\r\n",
    # Two requests at once, the second one garbage.
    ASK_PREDICTION + b"GARBAGE\r\n\r\n",
    request("POST", BATCH, b'{"items": ' + b"[" * 60_000),
    request("POST", PREDICT, b"[" * 100_000),
    request("POST", PREDICT, b'{"a":' * 20_000),
    request("POST", PREDICT, _BODY[:-1] + b", " + _BODY[1:]),  # each key twice
    request("POST", PREDICT, b'{"contract_type": "\xff\xfe"}'),
    request("POST", PREDICT, b'{"tenure_months": ' + b"9" * 100_000 + b"}"),
    *(request("POST", bad.path, bad.body, bad.headers) for bad in BAD_REQUESTS),
]


def garbage(stage: Stage) -> Report:
    """Made-up requests and raw bytes: no 5xx, no hang, no growth."""
    report = Report()
    described, raw = (1_000, 200) if stage.quick else (10_000, 2_000)
    set_hypothesis_home_dir(stage.folder)
    with stage.serve(request_timeout_seconds=TIMEOUT_SECONDS) as server:
        pids = server.pids()
        document = json.loads(ask(server.port, request("GET", "/openapi.json")).body)
        stage.say(f"{described:,} described requests")
        strategy = requests(document)
        _each(strategy, described // 5, lambda payload: _send(server, payload))
        _throw_all(server, RAW)
        before = server.usage()
        sent: list[tuple[bytes, int, float]] = []
        _each(strategy, described, lambda payload: sent.append(_send(server, payload)))
        stage.say(f"{len(sent):,} described requests sent; now raw bytes")
        payloads = list(RAW)
        _each(mutated(ASK_PREDICTION), raw, payloads.append)
        thrown = _throw_all(server, payloads)
        settled = wait_for(lambda: server.usage().fds <= before.fds + SPARE_FDS, HANG_SECONDS)
        after = server.usage()
        healthy = ask(server.port, ASK_PREDICTION).status
        same = server.pids() == pids
    statuses = Counter(status for _, status, _ in sent)
    raw_statuses = Counter(status for _, status, _ in thrown)
    growth = after.pss_mb - before.pss_mb
    failures, hangs = 0, 0
    for what, outcomes in [("described", sent), ("raw", thrown)]:
        failed = [payload for payload, status, _ in outcomes if status >= SERVER_ERRORS]
        report.require(not failed, f"{len(failed)} {what} requests got 5xx: {_some(failed)}")
        failures += len(failed)
        hung = [payload for payload, status, _ in outcomes if status < 0]
        hangs += len(hung)
        report.require(not hung, f"{len(hung)} {what} requests hung: {_some(hung)}")
    unanswered = [payload for payload, status, _ in sent if status == 0]
    report.require(
        not unanswered, f"{len(unanswered)} described requests got no answer: {_some(unanswered)}"
    )
    report.require(
        {200, 400, 404, 405, 415, 422} <= statuses.keys(),
        f"the requests were not as different as they should be: {dict(statuses)}",
    )
    report.require(growth < GROWTH_MB, f"memory grew by {growth:.1f} MB")
    report.require(settled is not None, f"file descriptors grew from {before.fds} to {after.fds}")
    report.require(same, "a worker was started again")
    report.require(healthy == 200, f"a good request afterwards was answered {healthy}")
    report.done = f"{len(sent):,} made-up requests, {len(thrown):,} pieces of raw garbage"
    report.came_back = (
        f"{failures} x 5xx, {hangs} hung; {_words(statuses)}; raw {_words(raw_statuses)}; slowest "
        f"{percentile_ms((seconds for _, _, seconds in sent), 100):.0f} ms; "
        f"PSS {growth:+.1f} MB, descriptors {before.fds} > {after.fds}"
    )
    report.figures = {
        "described": dict(statuses),
        "raw": dict(raw_statuses),
        "pss_mb": [before.pss_mb, after.pss_mb],
        "fds": [before.fds, after.fds],
    }
    return report


def _each(strategy: SearchStrategy[bytes], count: int, do: Callable[[bytes], Any]) -> None:
    """Do something with so many examples of a strategy, always the same ones."""
    settled = settings(
        max_examples=count,
        derandomize=True,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
        verbosity=Verbosity.quiet,
    )

    @settled
    @given(strategy)
    def each(payload: bytes) -> None:
        do(payload)

    each()


def _send(server: Server, payload: bytes) -> tuple[bytes, int, float]:
    """Send a request; return its status, 0 if it was hung up on, -1 if nothing came."""
    start = time.monotonic()
    try:
        status = ask(server.port, payload, timeout=HANG_SECONDS).status
    except TimeoutError:
        status = -1
    except ConnectionError:
        status = 0
    return payload, status, time.monotonic() - start


def _throw_all(server: Server, payloads: list[bytes]) -> list[tuple[bytes, int, float]]:
    with ThreadPoolExecutor(THREADS) as pool:
        return list(pool.map(lambda payload: _throw(server, payload), payloads))


def _throw(server: Server, payload: bytes) -> tuple[bytes, int, float]:
    """Send bytes that may be no request at all; a server that hangs up has answered, too."""
    start = time.monotonic()
    data = b""
    status = 0
    with socket.create_connection(("127.0.0.1", server.port), timeout=HANG_SECONDS) as connection:
        try:
            connection.sendall(payload)
        except TimeoutError:
            status = -1
        except OSError:
            pass
        try:
            while status == 0 and (chunk := connection.recv(65536)):
                data += chunk
                if answer := parse(data, bodiless=True):
                    status = answer.status
        except TimeoutError:
            status = -1
        except (OSError, ValueError):
            pass
    return payload, status, time.monotonic() - start


def _some(payloads: list[bytes]) -> str:
    return ", ".join(repr(payload[:300]) for payload in payloads[:SHOWN])


def _words(statuses: Counter[int]) -> str:
    return ", ".join(
        f"{count:,} x {status or 'closed'}" for status, count in sorted(statuses.items())
    )
