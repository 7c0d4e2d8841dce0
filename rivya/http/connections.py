"""Connections: one for each request under way, kept for the next request to the same origin.

A connection whose request failed or was cancelled is closed, whatever state it is in: httpcore 1.0 leaves some open
when it is cancelled between two of its steps. Its pool also looks at every connection for every request, which with
hundreds of requests at once costs more than everything else. How many there may be is the engine's decision.
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
"""Long enough to keep the connection between two polls and between two prompts."""

_LOOK_EVERY_S = 5.0
"""How often connections that no request can take any more are looked for."""


class _Single(httpcore.AsyncNetworkBackend):
    """In place of httpcore's pool: one connection, which the pool makes. Sees its socket when that is opened."""

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
            if self._stream is not None:  # The connection forgets it when TLS or SOCKS does not come about.
                await self._stream.aclose()


class _Transport(httpx.AsyncHTTPTransport):
    """httpx's transport over a single connection."""

    def __init__(self, backend: Backend, context: ssl.SSLContext, proxy: str | None) -> None:
        super().__init__(verify=context, proxy=proxy, limits=httpx.Limits(keepalive_expiry=_KEEPALIVE_S))
        if proxy is not None and proxy.startswith("https:"):
            self._pool._proxy_ssl_context = context  # type: ignore[attr-defined]  # httpx 0.27 has no other way
        self._single = _Single(self._pool, backend)
        self._pool = self._single  # type: ignore[assignment]

    @property
    def idle(self) -> bool:
        """Whether its connection can take the next request: open at both ends, without a request, not too old."""
        connection = self._single.connection
        return connection is not None and connection.is_available() and not connection.has_expired()


class Connections:
    """All connections of one client. Built inside the event loop that uses it, at first use.

    Args:
        api: makes the connections to the service. results: makes those to the hosts of results, guarded.
        proxies: makes those to proxies.
        make_context: builds the TLS settings; slow, so it runs in a thread.
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
        """All connections, and those among them that wait for a request."""
        return len(self._open), sum(map(len, self._idle.values()))

    @asynccontextmanager
    async def ask(self, request: httpx.Request, *, result: bool) -> AsyncIterator[httpx.Response]:
        """Send the request over a connection that no other request uses. Raises what httpx raises.

        Requests to the service and those for results share no connection.
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
        """Close every connection, also those in use."""
        self._idle.clear()
        for transport in list(self._open):
            await self._close(transport)
        if self._closing:
            await asyncio.wait(self._closing)

    async def _kept(self, key: Hashable) -> _Transport | None:
        """The transport used last that can take a request; those that cannot any more are closed."""
        while self._idle[key]:
            transport = self._idle[key].pop()
            if transport.idle:
                return transport
            await self._close(transport)
        return None

    async def _close_old(self) -> None:
        """Every few seconds, close the idle connections to any host that have expired or that the host has closed."""
        if time.monotonic() < self._next_look:
            return
        self._next_look = time.monotonic() + _LOOK_EVERY_S
        old = {transport for idle in self._idle.values() for transport in idle if not transport.idle}
        kept = {key: deque(t for t in idle if t not in old) for key, idle in self._idle.items()}
        self._idle = defaultdict(deque, {key: idle for key, idle in kept.items() if idle})
        for transport in old:
            await self._close(transport)

    async def _close(self, transport: _Transport) -> None:
        """Close it in a task of its own, which goes on when the caller is cancelled once more."""
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
        """The proxy's URL, or None. Asked for in a thread."""
        if (scheme, host) not in self._proxies:
            if len(self._proxies) > 1000:
                self._proxies.clear()
            try:
                self._proxies[scheme, host] = await self._settings.run(proxy_for, scheme, host)
            except RivyaError as error:
                raise error.about() from None  # an error of its own for each caller
        return self._proxies[scheme, host]
