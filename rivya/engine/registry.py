"""The running orders of an engine and the callers that wait for them.

Callers of the same order share one run and may leave any time. A run without callers is cancelled if it sent nothing
that can cost, else it continues.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
from collections.abc import Awaitable, Callable
from dataclasses import replace

from ..config import Config
from ..errors import GivenUpError, detached
from ..orders.account import Account
from ..orders.context import OrderContext
from ..orders.order import Finished, Order
from ..orders.run import OrderRun
from .jobs import JobCancelled, Ticket

log = logging.getLogger("rivya")

_Key = tuple[object, str, str, str]
"""Ledger and result store, base URL, key hash, fingerprint: equal keys share a run."""


class RunningOrder:
    """A running order and its tickets. Lives in the engine's loop."""

    def __init__(self, context: OrderContext) -> None:
        self.context = context
        self.tickets: list[Ticket] = []
        self.task: asyncio.Task[Finished] | None = None

    def finished_for(self, ticket: Ticket, finished: Finished) -> Finished:
        """A new picture is "new" to the first caller that joined before acceptance; the others share it."""
        buyer = next((each for each in self.tickets if not each.late), None)
        return (
            finished if finished.source != "new" or ticket is buyer else replace(finished, source="resumed")
        )


class OrderRegistry:
    """All running orders of an engine.

    Args:
        loop: returns the engine's running loop.
        account: returns a configuration's account, in that loop.
    """

    def __init__(
        self, loop: Callable[[], asyncio.AbstractEventLoop], account: Callable[[Config], Awaitable[Account]]
    ) -> None:
        self._loop = loop
        self._account = account
        self.under_way: dict[_Key, RunningOrder] = {}

    def ticket(self, config: Config, fingerprint: str, order: Order | None) -> Ticket:
        """A ticket that waits for this order; without ``order`` it is only collected. Thread-safe."""
        key = (config.place, config.base_url, config.key_hash, fingerprint)
        loop = self._loop()

        def leave(ticket: Ticket) -> None:
            loop.call_soon_threadsafe(self.leave, key, ticket, context=contextvars.Context())

        ticket = Ticket(fingerprint, leave, buys=order is not None)
        loop.call_soon_threadsafe(self._join, key, ticket, config, order, context=contextvars.Context())
        return ticket

    def _join(self, key: _Key, ticket: Ticket, config: Config, order: Order | None) -> None:
        """Join the run of this order, or start one."""
        running = self.under_way.get(key)
        if running is None:
            running = self.under_way[key] = RunningOrder(OrderContext(order, ticket.fingerprint))
            run = OrderRun(running.context, lambda: self._account(config))
            running.task = asyncio.get_running_loop().create_task(run.run())
            running.task.add_done_callback(lambda task: self._end(key, running, config, task))
        context = running.context
        context.rejoin(order)
        ticket.late = context.progress.task_id is not None
        running.tickets.append(ticket)
        ticket.watch = lambda: context.progress
        context.when_accepted(ticket.was_accepted)

    def leave(self, key: _Key, ticket: Ticket) -> None:
        """Stop waiting. In the engine's loop."""
        running = self.under_way.get(key)
        if running is None or ticket not in running.tickets:
            return
        running.tickets.remove(ticket)
        ticket.done.set_exception(JobCancelled())
        if any(each.buys for each in running.tickets) or (running.tickets and not ticket.buys):
            return
        # No caller is left, or only collecting ones; nothing is bought for those.
        if running.context.abandon() and running.task is not None:
            # Listed until it ends: the order must not run twice, and new callers wait.
            running.task.cancel()
        elif not running.tickets:
            log.info("order %s goes on in the background", ticket.fingerprint[:12])

    def _end(self, key: _Key, running: RunningOrder, config: Config, task: asyncio.Task[Finished]) -> None:
        """Resolve the tickets."""
        if self.under_way.get(key) is running:
            del self.under_way[key]
        error = None if task.cancelled() else task.exception()
        if task.cancelled() or isinstance(error, GivenUpError):
            # Given up without a caller; those that joined since start anew.
            for ticket in running.tickets:
                self._join(key, ticket, config, running.context.order if ticket.buys else None)
            return
        for ticket in running.tickets:
            if error is not None:
                ticket.done.set_exception(detached(error))
            else:
                ticket.done.set_result(running.finished_for(ticket, task.result()))
        if error is not None and not running.tickets:
            log.warning(
                "order %s, in the background: %s",
                running.context.fingerprint[:12],
                getattr(error, "message", error),
            )
