"""One API call with retries: what may be repeated, when, and for how long.

`policy` decides, `transport` makes single attempts. An error from here says `Sent.MAYBE` if any attempt of the call
may have been carried out.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from random import random
from typing import Any, TypeVar

from ..errors import (
    HINTS,
    ConfigurationError,
    GivenUpError,
    RivyaError,
    Sent,
    UnusableAnswerError,
    error_class,
)
from ..http.transport import Form, Reply, Transport
from ..http.values import clean_text, parse_retry_after
from . import responses
from .policy import Concurrency, RetryPolicy

_NOT_CARRIED_OUT = frozenset({"public_api_disabled"})
"""Error codes with a 5xx status that, by the documentation, prove that nothing was done."""

_UNUSABLE_ATTEMPTS = 3
"""Attempts after unusable responses; a service broken in this way stays broken."""

T = TypeVar("T")


@dataclass(frozen=True)
class Response:
    """A usable response.

    Attributes:
        data: the JSON object.
        retry_after_s: the wait the service asked for, seconds.
        uncertain: an earlier attempt of this call has an unknown outcome.
    """

    status: int
    data: Mapping[str, Any]
    request_id: str | None
    retry_after_s: float | None
    uncertain: bool


class RetryingClient:
    """Makes the API calls of one account, over one transport and under one limit that learns from 429."""

    def __init__(self, transport: Transport, retry: RetryPolicy, concurrency: Concurrency) -> None:
        self._transport = transport
        self._retry = retry
        self._concurrency = concurrency

    async def call(
        self,
        method: str,
        path: str,
        read: Callable[[Response], T],
        *,
        body: bytes | None = None,
        form: Form | None = None,
        idempotency_key: str | None = None,
        wanted: Callable[[], bool] = lambda: True,
        on_trouble: Callable[[RivyaError], object] = lambda error: None,
    ) -> T:
        """Send until a 2xx response that ``read`` accepts, or a final failure.

        ``body`` is JSON and the same in each attempt. Every call here is safe to repeat: GETs and uploads cost
        nothing, and an order carries its ``idempotency_key``.

        Args:
            wanted: called before each attempt, after any wait; False stops the call (the caller was cancelled).
            on_trouble: called with each error that will be retried.

        Raises:
            RivyaError: ``sent`` tells what all attempts together prove.
        """
        headers = {"Idempotency-Key": idempotency_key} if idempotency_key else {}
        started, attempt, unusable, uncertain = time.monotonic(), 0, 0, False
        while True:
            await self._until_allowed()
            if not wanted():
                raise _given_up(uncertain)
            try:
                reply = await self._transport.exchange(method, path, body=body, form=form, headers=headers)
                result = read(self._response(reply, uncertain))
                if idempotency_key:
                    self._concurrency.on_success(time.monotonic())
                return result
            except RivyaError as error:
                unusable += isinstance(error, UnusableAnswerError)
                uncertain = uncertain or error.sent is Sent.MAYBE
                attempt += 1
                if error.status == 429:
                    named = min(error.retry_after_s or 0.0, self._retry.retry_after_cap_s)
                    self._concurrency.on_rate_limited(time.monotonic(), named)
                pause = self._retry.delay(attempt, error.retry_after_s, random)
                again = (
                    not isinstance(error, ConfigurationError)
                    and error.code != "bad_certificate"
                    and self._retry.may_repeat(error.status, error.sent, True)
                    and self._retry.within_budget(time.monotonic() - started, pause)
                    and unusable < _UNUSABLE_ATTEMPTS
                    and wanted()
                )
                if not again:
                    raise error.about(sent=Sent.MAYBE if uncertain else error.sent) from None
                on_trouble(error)
            await asyncio.sleep(pause)

    async def _until_allowed(self) -> None:
        """Wait out the service's Retry-After, plus some jitter, so that a batch does not send at once."""
        while (left := self._concurrency.hold_s(time.monotonic())) > 0:  # noqa: ASYNC110 - the hold may grow
            await asyncio.sleep(left + 0.5 * random())  # noqa: S311 - jitter, no secret

    def _response(self, reply: Reply, uncertain: bool) -> Response:
        """The parsed response; raises the error it stands for."""
        received_at = datetime.now(timezone.utc)
        request_id = _header_text(reply.headers.get("x-request-id"))
        if not 200 <= reply.status < 300:
            raise _service_error(reply, request_id, received_at)
        try:
            data = responses.parse_object(reply.body, "the answer of the service")
        except UnusableAnswerError as error:
            # The status is a success, so the call may have been carried out.
            raise error.about(sent=Sent.MAYBE, request_id=request_id) from None
        retry_after_s = parse_retry_after(reply.headers.get("retry-after"), received_at)
        return Response(reply.status, data, request_id, retry_after_s, uncertain)


def _given_up(uncertain: bool) -> RivyaError:
    return GivenUpError(
        "The run was cancelled.",
        sent=Sent.MAYBE if uncertain else Sent.NO,
    )


def _service_error(reply: Reply, request_id: str | None, now: datetime) -> RivyaError:
    """The error of a non-2xx status, from the documented error object if present."""
    code, message = None, ""
    try:
        body = responses.parse_object(reply.body, "the error answer")
        error = body.get("error")
        if isinstance(error, dict):
            code = _short_text(error.get("code"))
            message = clean_text(str(error.get("message") or ""))
            request_id = _short_text(error.get("requestId")) or request_id
    except UnusableAnswerError:
        # For example a proxy's HTML page: only the status counts.
        message = ""
    unknown = (reply.status == 408 or reply.status >= 500) and code not in _NOT_CARRIED_OUT
    what = f"Rivya answered: {message}" if message else f"Rivya answered with HTTP {reply.status}."
    return error_class(code, reply.status)(
        what if what.endswith((".", "!", "?", "…")) else what + ".",
        hint=HINTS.get(code or ""),
        code=code,
        status=reply.status,
        request_id=request_id,
        sent=Sent.MAYBE if unknown else Sent.REFUSED,
        retry_after_s=parse_retry_after(reply.headers.get("retry-after"), now),
    )


def _short_text(value: object) -> str | None:
    return clean_text(value, 128) if isinstance(value, str) and value else None


def _header_text(value: str | None) -> str | None:
    return clean_text(value, 128) if value else None
