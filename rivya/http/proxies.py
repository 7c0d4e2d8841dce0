"""Which connections a request takes: straight, or through the proxy that the environment names.

Proxies are found as Python's standard library finds them (environment, and the system's settings on Windows and
macOS). Requests to this machine never take one: plain http is allowed there only because it does not leave it.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from typing import Any
from urllib.parse import unquote, urlsplit

import httpcore

from ..errors import ConfigurationError, Sent
from . import network
from .pool import Answer, Connect, Pool
from .proxy_settings import proxy_for

_KEEPALIVE_S = 60.0
"""Long enough to keep the connection between two polls and between two prompts."""

_OPTIONS: dict[str, Any] = {"keepalive_expiry": _KEEPALIVE_S, "http1": True, "http2": False}


class Routes:
    """The connection pools of one transport; all built inside the event loop that uses them, at first use.

    Args:
        api: makes the connections to the service. results: makes those to the hosts of results, guarded.
        make_context: builds the TLS settings; slow, so it runs in a thread.
    """

    def __init__(
        self, *, api: network.Backend, results: network.Backend, make_context: Callable[[], ssl.SSLContext]
    ) -> None:
        self._backends = {False: api, True: results}
        self._make_context = make_context
        self._building: asyncio.Future[ssl.SSLContext] | None = None
        self._get_threads: dict[tuple[bool, str | None], Pool] = {}
        self._known: dict[tuple[str, str], str | None] = {}

    async def ask(self, request: httpcore.Request, *, result: bool) -> Answer:
        """Send the request over a pool of its kind; the pools of the service and of results share nothing."""
        host = request.url.host.decode("ascii")
        context = await self._context()
        proxy = await self._proxy(request.url.scheme.decode("ascii"), host)
        pool = self._get_threads.get((result, proxy))
        if pool is None:
            pool = self._get_threads[result, proxy] = Pool(self._factory(result, proxy, context))
        return await pool.ask(request)

    async def aclose(self) -> None:
        """Close every connection."""
        pools, self._get_threads = list(self._get_threads.values()), {}
        for pool in pools:
            await pool.aclose()

    async def _context(self) -> ssl.SSLContext:
        if self._building is None:
            self._building = asyncio.ensure_future(network.in_thread(self._make_context))
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
        """The proxy's URL, or None. Asked in a thread: some systems look the host up to answer."""
        if (scheme, host) not in self._known:
            if len(self._known) > 1000:
                self._known.clear()
            self._known[scheme, host] = await network.in_thread(proxy_for, scheme, host)
        return self._known[scheme, host]

    def _factory(self, result: bool, proxy: str | None, context: ssl.SSLContext) -> Connect:
        """What makes a connection, straight or through the proxy. How many there may be is the engine's decision."""
        if proxy is None:
            backend = self._backends[result]
            return httpcore.AsyncConnectionPool(
                ssl_context=context, network_backend=backend, **_OPTIONS
            ).create_connection
        parts = urlsplit(proxy)
        auth = None
        if parts.username is not None:
            auth = (unquote(parts.username).encode(), unquote(parts.password or "").encode())
        address = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"
        common = {
            "proxy_auth": auth,
            "ssl_context": context,
            "network_backend": network.Backend(),
            **_OPTIONS,
        }
        if parts.scheme == "socks5":
            return httpcore.AsyncSOCKSProxy(address, **common).create_connection
        return httpcore.AsyncHTTPProxy(address, **common).create_connection
