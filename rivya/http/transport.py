"""One HTTP attempt; callers decide about retries.

The key goes only to the base URL's scheme, host and port; API redirects are not followed; responses are bounded; each
failure says whether the request may have arrived; no httpx type, exception or log line leaves this package.
"""

from __future__ import annotations

import asyncio
import os
import re
import ssl
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from io import BytesIO
from types import MappingProxyType
from typing import Any, TypeVar

import anyio

from .. import __version__
from ..errors import (
    ConfigurationError,
    RivyaConnectionError,
    RivyaError,
    RivyaTimeoutError,
    Sent,
    UnusableAnswerError,
    ValidationError,
)
from ..secret import Secret
from . import download, trust
from .body import Body
from .connections import Connections
from .guard import DEFAULT_ALLOWED, Guard, check_loopback, is_loopback
from .network import Attempt, Backend, Resolver, Timeouts, current, httpx
from .values import MAX_ANSWER_BYTES, clean_text

__all__ = ["Form", "Reply", "Timeouts", "Transport"]

T = TypeVar("T")

MAX_RESULT_BYTES = 64 * 1024 * 1024
RESULT_TIME_CAP_S = 300.0

_SLOWEST_LINE = 125_000
"""Bytes per second of a 1 Mbit/s line, the slowest that upload timeouts allow for."""
_SYSTEM_BUFFER_BYTES = 4 * 1024 * 1024
"""Maximum bytes that the operating system buffers before sending."""

_PATH = r"(/[A-Za-z0-9_-][A-Za-z0-9._-]*)+"
_MIME = r"[a-z]{1,32}/[a-z0-9.+-]{1,64}"

_BEFORE_SENDING = (
    httpx.ConnectError,
    httpx.ConnectTimeout,
    httpx.PoolTimeout,
    httpx.ProxyError,
    httpx.UnsupportedProtocol,
)
"""Failures before a request is sent."""


@dataclass(frozen=True)
class Form:
    """A multipart upload: the part ``file``, and text fields."""

    file: bytes = field(repr=False)
    filename: str
    mime: str
    fields: tuple[tuple[str, str], ...]

    def content(self) -> dict[str, Any]:
        """Arguments for `httpx.Request`; a file object, because bytes would be sent in one piece."""
        if not re.fullmatch(_MIME, self.mime):
            raise ValidationError("The type of an upload cannot be sent.", sent=Sent.NO)
        return {"data": dict(self.fields), "files": {"file": (self.filename, BytesIO(self.file), self.mime)}}


@dataclass(frozen=True)
class Reply:
    """A response of any status. Header names are lower-case; the body is complete if the status is 2xx."""

    status: int
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False)


