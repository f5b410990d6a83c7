"""The batchable runner: how rows reach the scorer.

There is no timer. While one batch is being scored, further rows queue; when it returns, all that
wait (up to the largest batch) are the next batch. An idle service adds no latency, a busy one
batches by itself. A scorer so fast that a full batch would not be noticed runs inline instead.

A row never harms its neighbours: a batch that raises is scored again caller by caller, and an
answer that is no probability fails only the caller it belongs to.

What cannot be answered in time is refused when it comes: whoever has been accepted stays accepted,
and is dropped only when the deadline has passed before the model was called.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from contextvars import Context
from dataclasses import dataclass
from time import perf_counter
from typing import TYPE_CHECKING, Final, Protocol, TypeAlias

from churn_serving import context
from churn_serving.errors import (
    ChurnServingError,
    DeadlineExceededError,
    DeadlineUnreachableError,
    NotReadyError,
    QueueFullError,
    ScoringError,
)
from churn_serving.features.rows import Row, customer_row, feature_matrix, verification_matrix
from churn_serving.inference.resilience import CLOSED, OPEN, DurationEstimate, Overrun
from churn_serving.schema import EXAMPLE, MAX_BATCH_ITEMS, Customer

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from churn_serving.features.columns import FloatArray
    from churn_serving.inference.resilience import CircuitBreaker
    from churn_serving.model.scoring import Scorer
    from churn_serving.telemetry.metrics import Metrics

__all__ = ["BatchingRunner", "InlineRunner", "Runner", "make_runner"]

logger = logging.getLogger(__name__)

ScoreBatch: TypeAlias = "Callable[[FloatArray], Awaitable[FloatArray]]"

INLINE_SECONDS: Final = 500e-6
"""A scorer that takes less than this for a full batch never needs a thread of its own."""


_REFERENCE: Final = (customer_row(Customer.model_validate(EXAMPLE)),)
"""Rows that every model can score: one that does not is at fault, and not its callers."""

_TRIALS: Final = 2
"""Times that the reference must be answered, and a row fail again, until the row is at fault. A
model that fails on six calls of ten passes for innocent once in seventeen times."""

HANGING: Final = 2.0
"""A call of the model that takes so many times a request's timeout is taken for one that hangs."""


class Runner(Protocol):
    """Scores rows for many concurrent callers."""

    inline: bool
    """Whether the answer is there without ever waiting."""

    queue_depth: int
    """Rows that wait."""

    queue_capacity: int
    """Rows that may wait."""

    breaker: CircuitBreaker
    """Watches the model."""

    @property
    def hangs(self) -> bool:
        """Whether a call of the model has taken so long that it may never end."""
        ...

    async def score_row(self, row: Row) -> float:
        """Return one customer's churn probability."""
        ...

    async def score_rows(self, rows: list[Row]) -> list[float]:
        """Return the churn probabilities of one caller's rows, scored in one call."""
        ...


class InlineRunner:
    """Scores at once, on the event loop: nothing ever waits, so no deadline can be missed.

    Args:
        scorer: Fast enough never to be noticed there.
        breaker: Watches the scorer.
        metrics: Counts the calls of the model.
    """

    inline = True
    queue_depth = 0
    queue_capacity = 0
    hangs = False

    def __init__(self, scorer: Scorer, *, breaker: CircuitBreaker, metrics: Metrics) -> None:
        self.breaker = breaker
        self._scorer = scorer
        self._metrics = metrics

    async def score_row(self, row: Row) -> float:
        """Return one customer's churn probability.

        Raises:
            BreakerOpenError: The model has failed too often.
            ScoringError: The model raised or returned no probability.
        """
        if self.breaker.state is not CLOSED:
            self.breaker.admit()
        start = perf_counter()
        try:
            probability = self._scorer.score_row(row)
            is_probability = 0.0 <= probability <= 1.0
        except Exception as error:  # a model may raise anything
            self._blame([row])
            raise _scoring_error(error) from error
        end = perf_counter()
        if not is_probability:
            self._blame([row])
            raise _not_a_probability()
        self.breaker.succeeded(end)
        self._metrics.scored(1, end - start)
        return probability

    async def score_rows(self, rows: list[Row]) -> list[float]:
        """Return the churn probabilities of the rows.

        Raises:
            BreakerOpenError: The model has failed too often.
            ScoringError: The model raised or returned no probabilities.
        """
        if self.breaker.state is not CLOSED:
            self.breaker.admit()
        start = perf_counter()
        try:
            scored = self._scorer.score(feature_matrix(rows))
            end = perf_counter()
            probabilities = _probabilities(scored, len(rows))
        except Exception as error:  # a model may raise anything
            self._blame(rows)
            raise _scoring_error(error) from error
        self.breaker.succeeded(end)
        self._metrics.scored(len(rows), end - start)
        return probabilities

    def _blame(self, rows: Sequence[Row]) -> None:
        """Count a failure of the model, unless the rows are at fault.

        They are if the model answers others and, asked again, these not.
        """
        for _ in range(_TRIALS):
            if not self._answers(_REFERENCE) or self._answers(rows):
                self.breaker.failed(perf_counter())
                return

    def _answers(self, rows: Sequence[Row]) -> bool:
        try:
            _probabilities(self._scorer.score(feature_matrix(rows)), len(rows))
        except Exception:  # noqa: BLE001 - a model may raise anything
            return False
        return True


