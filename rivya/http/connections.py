"""Connections: one per running request, kept for the next request to the same origin.

httpcore's pool is not used: version 1.0 leaks connections cancelled between two of its steps, and scans all
connections for each request, the largest cost at hundreds. Here a failed or cancelled request closes its connection in
any state. The engine limits their number.
"""

from __future__ import annotations

import asyncio
import ssl
import time
from collections import defaultdict, deque
from collections.abc import AsyncIterator, Callable, Hashable
from contextlib import asynccontextmanager
from typing import Any

import anyio

from ..errors import ConfigurationError, RivyaError, Sent
from .network import Backend, SharedWork, httpcore, httpx
from .proxy_settings import proxy_for

_KEEPALIVE_S = 60.0
"""Keeps a connection between two polls and between two prompts."""

_LOOK_EVERY_S = 5.0
"""Interval of the search for unusable idle connections."""


class _Single(httpcore.AsyncNetworkBackend):
    """One connection in place of httpcore's pool, which creates it. Sees its socket when opened."""

    def __init__(self, pool: httpcore.AsyncConnectionPool, backend: Backend) -> None:
        pool._network_backend = self  # httpx gives no way to choose it
        self._create = pool.create_connection
        self._backend = backend
        self.connection: httpcore.AsyncConnectionInterface | None = None
        self._stream: httpcore.AsyncNetworkStream | None = None

    async def connect_tcp(self, *args: Any, **options: Any) -> httpcore.AsyncNetworkStream:
        self._stream = await self._backend.connect_tcp(*args, **options)
        return self._stream

    async def handle_async_request(self, request: httpcore.Request) -> httpcore.Response:
        if self.connection is None:
            self.connection = self._create(request.url.origin)
        return await self.connection.handle_async_request(request)

    async def aclose(self) -> None:
        with anyio.CancelScope(shield=True):
            if self.connection is not None:
                await self.connection.aclose()
            if self._stream is not None:  # The connection forgets it if TLS or SOCKS fails.
                await self._stream.aclose()


class _Transport(httpx.AsyncHTTPTransport):
    def __init__(self, backend: Backend, context: ssl.SSLContext, proxy: str | None) -> None:
        super().__init__(verify=context, proxy=proxy, limits=httpx.Limits(keepalive_expiry=_KEEPALIVE_S))
        if proxy is not None and proxy.startswith("https:"):
            self._pool._proxy_ssl_context = context  # type: ignore[attr-defined]  # httpx 0.27 has no other way
        self._single = _Single(self._pool, backend)
        self._pool = self._single  # type: ignore[assignment]  # all of a pool that httpx calls

    @property
    def idle(self) -> bool:
        """Whether the connection can take a request: open at both ends, unused, not expired."""
        connection = self._single.connection
        return connection is not None and connection.is_available() and not connection.has_expired()


class Connections:
    """All connections of one client. Created in the event loop that uses it.

    Args:
        api, results, proxies: connect to the service, to result hosts (guarded), to proxies.
        make_context: builds the TLS settings; slow, so run in a thread.
    """

    def __init__(
        self, *, api: Backend, results: Backend, proxies: Backend, make_context: Callable[[], ssl.SSLContext]
    ) -> None:
        self._backends = {False: api, True: results}
        self._to_proxies = proxies
        self._make_context = make_context
        self._context_made: ssl.SSLContext | None = None
        self._proxies: dict[tuple[str, str], str | None] = {}
        self._settings = SharedWork(threads=4)
        self._idle: defaultdict[Hashable, deque[_Transport]] = defaultdict(deque)
        self._open: set[_Transport] = set()
        self._closing: set[asyncio.Future[None]] = set()
        self._next_look = 0.0

    def count(self) -> tuple[int, int]:
        """All connections, and the idle ones among them."""
        return len(self._open), sum(map(len, self._idle.values()))

    @asynccontextmanager
    async def ask(self, request: httpx.Request, *, result: bool) -> AsyncIterator[httpx.Response]:
        """Send the request over a connection of its own. Raises httpx's errors.

        API requests and downloads never share a connection.
        """
        url = request.url
        context = await self._context()
        proxy = await self._proxy(url.scheme, url.host)
        await self._close_old()
        key = (result, proxy, url.scheme, url.host, url.port)
        transport = await self._kept(key)
        if transport is None:
            backend = self._backends[result] if proxy is None else self._to_proxies
            transport = _Transport(backend, context, proxy)
            self._open.add(transport)
        try:
            response = await transport.handle_async_request(request)
            yield response
            await response.aclose()
        except BaseException:
            await self._close(transport)
            raise
        if transport.idle and transport in self._open:
            self._idle[key].append(transport)
        else:
            await self._close(transport)

    async def aclose(self) -> None:
        """Close all connections, even those in use."""
        self._idle.clear()
        for transport in list(self._open):
            await self._close(transport)
        if self._closing:
            await asyncio.wait(self._closing)

    async def _kept(self, key: Hashable) -> _Transport | None:
        """The usable transport used last; others are closed."""
        while self._idle[key]:
            transport = self._idle[key].pop()
            if transport.idle:
                return transport
            await self._close(transport)
        return None

    async def _close_old(self) -> None:
        """Every few seconds, close idle connections that expired or that the host closed."""
        if time.monotonic() < self._next_look:
            return
        self._next_look = time.monotonic() + _LOOK_EVERY_S
        old = {transport for idle in self._idle.values() for transport in idle if not transport.idle}
        kept = {key: deque(t for t in idle if t not in old) for key, idle in self._idle.items()}
        self._idle = defaultdict(deque, {key: idle for key, idle in kept.items() if idle})
        for transport in old:
            await self._close(transport)

    async def _close(self, transport: _Transport) -> None:
        """Close it in a task that a second cancellation of the caller does not stop."""
        self._open.discard(transport)
        closing = asyncio.ensure_future(transport.aclose())
        self._closing.add(closing)
        closing.add_done_callback(self._closing.discard)
        await asyncio.shield(closing)

    async def _context(self) -> ssl.SSLContext:
        if self._context_made is None:
            try:
                self._context_made = await self._settings.run(self._make_context)
            except (OSError, ValueError):
                raise ConfigurationError(
                    "The TLS certificates of this computer cannot be read.",
                    hint="Check SSL_CERT_FILE and SSL_CERT_DIR in the environment.",
                    sent=Sent.NO,
                ) from None
        return self._context_made

    async def _proxy(self, scheme: str, host: str) -> str | None:
        """The proxy's URL or None, found in a thread."""
        if (scheme, host) not in self._proxies:
            if len(self._proxies) > 1000:
                self._proxies.clear()
            try:
                self._proxies[scheme, host] = await self._settings.run(proxy_for, scheme, host)
            except RivyaError as error:
                raise error.about() from None  # a separate error for each caller
        return self._proxies[scheme, host]
