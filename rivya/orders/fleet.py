"""Slots of an account with a shared ledger: one of this process, then one of the fleet (a *place*).

Lives in the engine's loop. If the ledger fails, this process's limit alone applies.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from random import random
from typing import Any, Protocol

from ..api.policy import AdaptiveLimit
from ..errors import LedgerError
from ..ledger.places import Shared, SharedPlaces
from .slots import Slot, Slots

log = logging.getLogger("rivya")

_ASK_AGAIN_S = 0.5
"""Interval between requests of one waiter per process for a place, plus up to as much at random."""

_TELL_S = 1.0
"""Interval at which accepted orders are reported to the fleet."""


class Run(Protocol):
    """Runs a ledger call in a thread."""

    async def __call__(self, work: Callable[..., Any], *args: Any) -> Any: ...


class FleetSlots:
    """Slots of this process, each with a place in the ledger; see `slots.Slots`.

    Args:
        scope: returns the account's scope.
        disk: runs a ledger call in a thread.
    """

    def __init__(
        self, slots: Slots, places: SharedPlaces, scope: Callable[[], Awaitable[str]], disk: Run
    ) -> None:
        self._local = slots
        self._places, self._find_scope, self._disk = places, scope, disk
        self._asking = asyncio.Lock()
        self._opened = 0
        self._accepted = 0
        self._telling: asyncio.Task[None] | None = None
        self._background: set[asyncio.Task[Any]] = set()
        self.concurrency = _FleetConcurrency(slots.concurrency, self)

    async def take(self) -> Slot:
        """Wait for a slot and a place."""
        slot = await self._local.take()
        try:
            number = await self._place()
        except BaseException:
            slot.release()
            raise
        if number is None:
            return slot

        def give_back() -> None:
            self._leave(number)
            slot.release()

        return Slot(give_back)

    def admit(self) -> None:
        """See `slots.Slots.admit`."""
        self._local.admit()

    async def _place(self) -> int | None:
        """The number of a place; None if the ledger fails. One caller of the process asks at a time."""
        try:
            scope = await self._find_scope()
            async with self._asking:
                await self._open(scope)
                while (number := await self._ask(scope)) is None:  # noqa: ASYNC110 - other hosts send no event
                    await asyncio.sleep(_ASK_AGAIN_S * (1 + random()))  # noqa: S311 - jitter, no secret
                return number
        except LedgerError as error:
            log.warning("the limit of all hosts is not known: %s", error.message)
            return None

    async def _open(self, scope: str) -> None:
        maximum = self._local.concurrency.maximum
        if self._opened < maximum:
            self._learn(await self._disk(self._places.open, scope, maximum))
            self._opened = maximum

    async def _ask(self, scope: str) -> int | None:
        """Ask once for a place; one granted after cancellation is given back."""
        asking = asyncio.ensure_future(self._disk(self._places.take, scope, self._local.concurrency.maximum))
        try:
            number: int | None = await asyncio.shield(asking)
        except asyncio.CancelledError:
            asking.add_done_callback(self._give_back)
            raise
        return number

    def _give_back(self, asked: asyncio.Future[int | None]) -> None:
        if not asked.cancelled() and asked.exception() is None and (number := asked.result()) is not None:
            self._leave(number)

    def _leave(self, number: int) -> None:
        self._start(self._tell(self._places.give_back, number, learn=False))

    def was_refused(self, hold_s: float) -> None:
        """Report a 429 to the fleet."""
        self._start(self._tell(self._places.refused, hold_s))

    def was_accepted(self) -> None:
        """Count an accepted order; the count is reported every second."""
        self._accepted += 1
        if self._telling is None or self._telling.done():
            self._telling = self._start(self._tell_accepted())

    async def _tell_accepted(self) -> None:
        await asyncio.sleep(_TELL_S)
        number, self._accepted = self._accepted, 0
        await self._tell(self._places.accepted, number, self._local.concurrency.maximum)

    async def _tell(self, tell: Callable[..., Shared | None], *told: Any, learn: bool = True) -> None:
        try:
            known = await self._disk(tell, await self._find_scope(), *told)
            if learn and known is not None:
                self._learn(known)
        except LedgerError as error:
            log.debug("%s", error.message)

    def _learn(self, known: Shared) -> None:
        self._local.concurrency.follow(time.monotonic(), known.most, known.hold_s)
        self._local.admit()

    def _start(self, work: Any) -> asyncio.Task[None]:
        task: asyncio.Task[None] = asyncio.get_running_loop().create_task(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)
        return task


class _FleetConcurrency:
    """The limit of this process, reporting to the fleet; see `policy.Concurrency`."""

    def __init__(self, local: AdaptiveLimit, fleet: FleetSlots) -> None:
        self._local, self._fleet = local, fleet

    @property
    def maximum(self) -> int:
        return self._local.maximum

    @property
    def limit(self) -> float:
        """The fleet's limit, capped for this process."""
        return self._local.limit

    def on_rate_limited(self, now: float, retry_after_s: float | None = None) -> None:
        self._local.on_rate_limited(now, retry_after_s)
        self._fleet.was_refused(min(max(retry_after_s or 0.0, 0.0), self._local.hold_cap_s))

    def on_success(self, now: float) -> None:
        self._fleet.was_accepted()

    def hold_s(self, now: float) -> float:
        return self._local.hold_s(now)
