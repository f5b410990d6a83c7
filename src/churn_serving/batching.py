"""The batchable runner: how rows reach the scorer.

There is no timer. While one batch is being scored, further rows queue; when it returns, all that
wait (up to the largest batch) are the next batch. An idle service adds no latency, a busy one
batches by itself. A scorer so fast that a full batch would not be noticed runs inline instead.

A row never harms its neighbours: a batch that raises is scored again caller by caller, and an
answer that is no probability fails only the caller it belongs to.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from time import perf_counter
from typing import TYPE_CHECKING, Final, Protocol, TypeAlias

from churn_serving.errors import (
    ChurnServingError,
    DeadlineExceededError,
    OverloadedError,
    ScoringError,
)
from churn_serving.features import FloatArray, Row, feature_matrix, verification_matrix
from churn_serving.schema import MAX_BATCH_ITEMS

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from churn_serving.scoring import Scorer

__all__ = ["BatchingRunner", "InlineRunner", "Runner", "make_runner"]

logger = logging.getLogger(__name__)

OnBatch: TypeAlias = "Callable[[int, float], None]"
"""Is told of each call of the model: how many rows, and how many seconds."""

ScoreBatch: TypeAlias = "Callable[[FloatArray], Awaitable[FloatArray]]"

INLINE_SECONDS: Final = 500e-6
"""A scorer that takes less than this for a full batch never needs a thread of its own."""


class Runner(Protocol):
    """Scores rows for many concurrent callers."""

    inline: bool
    """Whether the answer is there without ever waiting."""

    async def score_row(self, row: Row) -> float:
        """Return one customer's churn probability."""
        ...

    async def score_rows(self, rows: list[Row]) -> list[float]:
        """Return the churn probabilities of one caller's rows, scored in one call."""
        ...


class InlineRunner:
    """Scores at once, on the event loop.

    Args:
        scorer: Fast enough never to be noticed there.
        on_batch: Is told of each call of the model.
    """

    inline = True

    def __init__(self, scorer: Scorer, *, on_batch: OnBatch) -> None:
        self._scorer = scorer
        self._on_batch = on_batch

    async def score_row(self, row: Row) -> float:
        """Return one customer's churn probability.

        Raises:
            ScoringError: The model raised or returned no probability.
        """
        start = perf_counter()
        try:
            probability = self._scorer.score_row(row)
        except Exception as error:  # a model may raise anything
            raise _scoring_error(error) from error
        self._on_batch(1, perf_counter() - start)
        if not 0.0 <= probability <= 1.0:
            raise _not_a_probability()
        return probability

    async def score_rows(self, rows: list[Row]) -> list[float]:
        """Return the churn probabilities of the rows.

        Raises:
            ScoringError: The model raised or returned no probabilities.
        """
        start = perf_counter()
        try:
            scored = self._scorer.score(feature_matrix(rows))
        except Exception as error:  # a model may raise anything
            raise _scoring_error(error) from error
        self._on_batch(len(rows), perf_counter() - start)
        return _probabilities(scored, len(rows))


@dataclass(slots=True, eq=False)
class _Job:
    """One caller's rows and where the answer goes."""

    rows: list[Row]
    answer: asyncio.Future[list[float]]
    waiting: bool = True


