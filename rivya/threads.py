"""Thread pools for blocking work: disk, hashes, codecs.

anyio's threads inherit the daemon flag of the loop's thread. The engine's is a daemon: unlike with asyncio's default
executor, an unfinished codec never delays the end of the process.
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
    """Small pools for codecs, disk and remote stores. Create it inside its event loop."""

    def __init__(self) -> None:
        self._codecs = CapacityLimiter(CODECS)
        self._disk = CapacityLimiter(4)
        self._remote = CapacityLimiter(16)

    async def codec(self, work: Callable[..., T], *args: Any, **options: Any) -> T:
        """Run a codec or hash. A cancelled caller does not wait; the result is discarded.

        Started work keeps its slot: repeated cancelling must not pile up threads.
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
        """Run work on ledger, result store or disk.

        A cancelled caller waits for its end: the next step must not overtake it.
        """
        return await self._staying(self._disk, partial(work, *args, **options))

    async def remote(self, work: Callable[..., T], *args: Any, **options: Any) -> T:
        """As `disk`, for work that waits for a network."""
        return await self._staying(self._remote, partial(work, *args, **options))

    async def _staying(self, pool: CapacityLimiter, work: Callable[[], T]) -> T:
        running = asyncio.ensure_future(run_sync(work, limiter=pool))
        try:
            return await asyncio.shield(running)
        except asyncio.CancelledError:
            await asyncio.wait({running})
            if not running.cancelled():
                running.exception()  # retrieved, so that asyncio does not report it
            raise


def _look_away(ended: asyncio.Future[Any]) -> None:
    """Retrieve the exception of abandoned work."""
    if not ended.cancelled():
        ended.exception()
