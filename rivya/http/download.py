"""Download a result: a GET without key, redirect by redirect, under byte and time caps.

The URL's host is untrusted. Each hop's URL and host are checked here, addresses on connecting (see `guard` and
`network`). The caller decodes the bytes.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from datetime import datetime, timezone
from urllib.parse import urljoin, urlsplit

from ..errors import (
    NotFoundError,
    RivyaError,
    RivyaTimeoutError,
    Sent,
    ServiceUnavailableError,
    UnusableAnswerError,
)
from .body import Body
from .network import Timeouts, httpx
from .values import clean_text, http_url, parse_retry_after

MAX_REDIRECTS = 5
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_GONE = frozenset({401, 403, 404, 410})

Ask = Callable[[str], AbstractAsyncContextManager[httpx.Response]]
"""Sends one GET to a URL after checking its host."""


async def fetch(ask: Ask, url: str, plain_http: bool, max_bytes: int, times: Timeouts) -> bytes:
    """The bytes at ``url``, over at most five redirects; the caller limits the total time.

    ``plain_http``: the service is on this machine, so that results may be offered over http.

    Raises:
        RivyaError: see `Transport.download`.
    """
    for _ in range(MAX_REDIRECTS + 1):
        if urlsplit(http_url(url)).scheme != "https" and not plain_http:
            raise UnusableAnswerError(
                f"The result at {host_of(url)} is not offered over https, so it was not asked for.",
                code="forbidden_address",
                sent=Sent.NO,
            )
        async with ask(url) as response:
            status = response.status_code
            if status not in _REDIRECTS:
                _check_status(status, response.headers, host_of(url))
                return await _read(response, host_of(url), max_bytes, times)
            location = response.headers.get("location", "")
        if not location:
            raise _unusable(url, "redirects to nowhere", status)
        try:
            url = urljoin(url, location)
        except ValueError:
            raise _unusable(url, "redirects to something that is no URL", status) from None
    raise _unusable(url, f"redirects more than {MAX_REDIRECTS} times", None)


def host_of(url: str) -> str:
    """The host of a URL, for messages; the rest of a result URL is secret."""
    try:
        return clean_text(urlsplit(url).hostname or "?", 100)
    except ValueError:
        return "?"


async def _read(response: httpx.Response, host: str, max_bytes: int, times: Timeouts) -> bytes:
    """The whole body; a host slower than `Timeouts` allow is given up."""
    body = Body(f"the result at {host}", max_bytes, response.headers)
    began, arrived = time.monotonic(), 0

    def came(size: int) -> None:
        nonlocal began, arrived
        arrived += size
        if time.monotonic() - began > times.window_s:
            if arrived < times.window_bytes:
                raise RivyaTimeoutError(f"{host} sends the result too slowly.")
            began, arrived = time.monotonic(), 0

    data = await body.take(response, came)
    if not data:
        raise UnusableAnswerError(f"The result at {host} is empty.", code="empty_result")
    return data


def _check_status(status: int, fields: Mapping[str, str], host: str) -> None:
    if status == 200:
        return
    error: RivyaError
    if status in _GONE:
        error = NotFoundError(
            f"The result is no longer at {host} (HTTP {status}).",
            code="result_gone",
            hint="Run again: the task is asked for a new address.",
        )
    elif status in (408, 429) or status >= 500:
        pace = parse_retry_after(fields.get("retry-after"), datetime.now(timezone.utc))
        error = ServiceUnavailableError(
            f"{host} could not send the result (HTTP {status}).",
            code="result_unavailable",
            retry_after_s=pace,
        )
    else:
        error = UnusableAnswerError(f"{host} answered with HTTP {status} instead of the result.")
    raise error.about(status=status)


def _unusable(url: str, why: str, status: int | None) -> UnusableAnswerError:
    return UnusableAnswerError(f"The result's host {host_of(url)} {why}.", status=status)
