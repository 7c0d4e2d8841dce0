"""What the steps of one order share: the order, its row in the ledger, its progress, and whether a caller waits."""

from __future__ import annotations

import asyncio
import logging

from anyio import move_on_after

from ..api.polling import SHORTEST_WAIT_S
from ..errors import RivyaError
from ..ledger.ledger import OrderRow
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
        self._nudge = asyncio.Event()
        self.slot: Slot | None = None
        self.row: OrderRow | None = None

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

    def show_trouble(self, error: RivyaError) -> None:
        """Publish the error that is waited out; the next `show` removes it."""
        self.progress = self.progress.changed(trouble=error.message)
