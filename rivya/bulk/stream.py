"""Orders the rows of any iterable, a window of them at once, and gives their outcomes as they end.

A thread of its own reads the rows, so that a slow iterable holds up no outcome. Each row is a task in the engine's
loop, see `row_run`. Three bounds keep the memory flat, however many rows there are: rows under way or not taken yet
(the window), rows on their way to the service (ahead), and bytes of packed pictures.
"""

from __future__ import annotations

import contextvars
import queue
import threading
from collections.abc import Callable, Coroutine, Iterable, Iterator
from functools import partial
from typing import Any

from ..config import Config
from ..engine.engine import Engine
from ..engine.jobs import Job
from ..errors import RivyaError
from ..orders.order import Finished
from .budget import Budget
from .row_run import RowRun, Work
from .rows import Row, Wanted

_LOOK_S = 0.5
"""How long an outcome is waited for at a time: a wait without end takes no Ctrl-C on Windows."""


class _RowEnded:
    """All outcomes of a row have been told."""


class _AllRead:
    """The rows have ended, after ``rows`` of them, perhaps by an error of the iterable."""

    def __init__(self, rows: int, error: BaseException | None) -> None:
        self.rows, self.error = rows, error


_Told = tuple[Row, "Finished | RivyaError"] | _RowEnded | _AllRead


class Stream:
    """One pass over the rows. It is iterated once; closing the iterator stops the buying.

    Args:
        rows: any iterable, also an endless one. It is read in a thread of the stream's own.
        read: gives what a row asks for; raises `RivyaError` for a row that cannot be ordered.
        load: gives the pixels of a picture, uint8 (height, width, 1, 3 or 4). Called in a codec thread.
        encoding: how pictures are packed; see `images.encode.encode`.
        timeout_s: how long an accepted order is waited for, in seconds.
        budget: what may be spent.
    """

    def __init__(
        self,
        engine: Engine,
        config: Config,
        rows: Iterable[Any],
        read: Callable[[Any], Wanted],
        load: Callable[[Any], Any],
        *,
        encoding: str = "auto",
        timeout_s: float = 900.0,
        budget: Budget | None = None,
    ) -> None:
        self._engine, self._rows, self._read = engine, rows, read
        self._work = Work(engine, config, load, encoding, timeout_s, budget or Budget(None))
        self._window = threading.Semaphore(2 * config.max_concurrency + 16)
        self._ahead = threading.Semaphore(config.max_concurrency // 2 + 4)
        self._told: queue.SimpleQueue[_Told] = queue.SimpleQueue()
        self._jobs: dict[int, Job[None]] = {}
        self._lock = threading.Lock()
        self._stopped = False

    def __iter__(self) -> Iterator[tuple[Row, Finished | RivyaError]]:
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

    def _next(self) -> _Told:
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
        """One row in the engine's loop; whatever fails is an outcome of it."""
        run = RowRun(self._work, lambda variation, outcome: self._tell(number, given, variation, outcome))
        try:
            await run.run(lambda: self._read(given), accepted=self._ahead.release)
        finally:
            with self._lock:
                del self._jobs[number]
            self._told.put(_RowEnded())

    def _tell(self, number: int, given: Any, variation: int, outcome: Finished | RivyaError) -> None:
        self._told.put((Row(number, given, variation), outcome))
