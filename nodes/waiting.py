"""Waiting for the engine from a node: cancellable within a fraction of a second.

The engine's futures cannot be cancelled, and a node waits for them with a timeout. So neither Cancel, nor a failure
elsewhere in the graph, nor the end of the prompt's event loop stops a paid order, and no ``CancelledError`` reaches
ComfyUI's executor.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, TypeVar

from . import host

if TYPE_CHECKING:  # else the engine would be loaded when ComfyUI starts
    from ..rivya.engine.jobs import Job, Ticket

T = TypeVar("T")

LOOK_S = 0.2
"""Polling interval of the interrupt flag: ComfyUI does not notify a waiting node."""


async def _nothing() -> None:
    return None


async def until_done(
    waited_for: Sequence[Job[T] | Ticket], look: Callable[[], Awaitable[None]] = _nothing
) -> None:
    """Wait until all have ended, well or not. ``look`` is called several times a second and once at the end.

    Raises:
        InterruptProcessingException: the user has cancelled. The caller decides what to stop.
    """
    waiting = {asyncio.wrap_future(each.done) for each in waited_for}
    try:
        while waiting:
            ended, waiting = await asyncio.wait(waiting, timeout=LOOK_S, return_when=asyncio.FIRST_COMPLETED)
            for future in ended:
                future.exception()  # the caller reads the original's; this copy must not warn
            if host.interrupted():
                raise host.interruption()
            await look()
    finally:
        for future in waiting:
            future.cancel()


async def settled(job: Job[T], patience_s: float = 0.5) -> None:
    """Wait briefly for a quick job, without looking at Cancel; a slower job goes on by itself."""
    await asyncio.wait({asyncio.wrap_future(job.done)}, timeout=patience_s)


async def result(job: Job[T]) -> T:
    """The result of one job. Cancel stops the job itself."""
    try:
        await until_done([job])
    finally:
        if not job.done.done():
            job.cancel()
    return job.done.result()
