"""What the steps of one order share: the order, its row in the ledger, its progress, and whether a caller waits."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from anyio import move_on_after

from ..api.polling import SHORTEST_WAIT_S
from ..errors import Charged, RivyaError
from ..ledger.ledger import OrderRow, OrderState
from .account import Account
from .order import Order, Progress
from .slots import Slot

log = logging.getLogger("rivya")


class OrderContext:
    """The state of one order under way. Lives in the engine's loop.

    Attributes:
        account: set when the run starts.
        order: None for one that is only collected.
        progress: where the order stands; other threads may read it.
        wanted: whether a caller waits that lets the order be sent.
        committed: whether something that could cost may have been sent, so that cancelling is not allowed.
        charged: what is proved of the cost of this order. An error that ends the run says this, unless it was raised
            where more is known. None: nothing, because the order is only collected and the ledger has not told yet.
        task_id: the task of the order, once the service has accepted it.
        slot: the slot that it has taken.
        row: the row that this process holds.
    """

    account: Account

    def __init__(self, order: Order | None, fingerprint: str) -> None:
        self.order = order
        self.fingerprint = fingerprint
        self.progress = Progress()
        self.wanted = True
        self.committed = False
        self.charged = None if order is None else Charged.NO
        self.task_id: str | None = None
        self._nudge = asyncio.Event()
        self._waiting_for_acceptance: list[Callable[[], object]] = []
        self.slot: Slot | None = None
        self.row: OrderRow | None = None

    def learn(self, row: OrderRow | None) -> None:
        """Take from the ledger what is proved of the cost. A prepared order counts as sent; a forgotten one as none."""
        self.task_id = None
        if row is None or row.state is OrderState.FORGOTTEN:
            self.charged = None if self.order is None else Charged.NO
        elif row.state is OrderState.FAILED:
            self.charged = Charged(row.charged)
        elif row.state in (OrderState.PREPARED, OrderState.UNKNOWN):
            self.charged = Charged.UNKNOWN
        else:
            self.accept(row.task_id)

    def accept(self, task_id: str | None) -> None:
        """Note that the service has the order: its credits are reserved or charged."""
        self.charged, self.task_id = Charged.YES, task_id

    def abandon(self) -> bool:
        """Note that no caller waits any more. True if the run may be cancelled: it has sent nothing that could cost."""
        self.wanted = False
        self.release_slot()
        return not self.committed

    def rejoin(self, order: Order | None) -> None:
        """Note that a caller waits (again). It may bring the order where the run began without one."""
        if not self.wanted:
            self._nudge.set()
        # A caller that only collects does not make it wanted again: an order that was given up is not sent for it.
        self.wanted = self.wanted or order is not None or self.order is None
        self.order = self.order or order
        if self.charged is None and order is not None:
            self.charged = Charged.NO

    async def pause(self, seconds: float) -> None:
        """Sleep between two polls. After the first second, `rejoin` of an abandoned order ends the sleep."""
        await asyncio.sleep(min(seconds, SHORTEST_WAIT_S))
        with move_on_after(max(0.0, seconds - SHORTEST_WAIT_S)):
            await self._nudge.wait()
        self._nudge.clear()

    async def take_slot(self) -> None:
        """Wait for one of the account's slots."""
        self.slot = await self.account.slots.take()

    def release_slot(self) -> None:
        """Give the slot back, if one is taken."""
        if self.slot is not None:
            self.slot.release()

    def show(self, **changes: object) -> None:
        """Publish where the order stands; one log line for each change of state."""
        before, self.progress = self.progress, self.progress.changed(trouble=None, **changes)
        if self.progress.state != before.state:
            log.info("order %s: %s%s", self.fingerprint[:12], self.progress.state, self.progress.suffix)
        if self.progress.task_id is not None:
            told, self._waiting_for_acceptance = self._waiting_for_acceptance, []
            for tell in told:
                tell()

    def when_accepted(self, tell: Callable[[], object]) -> None:
        """Call ``tell`` once the order has a task, at once if it has one."""
        if self.progress.task_id is None:
            self._waiting_for_acceptance.append(tell)
        else:
            tell()

    def show_trouble(self, error: RivyaError) -> None:
        """Publish the error that is waited out; the next `show` removes it."""
        self.progress = self.progress.changed(trouble=error.message)
