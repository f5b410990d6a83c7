"""The lane, called as an ASGI server calls it: bodies in pieces, clients that leave."""

from __future__ import annotations

import asyncio
import json
import time
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from churn_serving.http.body import BodyReader
from churn_serving.http.edge import Edge
from churn_serving.http.lane import Lane
from churn_serving.inference.batching import BatchingRunner, InlineRunner
from churn_serving.inference.prediction import Predictor
from churn_serving.model.policy import Policy
from churn_serving.settings import Settings
from churn_serving.telemetry.metrics import DEADLINE_MISSED, ERRORS, HTTP_DURATION, SHED, Metrics
from tests.bad_requests import BATCH, CUSTOMER, PREDICT
from tests.doubles import MODEL, circuit_breaker, count_of, service_state

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from starlette.types import Message, Receive, Scope, Send

    from churn_serving.features.columns import FloatArray
    from churn_serving.inference.batching import Runner
    from churn_serving.model.artifact import Artifact

BODY = json.dumps(CUSTOMER).encode()
LIMIT = 2048


class Exchange:
    """One request as the lane sees it.

    Args:
        messages: What ``receive`` returns, one after the other; then it waits for ever.
        headers: Of the request.
        path: Of the request.
        at_once: Whether a message is there without waiting, as it mostly is.
    """

    def __init__(
        self,
        *messages: Message,
        headers: tuple[tuple[bytes, bytes], ...] = (),
        path: str = PREDICT,
        at_once: bool = False,
    ) -> None:
        self.scope: Scope = {
            "type": "http",
            "method": "POST",
            "path": path,
            "raw_path": path.encode(),
            "headers": [(b"content-type", b"application/json"), *headers],
        }
        self.messages = list(messages)
        self.received = 0
        self.at_once = at_once
        self.sent: list[Message] = []
        self.gone = asyncio.Event()

    async def receive(self) -> Message:
        if not self.at_once:
            await asyncio.sleep(0)
        if self.received < len(self.messages):
            self.received += 1
            return self.messages[self.received - 1]
        await self.gone.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        self.sent.append(message)

    @property
    def status(self) -> int:
        status: int = self.sent[0]["status"]
        return status

    @property
    def answer(self) -> Any:
        return json.loads(self.sent[1]["body"])


def piece(body: bytes, *, more: bool = False) -> Message:
    return {"type": "http.request", "body": body, "more_body": more}


async def never(_scope: Scope, _receive: Receive, _send: Send) -> None:
    raise AssertionError("the lane should have answered itself")


def make_lane(runner: Runner, *, timeout: float = 5.0, max_waiting: int = 512 * LIMIT) -> Edge:
    """Return the lane behind the edge, which gives a request its deadline."""
    metrics = Metrics(model_version="test")
    predictor = Predictor(
        runner,
        model=MODEL,
        threshold=0.5,
        policy=Policy(),
        explainer=None,
        observe=lambda _: None,
    )
    state = service_state(metrics=metrics, predictor=predictor)
    bodies = BodyReader(max_bytes=LIMIT, max_waiting=max_waiting)
    settings = Settings(request_timeout_seconds=timeout)
    lane = Lane(state=state, bodies=bodies)
    return Edge(lane, never, state=state, settings=settings, keys=None, cors=None)


@pytest.fixture(scope="module")
def inline(artifact: Artifact) -> InlineRunner:
    return InlineRunner(
        artifact.scorer,
        breaker=circuit_breaker(),
        metrics=Metrics(model_version="test"),
    )


def batching(
    score: Callable[[FloatArray], Awaitable[FloatArray]], *, timeout: float = 5.0
) -> BatchingRunner:
    return BatchingRunner(
        score,
        max_batch_size=100,
        queue_size=100,
        timeout=timeout,
        breaker=circuit_breaker(),
        metrics=Metrics(model_version="test"),
    )


def run(lane: Edge, exchange: Exchange) -> None:
    asyncio.run(lane(exchange.scope, exchange.receive, exchange.send))