class Transport:
    """The HTTP client of one configuration. Cheap to create; slow parts are built on first use.

    Args:
        base_url: scheme, host and port; https, or http on this machine.
        key: sent as Bearer token to that origin only.
        allowed_networks: private networks that results may come from.
        resolver: returns a name's addresses, in a thread; by default the system's.
    """

    def __init__(
        self,
        base_url: str,
        key: Secret,
        *,
        allowed_networks: Sequence[str] = DEFAULT_ALLOWED,
        timeouts: Timeouts | None = None,
        resolver: Resolver | None = None,
    ) -> None:
        self._base = httpx.URL(base_url)
        plain = self._base.scheme == "http"
        self._local = is_loopback(self._base.host)
        if not self._base.host or not (self._base.scheme == "https" or (plain and self._local)):
            raise ConfigurationError("The Rivya base URL is neither https nor http on this machine.")
        self._key = key
        self._timeouts = timeouts or Timeouts()
        self._guard = Guard(allowed_networks, local=self._local)
        self._connections = Connections(
            api=Backend(resolver, check_loopback if plain else None),
            results=Backend(resolver, self._guard.check_address),
            proxies=Backend(resolver),
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
    ) -> Reply:
        """Send one request with the key to ``path`` at the base URL, once; return the response of any status.

        ``body`` is JSON. An error response keeps the readable part of a broken or too large body.

        Raises:
            RivyaConnectionError, RivyaTimeoutError: no usable response. ``sent`` is `Sent.NO` if the request provably
                was not sent (lookup, connection, TLS, tunnel), else `Sent.MAYBE`.
            UnusableAnswerError: a redirect, or a success that is too large or cannot be decompressed.
            ValidationError: a path, header or form that must not be sent.
        """
        size = len(form.file) if form is not None else len(body or b"")

        async def talk(attempt: Attempt) -> Reply:
            key = self._key.reveal()
            fields = {"Accept": "application/json", **headers, "Authorization": f"Bearer {key}"}
            if body is not None:
                fields["Content-Type"] = "application/json"
            content = {"content": body} if form is None else form.content()
            request = self._request(attempt, method, self._url(path), fields, size, **content)
            async with self._connections.ask(request, result=False) as response:
                return await _reply(response, key)

        return await _attempt(talk, self._timeouts.total_s + 2.5 * size / _SLOWEST_LINE, "Rivya")

    async def download(
        self, url: str, *, max_bytes: int = MAX_RESULT_BYTES, time_cap_s: float = RESULT_TIME_CAP_S
    ) -> bytes:
        """The bytes at a result URL, fetched without key or cookies from an untrusted host.

        Raises:
            NotFoundError: 401, 403, 404 or 410: the URL has expired; the task may have a new one.
            ServiceUnavailableError: 408, 429 or 5xx.
            UnusableAnswerError: a refused URL, host or address, too many redirects, too large, empty, and so on.
            RivyaConnectionError, RivyaTimeoutError: as for `exchange`.
        """

        async def talk(attempt: Attempt) -> bytes:
            def ask(hop: str) -> AbstractAsyncContextManager[httpx.Response]:
                try:
                    target = httpx.URL(hop)
                except (httpx.InvalidURL, ValueError):
                    what = f"The result's address at {download.host_of(hop)} cannot be read."
                    raise UnusableAnswerError(what, sent=Sent.NO) from None
                self._guard.check_url_host(target.raw_host.decode("ascii"))
                request = self._request(attempt, "GET", target, {"Accept": "image/*"})
                return self._connections.ask(request, result=True)

            return await download.fetch(ask, url, self._local, max_bytes, self._timeouts)

        return await _attempt(talk, time_cap_s, download.host_of(url))

    async def aclose(self) -> None:
        token = current.set(Attempt())
        try:
            await self._connections.aclose()
        finally:
            current.reset(token)

    def _url(self, path: str) -> httpx.URL:
        """The path at the base URL; one that leads elsewhere is refused."""
        if len(path) > 1024 or not re.fullmatch(_PATH, path):
            raise ValidationError(f"This path cannot be asked: {clean_text(path, 100)}", sent=Sent.NO)
        return self._base.copy_with(raw_path=path.encode("ascii"))

    def _request(
        self,
        attempt: Attempt,
        method: str,
        url: httpx.URL,
        headers: Mapping[str, str],
        size: int = 0,
        **content: Any,
    ) -> httpx.Request:
        """The request; a file of ``size`` bytes is sent in 64 KiB pieces, each with the write timeout."""
        if not all(text.isascii() and text.isprintable() for text in headers.values()):
            raise ValidationError("A header has a value that cannot be sent.", sent=Sent.NO)
        always = {"User-Agent": f"rivya-nodes/{__version__}", "Accept-Encoding": "identity"}
        times = self._timeouts
        read_s = times.read_s + min(size, _SYSTEM_BUFFER_BYTES) / _SLOWEST_LINE
        limits = {"connect": times.connect_s, "read": read_s, "write": times.write_s}
        extensions = {"timeout": limits, "trace": attempt.trace}
        try:
            return httpx.Request(method, url, headers={**always, **headers}, extensions=extensions, **content)
        except UnicodeError:
            raise ValidationError("An upload has a text that cannot be sent.", sent=Sent.NO) from None


