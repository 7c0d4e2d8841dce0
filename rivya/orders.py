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

Here are the decisions before and around money; what follows once the service has accepted is in `following`.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable

from anyio import move_on_after

from . import kontext
from .account import Account, Place
from .api import Task
from .errors import (
    Charged,
    ConflictError,
    Delivery,
    LedgerError,
    NotFoundError,
    RivyaError,
    ValidationError,
)
from .following import Following
from .ledger import OrderRow
from .ledger import State as Is
from .order import Finished, Order, Progress
from .pace import SHORTEST_WAIT_S
from .results import ResultGone, ResultStore, StoredResult
from .verdicts import accepted, failure_of, unknown_outcome

log = logging.getLogger("rivya")

_OTHERS_CHECK_S = 0.25
"""How often an order that another living process holds is looked at."""

_CONFLICT_PAUSE_S = 2.0
"""Pause before a repeat that was answered with 409 is made again."""


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
        self._place: Place | None = None
        self._row: OrderRow | None = None

    def abandon(self) -> bool:
        """Nobody waits any more. True where the run may simply be cancelled: it has sent nothing that could cost."""
        self.wanted = False
        self.give_place_back()
        return not self.committed

    def rejoin(self, order: Order | None) -> None:
        """Somebody waits (again), perhaps with the order where the walk began as a mere collection."""
        if not self.wanted:
            self._nudge.set()
        self.wanted = True
        self.order = self.order or order

    async def pause(self, seconds: float) -> None:
        """Sleep between two polls, at least a second; whoever comes back to wait is not kept waiting for the rest."""
        await asyncio.sleep(min(seconds, SHORTEST_WAIT_S))
        with move_on_after(max(0.0, seconds - SHORTEST_WAIT_S)):
            await self._nudge.wait()
        self._nudge.clear()

    def give_place_back(self) -> None:
        """Let the next order in; this one needs no place any more, or nobody waits for it."""
        if self._place is not None:
            self._place.give_back()

    def show(self, **changes: object) -> None:
        """Publish where the order stands; one log line for each change of state."""
        before, self.progress = self.progress, self.progress.changed(**changes)
        if self.progress.state != before.state:
            log.info("order %s: %s%s", self.fingerprint[:12], self.progress.state, self.progress.suffix)

    async def run(self) -> Finished:
        """Bring the order to its pictures, or raise what ended this run."""
        self.account = await self._find_account()
        try:
            return await self._stored() or await self._through_the_ledger()
        finally:
            self.give_place_back()
            await self._let_go()

    async def _let_go(self) -> None:
        """Let others have the row. A ledger that refuses this must not take the place of what came of the run."""
        row, self._row = self._row, None
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
            if row is not None and row.state is Is.SUCCEEDED and await self.account.disk(ledger.take, row.id):
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
            if row is None or row.state is Is.FORGOTTEN or (row.state is Is.FAILED and not waited):
                made = await self._attempt(row)
                if made is not None:
                    return await self._buy(made)
            elif row.state is Is.FAILED:
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
        self._row = row  # before it is taken, so that it is let go even if this run is cancelled meanwhile
        if await self.account.disk(ledger.take, row.id):
            taken = await self.account.disk(ledger.get, row.id)
            if taken is not None and taken.state not in (Is.FAILED, Is.FORGOTTEN):
                self._row = taken
                return taken
        return None

    async def _resume(self, row: OrderRow) -> Finished:
        """Go on with an order that an earlier run left open."""
        self.show(source="resumed", task_id=row.task_id)
        if row.state in (Is.PREPARED, Is.UNKNOWN):
            if self.order is None:
                raise unknown_outcome(
                    row, NotFoundError("Rivya never told the task id of this order."), self._window_s
                )
            await self._take_place()
            task = await self._submit(row, uncertain=True)
            return await Following(self, row, task).pictures()
        # Stored once and evicted since, or submitted, or succeeded: the task id brings the picture, for nothing.
        self.committed = True
        return await Following(self, row, None).pictures()

    async def _attempt(self, previous: OrderRow | None) -> OrderRow | None:
        """Prepare a first attempt, or the next one after a failure that cost nothing. None: another process did."""
        if previous is not None and previous.state is Is.FAILED and previous.charged != Charged.NO.value:
            raise failure_of(previous)
        if self.order is None:
            raise (
                failure_of(previous)
                if previous is not None
                else NotFoundError("The ledger has no such order.")
            )
        await self._take_place()
        row = await self._prepare(self.order, previous.attempt + 1 if previous is not None else 1)
        if row is None:
            self.give_place_back()
        return row

    @property
    def _window_s(self) -> float:
        """How long an order of unknown outcome may be repeated."""
        return self.account.config.repeat_window_s

    async def _take_place(self) -> None:
        self._place = await self.account.places.take()

    async def _prepare(self, order: Order, attempt: int, *, upload_again: bool = False) -> OrderRow | None:
        """Freeze the body and commit the row, before anything that could cost is sent. None: somebody was first."""
        account = self.account
        item = None
        if order.reference is not None:
            upload = await (account.references.again if upload_again else account.references.fresh)(
                order.reference
            )
            item = kontext.reference_item(
                url=upload.url, name=upload.name, mime=upload.mime, duration_token=upload.duration_token
            )
        scope = await account.scope()
        self.committed = True
        row, ours = await account.disk(
            account.ledger.prepare,
            scope=scope,
            fingerprint=self.fingerprint,
            attempt=attempt,
            key=kontext.idempotency_key(scope, self.fingerprint, attempt),
            body=kontext.order_body(order.identity, item, order.client_request_id),
            model=order.identity.params.model,
            mode=order.mode,
            details=order.details(),
        )
        self.committed = ours
        self._row = row if ours else None
        return self._row

    async def _buy(self, row: OrderRow) -> Finished:
        """Submit a row that this run has just prepared, then follow it."""
        self.show(source="new")
        try:
            task = await self._submit(row, uncertain=False)
        except RivyaError as error:
            if error.charged is not Charged.NO:
                raise
            if self.order is None or not await self._reference_was_rejected(error):
                await self._undo(row)
                raise
            task, row = await self._with_fresh_upload(self.order, row, error)
        return await Following(self, row, task).pictures()

    async def _undo(self, row: OrderRow) -> None:
        """Nothing was accepted, and nothing before was uncertain: the order never was.

        A row that cannot be removed counts as sent from then on, which costs no more than a repeat of the same key.
        """
        try:
            await self.account.disk(self.account.ledger.discard, row.id)
        except LedgerError as error:
            log.warning("order %s: %s", self.fingerprint[:12], error.message)
        else:
            self._row = None

    async def _with_fresh_upload(
        self, order: Order, row: OrderRow, error: RivyaError
    ) -> tuple[Task, OrderRow]:
        """Close an attempt whose reference the service does not have any more, and make one more with it uploaded."""
        log.info("order %s: the reference was rejected, uploading it again", self.fingerprint[:12])
        await self.account.disk(
            self.account.ledger.failed,
            row.id,
            error=error.as_dict(),
            charged=Charged.NO.value,
            final_credits=0,
        )
        self._row = None
        again = await self._prepare(order, row.attempt + 1, upload_again=True)
        if again is None:
            raise error
        try:
            return await self._submit(again, uncertain=False), again
        except RivyaError as second:
            if second.charged is Charged.NO:
                await self._undo(again)
            raise

    async def _reference_was_rejected(self, error: RivyaError) -> bool:
        """Whether a refusal was about the reference, by the service's own word: its message, or the file being gone."""
        order = self.order
        if (
            order is None
            or order.reference is None
            or not isinstance(error, (ValidationError, NotFoundError))
        ):
            return False
        if "referencemediaitems" in error.message.lower():
            return True
        try:
            return await self.account.references.is_gone(order.reference)
        except RivyaError:
            return False

    async def _submit(self, row: OrderRow, uncertain: bool) -> Task:
        """Send the frozen bytes under their key until there is a task id, and commit it.

        ``uncertain``: an earlier send may have been carried out. Raises with ``charged`` NO where it is certain that
        none was (the caller decides what becomes of the row), with UNKNOWN after noting that in the ledger.
        """
        account = self.account
        if uncertain and time.time() - row.created_at > account.config.repeat_window_s:
            raise unknown_outcome(
                row,
                ConflictError("The outcome of this order is not known, and it is too old to repeat."),
                self._window_s,
            )
        if row.body is None:
            raise LedgerError("The ledger has lost the body of this order.", charged=_charged(uncertain))
        self.committed = True
        self.show(state="sending")
        patience = _Patience(0.0 if _waited_before(row) else account.config.conflict_wait_s)
        while True:
            if not self.wanted:
                raise RivyaError("The run was cancelled.", code="cancelled", charged=_charged(uncertain))
            try:
                task = await account.api.create_generation(row.body, row.key, wanted=lambda: self.wanted)
                break
            except RivyaError as error:
                uncertain = uncertain or error.delivery is Delivery.UNKNOWN
                in_flight = isinstance(error, ConflictError)
                if in_flight and uncertain and patience.left():
                    await asyncio.sleep(_CONFLICT_PAUSE_S)
                elif in_flight or uncertain:
                    raise await self._note_as_unknown(row, error) from None
                else:
                    error.charged = Charged.NO
                    raise
        account.places.admit()
        await self._note_as_submitted(row, task)
        return task

    async def _note_as_submitted(self, row: OrderRow, task: Task) -> None:
        try:
            await self.account.disk(
                self.account.ledger.submitted,
                row.id,
                task_id=task.id,
                reserved_credits=task.reserved_credits,
                request_id=task.request_id,
            )
        except LedgerError as error:
            log.error("order %s: task %s could not be noted", self.fingerprint[:12], task.id)
            raise accepted(error, task.id) from None

    async def _note_as_unknown(self, row: OrderRow, error: RivyaError) -> RivyaError:
        """The error to raise. Where it cannot be noted the row stays *prepared*, which counts as sent as well."""
        unknown = unknown_outcome(row, error, self._window_s)
        try:
            await self.account.disk(
                self.account.ledger.unknown,
                row.id,
                error=unknown.as_dict(),
                request_id=unknown.request_id,
            )
        except LedgerError as trouble:
            log.warning("order %s: %s", self.fingerprint[:12], trouble.message)
        return unknown


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


class _Patience:
    """How long a 409 on a repeat is taken for "the first one is still in flight", from the first 409 on."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._since: float | None = None

    def left(self) -> bool:
        now = time.monotonic()
        self._since = now if self._since is None else self._since
        return now - self._since < self._seconds


def _waited_before(row: OrderRow) -> bool:
    """Whether an earlier run has already waited for a 409 on this order to turn into an answer."""
    return row.state is Is.UNKNOWN and (row.error or {}).get("code") == "idempotency_conflict"


def _charged(uncertain: bool) -> Charged:
    return Charged.UNKNOWN if uncertain else Charged.NO
