"""The steps that can cost credits: prepare, send, record what is certain.

The row with key and exact body is committed before the first byte is sent, the task ID on receipt. A repeat sends the
same key and bytes; a new key needs an attempt that provably cost nothing.
"""

from __future__ import annotations

import asyncio
import logging
import time

from .. import kontext
from ..api.endpoints import Task
from ..errors import (
    Charged,
    ConflictError,
    GivenUpError,
    LedgerError,
    NotFoundError,
    RivyaError,
    Sent,
    ValidationError,
)
from ..ledger.ledger import OrderRow, OrderState
from ..ledger.runs import Spending
from .context import OrderContext
from .messages import failure_of, ordered_with_another_key, unknown_outcome
from .order import Order

log = logging.getLogger("rivya")

_CONFLICT_PAUSE_S = 2.0
"""Pause before a repeat after a 409."""


class Submission:
    """Takes an order to its task ID."""

    def __init__(self, context: OrderContext) -> None:
        self._context = context
        self._account = context.account

    async def attempt(self, previous: OrderRow | None) -> tuple[OrderRow, Task] | None:
        """Make the first attempt, or the next after a failure without cost. None: another process does.

        Raises:
            RivyaError: no task ID; ``charged`` tells whether it may cost all the same.
        """
        order = self._context.order
        if order is None and previous is not None and previous.state is OrderState.FORGOTTEN:
            raise NotFoundError(
                "This order was forgotten here, so it is not followed any more.",
                hint="If it was carried out, its picture is in your history at rivya.ai.",
                task_id=previous.task_id,
                charged=Charged(previous.charged),
            )
        if previous is not None and (order is None or _has_cost(previous)):
            raise failure_of(previous)
        if order is None:
            raise NotFoundError("The ledger has no such order.", charged=None)
        await self._refuse_if_open_elsewhere()
        await self._context.take_slot()
        row = await self._prepare(order, previous.attempt + 1 if previous is not None else 1)
        bought = await self._buy(order, row) if row is not None else None
        if bought is None:
            self._context.release_slot()
        return bought

    async def _refuse_if_open_elsewhere(self) -> None:
        """A rotated key must not buy again what the old one may have bought."""
        account = self._account
        other = await account.disk(
            account.ledger.open_elsewhere,
            account.config.base_url,
            await account.scope(),
            self._context.fingerprint,
        )
        if other is not None:
            raise ordered_with_another_key(other, account.config.home)

    async def repeat(self, row: OrderRow) -> Task | None:
        """Repeat an order of unknown outcome to get its task ID. None: another process recorded the outcome."""
        if self._context.order is None:
            raise self._unknown_outcome(
                row, NotFoundError("Rivya never told the task id of this order.", charged=Charged.UNKNOWN)
            )
        await self._context.take_slot()
        task = await self._submit(row, uncertain=True)
        if task is None:
            self._context.release_slot()
        return task

    def _unknown_outcome(self, row: OrderRow, error: RivyaError) -> RivyaError:
        settings = self._account.config
        return unknown_outcome(row, error, settings.repeat_window_s, settings.home)

    async def _prepare(self, order: Order, attempt: int, *, upload_again: bool = False) -> OrderRow | None:
        """Freeze the body and commit the row before anything that can cost is sent. None: another process was first."""
        account = self._account
        item = None
        await account.storage(account.state.check_store)
        if order.reference is not None:
            upload = await (account.references.again if upload_again else account.references.fresh)(
                order.reference
            )
            item = kontext.reference_item(
                url=upload.url, name=upload.name, mime=upload.mime, duration_token=upload.duration_token
            )
        scope = await account.scope()
        self._context.committed = True
        row, ours = await account.disk(
            account.ledger.prepare,
            scope=scope,
            fingerprint=self._context.fingerprint,
            attempt=attempt,
            key=kontext.idempotency_key(scope, self._context.fingerprint, attempt),
            body=kontext.order_body(order.identity, item, order.client_request_id),
            model=order.identity.params.model,
            mode=order.mode,
            details=order.details(),
            spending=self._spending(order),
        )
        self._context.committed = ours
        self._context.row = row if ours else None
        return self._context.row

    def _spending(self, order: Order) -> Spending | None:
        config = self._account.config
        if not config.run:
            return None
        return Spending(config.run, order.identity.params.credits, config.max_credits_per_run)

    async def _buy(self, order: Order, row: OrderRow) -> tuple[OrderRow, Task] | None:
        """Submit the prepared row. None: another process has it or makes the next attempt."""
        self._context.show(source="new")
        try:
            task = await self._submit(row, uncertain=False)
        except RivyaError as error:
            if error.charged is not Charged.NO:
                raise
            if not await self._reference_was_rejected(order, error):
                if await self._undo(row):
                    raise
                return None
            return await self._with_fresh_upload(order, row, error)
        return None if task is None else (row, task)

    async def _undo(self, row: OrderRow) -> bool:
        """Remove the row of an order that provably was never accepted.

        If that fails, the row counts as sent, which costs only a repeat of the same key. False: another process took
        this process for dead, and may be sending the order.
        """
        try:
            if not await self._account.disk(self._account.ledger.discard, row.id):
                return False
        except LedgerError as error:
            log.warning("order %s: %s", self._context.fingerprint[:12], error.message)
        else:
            self._context.row = None
        return True

    async def _with_fresh_upload(
        self, order: Order, row: OrderRow, error: RivyaError
    ) -> tuple[OrderRow, Task] | None:
        """Close an attempt whose reference the service lost, upload it again, and make one more."""
        log.info("order %s: the reference was rejected, uploading it again", self._context.fingerprint[:12])
        try:
            await self._account.disk(
                self._account.ledger.failed,
                row.id,
                error=error.as_dict(),
                charged=Charged.NO.value,
                final_credits=0,
            )
        except LedgerError as trouble:
            if trouble.code != "ledger_conflict":
                raise
            return None  # another process may be sending it, see `_undo`
        self._context.row = None
        again = await self._prepare(order, row.attempt + 1, upload_again=True)
        if again is None:
            return None
        try:
            task = await self._submit(again, uncertain=False)
        except RivyaError as second:
            if second.charged is Charged.NO and not await self._undo(again):
                return None
            raise
        return None if task is None else (again, task)

    async def _reference_was_rejected(self, order: Order, error: RivyaError) -> bool:
        """Whether the service refused the reference, by its message or because the file is gone."""
        if order.reference is None or not isinstance(error, (ValidationError, NotFoundError)):
            return False
        if "referencemediaitems" in error.message.lower():
            return True
        try:
            return await self._account.references.is_gone(order.reference)
        except RivyaError:
            return False

    async def _submit(self, row: OrderRow, uncertain: bool) -> Task | None:
        """POST the stored body with its key until there is a task ID, and commit that.

        None: another process that sent the order has recorded its outcome. ``uncertain``: an earlier POST of this key
        may have succeeded.

        Raises:
            RivyaError: ``charged`` is NO if no POST can have succeeded (the caller decides about the row), else
                UNKNOWN (the row is then *unknown* or *prepared*).
        """
        account = self._account
        if uncertain and time.time() - row.created_at > account.config.repeat_window_s:
            raise self._unknown_outcome(
                row,
                ConflictError(
                    "The outcome of this order is not known, and it is too old to repeat.",
                    charged=Charged.UNKNOWN,
                ),
            )
        if row.body is None:
            raise LedgerError("The ledger has lost the body of this order.", charged=_charged(uncertain))
        self._context.committed = True
        self._context.show(state="sending")
        conflict_wait = _ConflictWait(0.0 if _waited_before(row) else account.config.conflict_wait_s)
        while True:
            if not self._context.wanted:
                raise GivenUpError("The run was cancelled.", charged=_charged(uncertain))
            try:
                task = await account.api.create_generation(
                    row.body,
                    row.key,
                    wanted=lambda: self._context.wanted,
                    on_trouble=self._context.show_trouble,
                )
                break
            except RivyaError as error:
                uncertain = uncertain or error.sent is Sent.MAYBE
                in_flight = isinstance(error, ConflictError)
                if not in_flight and not uncertain:
                    raise error.about(charged=Charged.NO) from None
                if await self._is_settled(row):
                    return None
                if in_flight and uncertain and conflict_wait.left():
                    await asyncio.sleep(_CONFLICT_PAUSE_S)
                    continue
                unknown = await self._note_as_unknown(row, error)
                if await self._is_settled(row):
                    return None
                raise unknown from None
        account.slots.admit()
        self._context.accept(task.id)
        if self._context.order is not None:
            self._context.order = self._context.order.without_bytes()
        await self._note_as_submitted(row, task)
        return task

    async def _is_settled(self, row: OrderRow) -> bool:
        try:
            found = await self._account.disk(self._account.ledger.get, row.id)
        except LedgerError:
            return False
        open_states = (OrderState.PREPARED, OrderState.UNKNOWN, OrderState.FORGOTTEN)
        return found is not None and found.state not in open_states

    async def _note_as_submitted(self, row: OrderRow, task: Task) -> None:
        try:
            await self._account.disk(
                self._account.ledger.submitted,
                row.id,
                task_id=task.id,
                reserved_credits=task.reserved_credits,
                request_id=task.request_id,
            )
        except LedgerError:
            log.error("order %s: task %s could not be noted", self._context.fingerprint[:12], task.id)
            raise

    async def _note_as_unknown(self, row: OrderRow, error: RivyaError) -> RivyaError:
        """Record the error and return it. If that fails, the row stays *prepared*, which counts as sent too."""
        unknown = self._unknown_outcome(row, error)
        try:
            await self._account.disk(
                self._account.ledger.unknown,
                row.id,
                error=unknown.as_dict(),
                request_id=unknown.request_id,
            )
        except LedgerError as trouble:
            log.warning("order %s: %s", self._context.fingerprint[:12], trouble.message)
        return unknown


class _ConflictWait:
    """How long a 409 to a repeat means "the first request is in flight", from the first 409 on."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._since: float | None = None

    def left(self) -> bool:
        now = time.monotonic()
        self._since = now if self._since is None else self._since
        return now - self._since < self._seconds


def _waited_before(row: OrderRow) -> bool:
    """Whether an earlier run has waited out the 409 of this order."""
    return row.state is OrderState.UNKNOWN and (row.error or {}).get("code") == "idempotency_conflict"


def _charged(uncertain: bool) -> Charged:
    return Charged.UNKNOWN if uncertain else Charged.NO


def _has_cost(row: OrderRow) -> bool:
    """Whether a failed attempt was or may have been charged; then no next one is automatic."""
    return row.state is OrderState.FAILED and row.charged != Charged.NO.value
