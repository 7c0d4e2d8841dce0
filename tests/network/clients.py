"""Transports for tests: quick to give up, and closed at the end."""

from __future__ import annotations

import contextlib
import traceback
from collections.abc import AsyncIterator, Awaitable
from typing import Any

import pytest

from rivya.errors import RivyaError
from rivya.http.transport import Timeouts, Transport
from rivya.secret import Secret

KEY = "rvya_sk_test_0123456789"
QUICK = Timeouts(connect_s=1.0, read_s=0.4, write_s=0.4, total_s=2.0, window_s=0.4, window_bytes=1000)
PATIENT = Timeouts(connect_s=30, read_s=30, write_s=30, total_s=60)


@contextlib.asynccontextmanager
async def transport(base_url: str, **options: Any) -> AsyncIterator[Transport]:
    options.setdefault("timeouts", QUICK)
    client = Transport(base_url, Secret(KEY), **options)
    try:
        yield client
    finally:
        await client.aclose()


async def failure(call: Awaitable[Any]) -> RivyaError:
    """The error that a call ends with."""
    with pytest.raises(RivyaError) as caught:
        await call
    return caught.value


def everything_about(error: BaseException) -> str:
    """All that a debugger or an error report could show of an exception: locals of every frame, causes, contexts."""
    seen: set[int] = set()
    texts: list[str] = []
    open_ends: list[BaseException | None] = [error]
    while open_ends:
        one = open_ends.pop()
        if one is None or id(one) in seen:
            continue
        seen.add(id(one))
        described = traceback.TracebackException.from_exception(one, capture_locals=True)
        texts += [*described.format(), repr(one), repr(vars(one))]
        open_ends += [one.__cause__, one.__context__]
    return "\n".join(texts)


def connections(client: Transport) -> tuple[int, int]:
    """All connections of a transport, and those that wait for a request."""
    kept = client._connections
    return len(kept._open), sum(map(len, kept._idle.values()))