class BatchingRunner:
    """Collects the rows of concurrent callers into batches, one batch in flight at a time.

    Args:
        score: Scores a feature matrix somewhere else: in a thread, or in another service.
        max_batch_size: Rows in one batch; a single caller's rows are never split.
        queue_size: Rows that may wait.
        timeout: Seconds until a caller is given up.
        on_batch: Is told of each call of the model.
    """

    inline = False

    def __init__(
        self,
        score: ScoreBatch,
        *,
        max_batch_size: int,
        queue_size: int,
        timeout: float,
        on_batch: OnBatch,
    ) -> None:
        self._score = score
        self._max_batch_size = max_batch_size
        self._queue_size = queue_size
        self._timeout = timeout
        self._on_batch = on_batch
        self._queue: deque[_Job] = deque()
        self._queued_rows = 0
        self._worker: asyncio.Task[None] | None = None

    async def score_row(self, row: Row) -> float:
        """Return one customer's churn probability; see ``score_rows``."""
        return (await self.score_rows([row]))[0]

    async def score_rows(self, rows: list[Row]) -> list[float]:
        """Return the churn probabilities of the rows.

        A caller that is cancelled while its rows wait takes them out of the queue.

        Raises:
            OverloadedError: The queue is full.
            DeadlineExceededError: The answer was not there in time.
            ScoringError: The model raised or returned no probabilities for these rows.
        """
        if self._queued_rows + len(rows) > self._queue_size:
            raise OverloadedError("Too many requests are waiting for the model.")
        loop = asyncio.get_running_loop()
        job = _Job(rows, loop.create_future())
        self._queue.append(job)
        self._queued_rows += len(rows)
        if self._worker is None:
            self._worker = loop.create_task(self._work())
        deadline = loop.call_later(self._timeout, _give_up, job.answer)
        try:
            return await job.answer
        finally:
            deadline.cancel()
            if job.waiting:
                self._queue.remove(job)
                self._leave(job)

    async def _work(self) -> None:
        """Score batches until nothing waits."""
        try:
            while jobs := self._next_batch():
                await self._score_jobs(jobs)
        finally:
            self._worker = None

    def _next_batch(self) -> list[_Job]:
        """Take what waits, oldest first, leaving out callers that are gone."""
        jobs: list[_Job] = []
        size = 0
        while self._queue:
            job = self._queue[0]
            if not job.answer.done():
                if jobs and size + len(job.rows) > self._max_batch_size:
                    break
                jobs.append(job)
                size += len(job.rows)
            self._queue.popleft()
            self._leave(job)
        return jobs

    def _leave(self, job: _Job) -> None:
        job.waiting = False
        self._queued_rows -= len(job.rows)

    async def _score_jobs(self, jobs: list[_Job]) -> None:
        rows = [row for job in jobs for row in job.rows]
        start = perf_counter()
        try:
            scored = await self._score(feature_matrix(rows))
            self._on_batch(len(rows), perf_counter() - start)
            _require_one_each(scored, rows)
        except Exception as error:  # noqa: BLE001 - a model may raise anything; the caller is told
            if len(jobs) == 1:
                _settle(jobs[0], _scoring_error(error))
                return
            for job in jobs:
                if not job.answer.done():
                    await self._score_jobs([job])
            return
        end = 0
        for job in jobs:
            first, end = end, end + len(job.rows)
            try:
                _settle(job, _probabilities(scored[first:end], len(job.rows)))
            except ScoringError as error:
                _settle(job, error)


def make_runner(
    scorer: Scorer, *, max_batch_size: int, queue_size: int, timeout: float, on_batch: OnBatch
) -> Runner:
    """Return the runner that suits the scorer's measured speed."""
    seconds = _full_batch_seconds(scorer, max(max_batch_size, MAX_BATCH_ITEMS))
    inline = seconds < INLINE_SECONDS
    logger.info(
        "%s scores a batch of %d in %.0f us: %s",
        type(scorer).__name__,
        max_batch_size,
        seconds * 1e6,
        "inline" if inline else "in a thread",
    )
    if inline:
        return InlineRunner(scorer, on_batch=on_batch)
    executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="runner")

    def score(X: FloatArray) -> Awaitable[FloatArray]:
        return asyncio.get_running_loop().run_in_executor(executor, scorer.score, X)

    return BatchingRunner(
        score,
        max_batch_size=max_batch_size,
        queue_size=queue_size,
        timeout=timeout,
        on_batch=on_batch,
    )


def _full_batch_seconds(scorer: Scorer, rows: int) -> float:
    """Return the best of a few runs: the first ones pay for cold caches."""
    X = verification_matrix(rows)
    best = float("inf")
    for _ in range(5):
        start = perf_counter()
        scorer.score(X)
        best = min(best, perf_counter() - start)
    return best


def _give_up(answer: asyncio.Future[list[float]]) -> None:
    if not answer.done():
        answer.set_exception(DeadlineExceededError("The model did not answer in time."))


def _settle(job: _Job, outcome: list[float] | ChurnServingError) -> None:
    if job.answer.done():  # the caller is gone
        return
    if isinstance(outcome, ChurnServingError):
        job.answer.set_exception(outcome)
    else:
        job.answer.set_result(outcome)


def _require_one_each(scored: FloatArray, rows: list[Row]) -> None:
    if len(scored) != len(rows):
        raise _not_a_probability()


def _probabilities(scored: FloatArray, rows: int) -> list[float]:
    # A NaN is the minimum of whatever it is in, and not 0 or more.
    if scored.shape != (rows,) or not (scored.min() >= 0.0 and scored.max() <= 1.0):
        raise _not_a_probability()
    probabilities: list[float] = scored.tolist()
    return probabilities


def _scoring_error(error: Exception) -> ChurnServingError:
    if isinstance(error, ChurnServingError):
        return error
    logger.error("The model raised", exc_info=error)
    return ScoringError("The model failed to score this input.")


def _not_a_probability() -> ScoringError:
    return ScoringError("The model returned something that is not a probability.")
