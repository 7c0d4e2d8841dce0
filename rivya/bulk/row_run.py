"""One row in the engine's loop: decode, look up earlier orders, pack, upload, order, wait."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from .. import plan
from ..config import Config
from ..engine.engine import Engine
from ..engine.jobs import Ticket
from ..errors import LedgerError, RivyaError, costs_nothing
from ..orders.account import Account
from ..orders.order import Finished, Order, Reference
from ..orders.uploads import packed, unpacked
from ..plan import Wanted
from ..threads import CODECS
from .budget import Budget

T = TypeVar("T")

PACKED_BYTES = 48 * 1024**2
"""With more bytes of packed pictures in memory, packing waits until the service has accepted some."""


class _Room:
    """Counts the bytes of packed pictures in memory. Used in the engine's loop."""

    def __init__(self) -> None:
        self._held = 0
        self._freed = asyncio.Event()

    async def wait(self) -> None:
        while self._held > PACKED_BYTES:
            self._freed.clear()
            await self._freed.wait()

    def change(self, by: int) -> None:
        """Add bytes, or free them (below zero)."""
        self._held += by
        self._freed.set()


@dataclass
class Work:
    """What all rows of a job share.

    Attributes:
        read: returns what a row asks for; raises `RivyaError` if it cannot be ordered.
        load: returns a picture, or its pixels alone: uint8 (height, width, 1, 3 or 4). Called in a codec thread.
        encoding: of uploads; see `images.encode.encode`.
        timeout_s: seconds to wait for an accepted order.
        budget: limits what is spent.
    """

    engine: Engine
    config: Config
    read: Callable[[Any], Wanted]
    load: Callable[[Any], Any]
    encoding: str = "auto"
    timeout_s: float = 900.0
    budget: Budget = field(default_factory=Budget)
    room: _Room = field(default_factory=_Room)
    packing: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(CODECS))

    async def would_cost(self, account: Account, order: Order) -> bool:
        """Whether an order would cost credits now; True if the ledger cannot be read."""
        try:
            scope = await account.store_scope()
            return await account.storage(account.would_cost, scope, order.fingerprint)
        except LedgerError:
            return True


@dataclass(frozen=True)
class Priced:
    """What one order would cost now: 0 if it is stored or was accepted before."""

    fingerprint: str
    credits: int


class _RowTask(Generic[T]):
    """Base of the row tasks.

    Args:
        tell: called with each variation and its outcome, as it ends.
    """

    def __init__(self, work: Work, tell: Callable[[int, T | RivyaError], None]) -> None:
        self._work, self._told_to = work, tell
        self.untold = {0}

    def _tell(self, variation: int, outcome: T | RivyaError) -> None:
        self.untold.discard(variation)
        self._told_to(variation, outcome)


class RowCount(_RowTask[Priced]):
    """Prices the orders of a row. Sends nothing that costs."""

    async def run(self, given: Any, accepted: Callable[[], object]) -> None:
        try:
            await self._price(given)
        finally:
            accepted()

    @costs_nothing()
    async def _price(self, given: Any) -> None:
        wanted = self._work.read(given)
        self.untold = set(range(wanted.variations))
        account = await self._work.engine.account(self._work.config)
        reference = None
        if wanted.image is not None:
            async with self._work.packing:
                picture = await account.threads.codec(self._work.load, wanted.image)
                reference = await account.threads.codec(unpacked, picture) or await account.threads.codec(
                    packed, picture, self._work.encoding
                )
        for variation in range(wanted.variations):
            order = wanted.order(variation, reference)
            costs = await self._work.would_cost(account, order)
            self._tell(variation, Priced(order.fingerprint, wanted.params.credits if costs else 0))


