"""Connections to checked addresses; the time limits and the state of an attempt.

The only module that names the HTTP stack: httpx and httpcore.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
from collections.abc import Callable, Coroutine, Hashable, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any, TypeVar

import anyio
import httpcore
import httpx
from anyio.to_thread import run_sync

from .guard import allowed

__all__ = ["Attempt", "Backend", "SharedWork", "Timeouts", "closing", "current", "httpcore", "httpx"]

T = TypeVar("T")

Resolver = Callable[[str, int], Sequence[str]]
"""Returns the addresses of a host name; runs in a thread. Raises OSError."""

Check = Callable[[str, str], None]
"""Takes a host name and one of its addresses; raises if that must not be contacted."""

_NEXT_ADDRESS_S = 0.25
"""Head start of one address over the next (RFC 8305)."""

_LOOKUPS = 32
"""Concurrent lookups per backend."""

_MAX_HEAD_BYTES = 256 * 1024


@dataclass(frozen=True)
class Timeouts:
    """Seconds for each phase of an exchange.

    Attributes:
        connect_s: DNS lookup and connection, then again TLS.
        read_s: between two pieces of a response.
        write_s: for each 64 KiB of a request.
        total_s: an exchange without its upload, which gets more by its size.
        window_s, window_bytes: a download must bring this many bytes per window.
    """

    connect_s: float = 10.0
    read_s: float = 60.0
    write_s: float = 60.0
    total_s: float = 150.0
    window_s: float = 20.0
    window_bytes: int = 20 * 1024


class Attempt:
    """One attempt.

    Attributes:
        left: request bytes may have been sent; without a response the outcome is unknown.
        tunnelling: a CONNECT was sent to a proxy, and until `left` nothing else.
    """

    def __init__(self) -> None:
        self.left = False
        self.tunnelling = False
        self._head_left: int | None = None

    async def trace(self, event: str, info: dict[str, Any]) -> None:
        """httpcore's "trace" hook, called around its steps."""
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
        """Limit what precedes the final response: a host may send "100 Continue" forever."""
        if self._head_left is not None:
            self._head_left -= size
            if self._head_left < 0:
                raise httpcore.RemoteProtocolError("the head of the answer does not end")


current: ContextVar[Attempt | None] = ContextVar("rivya_attempt", default=None)
"""The attempt of the running task; also marks log records of the HTTP stack as ours."""


class Stream(httpcore.AsyncNetworkStream):
    def __init__(self, inner: httpcore.AsyncNetworkStream) -> None:
        self._inner = inner

    async def read(self, *args: Any, **options: Any) -> bytes:
        data = await self._inner.read(*args, **options)
        attempt = current.get()
        if attempt is not None:
            attempt.arrived(len(data))
        return data

    async def write(self, *args: Any, **options: Any) -> None:
        await self._inner.write(*args, **options)

    async def aclose(self) -> None:
        await self._inner.aclose()

    async def start_tls(self, *args: Any, **options: Any) -> httpcore.AsyncNetworkStream:
        try:
            return Stream(await self._inner.start_tls(*args, **options))
        except ssl.SSLError as error:  # httpcore 1.0.3 lets it pass
            raise httpcore.ConnectError(str(error)) from error

    def get_extra_info(self, info: str) -> Any:
        return self._inner.get_extra_info(info)


class SharedWork:
    """Blocking calls in threads, shared by concurrent callers. Cancelling a caller does not end the call.

    Args:
        threads: concurrent calls.
        kept: the most results that later callers share, too.
    """

    def __init__(self, threads: int, kept: int = 0) -> None:
        self._threads = threads
        self._kept = kept
        self._limiter: anyio.CapacityLimiter | None = None
        self._calls: dict[tuple[Hashable, ...], asyncio.Future[Any]] = {}

    async def run(self, work: Callable[..., T], *args: Hashable) -> T:
        """The result of ``work(*args)``, or its exception."""
        key = (work, *args)
        call: asyncio.Future[T] | None = self._calls.get(key)
        if call is None:
            self._limiter = self._limiter or anyio.CapacityLimiter(self._threads)
            call = asyncio.ensure_future(run_sync(work, *args, limiter=self._limiter))
            call.add_done_callback(lambda done: self._ended(key, done))
            self._calls[key] = call
        if not call.done():
            await asyncio.wait({call})
        return call.result()

    def _ended(self, key: tuple[Hashable, ...], done: asyncio.Future[Any]) -> None:
        # The exception counts as retrieved: all callers may have been cancelled.
        if done.cancelled() or done.exception() is not None or len(self._calls) > self._kept:
            del self._calls[key]


