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
from random import random

from ..errors import LedgerError, RivyaError
from ..ledger.ledger import OrderRow, OrderState
from ..storage.results import ResultGone, ResultStore, StoredResult
from .account import Account
from .collect import Collection
from .context import OrderContext
from .messages import failure_of
from .order import Finished
from .submit import Submission

log = logging.getLogger("rivya")

_OTHERS_CHECK_S = 0.25
"""How often an order that another living process holds is looked at, in seconds."""

_SHARED_CHECK_S = 1.0
"""The same in a ledger of many hosts, and up to this much longer at random: hundreds may wait at once."""


class OrderRun:
    """Takes one order from where it stands to its stored pictures.

    Runs in the engine's loop; the registry sees to it that an order has one run at a time. A context without an
    `Order` is only collected: what the service accepted is followed, and nothing that could cost is sent.
    """

    def __init__(self, context: OrderContext, find_account: Callable[[], Awaitable[Account]]) -> None:
        self._context = context
        self._find_account = find_account

    @property
    def _account(self) -> Account:
        return self._context.account

    async def run(self) -> Finished:
        """Bring the order to its pictures, or raise what ended this run.

        Raises:
            RivyaError: it says what the order cost. Where the code that raised it could not know, this is the place
                where that is added; nothing above changes it.
        """
        context = self._context
        try:
            context.account = await self._find_account()
            try:
                return await self._stored() or await self._through_the_ledger()
            finally:
                context.release_slot()
                await self._let_go()
        except RivyaError as error:
            if error.charged is not None:
                raise
            raise error.about(charged=context.charged, task_id=error.task_id or context.task_id) from None

    async def _let_go(self) -> None:
        """Let others have the row. A ledger that refuses this must not take the place of what came of the run."""
        row, self._context.row = self._context.row, None
        if row is None:
            return
        try:
            await self._account.disk(self._account.ledger.release, row.id)
        except LedgerError as error:
            log.warning("order %s: %s", self._context.fingerprint[:12], error.message)

    async def _stored(self) -> Finished | None:
        """The pictures from the result store; then nothing is asked and nothing is paid."""
        scope = await self._account.store_scope()
        result = await self._account.storage(_whole, self._account.store, scope, self._context.fingerprint)
        if result is None:
            return None
        row_id = await self._note_as_stored(scope)
        self._context.show(
            state="done",
            source=self._context.progress.source or "stored",
            task_id=result.about.get("task_id"),
        )
        return Finished(self._account.state, scope, self._context.fingerprint, row_id, result, "stored")

    async def _note_as_stored(self, scope: str) -> int | None:
        """A crash between the file and the ledger leaves the row one step behind; the file proves the step."""
        ledger = self._account.ledger
        try:
            row = await self._account.disk(ledger.newest, scope, self._context.fingerprint)
            if (
                row is not None
                and row.state is OrderState.SUCCEEDED
                and await self._account.disk(ledger.take, row.id)
            ):
                await self._account.disk(ledger.stored, row.id)
        except RivyaError as error:
            log.warning("the ledger cannot be used: %s", error.message)
            return None
        return row.id if row is not None else None

    async def _through_the_ledger(self) -> Finished:
        """Take the order over or make it, and go on from where it stands."""
        ledger, scope = self._account.ledger, await self._account.scope()
        waited = False
        while True:
            row = await self._account.disk(ledger.newest, scope, self._context.fingerprint)
            self._context.learn(row)
            if (
                row is None
                or row.state is OrderState.FORGOTTEN
                or (row.state is OrderState.FAILED and not waited)
            ):
                bought = await Submission(self._context).attempt(row)
                if bought is not None:
                    return await Collection(self._context, *bought).pictures()
            elif row.state is OrderState.FAILED:
                raise failure_of(row)
            elif (taken := await self._take(row)) is not None:
                finished = await self._stored() or await self._resume(taken)
                if finished is not None:
                    return finished
            else:
                since = self._context.progress.since
                if row.task_id and since is None:
                    since = time.monotonic()
                self._context.show(state="running", source="resumed", task_id=row.task_id, since=since)
                shared_s = _SHARED_CHECK_S * (1 + random())  # noqa: S311 - spreads, and need not be secret
                await asyncio.sleep(shared_s if ledger.shared else _OTHERS_CHECK_S)
            waited = True

    async def _take(self, row: OrderRow) -> OrderRow | None:
        """The open row as ours, as it stands now; None while another living process has it, or where it has ended."""
        ledger = self._account.ledger
        self._context.row = (
            row  # before it is taken, so that it is let go even if this run is cancelled meanwhile
        )
        if await self._account.disk(ledger.take, row.id):
            taken = await self._account.disk(ledger.get, row.id)
            if taken is not None and taken.state not in (OrderState.FAILED, OrderState.FORGOTTEN):
                self._context.row = taken
                return taken
        return None

    async def _resume(self, row: OrderRow) -> Finished | None:
        """Go on with an order that an earlier run left open. None: another process has noted what became of it."""
        self._context.show(source="resumed", task_id=row.task_id)
        if row.state in (OrderState.PREPARED, OrderState.UNKNOWN):
            task = await Submission(self._context).repeat(row)
            return await Collection(self._context, row, task).pictures() if task is not None else None
        # Stored once and evicted since, or submitted, or succeeded: the task id brings the picture, for nothing.
        self._context.committed = True
        return await Collection(self._context, row, None).pictures()


def _whole(store: ResultStore, scope: str, fingerprint: str) -> StoredResult | None:
    """The stored pictures, if all of their bytes are there; damaged ones are fetched again like evicted ones."""
    try:
        result = store.get(scope, fingerprint)
        if result is not None:
            result.check()
    except ResultGone as error:
        log.warning("a stored picture is damaged: %s", error)
        return None
    except LedgerError as error:
        # The ledger knows whether there is one. Nothing is bought while the store cannot be reached.
        log.warning("%s", error.message)
        return None
    return result
