"""Bodies that are refused before they were read, on connections that others share."""

from __future__ import annotations

import hashlib
import json
import random
from collections import Counter
from functools import cache
from time import perf_counter
from typing import TYPE_CHECKING, Final, NamedTuple

from tests.bad_requests import CUSTOMER, PREDICT
from tests.system.chaos.client import PATIENCE_SECONDS, Background, Crowd, request
from tests.system.chaos.proxies import PROXIES
from tests.system.chaos.report import Report
from tests.system.chaos.server import wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from tests.system.chaos.client import Answer, Connection
    from tests.system.chaos.stage import Stage

__all__ = ["refused_bodies"]

CONNECTIONS: Final = 8
OK: Final = 200
STEP_SECONDS: Final = 0.1
SETTLE_SECONDS: Final = 20
SPARE_FDS: Final = 4
SHOWN: Final = 5
CHUNK: Final = 64 * 1024
MAX_BODY_BYTES: Final = 128 * 1024
KEY: Final = "the-key-of-the-callers-that-are-let-in"

# Most are small; the others lie on both sides of each bound that the server has.
SIZES: Final = {
    10: 40,
    1_000: 20,
    20_000: 15,
    100_000: 10,
    140_000: 6,
    262_144: 6,
    1_048_576: 1,
    1_048_577: 1.5,
    10_000_000: 0.5,
}


_LET_IN: Final = {"Authorization": f"Bearer {KEY}", "Content-Type": "application/json"}
# The status that refuses a request, and the path and the headers that bring it about.
KINDS: Final[Mapping[int, tuple[str, Mapping[str, str]]]] = {
    400: (PREDICT, {**_LET_IN, "X-Request-Timeout-Ms": "soon"}),
    401: (PREDICT, {"Content-Type": "application/json"}),
    404: ("/v1/predict", _LET_IN),
    405: ("/health", _LET_IN),
    413: (PREDICT, _LET_IN),  # once it is larger than the limit
    415: (PREDICT, {**_LET_IN, "Content-Type": "text/plain"}),
}


class Sent(NamedTuple):
    """A request, and the status that it must be answered with."""

    what: bytes
    status: int
    name: str


VALID: Final = Sent(request("POST", PREDICT, json.dumps(CUSTOMER).encode(), _LET_IN), OK, "valid")


class Pool(Background):
    """Keep-alive connections, each of which sends the next of some requests once it is free.

    Args:
        port: Of the proxy, on this machine.
        requests: What to send.

    Attributes:
        answered: How many requests got the status that they must get, by that status.
        lost: What the others got, by their name; "nothing" if their connection broke.
    """

    def __init__(self, port: int, requests: Iterator[Sent]) -> None:
        super().__init__()
        self.answered: Counter[int] = Counter()
        self.lost: list[tuple[str, object]] = []
        self._requests = requests
        self._crowd = Crowd(port)
        self._under_way: dict[Connection, Sent] = {}

    def work(self) -> None:
        """See ``Background``."""
        for _ in range(CONNECTIONS):
            self._next(self._crowd.connect())
        last = perf_counter()
        while self._under_way and perf_counter() - last < PATIENCE_SECONDS:
            for connection, answer in self._crowd.answers(STEP_SECONDS):
                last = perf_counter()
                self._take(connection, answer)
        self.lost += [(sent.name, "no answer in time") for sent in self._under_way.values()]
        self._crowd.close_all()

    def _take(self, connection: Connection, answer: Answer | None) -> None:
        sent = self._under_way.pop(connection)
        if answer is not None and answer.status == sent.status:
            self.answered[answer.status] += 1
        else:
            self.lost.append((sent.name, answer.status if answer else "nothing"))
        if answer is None or answer.closes:
            self._crowd.close(connection)
            connection = self._crowd.connect()
        self._next(connection)

    def _next(self, connection: Connection) -> None:
        sent = None if self.stopping.is_set() else next(self._requests, None)
        if sent is None:
            self._crowd.close(connection)
        else:
            self._under_way[connection] = sent
            self._crowd.send(connection, sent.what)


