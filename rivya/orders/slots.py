"""How many orders of an account run at once."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

from ..api.policy import AdaptiveLimit


class Slots:
    """A fair queue of orders. The limit adapts, so it is read each time."""

    def __init__(self, concurrency: AdaptiveLimit) -> None:
        self.concurrency = concurrency
        self._taken = 0
        self._queue: deque[asyncio.Future[None]] = deque()

    async def take(self) -> Slot:
        """Wait for a slot. A caller cancelled while waiting leaves the queue."""
        if not self._queue and self._taken < self.concurrency.slots:
            self._taken += 1
            return Slot(self._release)
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._queue.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self._release()
            elif turn in self._queue:  # unless `admit` has removed it
                self._queue.remove(turn)
            raise
        return Slot(self._release)

    def _release(self) -> None:
        self._taken -= 1
        self.admit()

    def allow(self, maximum: int) -> None:
        """Apply a new maximum of the user; a limit learned from 429 stays."""
        if maximum == self.concurrency.maximum:
            return
        at_its_height = self.concurrency.limit >= self.concurrency.maximum
        self.concurrency.maximum = maximum
        self.concurrency.limit = (
            float(maximum) if at_its_height else min(self.concurrency.limit, float(maximum))
        )
        self.admit()

    def admit(self) -> None:
        """Give free slots to waiting orders: after a release, or when the limit has grown."""
        while self._queue and self._taken < self.concurrency.slots:
            turn = self._queue.popleft()
            if not turn.done():
                self._taken += 1
                turn.set_result(None)


class Slot:
    """One taken slot. Only the first release counts."""

    def __init__(self, give_back: Callable[[], None]) -> None:
        self._give_back: Callable[[], None] | None = give_back

    def release(self) -> None:
        give_back, self._give_back = self._give_back, None
        if give_back is not None:
            give_back()
