"""Which connection a request takes: a kept one or a new one, straight or through the proxy that the environment names.

Proxies are found as Python's standard library finds them (environment, and the system's settings on Windows and
macOS). Requests to this machine never take one: plain http is allowed there only because it does not leave it.
"""

from __future__ import annotations

import asyncio
import ssl
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, cast
from urllib.request import getproxies, proxy_bypass

import anyio
from anyio.to_thread import run_sync

from ..errors import ConfigurationError, Sent
from .guard import is_loopback
from .network import Backend, httpcore, httpx

_KEEPALIVE_S = 60.0
"""Long enough to keep the connection between two polls and between two prompts."""


class OneConnection(httpx.AsyncBaseTransport, httpcore.AsyncNetworkBackend):
    """An httpx transport with at most one connection, which it closes whatever state httpcore left it in.

    It stands between httpcore and the network backend to know that connection: httpcore 1.0 forgets one whose TLS
    handshake or SOCKS dialogue was cancelled.

    Args:
        backend: makes the connection.
        make_pool: makes the pool of httpcore that opens the connection, with this object as its network backend.
    """

    def __init__(self, backend: Backend, make_pool: Callable[..., httpcore.AsyncConnectionPool]) -> None:
        self._backend = backend
        self._pool = make_pool(network_backend=self)
        self._connection: httpcore.AsyncConnectionInterface | None = None
        self._stream: httpcore.AsyncNetworkStream | None = None

    async def connect_tcp(self, *args: Any, **options: Any) -> httpcore.AsyncNetworkStream:
        self._stream = await self._backend.connect_tcp(*args, **options)
        return self._stream

    @property
    def usable(self) -> bool:
        """Whether it has a connection that can take a request: open, idle, and not too old."""
        found = self._connection
        return found is not None and found.is_available() and not found.has_expired()

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        url = request.url
        sent = httpcore.Request(
            request.method,
            httpcore.URL(scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path),
            headers=request.headers.raw,
            content=cast("httpx.AsyncByteStream", request.stream),
            extensions=request.extensions,
        )
        if self._connection is None:
            self._connection = self._pool.create_connection(sent.url.origin)
        answer = await self._connection.handle_async_request(sent)
        return httpx.Response(
            answer.status, headers=answer.headers, stream=_Content(answer), extensions=answer.extensions
        )

    async def aclose(self) -> None:
        with anyio.CancelScope(shield=True):
            if self._connection is not None:
                await self._connection.aclose()
            if self._stream is not None:
                await self._stream.aclose()


class _Content(httpx.AsyncByteStream):
    """The body of an answer as it arrives, compressed or not."""

    def __init__(self, answer: httpcore.Response) -> None:
        self._answer = answer

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self._answer.aiter_stream()

    async def aclose(self) -> None:
        with anyio.CancelScope(shield=True):
            await self._answer.aclose()


class Routes:
    """Transports, one for each request under way; kept with their connection for the next request to the same origin.

    A transport whose request failed or was cancelled is closed whole: httpcore 1.0 leaves connections open when it is
    cancelled between two of its steps. Its pool also looks at every connection for every request, which with hundreds
    of requests at once costs more than everything else.

    Built inside the event loop that uses it, at first use.

    Args:
        api: makes the connections to the service. results: makes those to the hosts of results, guarded.
        make_context: builds the TLS settings; slow, so it runs in a thread.
    """

    def __init__(self, *, api: Backend, results: Backend, make_context: Callable[[], ssl.SSLContext]) -> None:
        self._backends = {False: api, True: results}
        self._make_context = make_context
        self._building: asyncio.Future[ssl.SSLContext] | None = None
        self._proxies: dict[tuple[str, str], str | None] = {}
        self._idle: dict[tuple[bool, str | None, str], deque[OneConnection]] = {}
        self.open: set[OneConnection] = set()

    @asynccontextmanager
    async def send(self, request: httpx.Request, *, result: bool) -> AsyncIterator[httpx.Response]:
        """Send the request over a transport that no other request uses. Raises what httpcore raises.

        Requests to the service and those for results share no connection.
        """
        url = request.url
        context = await self._context()
        proxy = await self._proxy(url.scheme, url.host)
        idle = self._idle.setdefault((result, proxy, f"{url.scheme}://{url.netloc.decode('ascii')}"), deque())
        transport = await self._kept(idle)
        if transport is None:
            transport = self._transport(result, proxy, context)
            self.open.add(transport)
        try:
            response = await transport.handle_async_request(request)
            yield response
            await response.aclose()
        except BaseException:
            await self._close(transport)
            raise
        if transport.usable and transport in self.open:
            idle.append(transport)
        else:
            await self._close(transport)

    async def aclose(self) -> None:
        """Close every connection, also those in use."""
        self._idle.clear()
        for transport in list(self.open):
            await self._close(transport)

    async def _kept(self, idle: deque[OneConnection]) -> OneConnection | None:
        """The transport that was used last, if the other side has not closed its connection. The oldest run out."""
        while idle and not idle[0].usable:
            await self._close(idle.popleft())
        while idle:
            transport = idle.pop()
            if transport.usable:
                return transport
            await self._close(transport)
        return None

    async def _close(self, transport: OneConnection) -> None:
        self.open.discard(transport)
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
        """The proxy's URL, or None. Asked in a thread: some systems look the host up to answer."""
        if (scheme, host) not in self._proxies:
            if len(self._proxies) > 1000:
                self._proxies.clear()
            self._proxies[scheme, host] = await run_sync(proxy_for, scheme, host, abandon_on_cancel=True)
        return self._proxies[scheme, host]

    def _transport(self, result: bool, proxy: str | None, context: ssl.SSLContext) -> OneConnection:
        """A new one, straight or through the proxy. How many there may be is the engine's decision."""
        options: dict[str, Any] = {
            "ssl_context": context,
            "keepalive_expiry": _KEEPALIVE_S,
        }
        if proxy is None:
            return OneConnection(self._backends[result], partial(httpcore.AsyncConnectionPool, **options))
        try:
            named = httpx.Proxy(
                proxy.replace("socks5h:", "socks5:", 1)
            )  # either way the proxy looks names up
            url = named.url
            if not url.host:
                raise ValueError("no host")
            options["proxy_url"] = httpcore.URL(
                scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=b"/"
            )
            options["proxy_auth"] = named.raw_auth
            if url.scheme == "https":
                options["proxy_ssl_context"] = context
            kind = httpcore.AsyncSOCKSProxy if url.scheme == "socks5" else httpcore.AsyncHTTPProxy
            return OneConnection(Backend(), partial(kind, **options))
        except (ImportError, RuntimeError):
            raise _no_proxy(
                "is a SOCKS proxy, which needs one more package", "Run: pip install socksio"
            ) from None
        except (ValueError, httpx.InvalidURL):
            raise _no_proxy(
                "cannot be used", "Correct HTTPS_PROXY or ALL_PROXY in the environment."
            ) from None


def proxy_for(scheme: str, host: str) -> str | None:
    """The URL of the proxy for a host, None for a direct connection."""
    if is_loopback(host) or proxy_bypass(host):
        return None
    proxies = getproxies()
    named = proxies.get(scheme) or proxies.get("all")
    if not named:
        return None
    return named if "://" in named else f"http://{named}"


def _no_proxy(why: str, hint: str) -> ConfigurationError:
    return ConfigurationError(f"The proxy that is set {why}.", hint=hint, sent=Sent.NO)
