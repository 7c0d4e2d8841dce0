"""One account: API client, ledger scope, uploads, slots, polling schedules."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Callable
from typing import Any, TypeVar

from ..api.endpoints import Api
from ..api.policy import Concurrency, RetryPolicy
from ..api.polling import PollSchedule, ServiceClock
from ..api.retry import RetryingClient
from ..config import Config
from ..errors import Charged, LedgerError, NotFoundError
from ..http.transport import Transport
from ..ledger.ledger import OrderState
from ..threads import Threads
from .fleet import FleetSlots
from .order import Workspace
from .slots import Slots
from .uploads import Uploader

T = TypeVar("T")

MAX_DOWNLOADS = 8
"""Concurrent downloads; bounds the memory that result hosts can fill."""


class Account:
    """One API key at one base URL. Lives in the engine's loop."""

    def __init__(self, config: Config, state: Workspace, slots: Slots, threads: Threads) -> None:
        self.config = config
        self.state, self.ledger, self.store = state, state.ledger, state.store
        self.threads = threads
        places = state.ledger.places
        self.slots: Slots | FleetSlots = slots
        if places is not None:
            self.slots = FleetSlots(slots, places, self.scope, self.disk)
        self.concurrency: Concurrency = self.slots.concurrency
        self.transport = self._make_transport()
        self.retry = self._make_retry_policy()
        self.api = Api(RetryingClient(self.transport, self.retry, self.concurrency))
        self.references = Uploader(
            self.api, state, self.scope, self.disk, self.storage, confirm_age_s=config.upload_confirm_age_s
        )
        self.downloads = asyncio.Semaphore(MAX_DOWNLOADS)
        self.clock = ServiceClock()
        self.unknown_tasks: set[str] = set()
        """Tasks that the service answered with 404 in this process."""
        self._scope: str | None = None
        self._scope_lock = asyncio.Lock()
        self._schedules: dict[tuple[str, str], tuple[float, PollSchedule]] = {}

    def _make_transport(self) -> Transport:
        config = self.config
        return Transport(
            config.base_url, config.require_key(), allowed_networks=config.allowed_result_networks
        )

    def _make_retry_policy(self) -> RetryPolicy:
        return RetryPolicy(budget_s=self.config.retry_budget_s)

    async def disk(self, work: Callable[..., T], *args: Any, **options: Any) -> T:
        return await self.threads.disk(work, *args, **options)

    async def storage(self, work: Callable[..., T], *args: Any, **options: Any) -> T:
        """Run a result store call; a remote store has its own threads, so that it cannot delay the ledger."""
        run = self.threads.remote if self.store.remote else self.threads.disk
        return await run(work, *args, **options)

    @property
    def own_scope(self) -> str:
        """The scope of a key that joins no other: SHA-256 over origin and key hash."""
        return hashlib.sha256(f"{self.config.base_url}\n{self.config.key_hash}".encode()).hexdigest()

    async def scope(self) -> str:
        """The account's scope in the ledger, found or joined on first use.

        Raises:
            RivyaError: the key is new, and the service does not tell whether it belongs to a known account.
        """
        if self._scope is None:
            async with self._scope_lock:
                if self._scope is None:
                    self._scope = await self._find_scope()
        return self._scope

    async def store_scope(self) -> str:
        """`scope`, or `own_scope` if the ledger fails: reading the result store needs no ledger."""
        try:
            return await self.scope()
        except LedgerError:
            return self.own_scope

    async def _find_scope(self) -> str:
        origin, key_hash = self.config.base_url, self.config.key_hash
        known = await self.disk(self.ledger.find_scope, origin, key_hash)
        if known is not None and not await self.disk(self.ledger.is_empty, known):
            return known
        # A key without orders may have founded a scope before another key of its account ordered.
        scope = known or self.own_scope
        for candidate, newest_task in await self.disk(self.ledger.scopes, origin):
            if newest_task is not None and await self._can_read(newest_task):
                scope = candidate
                break
        await self.disk(self.ledger.join_scope, origin, key_hash, scope)
        return scope

    async def _can_read(self, task_id: str) -> bool:
        """Whether the key can read this task, so that it is of the same account."""
        try:
            await self.api.retrieve_generation(task_id)
        except NotFoundError:
            return False
        return True

    def would_cost(self, scope: str, fingerprint: str) -> bool:
        """Whether running this order now would cost credits: it is neither stored nor accepted. Blocks."""
        if self.store.get(scope, fingerprint) is not None:
            return False
        row = self.ledger.newest(scope, fingerprint)
        if row is None or row.state in (OrderState.FORGOTTEN, OrderState.PREPARED, OrderState.UNKNOWN):
            return True
        return row.state is OrderState.FAILED and row.charged == Charged.NO.value

    async def schedule(self, model: str, mode: str) -> PollSchedule:
        """The polling schedule for this kind of order, relearned at most once a second."""
        learned_at, schedule = self._schedules.get((model, mode), (float("-inf"), None))
        if schedule is None or time.monotonic() - learned_at > 1.0:
            scope = await self.scope()
            schedule = await self.disk(
                lambda: PollSchedule.learn(self.ledger.durations(scope, model, mode)[::-1])
            )
            self._schedules[(model, mode)] = (time.monotonic(), schedule)
        return schedule
