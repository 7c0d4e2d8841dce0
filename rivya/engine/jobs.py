"""What the engine hands out: a `Job` for a piece of work, a `Ticket` for waiting for an order."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from dataclasses import replace
from typing import Any, Generic, TypeVar

from ..errors import detached
from ..orders.order import Finished, Progress

T = TypeVar("T")


class JobCancelled(Exception):
    """The work was stopped before its end, or its waiter left."""


def unstoppable() -> Future[Any]:
    """A future that refuses ``cancel()``: a cancelled waiter cannot take the result away from the others."""
    future: Future[Any] = Future()
    future.set_running_or_notify_cancel()
    return future


class Job(Generic[T]):
    """Work in the engine's loop. ``done`` cannot be cancelled; `cancel` stops the work itself."""

    def __init__(self, loop: asyncio.AbstractEventLoop, work: Callable[[], Coroutine[Any, Any, T]]) -> None:
        self.done: Future[T] = unstoppable()
        self._loop = loop
        self._work = work
        self._task: asyncio.Task[T] | None = None
        loop.call_soon_threadsafe(self._start, context=contextvars.Context())

    def cancel(self) -> None:
        """Stop the work, if it has not ended; ``done`` then raises `JobCancelled`."""
        self._loop.call_soon_threadsafe(self._cancel, context=contextvars.Context())

    def result(self, timeout_s: float | None = None) -> T:
        """Block until the work has ended. Not for the engine's own loop."""
        return self.done.result(timeout_s)

    def _start(self) -> None:
        self._task = self._loop.create_task(self._work())
        self._task.add_done_callback(self._finish)

    def _cancel(self) -> None:
        if self._task is not None:
            self._task.cancel()

    def _finish(self, task: asyncio.Task[T]) -> None:
        if task.cancelled():
            self.done.set_exception(JobCancelled())
        elif (error := task.exception()) is not None:
            self.done.set_exception(detached(error))
        else:
            self.done.set_result(task.result())


class Ticket:
    """One who waits for one order; usable from any thread.

    Attributes:
        accepted: resolved once the service has a task for the order, or the order has ended.
        buys: whether the order may be sent for this one; else it only collects.
        late: the order had been accepted before this one came.
    """

    def __init__(self, fingerprint: str, leave: Callable[[Ticket], None], *, buys: bool = True) -> None:
        self.fingerprint = fingerprint
        self.buys = buys
        self.done: Future[Finished] = unstoppable()
        self.accepted: Future[None] = unstoppable()
        self.done.add_done_callback(lambda done: self.was_accepted())
        self.watch: Callable[[], Progress] = Progress
        self.late = False
        self._leave = leave

    @property
    def progress(self) -> Progress:
        """Where the order stands now."""
        told = self.watch()
        return replace(told, source="resumed") if self.late and told.source == "new" else told

    def was_accepted(self) -> None:
        """Resolve ``accepted``. In the engine's loop."""
        if not self.accepted.done():
            self.accepted.set_result(None)

    def leave(self) -> None:
        """Stop waiting. An order that was not submitted is dropped if nobody else waits; one that was goes on."""
        self._leave(self)

    def result(self, timeout_s: float | None = None) -> Finished:
        """Block until the order has ended. Not for the engine's own loop."""
        return self.done.result(timeout_s)