def test_a_body_in_many_pieces_is_put_together(inline: InlineRunner) -> None:
    pieces = [piece(BODY[i : i + 1], more=True) for i in range(len(BODY))]
    exchange = Exchange(*pieces, piece(b""))
    run(make_lane(inline), exchange)
    assert exchange.status == 200


def test_an_announced_oversized_body_is_refused_unread(inline: InlineRunner) -> None:
    exchange = Exchange(piece(BODY), headers=((b"content-length", b"2049"),))
    run(make_lane(inline), exchange)
    assert exchange.status == 413
    assert exchange.received == 0


def test_an_endless_body_is_refused_as_soon_as_it_exceeds_the_limit(inline: InlineRunner) -> None:
    exchange = Exchange(*[piece(b" " * 1000, more=True) for _ in range(100)])
    run(make_lane(inline), exchange)
    assert exchange.status == 413
    assert exchange.received == 3


def test_an_oversized_body_in_one_piece_is_refused(inline: InlineRunner) -> None:
    exchange = Exchange(piece(b" " * (LIMIT + 1)))
    run(make_lane(inline), exchange)
    assert exchange.status == 413


def test_a_body_of_exactly_the_limit_is_read(inline: InlineRunner) -> None:
    exchange = Exchange(piece(BODY.ljust(LIMIT)))
    run(make_lane(inline), exchange)
    assert exchange.status == 200


@pytest.mark.parametrize("pieces", [(), (piece(BODY[:10], more=True),)], ids=["at once", "midway"])
def test_a_stalled_body_is_answered_408(inline: InlineRunner, pieces: tuple[Message, ...]) -> None:
    exchange = Exchange(*pieces)
    start = time.perf_counter()
    run(make_lane(inline, timeout=0.05), exchange)
    assert 0.05 <= time.perf_counter() - start < 1
    assert exchange.status == 408
    assert exchange.answer == {"error": "The request body did not arrive in time.", "detail": []}


def test_stalled_bodies_do_not_hold_up_others(inline: InlineRunner) -> None:
    async def scenario() -> list[Exchange]:
        lane = make_lane(inline, timeout=0.1)
        exchanges = [Exchange() if i % 2 else Exchange(piece(BODY)) for i in range(200)]
        await asyncio.gather(*(lane(e.scope, e.receive, e.send) for e in exchanges))
        return exchanges

    exchanges = asyncio.run(scenario())
    assert [e.status for e in exchanges] == [200, 408] * 100


def test_a_client_that_leaves_midway_gets_no_answer(inline: InlineRunner) -> None:
    lane = make_lane(inline)
    exchange = Exchange(piece(BODY[:10], more=True), {"type": "http.disconnect"})
    run(lane, exchange)
    assert exchange.sent == []
    assert count_of(lane._metrics, HTTP_DURATION, PREDICT, "499") == 1
    assert count_of(lane._metrics, ERRORS, PREDICT, "ClientGoneError") == 1


def test_a_client_that_leaves_while_it_queues_is_not_scored() -> None:
    async def scenario() -> tuple[list[int], list[Exchange]]:
        sizes: list[int] = []
        first_may_end = asyncio.Event()

        async def score(X: FloatArray) -> FloatArray:
            sizes.append(len(X))
            await first_may_end.wait()
            return np.full(len(X), 0.5)

        lane = make_lane(batching(score))
        first, leaver, stayer = (Exchange(piece(BODY)) for _ in range(3))
        running = []
        for exchange in (first, leaver, stayer):
            running.append(
                asyncio.create_task(lane(exchange.scope, exchange.receive, exchange.send))
            )
            await asyncio.sleep(0.01)
        leaver.gone.set()
        await running[1]
        first_may_end.set()
        await asyncio.gather(*running)
        return sizes, [first, leaver, stayer]

    sizes, (first, leaver, stayer) = asyncio.run(scenario())
    assert sizes == [1, 1]
    assert leaver.sent == []
    assert first.status == stayer.status == 200


