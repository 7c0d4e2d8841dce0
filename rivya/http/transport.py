"""One attempt over HTTP: the only module that knows httpx.

What it promises: the key goes to the base URL's scheme, host and port and nowhere else; redirects of the API are not
followed; answers are bounded; every failure says whether the request may have arrived; nothing of httpx leaves here,
neither types nor exceptions nor log lines. It never repeats anything: that is decided above it.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from types import MappingProxyType

import httpcore
import httpx

from .. import __version__
from ..errors import ConfigurationError, RivyaError, Sent, UnusableAnswerError, ValidationError
from ..secret import Secret
from . import download, network, trust
from .body import Body
from .flight import Flight, current, fly
from .guard import DEFAULT_ALLOWED, Guard, check_loopback, is_loopback
from .outgoing import Form, checked_headers, encode, pieces
from .pool import Answer
from .proxies import Routes
from .values import MAX_ANSWER_BYTES, clean_text

__all__ = ["Form", "Reply", "Timeouts", "Transport"]

MAX_RESULT_BYTES = 64 * 1024 * 1024
RESULT_TIME_CAP_S = 300.0

_SLOWEST_LINE = 125_000
"""Bytes per second of a 1 Mbit/s line: what the time limits of an upload are made for."""
_SYSTEM_BUFFER_BYTES = 4 * 1024 * 1024
"""Most that the operating system takes off us before it has left the machine."""

_PATH = r"(/[A-Za-z0-9_-][A-Za-z0-9._-]*)+"


@dataclass(frozen=True)
class Timeouts:
    """Seconds for each phase of one exchange; an upload gets more, by its size.

    Attributes:
        connect_s: name lookup, connection and, once more, TLS.
        read_s: between two pieces of an answer.
        write_s: for each piece of 64 KiB of a request.
        total_s: a whole exchange without a body to send.
        window_s, window_bytes: in each window a download must bring this many bytes.
    """

    connect_s: float = 10.0
    read_s: float = 60.0
    write_s: float = 60.0
    total_s: float = 150.0
    window_s: float = 20.0
    window_bytes: int = 20 * 1024


@dataclass(frozen=True)
class Reply:
    """An answer of any status. Header names are in lower case; the body is complete for a 2xx status."""

    status: int
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False)


class Transport:
    """The HTTP client of one configuration. Cheap to make; what costs time is built at the first exchange.

    Args:
        base_url: scheme, host and port; https, or http on this machine.
        key: sent as Bearer token to that origin only.
        allowed_networks: networks that results may come from although they are private.
        timeouts: how long each phase may take.
        resolver: gives the addresses of a name, in a thread; the system's by default.
    """

    def __init__(
        self,
        base_url: str,
        key: Secret | None,
        *,
        allowed_networks: Sequence[str] = DEFAULT_ALLOWED,
        timeouts: Timeouts | None = None,
        resolver: network.Resolver | None = None,
    ) -> None:
        self._base = httpx.URL(base_url)
        plain = self._base.scheme == "http"
        self._local = is_loopback(self._base.host)
        if not self._base.host or not (self._base.scheme == "https" or (plain and self._local)):
            raise ConfigurationError("The Rivya base URL is neither https nor http on this machine.")
        self._key = key
        self._timeouts = timeouts or Timeouts()
        self._guard = Guard(allowed_networks, local=self._local)
        self._routes = Routes(
            api=network.Backend(resolver, check_loopback if plain else None),
            results=network.Backend(resolver, self._guard.check_address),
            make_context=trust.context,
        )

    async def exchange(
        self,
        method: str,
        path: str,
        *,
        body: bytes | None = None,
        form: Form | None = None,
        headers: Mapping[str, str] = MappingProxyType({}),
        with_key: bool = True,
        max_bytes: int = MAX_ANSWER_BYTES,
    ) -> Reply:
        """Send one request to ``path`` at the base URL, once, and give its answer, whatever its status.

        An answer whose status is an error keeps what could be read of its body, be it broken or too large.

        Raises:
            RivyaConnectionError, RivyaTimeoutError: no usable answer. ``sent`` is NEVER where the request
                provably did not leave (name lookup, connection, TLS, tunnel) and UNKNOWN otherwise.
            UnusableAnswerError: a redirect, or a good answer that is too large or cannot be decompressed.
            ValidationError: a path or header that must not be sent.
        """
        url = self._url(path)
        plain_headers = {"Accept": "application/json", **checked_headers(headers)}
        if form is not None:
            boundary, body = encode(form)
            plain_headers["Content-Type"] = f"multipart/form-data; boundary={boundary}"
        elif body is not None:
            plain_headers["Content-Type"] = "application/json"
        size = len(body or b"")

        async def talk(flight: Flight) -> Reply:
            key = self._key.reveal() if with_key and self._key is not None else None
            own = {"Authorization": f"Bearer {key}"} if key is not None else {}
            read_s = self._timeouts.read_s + min(size, _SYSTEM_BUFFER_BYTES) / _SLOWEST_LINE
            answer = await self._send(flight, method, url, {**plain_headers, **own}, body, read_s)
            try:
                return await _reply(answer, max_bytes, key)
            finally:
                await answer.aclose()

        total_s = self._timeouts.total_s + 2.5 * size / _SLOWEST_LINE
        return await fly(talk, total_s, "Rivya")

    async def download(
        self, url: str, *, max_bytes: int = MAX_RESULT_BYTES, time_cap_s: float = RESULT_TIME_CAP_S
    ) -> bytes:
        """The bytes behind a result URL, without key or cookies, guarded against hosts and answers of strangers.

        Raises:
            NotFoundError: 401, 403, 404 or 410: the URL has expired, the task may have a new one. ``status`` is set.
            ServiceUnavailableError: 408, 429 or 5xx. ``status`` is set.
            UnusableAnswerError: a refused URL, host or address, too many redirects, too large, empty, and so on.
            RivyaConnectionError, RivyaTimeoutError: as for `exchange`.
        """
        times = self._timeouts

        async def talk(flight: Flight) -> bytes:
            async def ask(hop: str) -> Answer:
                target = _parsed(hop)
                self._guard.check_url_host(target.raw_host.decode("ascii"))
                accepted = {"Accept": "image/*"}
                return await self._send(flight, "GET", target, accepted, None, times.read_s, result=True)

            return await download.fetch(
                ask,
                url,
                plain_http=self._local,
                max_bytes=max_bytes,
                window_s=times.window_s,
                window_bytes=times.window_bytes,
            )

        return await fly(talk, time_cap_s, download.host_of(url))

    async def aclose(self) -> None:
        """Close all connections."""
        token = current.set(Flight())
        try:
            await self._routes.aclose()
        finally:
            current.reset(token)

    def _url(self, path: str) -> httpx.URL:
        """The path at the base URL. What could lead anywhere else is refused before anything is sent."""
        if len(path) > 1024 or not re.fullmatch(_PATH, path):
            raise ValidationError(f"This path cannot be asked: {clean_text(path, 100)}", sent=Sent.NO)
        url = self._base.copy_with(raw_path=path.encode("ascii"))
        if (url.scheme, url.host, url.port) != (self._base.scheme, self._base.host, self._base.port):
            raise ValidationError("A path must not change where a request goes.", sent=Sent.NO)
        return url

    async def _send(
        self,
        flight: Flight,
        method: str,
        url: httpx.URL,
        headers: Mapping[str, str],
        body: bytes | None,
        read_s: float,
        *,
        result: bool = False,
    ) -> Answer:
        times = self._timeouts
        fields = {
            "Host": url.netloc.decode("ascii"),
            "User-Agent": f"rivya-nodes/{__version__}",
            "Accept-Encoding": "identity",
            **headers,
        }
        if body is not None:
            fields["Content-Length"] = str(len(body))
        request = httpcore.Request(
            method,
            httpcore.URL(scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path),
            headers=[(name.encode("ascii"), value.encode("ascii")) for name, value in fields.items()],
            content=pieces(body) if body is not None else None,
            extensions={
                "timeout": {"connect": times.connect_s, "read": read_s, "write": times.write_s, "pool": None},
                "trace": flight.trace,
            },
        )
        return await self._routes.ask(request, result=result)


async def _reply(answer: Answer, max_bytes: int, key: str | None) -> Reply:
    """Read the answer. Should it hold the key, which only a broken service would send back, the key is cut out."""
    headers = download.lower_headers(answer.headers)
    status = answer.status
    if not 200 <= status < 300 and status < 400:
        raise UnusableAnswerError(
            f"Rivya answered with a redirect or an upgrade (HTTP {status}), which is not followed.",
            status=status,
            charged=None,
            sent=Sent.MAYBE,
        )
    body = None
    try:
        body = Body(
            "the answer of Rivya", max_bytes, headers.get("content-encoding"), headers.get("content-length")
        )
        async with aclosing(answer.chunks()) as chunks:
            async for chunk in chunks:
                for _ in body.feed(chunk):
                    await asyncio.sleep(0)
        data = body.finish()
    except Exception as error:
        if status < 400:
            if isinstance(error, RivyaError):
                error.status = status
            raise
        data = body.so_far() if body is not None else b""
    if key:
        data = data.replace(key.encode("ascii"), b"[API key]")
        headers = {name: value.replace(key, "[API key]") for name, value in headers.items()}
    return Reply(status, MappingProxyType(headers), data)


def _parsed(url: str) -> httpx.URL:
    try:
        return httpx.URL(url)
    except (httpx.InvalidURL, ValueError):
        raise UnusableAnswerError(
            f"The result's address at {download.host_of(url)} cannot be read.",
            charged=None,
            sent=Sent.NO,
        ) from None
