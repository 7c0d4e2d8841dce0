"""The life of one order, resumed from any state.

    result store has it?   yes -> done, no request, no credits
    ledger has it open?    yes -> resume at its state
    prepared    (row with idempotency key and exact body, committed before the first byte is sent)
    submitted   (task ID, committed before the first poll)
    succeeded   (result URLs, committed before the first download)
    stored      (verified as pictures, in place on disk)
    failed      (the service said so; the next run is a new attempt with a new key)
    unknown     (may be charged; the next run repeats key and bytes, never a new key)

A refusal proves "not charged" only if no earlier send of that key has an unknown outcome; *prepared* after a restart
counts as sent. An error while polling or downloading ends the run, never the order.

`submit` holds what can cost credits, `collect` what follows acceptance.
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
"""Interval, in seconds, of checks on an order that another living process holds."""

_SHARED_CHECK_S = 1.0
"""The same for a shared ledger, plus up to as much at random: hundreds may wait at once."""


class OrderRun:
    """Takes one order from its state to stored pictures.

    Runs in the engine's loop, one run per order at a time (see the registry). Without an `Order` in the context, it
    only follows what the service accepted, and sends nothing that can cost.
    """

    def __init__(self, context: OrderContext, find_account: Callable[[], Awaitable[Account]]) -> None:
        self._context = context
        self._find_account = find_account

    @property
    def _account(self) -> Account:
        return self._context.account

    async def run(self) -> Finished:
        """Take the order to its pictures.

        Raises:
            RivyaError: with the order's cost, added here if unknown where it was raised; nothing above changes it.
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
        """Release the row. A ledger error here must not replace the run's result."""
        row, self._context.row = self._context.row, None
        if row is None:
            return
        try:
            await self._account.disk(self._account.ledger.release, row.id)
        except LedgerError as error:
            log.warning("order %s: %s", self._context.fingerprint[:12], error.message)

    async def _stored(self) -> Finished | None:
        """The pictures from the result store, for no request and no cost."""
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
        """After a crash between file and ledger the row is a step behind; the file proves the step.

        Its holder may count as alive for a while longer, but has nothing left to do.
        """
        ledger = self._account.ledger
        try:
            row = await self._account.disk(ledger.newest, scope, self._context.fingerprint)
            if row is not None and row.state is OrderState.SUCCEEDED:
                await self._account.disk(ledger.stored, row.id)
        except RivyaError as error:
            log.warning("the ledger cannot be used: %s", error.message)
            return None
        return row.id if row is not None else None

    async def _through_the_ledger(self) -> Finished:
        """Take over or create the order, and continue from its state."""
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
                shared_s = _SHARED_CHECK_S * (1 + random())  # noqa: S311 - jitter, no secret
                await asyncio.sleep(shared_s if ledger.shared else _OTHERS_CHECK_S)
            waited = True

    async def _take(self, row: OrderRow) -> OrderRow | None:
        """The open row, held and read again; None if another living process holds it or it ended."""
        ledger = self._account.ledger
        self._context.row = row  # before it is taken: cancelling meanwhile must release it
        if await self._account.disk(ledger.take, row.id):
            taken = await self._account.disk(ledger.get, row.id)
            if taken is not None and taken.state not in (OrderState.FAILED, OrderState.FORGOTTEN):
                self._context.row = taken
                return taken
        return None

    async def _resume(self, row: OrderRow) -> Finished | None:
        """Continue an earlier run's order. None: another process recorded its outcome."""
        self._context.show(source="resumed", task_id=row.task_id)
        if row.state in (OrderState.PREPARED, OrderState.UNKNOWN):
            task = await Submission(self._context).repeat(row)
            return await Collection(self._context, row, task).pictures() if task is not None else None
        # Submitted, succeeded, or stored and evicted: the task ID brings the picture for free.
        self._context.committed = True
        return await Collection(self._context, row, None).pictures()


def _whole(store: ResultStore, scope: str, fingerprint: str) -> StoredResult | None:
    """The stored pictures; damaged ones count as evicted."""
    try:
        result = store.get(scope, fingerprint)
        if result is not None:
            result.check()
    except ResultGone as error:
        log.warning("a stored picture is damaged: %s", error)
        return None
    except LedgerError as error:
        # The ledger knows whether there is one. Nothing is bought while the store is unreachable.
        log.warning("%s", error.message)
        return None
    return result
