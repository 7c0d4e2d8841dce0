"""Rows that another program submits one at a time, from its own event loop."""

from __future__ import annotations

import asyncio
from typing import Any

from ..edited import Edited
from ..errors import RivyaError
from ..orders.order import Finished
from .job import BulkJob
from .row_run import RowRun
from .stream import as_outcome


class Singles:
    """The rows of one job, under one budget. Callable from any event loop but the engine's.

    The caller limits how many rows run at once.
    """

    def __init__(self, job: BulkJob) -> None:
        self._job, self._work = job, job.work()

    async def outcomes(self, given: Any) -> list[Finished | RivyaError]:
        """Order a row and wait; one outcome per variation, failures as values. Cancelling it cancels the row's job."""
        job = self._work.engine.start(lambda: self._run(given))
        try:
            return await asyncio.wrap_future(job.done)
        except asyncio.CancelledError:
            job.cancel()
            raise

    async def _run(self, given: Any) -> list[Finished | RivyaError]:
        told: dict[int, Finished | RivyaError] = {}
        task = RowRun(self._work, told.__setitem__)
        try:
            await task.run(given, lambda: None)
        except Exception as error:
            told.update((variation, as_outcome(error)) for variation in task.untold)
        return [told[variation] for variation in sorted(told)]

    async def picture(self, given: Any, finished: Finished) -> Edited | RivyaError:
        try:
            return await asyncio.to_thread(self._job.finished, given, finished)
        except Exception as error:
            return as_outcome(error)

    def delivered(self, finished: Finished) -> None:
        """Note, without waiting, that a picture has reached the user."""
        self._work.engine.delivered([finished])