class RowCollect(_RowTask[Finished]):
    """Collects one order of the ledger; the row is its fingerprint. Never spends."""

    async def run(self, given: Any, accepted: Callable[[], object]) -> None:
        ticket = self._work.engine.collect(self._work.config, given)
        try:
            try:
                await asyncio.wrap_future(ticket.accepted)
            finally:
                accepted()
            self._tell(0, await _ended(ticket, self._work.timeout_s))
        finally:
            ticket.leave()


class RowRun(_RowTask[Finished]):
    """Orders what a row asks for, and tells the outcome of each variation."""

    def __init__(self, work: Work, tell: Callable[[int, Finished | RivyaError], None]) -> None:
        super().__init__(work, tell)
        self._held = 0
        self._tickets: dict[int, Ticket] = {}

    async def run(self, given: Any, accepted: Callable[[], object]) -> None:
        try:
            try:
                await self._hand_over(given)
            except RivyaError as error:
                # Earlier orders are still waited for.
                for variation in sorted(self.untold - set(self._tickets)):
                    self._tell(variation, error.about())
            finally:
                accepted()
                self._work.room.change(-self._held)
            await asyncio.gather(*(self._wait(variation) for variation in self._tickets))
        finally:
            for ticket in self._tickets.values():
                ticket.leave()

    async def _hand_over(self, given: Any) -> None:
        """Order, and wait until the service has accepted the orders."""
        with costs_nothing():  # nothing is ordered yet, and uploads are free
            wanted = self._work.read(given)
            self.untold = set(range(wanted.variations))
            account = await self._work.engine.account(self._work.config)
            reference = await self._reference(account, wanted) if wanted.image is not None else None
        for variation in range(wanted.variations):
            if variation not in self._tickets:
                await self._order(account, variation, wanted.order(variation, reference))
        del reference
        await asyncio.gather(*(asyncio.wrap_future(ticket.accepted) for ticket in self._tickets.values()))

    async def _reference(self, account: Account, wanted: Wanted) -> Reference | None:
        """The uploaded picture; None if every variation was bought before."""
        codec = account.threads.codec
        async with self._work.packing:
            await self._work.room.wait()
            picture = await codec(self._work.load, wanted.image)
            plain = await codec(unpacked, picture)
            if plain is not None:
                await self._take_what_is_bought(account, wanted, plain)
                if len(self._tickets) == wanted.variations:
                    return None
            known = plain.identity if plain is not None else None
            reference = await codec(packed, picture, self._work.encoding, known)
            self._held = len(reference.data)
            self._work.room.change(self._held)
        await account.references.known_or_new(reference)
        return reference

    async def _take_what_is_bought(self, account: Account, wanted: Wanted, plain: Reference) -> None:
        """Collect earlier orders; that needs no packed picture."""
        for variation in range(wanted.variations):
            order = wanted.order(variation, plain)
            if not await self._work.would_cost(account, order):
                self._tickets[variation] = self._work.engine.collect(self._work.config, order.fingerprint)

    async def _order(self, account: Account, variation: int, order: Order) -> None:
        try:
            if self._work.budget.most is not None and await self._work.would_cost(account, order):
                self._work.budget.reserve(order)
        except RivyaError as error:
            self._tell(variation, error)
            return
        (self._tickets[variation],) = self._work.engine.order(self._work.config, [order])

    async def _wait(self, variation: int) -> None:
        ticket = self._tickets[variation]
        outcome = await _ended(ticket, self._work.timeout_s)
        if isinstance(outcome, RivyaError):
            self._work.budget.give_back(ticket.fingerprint, outcome)
        self._tell(variation, outcome)


async def _ended(ticket: Ticket, timeout_s: float) -> Finished | RivyaError:
    """The outcome of an accepted order; after a timeout it goes on at the service."""
    done = asyncio.wrap_future(ticket.done)
    # Retrieve its error even if this row is stopped first.
    done.add_done_callback(lambda ended: ended.cancelled() or ended.exception())
    await asyncio.wait({done}, timeout=timeout_s)
    return plan.outcome(ticket) if done.done() else plan.out_of_time(ticket, timeout_s)
