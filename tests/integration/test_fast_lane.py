"""The fast lane, called as an ASGI server calls it: bodies in pieces, clients that leave."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from churn_serving.batching import BatchingRunner, InlineRunner
from churn_serving.http.fast_lane import FastLane
from churn_serving.http.state import ServiceState
from churn_serving.metrics import Metrics
from churn_serving.prediction import Predictor
from churn_serving.scoring import make_scorer
from churn_serving.settings import Settings
from tests.bad_requests import BATCH, CUSTOMER, PREDICT

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from starlette.types import Message, Receive, Scope, Send

    from churn_serving.artifact import Artifact
    from churn_serving.batching import Runner
    from churn_serving.features import FloatArray

BODY = json.dumps(CUSTOMER).encode()
LIMIT = 2048


class Exchange:
    """One request as the lane sees it.

    Args:
        messages: What ``receive`` returns, one after the other; then it waits for ever.
        headers: Of the request.
        path: Of the request.
    """

    def __init__(
        self,
        *messages: Message,
        headers: tuple[tuple[bytes, bytes], ...] = (),
        path: str = PREDICT,
    ) -> None:
        self.scope: Scope = {
            "type": "http",
            "method": "POST",
            "path": path,
            "headers": [(b"content-type", b"application/json"), *headers],
        }
        self.messages = list(messages)
        self.received = 0
        self.sent: list[Message] = []
        self.gone = asyncio.Event()

    async def receive(self) -> Message:
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


def make_lane(runner: Runner, *, timeout: float = 5.0) -> FastLane:
    metrics = Metrics(model_version="test")
    predictor = Predictor(runner, model_tag="churn_classifier:test", threshold=0.5, metrics=metrics)
    settings = Settings(max_body_bytes=LIMIT, request_timeout_seconds=timeout)
    return FastLane(never, state=ServiceState(metrics, predictor), settings=settings)


@pytest.fixture(scope="module")
def inline(artifact: Artifact) -> InlineRunner:
    return InlineRunner(make_scorer(artifact.estimator, artifact.scaler), on_batch=ignore)


def ignore(_rows: int, _seconds: float) -> None:
    """Nobody counts."""


def batching(
    score: Callable[[FloatArray], Awaitable[FloatArray]], *, timeout: float = 5.0
) -> BatchingRunner:
    return BatchingRunner(
        score, max_batch_size=100, queue_size=100, timeout=timeout, on_batch=ignore
    )


def run(lane: FastLane, exchange: Exchange) -> None:
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
    run(make_lane(inline, timeout=0.05), exchange)
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
    exchange = Exchange(piece(BODY[:10], more=True), {"type": "http.disconnect"})
    run(make_lane(inline), exchange)
    assert exchange.sent == []


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

    exchange = Exchange(piece(BODY))
    run(make_lane(batching(hang, timeout=0.05)), exchange)
    assert exchange.status == 504
    assert exchange.answer["detail"] == []


def test_a_full_queue_is_answered_429_with_retry_after() -> None:
    async def scenario() -> Exchange:
        may_end = asyncio.Event()

        async def score(X: FloatArray) -> FloatArray:
            await may_end.wait()
            return np.full(len(X), 0.5)

        lane = make_lane(batching(score))
        exchanges = [Exchange(piece(BODY)) for _ in range(102)]
        running = []
        for exchange in exchanges:
            running.append(
                asyncio.create_task(lane(exchange.scope, exchange.receive, exchange.send))
            )
            await asyncio.sleep(0.001)
        # The first is being scored, a hundred wait, and the newest was refused at once.
        *accepted, refused = exchanges
        assert [bool(exchange.sent) for exchange in exchanges] == [False] * 101 + [True]
        may_end.set()
        await asyncio.gather(*running)
        assert {exchange.status for exchange in accepted} == {200}
        return refused

    refused = asyncio.run(scenario())
    assert refused.status == 429
    assert (b"retry-after", b"1") in refused.sent[0]["headers"]


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
