"""Connections under our control: how a name becomes a connection, and how an exchange is ended from outside.

Everything that an exchange waits for happens in `Backend.connect_tcp` and in the streams that it gives. So ending it,
because its caller was cancelled or its time is over, is turned into an ordinary network error right there: the
connection pool below httpx closes what it opened on every such error, while a cancellation that arrives between two
of its steps could leave a connection behind that nobody closes.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextvars import copy_context
from threading import Thread
from typing import Any, TypeVar

import anyio
import httpcore

from .flight import current
from .guard import allowed

T = TypeVar("T")
Resolver = Callable[[str, int], Sequence[str]]
"""Gives the addresses of a host name; runs in a thread. Raises OSError."""

Check = Callable[[str, str], None]
"""Takes a host name and one of its addresses, and raises for an address that must not be asked."""

_NEXT_ADDRESS_S = 0.25
"""How long one address is tried alone before the next one joins in (RFC 8305)."""


async def _wait(work: Callable[[], Awaitable[T]], error: type[Exception]) -> T:
    flight = current.get()
    if flight is None:
        return await work()
    result = await flight.wait(work)
    if result is None:
        raise error("ended by the caller")
    return result


class Stream(httpcore.AsyncNetworkStream):
    """A connection whose waits end when their flight is ended. The signatures are httpcore's."""

    def __init__(self, inner: httpcore.AsyncNetworkStream) -> None:
        self._inner = inner

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ASYNC109
        data = await _wait(lambda: self._inner.read(max_bytes, timeout), httpcore.ReadError)
        flight = current.get()
        if flight is not None:
            flight.arrived(len(data))
        return data

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ASYNC109
        async def write() -> bool:
            await self._inner.write(buffer, timeout)
            return True

        await _wait(write, httpcore.WriteError)

    async def aclose(self) -> None:
        await self._inner.aclose()

    async def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,  # noqa: ASYNC109
    ) -> httpcore.AsyncNetworkStream:
        try:
            secured = await _wait(
                lambda: self._inner.start_tls(ssl_context, server_hostname, timeout), httpcore.ConnectError
            )
        except BaseException:
            with anyio.CancelScope(shield=True):
                await self._inner.aclose()
            raise
        return Stream(secured)

    def get_extra_info(self, info: str) -> Any:
        return self._inner.get_extra_info(info)


class Backend(httpcore.AsyncNetworkBackend):
    """Looks a name up once, checks every address, and connects to one of those that passed.

    A second answer of DNS therefore changes nothing. TLS still verifies the name. The lookup runs in a daemon thread:
    in asyncio's default executor a hanging DNS server would hold up the end of the process.
    """

    def __init__(self, resolve: Resolver | None = None, check: Check | None = None) -> None:
        self._resolve = resolve or look_up
        self._check = check
        self._inner = httpcore.AnyIOBackend()
        self._lookups: dict[tuple[str, int], asyncio.Future[Sequence[str]]] = {}

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        return await _wait(lambda: self._connected(host, port, timeout), httpcore.ConnectError)

    async def _connected(self, host: str, port: int, time_s: float | None) -> Stream:
        try:
            with anyio.fail_after(time_s):
                addresses = await self._addresses(host, port)
                if self._check is not None:
                    addresses = allowed(self._check, host, addresses)
                return Stream(await self._first(addresses, port))
        except TimeoutError:
            raise httpcore.ConnectTimeout("no connection in time") from None

    async def _addresses(self, host: str, port: int) -> Sequence[str]:
        """The addresses of the host; whoever asks meanwhile shares the lookup, and whoever leaves does not stop it."""
        lookup = self._lookups.get((host, port))
        if lookup is None:
            lookup = asyncio.ensure_future(in_thread(self._resolve, host, port))
            lookup.add_done_callback(lambda done: self._looked_up((host, port), done))
            self._lookups[host, port] = lookup
        await asyncio.wait({lookup})
        try:
            addresses = tuple(dict.fromkeys(lookup.result()))
        except (OSError, UnicodeError):
            raise httpcore.ConnectError("its name could not be looked up") from None
        if not addresses:
            raise httpcore.ConnectError("its name has no address")
        return addresses

    def _looked_up(self, key: tuple[str, int], lookup: asyncio.Future[Sequence[str]]) -> None:
        self._lookups.pop(key, None)
        if not lookup.cancelled():
            lookup.exception()  # Seen: nobody may be waiting any more.

    async def _first(self, addresses: Sequence[str], port: int) -> httpcore.AsyncNetworkStream:
        """The first address that answers; the next one is tried as well after a quarter of a second."""
        if len(addresses) == 1:
            return await self._inner.connect_tcp(addresses[0], port)
        won: list[httpcore.AsyncNetworkStream] = []
        failures: list[Exception] = []

        async def attempt(address: str, over: anyio.Event) -> None:
            try:
                stream = await self._inner.connect_tcp(address, port)
                if won:
                    await stream.aclose()
                else:
                    won.append(stream)
                    group.cancel_scope.cancel()
            except httpcore.ConnectError as error:
                failures.append(error)
            finally:
                over.set()

        async with anyio.create_task_group() as group:
            for address in _families_in_turn(addresses):
                over = anyio.Event()
                group.start_soon(attempt, address, over)
                with anyio.move_on_after(_NEXT_ADDRESS_S):
                    await over.wait()
        if not won:
            raise httpcore.ConnectError(str(failures[0]))
        return won[0]


def look_up(host: str, port: int) -> list[str]:
    """The addresses that the system gives for a host name, in its order of preference."""
    return [str(found[4][0]) for found in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]


def _families_in_turn(addresses: Sequence[str]) -> list[str]:
    """IPv6 and IPv4 alternating, beginning with the system's first choice."""
    first = [a for a in addresses if (":" in a) == (":" in addresses[0])]
    second = [a for a in addresses if a not in first]
    mixed: list[str] = []
    for place in range(max(len(first), len(second))):
        mixed += first[place : place + 1] + second[place : place + 1]
    return mixed


async def in_thread(work: Callable[..., T], *args: Any) -> T:
    """Run ``work`` in a daemon thread of its own. A caller that is cancelled leaves it behind."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()

    def settle(setter: Callable[[Any], None], outcome: Any) -> None:
        if not future.done():
            setter(outcome)

    def run() -> None:
        setter: Callable[[Any], None] = future.set_result
        outcome: Any
        try:
            outcome = work(*args)
        except BaseException as error:
            setter, outcome = future.set_exception, error
        try:
            loop.call_soon_threadsafe(settle, setter, outcome)
        except RuntimeError:
            pass  # The loop was closed meanwhile: nobody waits.

    Thread(target=copy_context().run, args=(run,), name="rivya-lookup", daemon=True).start()
    return await future
