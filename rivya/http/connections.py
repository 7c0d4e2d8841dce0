"""Connections: one for each request under way, kept for the next request to the same origin.

A connection whose request failed or was cancelled is closed, whatever state it is in: httpcore 1.0 leaves some open
when it is cancelled between two of its steps. Its pool also looks at every connection for every request, which with
hundreds of requests at once costs more than everything else. How many there may be is the engine's decision.
"""

from __future__ import annotations

import asyncio
import ssl
from collections import defaultdict, deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import anyio
from anyio.to_thread import run_sync

from ..errors import ConfigurationError, Sent
from .network import Backend, httpcore, httpx
from .proxy_settings import proxy_for

_KEEPALIVE_S = 60.0
"""Long enough to keep the connection between two polls and between two prompts."""


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
        through = None if proxy is None else httpx.Proxy(proxy)
        if through is not None and through.url.scheme == "https":
            through.ssl_context = context
        super().__init__(verify=context, proxy=through, limits=httpx.Limits(keepalive_expiry=_KEEPALIVE_S))
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
        make_context: builds the TLS settings; slow, so it runs in a thread.
    """

    def __init__(self, *, api: Backend, results: Backend, make_context: Callable[[], ssl.SSLContext]) -> None:
        self._backends = {False: api, True: results}
        self._make_context = make_context
        self._building: asyncio.Future[ssl.SSLContext] | None = None
        self._proxies: dict[tuple[str, str], str | None] = {}
        self._idle: defaultdict[tuple[bool, str | None, str], deque[_Transport]] = defaultdict(deque)
        self._open: set[_Transport] = set()

    def count(self) -> tuple[int, int]:
        """All connections, and those among them that wait for a request."""
        return len(self._open), sum(map(len, self._idle.values()))

    @asynccontextmanager
    async def ask(self, request: httpx.Request, *, result: bool) -> AsyncIterator[httpx.Response]:
        """Send the request over a connection that no other request uses. Raises what httpx raises.

        Requests to the service and those for results share no connection.
        """
        context = await self._context()
        proxy = await self._proxy(request.url.scheme, request.url.host)
        idle = self._idle[result, proxy, str(request.url.copy_with(raw_path=b"/"))]
        transport = await self._kept(idle)
        if transport is None:
            backend = self._backends[result] if proxy is None else Backend()
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
            idle.append(transport)
        else:
            await self._close(transport)

    async def aclose(self) -> None:
        """Close every connection, also those in use."""
        self._idle.clear()
        for transport in list(self._open):
            await self._close(transport)

    async def _kept(self, idle: deque[_Transport]) -> _Transport | None:
        """The one used last that can take a request; those that cannot any more are closed."""
        while idle and not idle[0].idle:
            await self._close(idle.popleft())
        while idle:
            transport = idle.pop()
            if transport.idle:
                return transport
            await self._close(transport)
        return None

    async def _close(self, transport: _Transport) -> None:
        self._open.discard(transport)
        await transport.aclose()

    async def _context(self) -> ssl.SSLContext:
        if self._building is None:
            self._building = asyncio.ensure_future(run_sync(self._make_context, abandon_on_cancel=True))
        await asyncio.wait({self._building})
        try:
            return self._building.result()
        except (OSError, ValueError):
            self._building = None
            raise ConfigurationError(
                "The TLS certificates of this computer cannot be read.",
                hint="Check SSL_CERT_FILE and SSL_CERT_DIR in the environment.",
                sent=Sent.NO,
            ) from None

    async def _proxy(self, scheme: str, host: str) -> str | None:
        """The proxy's URL, or None. Asked for in a thread."""
        if (scheme, host) not in self._proxies:
            if len(self._proxies) > 1000:
                self._proxies.clear()
            self._proxies[scheme, host] = await run_sync(proxy_for, scheme, host, abandon_on_cancel=True)
        return self._proxies[scheme, host]
