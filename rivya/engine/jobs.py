"""Handles that the engine returns: a `Job` for work, a `Ticket` for an order."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from dataclasses import replace
from functools import partial
from typing import Any, Generic, TypeVar

from ..errors import detached
from ..orders.order import Finished, Progress

T = TypeVar("T")


class JobCancelled(Exception):
    """The work was stopped, or the waiting caller left."""


def unstoppable() -> Future[Any]:
    """A future that refuses ``cancel()``: one cancelled caller must not take the result from others."""
    future: Future[Any] = Future()
    future.set_running_or_notify_cancel()
    return future


class Job(Generic[T]):
    """Work in the engine's loop. `cancel` stops the work; ``done`` itself cannot be cancelled."""

    def __init__(self, loop: asyncio.AbstractEventLoop, work: Callable[[], Coroutine[Any, Any, T]]) -> None:
        self.done: Future[T] = unstoppable()
        self._loop = loop
        self._work = work
        self._task: asyncio.Task[T] | None = None
        loop.call_soon_threadsafe(self._start, context=contextvars.Context())

    def cancel(self) -> None:
        self._loop.call_soon_threadsafe(self._cancel, context=contextvars.Context())

    def result(self, timeout_s: float | None = None) -> T:
        """Block until the work ends; not in the engine's loop."""
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
    """One caller's wait for an order. Thread-safe.

    Attributes:
        accepted: resolved once the order has a task or has ended.
        was_accepted: resolves it. Called in the engine's loop.
        buys: whether the order may be sent for this caller; else it is only collected.
        late: the order was accepted before this caller joined.
    """

    def __init__(self, fingerprint: str, leave: Callable[[Ticket], None], *, buys: bool = True) -> None:
        self.fingerprint = fingerprint
        self.buys = buys
        self.done: Future[Finished] = unstoppable()
        self.accepted: Future[None] = unstoppable()
        # No callback holds the ticket: a cycle keeps 8 kB an order until Python's collector looks.
        self.was_accepted = was_accepted = partial(_accept, self.accepted)
        self.done.add_done_callback(lambda done: was_accepted())
        self.watch: Callable[[], Progress] = Progress
        self.late = False
        self._leave = leave

    @property
    def progress(self) -> Progress:
        told = self.watch()
        return replace(told, source="resumed") if self.late and told.source == "new" else told

    def leave(self) -> None:
        """Stop waiting. If no other caller waits, an unsent order is dropped; a submitted one continues."""
        self._leave(self)

    def result(self, timeout_s: float | None = None) -> Finished:
        """Block until the order ends; not in the engine's loop."""
        return self.done.result(timeout_s)


def _accept(accepted: Future[None]) -> None:
    if not accepted.done():
        accepted.set_result(None)