class Backend(httpcore.AsyncNetworkBackend):
    """Resolves a name once, checks each address, connects to one that passed.

    So a second DNS response changes nothing. TLS still verifies the name.
    """

    def __init__(self, resolve: Resolver | None = None, check: Check | None = None) -> None:
        self._resolve = resolve or look_up
        self._check = check
        self._inner = httpcore.AnyIOBackend()
        self._lookups = SharedWork(_LOOKUPS)

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109
        *args: Any,
        **options: Any,
    ) -> httpcore.AsyncNetworkStream:
        try:
            with anyio.fail_after(timeout):
                addresses = await self._addresses(host, port)
                if self._check is not None:
                    addresses = allowed(self._check, host, addresses)
                return Stream(await self._first(addresses, port, timeout))
        except TimeoutError:
            raise httpcore.ConnectTimeout("no connection in time") from None

    async def _addresses(self, host: str, port: int) -> Sequence[str]:
        try:
            addresses = tuple(dict.fromkeys(await self._lookups.run(self._resolve, host, port)))
        except (OSError, UnicodeError):
            raise httpcore.ConnectError("its name could not be looked up") from None
        if not addresses:
            raise httpcore.ConnectError("its name has no address")
        return addresses

    async def _first(
        self, addresses: Sequence[str], port: int, time_s: float | None
    ) -> httpcore.AsyncNetworkStream:
        """The first address that connects; the next one starts after 0.25 s or a failure.

        Connecting is never cancelled: many versions of anyio leak a connection made during cancellation. Connections
        that no caller takes are closed once made.
        """
        ahead = _families_in_turn(addresses)
        running: list[asyncio.Future[httpcore.AsyncNetworkStream]] = []
        failures: list[BaseException] = []
        try:
            while ahead or running:
                if ahead:
                    connecting = self._inner.connect_tcp(ahead.pop(0), port, timeout=time_s)
                    running.append(asyncio.ensure_future(connecting))
                head_start = _NEXT_ADDRESS_S if ahead else None
                await asyncio.wait(running, timeout=head_start, return_when=asyncio.FIRST_COMPLETED)
                for done in [one for one in running if one.done()]:
                    running.remove(done)
                    failure = done.exception()
                    if failure is None:
                        return done.result()
                    failures.append(failure)
        finally:
            for unwanted in running:
                unwanted.add_done_callback(_close_unwanted)
        raise failures[0]


def look_up(host: str, port: int) -> list[str]:
    """The system's addresses of a name, in its order."""
    return [str(found[4][0]) for found in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]


def _families_in_turn(addresses: Sequence[str]) -> list[str]:
    """IPv6 and IPv4 alternating, the system's first choice first."""
    first = [a for a in addresses if (":" in a) == (":" in addresses[0])]
    second = [a for a in addresses if a not in first]
    return [address for pair in zip_longest(first, second) for address in pair if address]


def closing(aclose: Coroutine[Any, Any, None]) -> asyncio.Future[None]:
    """Close in a task, which a cancellation of the caller does not stop."""
    task = asyncio.ensure_future(aclose)
    _closing.add(task)
    task.add_done_callback(_closing.discard)
    return task


_closing: set[asyncio.Future[None]] = set()
"""Keeps the tasks: asyncio does not."""


def _close_unwanted(connecting: asyncio.Future[httpcore.AsyncNetworkStream]) -> None:
    if not connecting.cancelled() and connecting.exception() is None:
        closing(connecting.result().aclose())


def _not_ours(record: logging.LogRecord) -> bool:
    """Whether the HTTP stack did not log it about an attempt of ours: URLs and headers are in those records."""
    return current.get() is None


for _part in ("connection", "http11", "http2", "proxy", "socks"):
    logging.getLogger(f"{httpcore.__name__}.{_part}").addFilter(_not_ours)
logging.getLogger(httpx.__name__).addFilter(_not_ours)
