"""Processes that share the pieces of a run.

They are spawned, not forked: threads of Arrow do not survive a fork. A worker that was killed is
replaced once for each piece. When the first process is killed, its workers see it at the next
batch, clean up and end.
"""

from __future__ import annotations

import multiprocessing
import signal
from collections import deque
from contextlib import suppress
from multiprocessing.connection import wait
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa

from churn_serving.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from multiprocessing.connection import Connection
    from multiprocessing.context import SpawnProcess

    from churn_serving.bulk.tables import Piece
    from churn_serving.bulk.work import Work

__all__ = ["do_all"]

_ROWS, _DONE, _FAILED = "rows", "done", "failed"
_PATIENCE_SECONDS: Final = 10


def do_all(
    work: Work, pieces: Iterable[Piece], workers: int, told: Callable[[int], None]
) -> Iterator[dict[str, Any]]:
    """Do the work on every piece, and return the receipts as they come.

    Args:
        work: What is to be done.
        pieces: In any order.
        workers: So many processes, beside this one.
        told: Told how many rows more are done; fewer than 0 if a process was killed, for those of
            its piece are done again.

    Raises:
        DataError: The table cannot be read, or a process was killed twice.
        OSError: The results cannot be written.
    """
    waiting = deque(pieces)
    crew = _Crew(work, waiting, min(workers, len(waiting)))
    try:
        yield from crew.receipts(told)
    finally:
        crew.end()


class _Crew:
    """Some workers, and the pieces that nobody has done yet."""

    def __init__(self, work: Work, waiting: deque[Piece], workers: int) -> None:
        self._work = work
        self._waiting = waiting
        self._killed: set[int] = set()
        self._workers: list[_Worker] = []
        self._workers += [_Worker(work) for _ in range(workers)]

    def receipts(self, told: Callable[[int], None]) -> Iterator[dict[str, Any]]:
        """Return the receipts as they come."""
        while True:
            for worker in self._workers:
                if worker.piece is None and self._waiting:
                    worker.give(self._waiting.popleft())
            busy = [worker for worker in self._workers if worker.piece is not None]
            if not busy:
                return
            ready = wait([worker.connection for worker in busy])
            for worker in busy:
                if worker.connection in ready:
                    yield from self._heard(worker, told)

    def _heard(self, worker: _Worker, told: Callable[[int], None]) -> Iterator[dict[str, Any]]:
        try:
            kind, what = worker.connection.recv()
        except (EOFError, OSError):
            self._waiting.append(_of_killed(worker, self._killed))
            told(-worker.rows)
            worker.end()
            self._workers[self._workers.index(worker)] = _Worker(self._work)
            return
        if kind == _FAILED:
            raise what
        if kind == _ROWS:
            worker.rows += what
            told(what)
        else:
            worker.piece = None
            yield what

    def end(self) -> None:
        """End all workers, whatever they do."""
        for worker in self._workers:
            worker.end()


class _Worker:
    """A process, and the piece that it has now."""

    def __init__(self, work: Work) -> None:
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        self.piece: Piece | None = None
        self.rows = 0
        """So many of its piece are done."""
        self.process: SpawnProcess = context.Process(target=_live, args=(theirs, work), daemon=True)
        self.process.start()
        theirs.close()  # only so is the end of the process the end of the connection

    def give(self, piece: Piece) -> None:
        """Give it a piece; that it was killed meanwhile is seen when it is waited for."""
        self.piece = piece
        self.rows = 0
        with suppress(BrokenPipeError):
            self.connection.send(piece)

    def end(self) -> None:
        """End it, whatever it does."""
        self.connection.close()
        self.process.terminate()
        self.process.join(_PATIENCE_SECONDS)
        if self.process.is_alive():
            self.process.kill()
            self.process.join()


def _of_killed(worker: _Worker, killed: set[int]) -> Piece:
    """Return the piece of a worker that was killed, for another one."""
    worker.process.join()
    piece = worker.piece
    assert piece is not None  # noqa: S101 - for mypy: only those who have one are waited for
    if piece.number in killed:
        code = worker.process.exitcode or 0
        how = f"by signal {-code}" if code < 0 else f"with exit code {code}"
        raise DataError(
            f"Two processes ended {how} at row {piece.before + 1:,} of {piece.file.name} and the "
            "next ones: is there enough memory? The same command goes on where it stopped."
        )
    killed.add(piece.number)
    return piece


def _live(connection: Connection, work: Work) -> None:
    """Do one piece after the other, until nobody gives one."""
    # Ctrl-C reaches all processes of a terminal; the first one ends the others.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    pa.set_cpu_count(1)

    def told(rows: int) -> None:
        connection.send((_ROWS, rows))

    with suppress(EOFError, BrokenPipeError, ConnectionResetError):
        while True:
            piece = connection.recv()
            try:
                connection.send((_DONE, work.do(piece, told)))
            except (BrokenPipeError, ConnectionResetError):
                raise
            except Exception as error:  # noqa: BLE001 - it is raised where somebody sees it
                connection.send((_FAILED, error))
