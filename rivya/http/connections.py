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

from ..errors import RivyaError
from .network import Backend, SharedWork, closing, httpcore, httpx
from .proxy_settings import proxy_for

_KEEPALIVE_S = 60.0
"""Keeps a connection between two polls and between two prompts."""

_LOOK_EVERY_S = 5.0
"""Interval of the search for unusable idle connections."""


class _Connection(httpcore.AsyncNetworkBackend):
    """An httpx transport with one connection in place of httpcore's pool. Sees its socket when opened."""

    def __init__(self, backend: Backend, context: ssl.SSLContext, proxy: str | None) -> None:
        limits = httpx.Limits(keepalive_expiry=_KEEPALIVE_S)
        self._transport = httpx.AsyncHTTPTransport(verify=context, proxy=proxy, limits=limits)
        pool: Any = self._transport._pool
        pool._network_backend = self  # httpx gives no way to choose it
        if proxy is not None and proxy.startswith("https:"):
            pool._proxy_ssl_context = context  # httpx 0.27 has no other way
        self._transport._pool = self  # type: ignore[assignment]  # only its handle_async_request is called
        self._create = pool.create_connection
        self._backend = backend
        self._inner: httpcore.AsyncConnectionInterface | None = None
        self._stream: httpcore.AsyncNetworkStream | None = None

    @property
    def idle(self) -> bool:
        """Whether it can take a request: open at both ends, unused, not expired."""
        return self._inner is not None and self._inner.is_available() and not self._inner.has_expired()

    async def request(self, request: httpx.Request) -> httpx.Response:
        return await self._transport.handle_async_request(request)

    async def connect_tcp(self, *args: Any, **options: Any) -> httpcore.AsyncNetworkStream:
        self._stream = await self._backend.connect_tcp(*args, **options)
        return self._stream

    async def handle_async_request(self, request: httpcore.Request) -> httpcore.Response:
        if self._inner is None:
            self._inner = self._create(request.url.origin)
        return await self._inner.handle_async_request(request)

    async def aclose(self) -> None:
        if self._inner is not None:
            await self._inner.aclose()
        if self._stream is not None:  # The connection forgets it if TLS or SOCKS fails.
            await self._stream.aclose()


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
        self._settings = SharedWork(threads=4, kept=1000)
        self._idle: defaultdict[Hashable, deque[_Connection]] = defaultdict(deque)
        self._open: set[_Connection] = set()
        self._next_look = 0.0

    @asynccontextmanager
    async def ask(self, request: httpx.Request, *, result: bool) -> AsyncIterator[httpx.Response]:
        """Send the request over a connection of its own. Raises httpx's errors, and `ConfigurationError`.

        API requests and downloads never share a connection.
        """
        url = request.url
        try:
            context = await self._settings.run(self._make_context)
            proxy = await self._settings.run(proxy_for, url.scheme, url.host)
        except RivyaError as error:
            raise error.about() from None  # a separate error for each caller
        await self._close_old()
        key = (result, proxy, url.scheme, url.host, url.port)
        connection = await self._kept(key)
        if connection is None:
            backend = self._backends[result] if proxy is None else self._to_proxies
            connection = _Connection(backend, context, proxy)
            self._open.add(connection)
        try:
            response = await connection.request(request)
            yield response
            await response.aclose()
        except BaseException:
            await self._close(connection)
            raise
        if connection.idle and connection in self._open:
            self._idle[key].append(connection)
        else:
            await self._close(connection)

    async def aclose(self) -> None:
        """Close all connections, even those in use."""
        self._idle.clear()
        for connection in list(self._open):
            await self._close(connection)

    async def _kept(self, key: Hashable) -> _Connection | None:
        """The usable connection used last; others are closed."""
        while self._idle[key]:
            connection = self._idle[key].pop()
            if connection.idle:
                return connection
            await self._close(connection)
        return None

    async def _close_old(self) -> None:
        """Every few seconds, close idle connections that expired or that the host closed."""
        if time.monotonic() < self._next_look:
            return
        self._next_look = time.monotonic() + _LOOK_EVERY_S
        old = {connection for idle in self._idle.values() for connection in idle if not connection.idle}
        kept = {key: deque(one for one in idle if one not in old) for key, idle in self._idle.items()}
        self._idle = defaultdict(deque, {key: idle for key, idle in kept.items() if idle})
        for connection in old:
            await self._close(connection)

    async def _close(self, connection: _Connection) -> None:
        self._open.discard(connection)
        await asyncio.shield(closing(connection.aclose()))