@dataclass(slots=True, eq=False)
class _Job:
    """One caller's rows, when they came, until when they matter, and where the answer goes.

    ``foreseen`` is how long it was to take, in seconds; 0 if nothing was before it.
    """

    rows: list[Row]
    queued_at: float
    deadline: float
    foreseen: float
    answer: asyncio.Future[list[float]]
    waiting: bool = True


class BatchingRunner:
    """Collects the rows of concurrent callers into batches, one batch in flight at a time.

    Args:
        score: Scores a feature matrix somewhere else: in a thread, or in another service.
        max_batch_size: Rows in one batch; a single caller's rows are never split.
        queue_size: Rows that may wait.
        timeout: Seconds until a caller is given up that names no deadline of its own.
        breaker: Watches the calls.
        metrics: Counts the calls of the model, and how long rows waited for one.
        batch_seconds: How long a full batch takes, as far as is known.
    """

    inline = False

    def __init__(
        self,
        score: ScoreBatch,
        *,
        max_batch_size: int,
        queue_size: int,
        timeout: float,
        breaker: CircuitBreaker,
        metrics: Metrics,
        batch_seconds: float = 0.0,
    ) -> None:
        self.queue_depth = 0
        self.queue_capacity = queue_size
        self.breaker = breaker
        self._score = score
        self._max_batch_size = max_batch_size
        self._timeout = timeout
        self._metrics = metrics
        self._batch_duration = DurationEstimate(batch_seconds)
        self._overrun = Overrun()
        self._queue: deque[_Job] = deque()
        self._scoring_since: float | None = None
        self._worker: asyncio.Task[None] | None = None

    @property
    def hangs(self) -> bool:
        """Whether a call of the model has taken so long that it may never end."""
        since = self._scoring_since
        return since is not None and perf_counter() - since > HANGING * self._timeout

    async def score_row(self, row: Row) -> float:
        """Return one customer's churn probability; see ``score_rows``."""
        return (await self.score_rows([row]))[0]

    async def score_rows(self, rows: list[Row]) -> list[float]:
        """Return the churn probabilities of the rows.

        A caller that is cancelled while its rows wait takes them out of the queue.

        Raises:
            QueueFullError: There is no room for these rows.
            DeadlineUnreachableError: There is too much work before these rows.
            BreakerOpenError: The model has failed too often.
            DeadlineExceededError: The answer was not there in time after all.
            ScoringError: The model raised or returned no probabilities for these rows.
            RunnerUnreachableError: The service that runs the model does not answer.
        """
        now = perf_counter()
        deadline = min(context.deadline(), now + self._timeout)
        if deadline <= now:
            raise _too_late()
        foreseen = self._admit(len(rows), now, deadline)
        loop = asyncio.get_running_loop()
        job = _Job(rows, now, deadline, foreseen, loop.create_future())
        self._queue.append(job)
        self.queue_depth += len(rows)
        if self._worker is None:
            # Not in this caller's context: it works for the others as well.
            self._worker = loop.create_task(self._work(), context=Context())
        timer = loop.call_later(deadline - now, _settle, job, _too_late())
        try:
            return await job.answer
        finally:
            timer.cancel()
            if job.waiting:
                self._queue.remove(job)
                self._leave(job)

    def _admit(self, rows: int, now: float, deadline: float) -> float:
        """Refuse what may be too late, so that nothing accepted has to be.

        Returns how long it should take, in seconds; 0 if nothing is before it.
        """
        if self.queue_depth + rows > self.queue_capacity:
            raise QueueFullError(
                "Too many customers are waiting for the model.",
                retry_after=self._seconds_until_scored(0, now),
            )
        # With nothing before it, a row is always tried: a model that was slow may not be any more.
        foreseen = 0.0
        if self._scoring_since is not None or self._queue:
            foreseen = self._seconds_until_scored(rows, now)
            late = foreseen * self._overrun.factor - (deadline - now)
            if late > 0:
                raise DeadlineUnreachableError(
                    "There is too much work to answer in time.", retry_after=late
                )
        self.breaker.admit()
        return foreseen

    def _seconds_until_scored(self, rows: int, now: float) -> float:
        """Return how long it will take to score what waits and ``rows`` more."""
        since = self._scoring_since
        current = 0.0 if since is None else self._batch_duration.remaining(now - since)
        # A caller's rows are never split, however many they are.
        batches = min(self._batches(self.queue_depth) + 1, self._batches(self.queue_depth + rows))
        return current + batches * self._batch_duration.seconds

    def _batches(self, rows: int) -> int:
        return -(-rows // self._max_batch_size)

    async def _work(self) -> None:
        """Score batches until nothing waits."""
        try:
            while jobs := self._next_batch():
                await self._score_jobs(jobs)
        finally:
            self._worker = None

    def _next_batch(self) -> list[_Job]:
        """Take what waits, oldest first, leaving out callers that are gone or too late."""
        jobs: list[_Job] = []
        size = 0
        now = perf_counter()
        while self._queue:
            job = self._queue[0]
            if job.deadline <= now:
                self._overrun.observe(now - job.queued_at, job.foreseen)
                _settle(job, _too_late())
            elif self.breaker.state is OPEN:
                _settle(job, self.breaker.refusal())
            if not job.answer.done():
                if jobs and size + len(job.rows) > self._max_batch_size:
                    break
                jobs.append(job)
                size += len(job.rows)
                self._metrics.waited(now - job.queued_at)
            self._queue.popleft()
            self._leave(job)
        return jobs

    def _leave(self, job: _Job) -> None:
        job.waiting = False
        self.queue_depth -= len(job.rows)

    async def _score_jobs(self, jobs: list[_Job]) -> None:
        rows = [row for job in jobs for row in job.rows]
        start = self._scoring_since = perf_counter()
        try:
            scored = await self._score(feature_matrix(rows))
            _require_one_each(scored, rows)
        except NotReadyError as error:
            self.breaker.failed(perf_counter())
            for job in jobs:
                _settle(job, error)
        except Exception as error:  # noqa: BLE001 - a model may raise anything; the caller is told
            self._batch_duration.observe(perf_counter() - start)
            if len(jobs) == 1:
                _settle(jobs[0], _scoring_error(error))
                await self._blame(jobs[0])
                return
            for job in jobs:
                # That it takes longer now says nothing of how well the model's time is foreseen.
                job.foreseen = 0.0
                if self.breaker.state is OPEN:
                    _settle(job, self.breaker.refusal())
                elif not job.answer.done():
                    await self._score_jobs([job])
        else:
            end = perf_counter()
            self._batch_duration.observe(end - start)
            self._metrics.scored(len(rows), end - start)
            failed = self._settle_each(jobs, scored, end, in_time=end - start < self._timeout)
            for job in failed:
                await self._blame(job)
        finally:
            self._scoring_since = None

    def _settle_each(
        self, jobs: list[_Job], scored: FloatArray, now: float, *, in_time: bool
    ) -> list[_Job]:
        """Give each caller its part of a batch's answer; return those whose part is none."""
        failed: list[_Job] = []
        first = 0
        for job in jobs:
            part = scored[first : first + len(job.rows)]
            first += len(job.rows)
            self._overrun.observe(now - job.queued_at, job.foreseen)
            try:
                _settle(job, _probabilities(part, len(job.rows)))
            except Exception as error:  # noqa: BLE001 - a model may return anything
                failed.append(job)
                _settle(job, _scoring_error(error))
            else:
                # An answer that comes when everybody has been given up is of no use.
                (self.breaker.succeeded if in_time else self.breaker.failed)(now)
        return failed

    async def _blame(self, job: _Job) -> None:
        """Count a failure of the model, unless the job's rows are at fault.

        They are if the model answers others and, asked again, these not.
        """
        for _ in range(_TRIALS):
            if not await self._answers(_REFERENCE) or await self._answers(job.rows):
                self.breaker.failed(perf_counter())
                return

    async def _answers(self, rows: Sequence[Row]) -> bool:
        try:
            _probabilities(await self._score(feature_matrix(rows)), len(rows))
        except Exception:  # noqa: BLE001 - a model may raise anything
            return False
        return True


def make_runner(
    scorer: Scorer,
    *,
    max_batch_size: int,
    queue_size: int,
    timeout: float,
    breaker: CircuitBreaker,
    metrics: Metrics,
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
        return InlineRunner(scorer, breaker=breaker, metrics=metrics)
    executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="runner")

    def score(X: FloatArray) -> Awaitable[FloatArray]:
        return asyncio.get_running_loop().run_in_executor(executor, scorer.score, X)

    return BatchingRunner(
        score,
        max_batch_size=max_batch_size,
        queue_size=queue_size,
        timeout=timeout,
        breaker=breaker,
        metrics=metrics,
        batch_seconds=seconds,
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
    scoring_error = ScoringError("The model failed to score this input.")
    scoring_error.__cause__ = error
    return scoring_error


def _too_late() -> DeadlineExceededError:
    return DeadlineExceededError("The model did not answer in time.")


def _not_a_probability() -> ScoringError:
    return ScoringError("The model returned something that is not a probability.")
