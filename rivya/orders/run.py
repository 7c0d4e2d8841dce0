"""The life of one order, from prepared to stored; it resumes from any state in which it was left.

    result store has it?   yes -> done, no request, no credits
    ledger has it open?    yes -> resume at its state
    prepared    (row with idempotency key and the exact body, committed before the first byte is sent)
    submitted   (task id, committed before the first poll)
    succeeded   (result URLs, committed before the first download)
    stored      (verified as pictures, in place on disk)
    failed      (the service said so; the next run is a new attempt with a new key)
    unknown     (it may have been charged; the next run repeats the same key and bytes, never a new key)

A refusal proves "not charged" only while no earlier send of that key has an unknown outcome; an order found *prepared*
after a restart counts as sent. An error while polling or downloading ends the run, never the order.

Here are the steps from state to state. What can cost credits is in `submit`, what follows once the service has accepted
the order is in `collect`.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable

from anyio import move_on_after

from ..api.polling import SHORTEST_WAIT_S
from ..errors import LedgerError, RivyaError
from ..ledger.ledger import OrderRow, OrderState
from ..storage.results import ResultGone, ResultStore, StoredResult
from .account import Account, Slot
from .collect import Following
from .messages import failure_of
from .order import Finished, Order, Progress
from .submit import Buying

log = logging.getLogger("rivya")

_OTHERS_CHECK_S = 0.25
"""How often an order that another living process holds is looked at."""


class OrderRun:
    """One walk of one order through its life. Runs in the engine's loop; nobody else runs the same order meanwhile.

    Without an `Order` it only collects: it follows what was accepted and never sends anything that could cost.
    """

    account: Account

    def __init__(
        self, order: Order | None, fingerprint: str, find_account: Callable[[], Awaitable[Account]]
    ) -> None:
        self.order = order
        self.fingerprint = fingerprint
        self._find_account = find_account
        self.progress = Progress()
        self.wanted = True
        self.committed = False
        self._nudge = asyncio.Event()
        self.slot: Slot | None = None
        self.row: OrderRow | None = None

    def abandon(self) -> bool:
        """Nobody waits any more. True where the run may simply be cancelled: it has sent nothing that could cost."""
        self.wanted = False
        self.release_slot()
        return not self.committed

    def rejoin(self, order: Order | None) -> None:
        """Somebody waits (again), perhaps with the order where the walk began as a mere collection."""
        if not self.wanted:
            self._nudge.set()
        # One who only collects does not make it wanted again: what was given up is not sent for him.
        self.wanted = self.wanted or order is not None or self.order is None
        self.order = self.order or order

    async def pause(self, seconds: float) -> None:
        """Sleep between two polls, at least a second; whoever comes back to wait is not kept waiting for the rest."""
        await asyncio.sleep(min(seconds, SHORTEST_WAIT_S))
        with move_on_after(max(0.0, seconds - SHORTEST_WAIT_S)):
            await self._nudge.wait()
        self._nudge.clear()

    async def take_slot(self) -> None:
        """Wait until the account's bound on what runs at once lets this order in."""
        self.slot = await self.account.slots.take()

    def release_slot(self) -> None:
        """Let the next order in; this one needs no place any more, or nobody waits for it."""
        if self.slot is not None:
            self.slot.release()

    def show(self, **changes: object) -> None:
        """Publish where the order stands; one log line for each change of state."""
        before, self.progress = self.progress, self.progress.changed(trouble=None, **changes)
        if self.progress.state != before.state:
            log.info("order %s: %s%s", self.fingerprint[:12], self.progress.state, self.progress.suffix)

    def show_trouble(self, error: RivyaError) -> None:
        """Tell those who wait what is being waited out; the next change of state takes it back."""
        self.progress = self.progress.changed(trouble=error.message)

    async def run(self) -> Finished:
        """Bring the order to its pictures, or raise what ended this run."""
        self.account = await self._find_account()
        try:
            return await self._stored() or await self._through_the_ledger()
        finally:
            self.release_slot()
            await self._let_go()

    async def _let_go(self) -> None:
        """Let others have the row. A ledger that refuses this must not take the place of what came of the run."""
        row, self.row = self.row, None
        if row is None:
            return
        try:
            await self.account.disk(self.account.ledger.release, row.id)
        except LedgerError as error:
            log.warning("order %s: %s", self.fingerprint[:12], error.message)

    async def _stored(self) -> Finished | None:
        """The pictures from the result store; then nothing is asked and nothing is paid."""
        scope = await self.account.store_scope()
        result = await self.account.disk(_whole, self.account.store, scope, self.fingerprint)
        if result is None:
            return None
        row_id = await self._note_as_stored(scope)
        self.show(state="done", source=self.progress.source or "stored", task_id=result.about.get("task_id"))
        return Finished(self.account.state, scope, self.fingerprint, row_id, result, "stored")

    async def _note_as_stored(self, scope: str) -> int | None:
        """A crash between the file and the ledger leaves the row one step behind; the file proves the step."""
        ledger = self.account.ledger
        try:
            row = await self.account.disk(ledger.newest, scope, self.fingerprint)
            if (
                row is not None
                and row.state is OrderState.SUCCEEDED
                and await self.account.disk(ledger.take, row.id)
            ):
                await self.account.disk(ledger.stored, row.id)
        except RivyaError as error:
            log.warning("the ledger cannot be used: %s", error.message)
            return None
        return row.id if row is not None else None

    async def _through_the_ledger(self) -> Finished:
        """Take the order over or make it, and walk it on from where it stands."""
        ledger, scope = self.account.ledger, await self.account.scope()
        waited = False
        while True:
            row = await self.account.disk(ledger.newest, scope, self.fingerprint)
            if (
                row is None
                or row.state is OrderState.FORGOTTEN
                or (row.state is OrderState.FAILED and not waited)
            ):
                bought = await Buying(self).attempt(row)
                if bought is not None:
                    return await Following(self, *bought).pictures()
            elif row.state is OrderState.FAILED:
                raise failure_of(row)
            elif (taken := await self._take(row)) is not None:
                return await self._stored() or await self._resume(taken)
            else:
                since = (
                    time.monotonic() if row.task_id and self.progress.since is None else self.progress.since
                )
                self.show(state="running", source="resumed", task_id=row.task_id, since=since)
                await asyncio.sleep(_OTHERS_CHECK_S)
            waited = True

    async def _take(self, row: OrderRow) -> OrderRow | None:
        """The open row as ours, as it stands now; None while another living process has it, or where it has ended."""
        ledger = self.account.ledger
        self.row = row  # before it is taken, so that it is let go even if this run is cancelled meanwhile
        if await self.account.disk(ledger.take, row.id):
            taken = await self.account.disk(ledger.get, row.id)
            if taken is not None and taken.state not in (OrderState.FAILED, OrderState.FORGOTTEN):
                self.row = taken
                return taken
        return None

    async def _resume(self, row: OrderRow) -> Finished:
        """Go on with an order that an earlier run left open."""
        self.show(source="resumed", task_id=row.task_id)
        if row.state in (OrderState.PREPARED, OrderState.UNKNOWN):
            return await Following(self, row, await Buying(self).repeat(row)).pictures()
        # Stored once and evicted since, or submitted, or succeeded: the task id brings the picture, for nothing.
        self.committed = True
        return await Following(self, row, None).pictures()


def _whole(store: ResultStore, scope: str, fingerprint: str) -> StoredResult | None:
    """The stored pictures, if all of their bytes are there; damaged ones are fetched again like evicted ones."""
    result = store.get(scope, fingerprint)
    try:
        if result is not None:
            result.read()
    except ResultGone as error:
        log.warning("a stored picture is damaged: %s", error)
        return None
    return result