def test_a_hanging_model_is_answered_504_at_the_deadline() -> None:
    async def hang(_: FloatArray) -> FloatArray:
        await asyncio.sleep(60)
        raise AssertionError

    lane = make_lane(batching(hang), timeout=0.05)
    exchange = Exchange(piece(BODY))
    run(lane, exchange)
    assert exchange.status == 504
    assert exchange.answer == {"error": "The model did not answer in time.", "detail": []}
    assert count_of(lane._metrics, DEADLINE_MISSED) == 1
    assert count_of(lane._metrics, HTTP_DURATION, PREDICT, "504") == 1


def test_the_callers_own_deadline_is_kept() -> None:
    async def hang(_: FloatArray) -> FloatArray:
        await asyncio.sleep(60)
        raise AssertionError

    exchange = Exchange(piece(BODY), headers=((b"x-request-timeout-ms", b"50"),))
    start = time.perf_counter()
    run(make_lane(batching(hang)), exchange)
    assert exchange.status == 504
    assert 0.05 <= time.perf_counter() - start < 2


def test_the_time_a_body_takes_is_taken_from_the_answers() -> None:
    async def hang(_: FloatArray) -> FloatArray:
        await asyncio.sleep(60)
        raise AssertionError

    async def scenario() -> float:
        async def receive() -> Message:
            if not exchange.received:
                await asyncio.sleep(0.2)
            return await exchange.receive()

        start = time.perf_counter()
        await make_lane(batching(hang), timeout=0.3)(exchange.scope, receive, exchange.send)
        return time.perf_counter() - start

    exchange = Exchange(piece(BODY))
    assert 0.3 <= asyncio.run(scenario()) < 0.45
    assert exchange.status == 504


def test_too_many_slow_bodies_are_answered_429_and_quick_ones_as_ever(
    inline: InlineRunner,
) -> None:
    async def scenario() -> None:
        lane = make_lane(inline, timeout=0.2, max_waiting=3 * LIMIT)

        async def ask(exchange: Exchange) -> None:
            await lane(exchange.scope, exchange.receive, exchange.send)

        slow = [Exchange(piece(BODY[:10], more=True)) for _ in range(3)]
        running = [asyncio.create_task(ask(exchange)) for exchange in slow]
        await asyncio.sleep(0.01)
        for pieces in ((), (piece(BODY[:10], more=True),)):
            refused = Exchange(*pieces, at_once=True)
            await ask(refused)
            assert refused.status == 429
            assert (b"retry-after", b"1") in refused.sent[0]["headers"]
            assert (b"connection", b"close") in refused.sent[0]["headers"]
        quick = Exchange(piece(BODY), at_once=True)
        await ask(quick)
        assert quick.status == 200
        await asyncio.gather(*running)
        assert {exchange.status for exchange in slow} == {408}
        assert count_of(lane._metrics, SHED, "slow_bodies") == 2
        # Their places are free again.
        late = Exchange(piece(BODY[:10], more=True), piece(BODY[10:]))
        await ask(late)
        assert late.status == 200

    asyncio.run(scenario())


@pytest.mark.parametrize(
    "scores", [[float("nan")], [1.5], [-0.1], [], [0.5, 0.5], [[0.5]]], ids=str
)
def test_an_answer_that_is_no_probability_is_a_500(scores: list[Any]) -> None:
    async def score(_: FloatArray) -> FloatArray:
        return np.array(scores, dtype=np.float64)

    exchange = Exchange(piece(BODY))
    run(make_lane(batching(score)), exchange)
    assert exchange.status == 500


def test_a_batch_request_is_one_batch() -> None:
    sizes: list[int] = []

    async def score(X: FloatArray) -> FloatArray:
        sizes.append(len(X))
        return np.full(len(X), 0.25)

    exchange = Exchange(piece(json.dumps({"items": [CUSTOMER] * 5}).encode()), path=BATCH)
    run(make_lane(batching(score)), exchange)
    assert exchange.status == 200
    assert sizes == [5]
