"""Runs the rows of an iterable, a window of them at once, and yields outcomes as they end.

A thread reads the rows, so that a slow iterable delays no outcome. Each row is a task in the engine's loop, see
`row_run`. Three bounds keep memory flat: rows not yet consumed (the window), rows not yet accepted by the service
(ahead), and bytes of packed pictures.
"""

from __future__ import annotations

import contextvars
import logging
import queue
import threading
from collections.abc import Callable, Coroutine, Generator, Iterable
from functools import partial
from typing import Any, Generic, Protocol, TypeVar

from ..edited import Row
from ..engine.engine import Engine
from ..engine.jobs import Job
from ..errors import Charged, RivyaError

log = logging.getLogger("rivya")

T = TypeVar("T")

_LOOK_S = 0.5
"""Timeout of each wait for an outcome: a wait without one ignores Ctrl-C on Windows."""


class RowTask(Protocol):
    """The work on one row in the engine's loop. It tells the outcome of each variation, or raises for all untold ones.

    Attributes:
        untold: variations without an outcome yet; {0} until the row has been read.
    """

    untold: set[int]

    async def run(self, given: Any, accepted: Callable[[], object]) -> None:
        """Run the row. ``accepted`` is called once its picture is at the service or not needed there."""
        ...


class _RowEnded:
    """All outcomes of a row have been told."""


class _AllRead:
    """The iterable has ended after ``rows`` rows, perhaps by ``error``."""

    def __init__(self, rows: int, error: BaseException | None) -> None:
        self.rows, self.error = rows, error


class Stream(Generic[T]):
    """One pass over the rows. Closing its iterator stops ordering.

    Args:
        rows: any iterable, also an endless one; read in a thread.
        begin: makes a row's task from the function that takes a variation and its outcome.
        at_once: orders that the account may have running.
    """

    def __init__(
        self,
        engine: Engine,
        rows: Iterable[Any],
        begin: Callable[[Callable[[int, T | RivyaError], None]], RowTask],
        at_once: int,
    ) -> None:
        self._engine, self._rows, self._begin = engine, rows, begin
        self._window = threading.Semaphore(2 * at_once + 16)
        self._ahead = threading.Semaphore(at_once // 2 + 4)
        self._told: queue.SimpleQueue[tuple[Row, T | RivyaError] | _RowEnded | _AllRead] = queue.SimpleQueue()
        self._jobs: dict[int, Job[None]] = {}
        self._lock = threading.Lock()
        self._stopped = False

    def __iter__(self) -> Generator[tuple[Row, T | RivyaError], None, None]:
        """Row and outcome of each order as it ends. An error of the iterable is raised after them."""
        context = contextvars.Context()
        threading.Thread(target=context.run, args=(self._read_rows,), name="rivya-rows", daemon=True).start()
        ended, all_read = 0, None
        try:
            while all_read is None or ended < all_read.rows:
                told = self._next()
                if isinstance(told, _RowEnded):
                    ended += 1
                    self._window.release()
                elif isinstance(told, _AllRead):
                    all_read = told
                else:
                    yield told
        finally:
            self._stop()
        if all_read.error is not None:
            raise all_read.error

    def _next(self) -> tuple[Row, T | RivyaError] | _RowEnded | _AllRead:
        while True:
            try:
                return self._told.get(timeout=_LOOK_S)
            except queue.Empty:
                continue

    def _stop(self) -> None:
        """Order nothing more. Accepted orders go on in the background and are stored."""
        with self._lock:
            self._stopped = True
            jobs = list(self._jobs.values())
        for job in jobs:
            job.cancel()
        # Wakes the reader thread, which then sees `_stopped`.
        self._window.release()
        self._ahead.release()

    def _read_rows(self) -> None:
        number, failure = 0, None
        try:
            for given in self._rows:
                self._window.acquire()
                self._ahead.acquire()
                with self._lock:
                    if self._stopped:
                        return
                    self._jobs[number] = self._engine.start(self._row(number, given))
                number += 1
        except BaseException as error:  # raised to the consumer of the outcomes
            failure = error
        self._told.put(_AllRead(number, failure))

    def _row(self, number: int, given: Any) -> Callable[[], Coroutine[Any, Any, None]]:
        return partial(self._run, number, given)

    async def _run(self, number: int, given: Any) -> None:
        """One row in the engine's loop. A program fault ends this row alone."""
        tell = partial(self._tell, number, given)
        task = self._begin(tell)
        try:
            await task.run(given, self._ahead.release)
        except Exception as error:
            for variation in sorted(task.untold):
                tell(variation, as_outcome(error))
        finally:
            with self._lock:
                del self._jobs[number]
            self._told.put(_RowEnded())

    def _tell(self, number: int, given: Any, variation: int, outcome: T | RivyaError) -> None:
        self._told.put((Row(number, given, variation), outcome))


def as_outcome(error: Exception) -> RivyaError:
    """The outcome for the error that ended a row."""
    if isinstance(error, RivyaError):
        return error.about()
    log.error("a row of a bulk job", exc_info=error)
    fault = f"This picture ended by a fault of the program: {type(error).__name__}."
    return RivyaError(fault, code="internal_error", charged=Charged.UNKNOWN)
