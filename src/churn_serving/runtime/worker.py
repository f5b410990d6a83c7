"""The life of one worker: load, warm up, answer, drain, stop."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from time import perf_counter
from typing import TYPE_CHECKING, Any, Final, TypeAlias, get_args

import bentoml

from churn_serving.errors import BreakerOpenError, ChurnServingError, RunnerUnreachableError
from churn_serving.inference.prediction import Predictor
from churn_serving.inference.resilience import CLOSED, HALF_OPEN, OPEN
from churn_serving.model.reasons.players import CODES
from churn_serving.model.reasons.sentences import Direction
from churn_serving.runtime.addresses import address_of, require_unix_socket
from churn_serving.runtime.connections import Connections, running_server
from churn_serving.runtime.parent import end_with_the_parent
from churn_serving.runtime.state import PROBES
from churn_serving.telemetry.log import configure_logging, flush_logging
from churn_serving.telemetry.metrics import (
    BREAKER_OPENED,
    BREAKER_STATE,
    HTTP_IN_FLIGHT,
    QUEUE_CAPACITY,
    QUEUE_DEPTH,
    WORKERS,
    WORKERS_LIVE,
    WORKERS_READY,
)
from churn_serving.telemetry.reporting import Reporter

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Mapping

    from churn_serving.inference.batching import Runner
    from churn_serving.inference.explaining import Explainer
    from churn_serving.inference.prediction import Scored
    from churn_serving.model.artifact import RegisteredModel
    from churn_serving.runtime.state import ServiceState
    from churn_serving.settings import Settings

__all__ = ["Worker"]

WarmUp: TypeAlias = "Callable[[Predictor], Awaitable[Mapping[str, Any]]]"

logger = logging.getLogger(__name__)

_BREAKER_STATES: Final = {CLOSED: 0, HALF_OPEN: 1, OPEN: 2}
_RUNNER_CHECK_SECONDS: Final = 1.0
_RUNNER_STARTS_WITHIN_SECONDS: Final = 10.0


class Worker:
    """One server process, from its start to its end.

    Args:
        state: What the HTTP edge knows of it.
        model: What it serves.
        settings: How long things may take.
    """

    def __init__(self, *, state: ServiceState, model: RegisteredModel, settings: Settings) -> None:
        self._state = state
        self._model = model
        self._settings = settings
        self._predictor: Predictor | None = None
        self._connections: Connections | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._tried = asyncio.Event()
        self.reporter = Reporter(
            metrics=state.metrics,
            exchange=state.exchange,
            process=state.process,
            siblings=state.siblings,
            log_interval=settings.log_interval_seconds,
            no_traffic=PROBES,
            gauges=self._set_gauges,
        )

    def take_over(self) -> None:
        """Take over the logging and the connections of the server that runs this process."""
        server = running_server()
        if server is not None:
            configure_logging(self._settings)
            end_with_the_parent()
            self._connections = Connections(server, state=self._state, settings=self._settings)

    def load(self, load: Callable[[], tuple[Runner, Explainer | None]]) -> None:
        """Load the model.

        Should that fail, the worker stays, not ready, and says why: a process that ended would be
        started again, and again.

        Args:
            load: Returns what scores rows with the model, and what explains that.
        """
        begun = perf_counter()
        try:
            if self._settings.topology == "split":
                require_unix_socket()
            runner, explainer = load()
        except Exception as error:  # noqa: BLE001 - unpickling may raise anything
            self._give_up(f"The model '{self._model.tag}' cannot be loaded", error)
            return
        if explainer is not None:
            self._state.metrics.expect_reasons(CODES, get_args(Direction))
        self._state.model_load_seconds = round(perf_counter() - begun, 3)
        threshold = self._settings.decision_threshold
        self._predictor = Predictor(
            runner,
            model=self._model,
            threshold=self._model.threshold if threshold is None else threshold,
            policy=self._state.policy,
            explainer=explainer,
            observe=self._count_and_log if logger.isEnabledFor(logging.DEBUG) else self._count,
        )

    @property
    def predictor(self) -> Predictor:
        """Answers requests, once the model is loaded."""
        if self._predictor is None:
            raise AssertionError("a request has come past the edge although there is no model")
        return self._predictor

    async def start(
        self, warm_up: WarmUp, runner_is_ready: Callable[[], Awaitable[bool]] | None
    ) -> None:
        """Let requests in, after a first answer to one of our own.

        Args:
            warm_up: Answers a request of each kind; returns the answers by route.
            runner_is_ready: Asks the service that runs the model, if that is another one. It may
                come up later, and go away again.
        """
        if runner_is_ready is None or self._predictor is None:
            await self._try(warm_up)
        else:
            self._do(self._follow(warm_up, runner_is_ready))
            # The workers share a socket: one that took requests too soon would refuse them beside
            # others that answer.
            with suppress(TimeoutError):
                await asyncio.wait_for(self._tried.wait(), _RUNNER_STARTS_WITHIN_SECONDS)
        self._do(self.reporter.run())
        if self._connections is not None:
            self._do(self._connections.sweep_regularly())

    async def stop(self) -> None:
        """Let no more requests in, and report for the last time."""
        self._state.draining = True
        self._state.predictor = None
        for task in self._tasks:
            task.cancel()
        await asyncio.wait(self._tasks)
        flush_logging()

    def _do(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(work)
        task.add_done_callback(_report)
        self._tasks.append(task)

    async def _try(self, warm_up: WarmUp) -> None:
        """Answer each route once, on the way that a request takes, and be ready."""
        if self._predictor is None:
            return
        try:
            self._state.answers = await warm_up(self._predictor)
        except (RunnerUnreachableError, BreakerOpenError):
            raise
        except Exception as error:  # noqa: BLE001 - a model may raise anything
            self._give_up("The model does not answer a valid request", error)
            self._tried.set()
            return
        # Those were no customers.
        self._state.metrics.forget_predictions()
        self._state.predictor = self._predictor
        self._state.failure = None
        self._tried.set()
        if (url := _first_workers_url()) is not None:
            logger.info("Ready on %s (documentation: /docs)", url)

    async def _follow(
        self, warm_up: WarmUp, runner_is_ready: Callable[[], Awaitable[bool]]
    ) -> None:
        """Be ready while the service that runs the model is."""
        pause = _RUNNER_CHECK_SECONDS / 16
        while True:
            try:
                reachable = await runner_is_ready()
                if reachable and self._state.predictor is None:
                    await self._try(warm_up)
            except Exception as error:  # whatever its client raises, it did not answer
                logger.debug("The runner does not answer", exc_info=error)
                reachable = False
            if reachable != self._state.runner_reachable and not self._state.draining:
                logger.warning("The runner answers" if reachable else "The runner does not answer")
            self._state.runner_reachable = reachable
            await asyncio.sleep(pause)
            pause = min(2 * pause, _RUNNER_CHECK_SECONDS)

    def _count(self, scored: Scored) -> None:
        metrics = self._state.metrics
        metrics.predicted(scored.predictions)
        for decision in scored.decisions:
            metrics.decided(decision.action, decision.expected_profit)
        for reasons in scored.reasons:
            if reasons:
                metrics.explained(reasons[0]["code"], reasons[0]["direction"])

    def _count_and_log(self, scored: Scored) -> None:
        self._count(scored)
        logger.debug(
            "Prediction" if len(scored.predictions) == 1 else "Predictions",
            extra={
                "model_version": scored.model.version,
                "customers": len(scored.predictions),
                "churn": sum(scored.predictions),
                "churn_probabilities": scored.probabilities,
            },
        )

    def _give_up(self, what: str, error: Exception) -> None:
        # Ours are sentences for people; what is behind them, and others, needs its traceback. A
        # stranger's text may name what is nobody's business outside.
        ours = isinstance(error, ChurnServingError)
        kind = type(error).__name__
        self._state.failure = f"{what}: {error if ours else kind + ' (the log says more)'}"
        logger.critical(
            "%s; the service stays up, not ready",
            f"{what}: {error if ours else f'{kind}: {error}'}".rstrip("."),
            exc_info=error.__cause__ if ours else error,
        )

    def _set_gauges(self) -> None:
        metrics = self._state.metrics
        metrics.gauge(HTTP_IN_FLIGHT, self._state.in_flight)
        metrics.gauge(WORKERS, self._settings.workers)
        metrics.gauge(WORKERS_LIVE, 1)
        metrics.gauge(WORKERS_READY, float(self._state.phase == "ready"))
        if self._predictor is not None:
            runner = self._predictor.runner
            metrics.gauge(QUEUE_DEPTH, runner.queue_depth)
            metrics.gauge(QUEUE_CAPACITY, runner.queue_capacity)
            metrics.gauge(BREAKER_STATE, _BREAKER_STATES[runner.breaker.state])
            metrics.total(BREAKER_OPENED, runner.breaker.times_opened)


def _first_workers_url() -> str | None:
    """Return where the service is found, in one of its workers: that is said once."""
    if bentoml.server_context.worker_index != 1:
        return None
    url = address_of(bentoml.server_context.service_name or "")
    return url and url.replace("//127.0.0.1:", "//localhost:")


def _report(task: asyncio.Task[None]) -> None:
    """Say so if a task that should never end has failed; nobody waits for it."""
    if not task.cancelled() and (error := task.exception()) is not None:
        logger.critical("A background task has failed", exc_info=error)
