"""Runs the rows of any iterable, a window of them at once, and gives their outcomes as they end.

A thread of its own reads the rows, so that a slow iterable holds up no outcome. Each row is a task in the engine's
loop, see `row_run`. Three bounds keep the memory flat, however many rows there are: rows under way or not taken yet
(the window), rows on their way to the service (ahead), and bytes of packed pictures.
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
"""How long an outcome is waited for at a time: a wait without end takes no Ctrl-C on Windows."""


class RowTask(Protocol):
    """The work on one row in the engine's loop; it tells the outcome of each variation, or raises for all the others.

    Attributes:
        untold: variations whose outcome has not been told; 0 alone until the row has been read.
    """

    untold: set[int]

    async def run(self, given: Any, accepted: Callable[[], object]) -> None:
        """Run the row. ``accepted`` is called when its picture is at the service, or is not needed there."""
        ...


class _RowEnded:
    """All outcomes of a row have been told."""


class _AllRead:
    """The rows have ended, after ``rows`` of them, perhaps by an error of the iterable."""

    def __init__(self, rows: int, error: BaseException | None) -> None:
        self.rows, self.error = rows, error


class Stream(Generic[T]):
    """One pass over the rows. It is iterated once; closing the iterator stops the buying.

    Args:
        rows: any iterable, also an endless one. It is read in a thread of the stream's own.
        begin: makes the task of a row. Its argument is called with a variation and its outcome, as each ends.
        at_once: orders that the account may have under way.
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
        """Row and outcome of each order as it ends. An error of the iterable itself is raised after all of them."""
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
        """Order nothing more. What was accepted goes on in the background and is stored."""
        with self._lock:
            self._stopped = True
            jobs = list(self._jobs.values())
        for job in jobs:
            job.cancel()
        # The thread that reads the rows may be waiting for its turn; it then sees that it is over.
        self._window.release()
        self._ahead.release()

    def _read_rows(self) -> None:
        """Begin each row as soon as the bounds allow it. In a thread of its own."""
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
        """One row in the engine's loop. A fault of the program ends this row alone."""
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
    """What a row that ended by an error is to its orders."""
    if isinstance(error, RivyaError):
        return error.about()
    log.error("a row of a bulk job", exc_info=error)
    fault = f"This picture ended by a fault of the program: {type(error).__name__}."
    return RivyaError(fault, code="internal_error", charged=Charged.UNKNOWN)