def refused_bodies(stage: Stage) -> Report:
    """Refused bodies on pooled connections: no other request is lost, and no refusal."""
    report = Report()
    refusals = 1_000 if stage.quick else 10_000
    digest = hashlib.sha256(KEY.encode()).hexdigest()
    came_back = []
    with stage.serve(api_keys=f"sha256:{digest}") as server:
        pids, before = server.pids(), server.usage()
        for name, proxy in PROXIES.items():
            with (
                proxy(stage.folder, server.port) as port,
                Pool(port, _deck(refusals)) as pool,
            ):
                while pool.is_alive():
                    pool.join(STEP_SECONDS)
                    stage.say(f"{pool.answered.total():,} of {2 * refusals:,} through {name}")
            valid = [got for what, got in pool.lost if what == VALID.name]
            refused = [(what, got) for what, got in pool.lost if what != VALID.name]
            report.require(not valid, f"{name}: {len(valid)} valid requests lost: {Counter(valid)}")
            report.require(
                not refused,
                f"{name}: {len(refused)} refusals lost: {Counter(refused).most_common(SHOWN)}",
            )
            answered = pool.answered.total()
            report.require(
                answered + len(pool.lost) == 2 * refusals, f"{name}: only {answered:,} answered"
            )
            came_back.append(
                f"{name}: {pool.answered.total() - pool.answered[OK]:,} refusals, {len(refused)} "
                f"lost; {pool.answered[OK]:,} valid requests, {len(valid)} lost"
            )
            report.figures[name] = {
                "answered": dict(pool.answered),
                "valid_lost": len(valid),
                "refusals_lost": len(refused),
            }
        settled = wait_for(lambda: server.usage().fds <= before.fds + SPARE_FDS, SETTLE_SECONDS)
        after = server.usage()
        report.require(server.pids() == pids, "a worker was started again")
    log = server.log.read_text(errors="replace")
    report.require("exception" not in log.lower(), "the server logged an exception")
    report.require(settled is not None, f"file descriptors grew from {before.fds} to {after.fds}")
    report.done = (
        f"{refusals:,} refusals of {len(KINDS)} kinds and {len(SIZES)} sizes among as many valid "
        f"requests, on {CONNECTIONS} connections through each of {' and '.join(PROXIES)}"
    )
    report.came_back = "\n".join(came_back)
    report.figures["pss_mb"] = [before.pss_mb, after.pss_mb]
    report.figures["fds"] = [before.fds, after.fds]
    return report


def _deck(refusals: int) -> Iterator[Sent]:
    """Yield so many requests to be refused and as many valid ones, always in the same order."""
    dice = random.Random(0)  # noqa: S311 - not for secrets
    what = [True, False] * refusals
    dice.shuffle(what)
    for to_be_refused in what:
        if to_be_refused:
            status = dice.choice(list(KINDS))
            sizes = [size for size in SIZES if size > MAX_BODY_BYTES or status != 413]
            size = dice.choices(sizes, [SIZES[size] for size in sizes])[0]
            yield _refused(status, size, chunked=dice.choice([True, False]))
        else:
            yield VALID


@cache
def _refused(status: int, size: int, *, chunked: bool) -> Sent:
    path, headers = KINDS[status]
    name = f"{status} of {size:,} bytes"
    if not chunked:
        return Sent(request("POST", path, b" " * size, headers), status, name)
    head = request("POST", path, headers={**headers, "Transfer-Encoding": "chunked"})
    head = head.replace(b"content-length: 0\r\n", b"")
    chunks = [
        b"%x\r\n%b\r\n" % (length := min(CHUNK, size - start), b" " * length)
        for start in range(0, size, CHUNK)
    ]
    return Sent(b"".join([head, *chunks, b"0\r\n\r\n"]), status, f"{name}, chunked")
