"""The orders under way in one engine, and those who wait for them.

Two callers who want the same order share one run of it. A caller may leave at any time. An order that no caller waits
for any more is dropped if nothing of it was sent, and else goes on in the background.
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
"""Place of ledger and pictures, base URL, hash of the key, fingerprint: what makes two orders the same run."""


class RunningOrder:
    """One order under way, and the tickets of those who wait for it. Lives in the engine's loop."""

    def __init__(self, context: OrderContext) -> None:
        self.context = context
        self.tickets: list[Ticket] = []
        self.task: asyncio.Task[Finished] | None = None

    def finished_for(self, ticket: Ticket, finished: Finished) -> Finished:
        """A new picture is new to the first who waited for it before it was bought; the others share it."""
        buyer = next((each for each in self.tickets if not each.late), None)
        return (
            finished if finished.source != "new" or ticket is buyer else replace(finished, source="resumed")
        )


class OrderRegistry:
    """All orders under way in an engine.

    Args:
        loop: gives the engine's running loop.
        account: gives the account of a configuration, in that loop.
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
        """Wait for the run of this order that is under way, or begin one."""
        running = self.under_way.get(key)
        if running is None:
            running = self.under_way[key] = RunningOrder(OrderContext(order, ticket.fingerprint))
            run = OrderRun(running.context, lambda: self._account(config))
            running.task = asyncio.get_running_loop().create_task(run.run())
            running.task.add_done_callback(lambda task: self._end(key, running, config, task))
        running.context.rejoin(order)
        ticket.late = running.context.progress.task_id is not None
        running.tickets.append(ticket)
        ticket.watch = lambda: running.context.progress
        running.context.when_accepted(ticket.was_accepted)

    def leave(self, key: _Key, ticket: Ticket) -> None:
        """Stop waiting. In the engine's loop."""
        running = self.under_way.get(key)
        if running is None or ticket not in running.tickets:
            return
        running.tickets.remove(ticket)
        ticket.done.set_exception(JobCancelled())
        if any(each.buys for each in running.tickets) or (running.tickets and not ticket.buys):
            return
        # Nobody is left, or only those who collect: for them alone nothing is bought.
        if running.context.abandon() and running.task is not None:
            # It stays listed until it has ended: the same order must not run twice, and whoever comes now waits.
            running.task.cancel()
        elif not running.tickets:
            log.info("order %s goes on in the background", ticket.fingerprint[:12])

    def _end(self, key: _Key, running: RunningOrder, config: Config, task: asyncio.Task[Finished]) -> None:
        """Tell all who wait how it ended."""
        if self.under_way.get(key) is running:
            del self.under_way[key]
        error = None if task.cancelled() else task.exception()
        if task.cancelled() or isinstance(error, GivenUpError):
            # It gave up because nobody waited; whoever has come since starts anew.
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
