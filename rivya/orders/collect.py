"""Poll, download, verify and store an order that the service has accepted.

Nothing here costs credits. Transient errors are retried without end (the caller has its own timeout); others end the
run, and a later one can collect the order.
"""

from __future__ import annotations

import asyncio
import logging
import time
from random import random

from ..api.endpoints import Task
from ..errors import (
    Charged,
    ImageError,
    LedgerError,
    NotFoundError,
    RateLimitError,
    RivyaConnectionError,
    RivyaError,
    RivyaTimeoutError,
    ServiceUnavailableError,
    TaskFailedError,
    UnusableAnswerError,
)
from ..http.transport import MAX_RESULT_BYTES
from ..images import decode
from ..ledger.ledger import OrderRow, OrderState
from .context import OrderContext
from .messages import CHARGED_FAILURE_HINT
from .order import Finished

log = logging.getLogger("rivya")

_PASSING = (RivyaConnectionError, RivyaTimeoutError, ServiceUnavailableError, RateLimitError)
"""Transient errors."""

_GONE = (401, 403, 404, 410)
"""Statuses of a result host for an expired URL; the task is read again for a new one."""

MAX_TASK_BYTES = 128 * 1024**2
"""Maximum bytes of all pictures of a task; the transport caps each picture."""

_URL_READINGS = 3
_IMAGE_TRIES = 3


