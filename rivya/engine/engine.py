"""The engine: an event loop in a daemon thread that runs orders, while callers wait.

ComfyUI runs each prompt in a new event loop and cancels what is left in it, so no paid work may live there. A caller
hands over an `Order` for a `Ticket` and may leave at any time; a submitted order is still collected into the result
store.

The thread starts on first use and never delays the process's end. Work has its own context, so that callers' context
variables do not leak in.
"""

from __future__ import annotations

import asyncio
import logging
import os
import threading
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from ..api.policy import AdaptiveLimit
from ..config import Config
from ..errors import LedgerError, costs_nothing
from ..ledger.ledger import Ledger, OrderRow
from ..ledger.opening import open_ledger
from ..orders.account import Account
from ..orders.order import Finished, Order, Reference, Workspace
from ..orders.slots import Slots
from ..orders.uploads import PackedReferences
from ..secret import Secret
from ..storage.opening import open_store
from ..threads import Threads
from .jobs import Job, Ticket
from .registry import OrderRegistry

log = logging.getLogger("rivya")

T = TypeVar("T")


class Engine:
    """Runs orders of any accounts; one per process, see `shared`."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._states_lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._threads: Threads | None = None
        self._packed = PackedReferences()
        self._accounts: dict[Config, Account] = {}
        self._slots: dict[tuple[str, str], Slots] = {}
        self._states: dict[tuple[Path, Secret | None, str], Workspace] = {}
        self._registry = OrderRegistry(self._running_loop, self.account)

    # -- for any thread -----------------------------------------------------------------------------------------------

    def start(self, work: Callable[[], Coroutine[Any, Any, T]]) -> Job[T]:
        """Run a coroutine function in the engine's loop."""
        return Job(self._running_loop(), work)

    def order(self, config: Config, orders: Sequence[Order]) -> list[Ticket]:
        """Hand over orders in sequence, a ticket each. Equal ones share one run and payment."""
        return [self._registry.ticket(config, order.fingerprint, order) for order in orders]

    def collect(self, config: Config, fingerprint: str) -> Ticket:
        """Bring an order in the ledger to its pictures. Never spends."""
        return self._registry.ticket(config, fingerprint, None)

    def reference(self, config: Config, load: Callable[[], Any], encoding: str = "auto") -> Job[Reference]:
        """Encode a picture; upload it unless that is done already.

        ``load`` returns the pixels, an uint8 array of shape (height, width, 1, 3 or 4), in a codec thread.
        """

        @costs_nothing()
        async def work() -> Reference:
            account = await self.account(config)
            reference = await account.threads.codec(self._packed.reference, load, encoding)
            upload = await account.references.known_or_new(reference)
            return replace(reference, url=upload.url)

        return self.start(work)

    def codec(self, work: Callable[..., T], *args: Any, **options: Any) -> Job[T]:
        """Run a function in a codec thread."""

        async def run() -> T:
            return await self._get_threads().codec(work, *args, **options)

        return self.start(run)

    def credits(self, config: Config) -> Job[int]:
        """Ask the service for the account's credits."""

        @costs_nothing()
        async def work() -> int:
            return await (await self.account(config)).api.credits()

        return self.start(work)

    def delivered(self, finished: Sequence[Finished]) -> Job[None]:
        """Record that pictures reached the user; they may then be evicted."""

        async def work() -> None:
            for state in list(self._states.values()):
                mine = [
                    (each.scope, each.fingerprint, each.row_id) for each in finished if each.state is state
                ]
                await self._get_threads().disk(_note_delivered, state, mine)

        return self.start(work)

    def delivered_by_others(self, config: Config, orders: Sequence[tuple[str, str, int | None]]) -> Job[None]:
        """The same for other processes' orders in this ledger: scope, fingerprint, row."""

        async def work() -> None:
            state = await self._get_threads().disk(self._state, config)
            await self._get_threads().disk(_note_delivered, state, orders)

        return self.start(work)

    def would_buy(self, config: Config, orders: Sequence[Order]) -> Job[list[Order]]:
        """The orders that would cost credits now (`Account.would_cost`), equal ones once."""

        @costs_nothing()
        async def work() -> list[Order]:
            account = await self.account(config)
            scope = await account.scope()
            unique = {order.fingerprint: order for order in orders}
            costs = await asyncio.gather(
                *(account.storage(account.would_cost, scope, each) for each in unique)
            )
            return [order for order, would in zip(unique.values(), costs, strict=True) if would]

        return self.start(work)

    def collectable(self, config: Config, task_ids: Sequence[str] = ()) -> Job[list[OrderRow]]:
        """The orders of these tasks; without any, all accepted and undelivered ones, oldest first, tasks unknown to the
        service last.

        A task missing here is read at the service and adopted; `NotFoundError` if unknown there.
        """

        async def work() -> list[OrderRow]:
            account = await self.account(config)
            scope = await account.scope()
            if not task_ids:
                open_rows = await account.disk(account.ledger.uncollected, scope)
                # An order that cannot be fetched must not block the others.
                return sorted(open_rows, key=lambda row: row.task_id in account.unknown_tasks)
            rows = []
            for task_id in dict.fromkeys(task_ids):
                row = await account.disk(account.ledger.by_task, scope, task_id)
                if row is None:
                    await account.api.retrieve_generation(task_id)
                    row = await account.disk(account.ledger.adopt, scope, task_id)
                    await account.disk(account.ledger.release, row.id)  # its collector takes it
                rows.append(row)
            return rows

        return self.start(work)

    def ledger(self, config: Config) -> Ledger:
        """The ledger of this configuration. Its methods block."""
        return self._state(config).ledger

    # -- the loop ---------------------------------------------------------------------------------------------------

    def _running_loop(self) -> asyncio.AbstractEventLoop:
        """The engine's event loop, started on first use."""
        with self._lock:
            if self._loop is None:
                ready: Future[asyncio.AbstractEventLoop] = Future()
                threading.Thread(target=_live_on, args=(ready,), name="rivya-engine", daemon=True).start()
                self._loop = ready.result()
            return self._loop

    def _get_threads(self) -> Threads:
        self._threads = self._threads or Threads()
        return self._threads

    async def account(self, config: Config) -> Account:
        """This configuration's account. In the engine's loop."""
        own = (config.base_url, config.key_hash)
        slots = self._slots.setdefault(own, Slots(AdaptiveLimit(maximum=config.max_concurrency)))
        slots.allow(config.max_concurrency)
        if config not in self._accounts:
            state = await self._get_threads().disk(self._state, config)
            self._accounts.setdefault(config, Account(config, state, slots, self._get_threads()))
        return self._accounts[config]

    def _state(self, config: Config) -> Workspace:
        """The process's ledger and result store of this configuration."""
        own = config.place
        with self._states_lock:  # not `_lock`, which is taken on event loops: this one may wait for a disk
            if own not in self._states:
                store = open_store(config)  # first: it touches nothing yet, and may lack a package
                holder, ledger = open_ledger(config)
                self._states[own] = Workspace(holder, ledger, store, config.home)
            return self._states[own]


def _live_on(ready: Future[asyncio.AbstractEventLoop]) -> None:
    """The engine's thread: a loop that never ends by itself."""

    async def forever() -> None:
        ready.set_result(asyncio.get_running_loop())
        await asyncio.get_running_loop().create_future()

    asyncio.run(forever())


def _note_delivered(state: Workspace, orders: Sequence[tuple[str, str, int | None]]) -> None:
    """A failure means one more collection; it must not withhold pictures now."""
    rows = [row_id for _, _, row_id in orders if row_id is not None]
    try:
        for scope, fingerprint, _ in orders:
            state.store.mark_delivered(scope, fingerprint)
        if rows:
            state.ledger.delivered(rows)
    except LedgerError as error:
        log.warning("%s", error.message)


_shared: Engine | None = None
_shared_by = 0
_shared_lock = threading.Lock()


def shared() -> Engine:
    """The process's engine; a forked child makes its own, as it lacks the thread."""
    global _shared, _shared_by
    with _shared_lock:
        if _shared is None or _shared_by != os.getpid():
            _shared, _shared_by = Engine(), os.getpid()
        return _shared
