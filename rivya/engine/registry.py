"""The orders under way in one engine, and those who wait for them.

Two who want the same order share one walk of it. Whoever waits may leave at any time; an order that nobody waits for
any more is dropped if nothing of it was sent, and else goes on in the background.
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

_Key = tuple[str, str, str, str]
"""State folder, base URL, hash of the key, fingerprint: what makes two orders one walk."""


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
    """All walks of an engine.

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
        """A place among those who wait for this order; without ``order`` it is only collected. From any thread."""
        place = (str(config.home), config.base_url, config.key_hash, fingerprint)
        loop = self._loop()

        def leave(ticket: Ticket) -> None:
            loop.call_soon_threadsafe(self.leave, place, ticket, context=contextvars.Context())

        ticket = Ticket(fingerprint, leave, buys=order is not None)
        loop.call_soon_threadsafe(self._join, place, ticket, config, order, context=contextvars.Context())
        return ticket

    def _join(self, place: _Key, ticket: Ticket, config: Config, order: Order | None) -> None:
        """Wait for the walk of this order that is under way, or begin one."""
        walk = self.under_way.get(place)
        if walk is None:
            walk = self.under_way[place] = RunningOrder(OrderContext(order, ticket.fingerprint))
            run = OrderRun(walk.context, lambda: self._account(config))
            walk.task = asyncio.get_running_loop().create_task(run.run())
            walk.task.add_done_callback(lambda task: self._end(place, walk, config, task))
        walk.context.rejoin(order)
        ticket.late = walk.context.progress.task_id is not None
        walk.tickets.append(ticket)
        ticket.watch = lambda: walk.context.progress
        walk.context.when_accepted(ticket.was_accepted)

    def leave(self, place: _Key, ticket: Ticket) -> None:
        """Stop waiting. In the engine's loop."""
        walk = self.under_way.get(place)
        if walk is None or ticket not in walk.tickets:
            return
        walk.tickets.remove(ticket)
        ticket.done.set_exception(JobCancelled())
        if any(each.buys for each in walk.tickets) or (walk.tickets and not ticket.buys):
            return
        # Nobody is left, or only those who collect: for them alone nothing is bought.
        if walk.context.abandon() and walk.task is not None:
            # It stays listed until it has ended: the same order must not run twice, and whoever comes now waits.
            walk.task.cancel()
        elif not walk.tickets:
            log.info("order %s goes on in the background", ticket.fingerprint[:12])

    def _end(self, place: _Key, walk: RunningOrder, config: Config, task: asyncio.Task[Finished]) -> None:
        """Tell all who wait how it ended."""
        if self.under_way.get(place) is walk:
            del self.under_way[place]
        error = None if task.cancelled() else task.exception()
        if task.cancelled() or isinstance(error, GivenUpError):
            # It gave up because nobody waited; whoever has come since starts anew.
            for ticket in walk.tickets:
                self._join(place, ticket, config, walk.context.order if ticket.buys else None)
            return
        for ticket in walk.tickets:
            if error is not None:
                ticket.done.set_exception(detached(error))
            else:
                ticket.done.set_result(walk.finished_for(ticket, task.result()))
        if error is not None and not walk.tickets:
            log.warning(
                "order %s, in the background: %s",
                walk.context.fingerprint[:12],
                getattr(error, "message", error),
            )
