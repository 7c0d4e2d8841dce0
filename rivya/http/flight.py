"""One exchange under way: ended from outside, kept apart from its caller, and judged when it fails."""

from __future__ import annotations

import asyncio
import logging
import os
import ssl
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from typing import Any, TypeVar

import anyio
import httpcore

from ..errors import RivyaConnectionError, RivyaError, RivyaTimeoutError, Sent
from . import trust
from .values import clean_text

T = TypeVar("T")

_MAX_HEAD_BYTES = 256 * 1024

_UNWIND_S = 0.5
"""Longest time that a cancelled caller waits for its connection to be put away."""

_LOGGERS = (
    "httpx",
    "httpcore.connection",
    "httpcore.http11",
    "httpcore.http2",
    "httpcore.proxy",
    "httpcore.socks",
)


class Flight:
    """One exchange under way.

    Attributes:
        left: bytes of the request itself may have left; from here on its outcome is not known without an answer.
        tunnelling: a proxy was asked for a tunnel; until `left`, only that was sent.
        ended: the caller wants no more of it.
    """

    def __init__(self) -> None:
        self.left = False
        self.tunnelling = False
        self.ended = False
        self._head_left: int | None = None
        self._waits: set[anyio.CancelScope] = set()

    def end(self) -> None:
        """Let the present wait, and every later one, fail with a network error."""
        self.ended = True
        for scope in tuple(self._waits):
            scope.cancel()

    async def wait(self, work: Callable[[], Awaitable[T]]) -> T | None:
        """What ``work`` gives, or None where the exchange was ended meanwhile."""
        if self.ended:
            return None
        with anyio.CancelScope() as scope:
            self._waits.add(scope)
            try:
                return await work()
            finally:
                self._waits.discard(scope)
        return None

    async def trace(self, event: str, info: dict[str, Any]) -> None:
        """Notes when the request begins to leave, and when the head of an answer is waited for.

        A hook that httpcore calls around each of its steps.
        """
        if event.endswith("send_request_headers.started"):
            if info["request"].method == b"CONNECT":
                self.tunnelling = True
            else:
                self.left = True
        elif event.endswith("receive_response_headers.started"):
            self._head_left = _MAX_HEAD_BYTES
        elif event.endswith("receive_response_headers.complete"):
            self._head_left = None

    def arrived(self, size: int) -> None:
        """Counts what came before the answer itself: a host may send "100 Continue" for ever."""
        if self._head_left is not None:
            self._head_left -= size
            if self._head_left < 0:
                raise httpcore.RemoteProtocolError("the head of the answer does not end")


current: ContextVar[Flight | None] = ContextVar("rivya_flight", default=None)
"""The exchange that the running task belongs to; also how log records of httpcore are known for ours."""


async def fly(talk: Callable[[Flight], Awaitable[T]], total_s: float, whom: str) -> T:
    """Run one exchange with ``whom`` in a task of its own, which outlives this call by no more than an instant.

    Only values come back from that task, never its exceptions: their tracebacks lead through frames that hold the
    request with its key. Cancelling the caller ends the exchange.

    Raises:
        RivyaError: what ``talk`` raised, or the error that a network failure stands for.
    """
    flight = Flight()
    task = asyncio.create_task(_outcome(flight, talk, whom))
    try:
        await asyncio.wait({task}, timeout=total_s)
        late = not task.done()
        if late:
            flight.end()
            await asyncio.wait({task})
    except asyncio.CancelledError:
        flight.end()
        await asyncio.wait({task}, timeout=_UNWIND_S)
        raise
    outcome = task.result()
    if not isinstance(outcome, RivyaError):
        return outcome
    if late:
        raise RivyaTimeoutError(
            f"{whom} took longer than {total_s:.0f} s.",
            charged=None,
            sent=_delivery(flight, outcome),
        )
    raise outcome


async def _outcome(flight: Flight, talk: Callable[[Flight], Awaitable[T]], whom: str) -> T | RivyaError:
    """What ``talk`` gives, or its error as a value."""
    current.set(flight)
    silence()
    try:
        return await talk(flight)
    except RivyaError as error:
        error.__context__ = error.__cause__ = None
        return error.with_traceback(None)
    except Exception as error:
        return _translated(error, flight, whom)


def _delivery(flight: Flight, error: Exception) -> Sent:
    """NEVER only where it is proved: nothing of the request left, and the failure is one that comes before that."""
    before = (
        isinstance(
            error,
            (
                httpcore.ConnectError,
                httpcore.ConnectTimeout,
                httpcore.PoolTimeout,
                httpcore.ProxyError,
                httpcore.UnsupportedProtocol,
            ),
        )
        or (isinstance(error, RivyaError) and error.sent is Sent.NO)
        or flight.tunnelling
    )
    return Sent.NO if before and not flight.left else Sent.MAYBE


def _translated(error: Exception, flight: Flight, whom: str) -> RivyaError:
    """Our error for one of httpcore. Says nothing that the other side sent, and names the host at most."""
    sent = _delivery(flight, error)
    if isinstance(error, httpcore.TimeoutException):
        what = "could not be reached in time" if sent is Sent.NO else "did not answer in time"
        return RivyaTimeoutError(f"{whom} {what}.", charged=None, sent=sent)
    if isinstance(error, httpcore.ProxyError):
        what = f"could not be reached: the proxy answered {clean_text(str(error), 80)}"
    elif sent is Sent.NO:
        what = f"could not be reached: {_reason(error)}"
    elif isinstance(error, httpcore.ProtocolError):
        what = "broke the connection off, or sent something that is not HTTP"
    elif isinstance(error, httpcore.NetworkError):
        what = "broke the connection off"
    else:
        what = f"could not be talked to ({type(error).__name__})"
    code = "bad_certificate" if trust.is_refused_certificate(error) else None
    return RivyaConnectionError(
        f"{whom} {what}.", hint=trust.advice(error), code=code, charged=None, sent=sent
    )


def _reason(error: BaseException) -> str:
    """Why a connection did not come about, from the innermost cause that says so."""
    cause: BaseException | None = error
    text, depth = "", 0
    while cause is not None and depth < 10:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return clean_text(f"its certificate is not valid ({cause.verify_message})", 160)
        if isinstance(cause, OSError) and cause.strerror:
            # asyncio writes a sentence of its own into strerror; those of name lookups have negative numbers.
            text = os.strerror(cause.errno) if cause.errno and cause.errno > 0 else cause.strerror
        elif not text and not isinstance(cause, OSError):
            text = str(cause)
        cause, depth = cause.__cause__ or cause.__context__, depth + 1
    return clean_text(text or "no connection", 160)


class _NotOurs(logging.Filter):
    """Drops what httpx and httpcore log about our exchanges: full URLs and headers. Other users' lines stay."""

    def filter(self, record: logging.LogRecord) -> bool:
        return current.get() is None


def silence() -> None:
    """Put the filter on the loggers, once."""
    for name in _LOGGERS:
        logger = logging.getLogger(name)
        if not any(isinstance(known, _NotOurs) for known in logger.filters):
            logger.addFilter(_NotOurs())