class Collection:
    """Takes an accepted order to stored pictures."""

    def __init__(self, context: OrderContext, row: OrderRow, task: Task | None) -> None:
        """``task``: the response to the submit; None if an earlier run submitted the order."""
        self._context = context
        self._account = context.account
        self._row = row
        self._task = task
        self._task_id = task.id if task is not None else row.task_id or ""
        self._started = time.monotonic()
        self._last_running_s: float | None = None
        context.accept(self._task_id)
        self._reserved = task.reserved_credits if task is not None else row.reserved_credits
        # A task that has ended when accepted is an old one, replayed by the service.
        if task is not None and task.status in ("succeeded", "failed"):
            context.show(source="resumed")

    async def pictures(self) -> Finished:
        """Follow the order until its pictures are stored.

        Raises:
            TaskFailedError: the task failed at the service; the ledger knows.
            RivyaError: this run ends; the order stays collectable.
        """
        if self._context.progress.since is None:
            self._context.show(since=time.monotonic())
        if self._task is None and self._row.state is OrderState.SUCCEEDED and self._row.result_urls:
            self._context.release_slot()
            return await self._fetch(self._row.result_urls, self._row.final_credits, self._row.seconds)
        task = await self._until_ended()
        self._context.release_slot()
        if task.status == "failed":
            raise await self._failed(task)
        return await self._succeeded(task)

    async def _until_ended(self) -> Task:
        """Poll until the task succeeds or fails; an unknown status counts as running."""
        context, account = self._context, self._account
        schedule = await account.schedule(self._row.model, self._row.mode)
        now = time.monotonic()
        age = (
            0.0 if self._task is not None else max(0.0, time.time() - (self._row.submitted_at or time.time()))
        )
        self._started = now - age
        context.show(
            state="running",
            task_id=self._task_id,
            credits=self._reserved,
            since=now,
            started=self._started,
            schedule=schedule,
        )
        polls = 0
        task = self._task or await self._poll()
        while task.status not in ("succeeded", "failed"):
            slowdown = account.concurrency.maximum / account.concurrency.limit
            elapsed_s = self._last_running_s = time.monotonic() - self._started
            wait_s = schedule.next_poll(elapsed_s, polls, random, task.hint_s, slowdown)
            await context.pause(wait_s)
            task = await self._poll()
            polls += 1
        return task

    async def _poll(self) -> Task:
        """Read the task; retry transient errors."""
        failures = 0
        while True:
            try:
                task = await self._account.api.retrieve_generation(self._task_id)
                self._context.show()
                return task
            except RivyaError as error:
                if isinstance(error, NotFoundError):
                    self._account.unknown_tasks.add(self._task_id)
                    raise error.about(
                        message="Rivya does not know this task (any more), or it belongs to another account.",
                        hint="The picture cannot be fetched; for a new one take another seed.",
                    ) from None
                failures += 1
                await self._wait_or_raise(error, failures)

    async def _wait_or_raise(self, error: RivyaError, failures: int) -> None:
        """Sleep before a retry if ``error`` is transient, else raise it."""
        if not isinstance(error, _PASSING):
            raise error
        log.warning("order %s: %s (trying again)", self._context.fingerprint[:12], error.message)
        self._context.show_trouble(error)
        await asyncio.sleep(max(1.0, self._account.retry.delay(failures + 2, error.retry_after_s, random)))

    async def _failed(self, task: Task) -> RivyaError:
        """Record the failure; return an error with reason and cost."""
        cost = task.final_credits
        charged = Charged.UNKNOWN if cost is None else Charged.YES if cost else Charged.NO
        reason = f" {task.error_message}" if task.error_message else ""
        returned = " The reserved credits were returned." if charged is Charged.NO and self._reserved else ""
        error = TaskFailedError(
            f"The task failed at Rivya.{reason}{returned}",
            hint=None if charged is Charged.NO else CHARGED_FAILURE_HINT,
            code=task.error_code,
            task_id=task.id,
            request_id=task.request_id,
            charged=charged,
            credits=cost if self._context.progress.source == "new" else None,
        )
        try:
            await self._account.disk(
                self._account.ledger.failed,
                self._row.id,
                error=error.as_dict(),
                charged=charged.value,
                final_credits=cost,
            )
        except LedgerError as trouble:
            # The next run reads the task again.
            log.warning("order %s: %s", self._context.fingerprint[:12], trouble.message)
        return error

    async def _succeeded(self, task: Task) -> Finished:
        noticed_s = time.monotonic() - self._started
        seconds = self._account.clock.seconds(noticed_s, self._last_running_s, task.service_s)
        await self._note_urls(task, seconds)
        return await self._fetch(task.urls, task.final_credits, seconds)

    async def _note_urls(self, task: Task, seconds: float | None) -> None:
        if not task.urls:
            raise UnusableAnswerError(
                f"Rivya says that task {task.id} succeeded, but names no picture.",
                task_id=task.id,
                charged=Charged.YES,
            )
        await self._account.disk(
            self._account.ledger.succeeded,
            self._row.id,
            urls=task.urls,
            final_credits=task.final_credits,
            seconds=seconds,
        )

    async def _fetch(self, urls: tuple[str, ...], final: int | None, seconds: float | None) -> Finished:
        context, account, row = self._context, self._account, self._row
        context.show(state="downloading", task_id=self._task_id, credits=final or self._reserved)
        pictures = await self._download_all(urls, seconds)
        about = {
            **row.details,
            "task_id": self._task_id,
            "model": row.model,
            "credits": final if final is not None else self._reserved,
            "seconds": round(seconds, 3) if seconds is not None else None,
            "request_id": row.request_id or (self._task.request_id if self._task else None),
        }
        result = await account.storage(account.store.put, row.scope, row.fingerprint, pictures, about)
        await account.disk(account.ledger.stored, row.id)
        context.show(state="done", credits=about["credits"])
        return Finished(
            account.state, row.scope, row.fingerprint, row.id, result, context.progress.source or "resumed"
        )

    async def _download_all(self, urls: tuple[str, ...], seconds: float | None) -> list[tuple[bytes, str]]:
        """Bytes and extension of each picture; an expired URL is read again from the task."""
        readings, unusable, failures = 1, 0, 0
        while True:
            try:
                pictures: list[tuple[bytes, str]] = []
                for url in urls:
                    left = MAX_TASK_BYTES - sum(len(data) for data, _ in pictures)
                    pictures.append(await self._download(url, min(left, MAX_RESULT_BYTES)))
                return pictures
            except RivyaError as error:
                unusable += isinstance(error, ImageError)
                failures += 1
                if error.status in _GONE and readings < _URL_READINGS:
                    readings += 1
                    task = await self._poll()
                    await self._note_urls(task, seconds)
                    urls = task.urls
                elif error.status in _GONE:
                    raise error.about(
                        message="Rivya does not give out the picture of this task any more.",
                        hint="Look at your history at rivya.ai, or take another seed for a new picture.",
                    ) from None
                elif isinstance(error, ImageError) and unusable < _IMAGE_TRIES:
                    log.warning(
                        "order %s: %s (fetching it again)", self._context.fingerprint[:12], error.message
                    )
                elif isinstance(error, UnusableAnswerError) and readings < _URL_READINGS:
                    readings += 1
                    urls = await self._named_anew(urls, seconds, error)
                else:
                    await self._wait_or_raise(error, failures)

    async def _named_anew(
        self, urls: tuple[str, ...], seconds: float | None, error: UnusableAnswerError
    ) -> tuple[str, ...]:
        """The task's current URLs, or raise ``error`` if they are the same: stored ones may be from a broken
        response.
        """
        task = await self._poll()
        if not task.urls or task.urls == urls:
            raise error
        await self._note_urls(task, seconds)
        return task.urls

    async def _download(self, url: str, max_bytes: int) -> tuple[bytes, str]:
        """Download a picture; decode it whole to verify it."""
        async with self._account.downloads:
            data = await self._account.transport.download(url, max_bytes=max_bytes)
            return data, await self._account.threads.codec(decode.verify, data)
