"""What the steps of one order share."""

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
    """The state of one running order. Lives in the engine's loop.

    Attributes:
        account: set when the run starts.
        order: None if it is only collected.
        progress: may be read by other threads.
        wanted: whether a waiting caller allows sending the order.
        committed: whether a request that can cost may have been sent; then the run must not be cancelled.
        charged: the proved cost, for errors raised without one. None: nothing is proved, as the order is only
            collected and its row is unread.
        task_id: set once the service accepted the order.
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
        """Take the proved cost from the ledger. *Prepared* counts as sent; *forgotten* costs nothing."""
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
        """Record that the service accepted the order: credits are reserved or charged."""
        self.charged, self.task_id = Charged.YES, task_id

    def abandon(self) -> bool:
        """Record that no caller waits. True if the run may be cancelled: it sent nothing that can cost."""
        self.wanted = False
        self.release_slot()
        return not self.committed

    def rejoin(self, order: Order | None) -> None:
        """Record that a caller waits (again). It may supply the order that the run lacks."""
        if not self.wanted:
            self._nudge.set()
        # A caller that only collects must not get an abandoned order sent.
        self.wanted = self.wanted or order is not None or self.order is None
        self.order = self.order or order
        if self.charged is None and order is not None:
            self.charged = Charged.NO

    async def pause(self, seconds: float) -> None:
        """Sleep between polls. After the first second, `rejoin` of an abandoned order ends the sleep."""
        await asyncio.sleep(min(seconds, SHORTEST_WAIT_S))
        with move_on_after(max(0.0, seconds - SHORTEST_WAIT_S)):
            await self._nudge.wait()
        self._nudge.clear()

    async def take_slot(self) -> None:
        self.slot = await self.account.slots.take()

    def release_slot(self) -> None:
        if self.slot is not None:
            self.slot.release()

    def show(self, **changes: object) -> None:
        """Publish progress; log changes of state."""
        before, self.progress = self.progress, self.progress.changed(trouble=None, **changes)
        if self.progress.state != before.state:
            log.info("order %s: %s%s", self.fingerprint[:12], self.progress.state, self.progress.suffix)
        if self.progress.task_id is not None:
            told, self._waiting_for_acceptance = self._waiting_for_acceptance, []
            for tell in told:
                tell()

    def when_accepted(self, tell: Callable[[], object]) -> None:
        """Call ``tell`` when the order has a task ID, at once if it has one."""
        if self.progress.task_id is None:
            self._waiting_for_acceptance.append(tell)
        else:
            tell()

    def show_trouble(self, error: RivyaError) -> None:
        """Publish the error being retried; the next `show` clears it."""
        self.progress = self.progress.changed(trouble=error.message)
