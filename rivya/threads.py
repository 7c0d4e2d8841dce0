"""Work that would hold up the event loop, done in threads: disk, hashes, codecs.

The threads are anyio's: they are daemons, so that an unfinished codec never delays the end of the process, which the
default executor of asyncio does.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from functools import partial
from threading import Event
from typing import Any, TypeVar

from anyio import CapacityLimiter
from anyio.to_thread import run_sync

T = TypeVar("T")


CODECS = max(2, min(4, os.cpu_count() or 2))
"""Codecs that run at once."""


class Threads:
    """Small pools: for codecs, for the disk, for a store on the network. Made inside the event loop that uses it."""

    def __init__(self) -> None:
        self._codecs = CapacityLimiter(CODECS)
        self._disk = CapacityLimiter(4)
        self._remote = CapacityLimiter(16)

    async def codec(self, work: Callable[..., T], *args: Any, **options: Any) -> T:
        """Run a codec or a hash. A cancelled caller does not wait for it; its result is then thrown away.

        What has begun keeps its place in the pool until it ends: whoever cancels and starts again and again must not
        pile up threads.
        """
        begun = Event()

        def run() -> T:
            begun.set()
            return work(*args, **options)

        running = asyncio.ensure_future(run_sync(run, limiter=self._codecs))
        try:
            return await asyncio.shield(running)
        except asyncio.CancelledError:
            running.add_done_callback(_look_away)
            if not begun.is_set():
                running.cancel()
            raise

    async def disk(self, work: Callable[..., T], *args: Any, **options: Any) -> T:
        """Run something on the ledger, the result store or the disk.

        A cancelled caller stays until the work has ended: what it does next must not overtake it.
        """
        return await self._staying(self._disk, partial(work, *args, **options))

    async def remote(self, work: Callable[..., T], *args: Any, **options: Any) -> T:
        """The same for what waits for a network."""
        return await self._staying(self._remote, partial(work, *args, **options))

    async def _staying(self, pool: CapacityLimiter, work: Callable[[], T]) -> T:
        running = asyncio.ensure_future(run_sync(work, limiter=pool))
        try:
            return await asyncio.shield(running)
        except asyncio.CancelledError:
            await asyncio.wait({running})
            if not running.cancelled():
                running.exception()  # seen: the caller has gone
            raise


def _look_away(ended: asyncio.Future[Any]) -> None:
    """Nobody waits for this end any more, so asyncio need not report its error."""
    if not ended.cancelled():
        ended.exception()