async def _attempt(talk: Callable[[Attempt], Awaitable[T]], total_s: float, whom: str) -> T:
    """Run one attempt with ``whom``, for at most ``total_s`` seconds.

    Errors are raised here without the frames of ``talk``, whose local variables hold the request with its key.

    Raises:
        RivyaError: from ``talk``, or translated from a network failure.
    """
    attempt = Attempt()
    token = current.set(attempt)
    failure: BaseException
    try:
        with anyio.move_on_after(total_s):
            return await talk(attempt)
        sent = Sent.MAYBE if attempt.left else Sent.NO
        failure = RivyaTimeoutError(f"{whom} took longer than {total_s:.0f} s.", sent=sent)
    except (RivyaError, asyncio.CancelledError) as error:
        error.__context__ = error.__cause__ = error.__traceback__ = None
        failure = error
    except Exception as error:
        failure = _translated(error, attempt, whom)
    finally:
        current.reset(token)
    raise failure


def _translated(error: Exception, attempt: Attempt, whom: str) -> RivyaError:
    """Our error for one of httpx; it quotes nothing from the host, only the status of a proxy."""
    # NO only if proved: no byte of the request was sent, and this failure precedes sending.
    before = isinstance(error, _BEFORE_SENDING) or attempt.tunnelling
    sent = Sent.NO if before and not attempt.left else Sent.MAYBE
    if isinstance(error, httpx.TimeoutException):
        what = "could not be reached in time" if sent is Sent.NO else "did not answer in time"
        return RivyaTimeoutError(f"{whom} {what}.", sent=sent)
    if isinstance(error, httpx.ProxyError):
        what = f"could not be reached: the proxy answered {clean_text(str(error), 80)}"
    elif sent is Sent.NO:
        what = f"could not be reached: {_reason(error)}"
    elif isinstance(error, httpx.ProtocolError):
        what = "broke the connection off, or sent something that is not HTTP"
    elif isinstance(error, httpx.NetworkError):
        what = "broke the connection off"
    else:
        what = f"could not be talked to ({type(error).__name__})"
    refused = isinstance(trust.tls_failure(error), ssl.SSLCertVerificationError)
    code = "bad_certificate" if refused else None
    return RivyaConnectionError(f"{whom} {what}.", hint=trust.advice(error), code=code, sent=sent)


def _reason(error: BaseException) -> str:
    """Why a connection failed, from the innermost cause with a message."""
    text = ""
    for cause in trust.causes(error):
        if isinstance(cause, ssl.SSLCertVerificationError):
            return clean_text(f"its certificate is not valid ({cause.verify_message})", 160)
        if isinstance(cause, OSError) and cause.strerror:
            # asyncio writes its own sentence into strerror; lookup errors have negative numbers.
            text = os.strerror(cause.errno) if cause.errno and cause.errno > 0 else cause.strerror
        elif not text and not isinstance(cause, OSError):
            text = str(cause)
    return clean_text(text or "no connection", 160)


async def _reply(response: httpx.Response, key: str) -> Reply:
    """Read the response; cut out the key, should a broken service return it."""
    headers: Mapping[str, str] = dict(response.headers)
    status = response.status_code
    if not 200 <= status < 300 and status < 400:
        raise UnusableAnswerError(
            f"Rivya answered with a redirect or an upgrade (HTTP {status}), which is not followed.",
            status=status,
            sent=Sent.MAYBE,
        )
    body = None
    try:
        body = Body("the answer of Rivya", MAX_ANSWER_BYTES, headers)
        data = await body.take(response)
    except Exception as error:
        if status < 400:
            if isinstance(error, RivyaError):
                raise error.about(status=status) from None
            raise
        data = body.so_far() if body is not None else b""
    data = data.replace(key.encode("ascii"), b"[API key]")
    headers = {name: value.replace(key, "[API key]") for name, value in headers.items()}
    return Reply(status, MappingProxyType(headers), data)
