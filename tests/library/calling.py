"""Calls without an engine: one caller in a loop of the test's own."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import pytest

from rivya.api.endpoints import Api
from rivya.api.policy import AdaptiveLimit, RetryPolicy
from rivya.api.retry import RetryingClient
from rivya.errors import RivyaError
from rivya.http.transport import Timeouts, Transport
from rivya.secret import Secret
from support.quick import QuickAccount

T = TypeVar("T")
BODY = b'{"model":"flux-kontext-pro","prompt":"a quiet harbour","params":{}}'
KEY = "a" * 64


class Line:
    """One transport with its caller and its endpoints."""

    def __init__(self, service: Any, concurrency: AdaptiveLimit, **retry: float) -> None:
        key = Secret(service.key) if service.key else None
        times = Timeouts(connect_s=2.0, read_s=QuickAccount.read_s, write_s=2.0, total_s=10.0)
        self.transport = Transport(service.url, key, timeouts=times)
        self.concurrency = concurrency
        policy = RetryPolicy(**{"base_s": 0.02, "cap_s": 0.1, "budget_s": 3.0, **retry})
        self.caller = RetryingClient(self.transport, policy, concurrency)
        self.api = Api(self.caller)

    async def order(self, body: bytes = BODY, key: str = KEY, **options: Any) -> Any:
        return await self.api.create_generation(body, key, **options)


def talk(service: Any, work: Callable[[Line], Awaitable[T]], **retry: float) -> T:
    """What ``work`` gives, with a line of its own in a loop of its own."""

    async def main() -> T:
        line = Line(service, AdaptiveLimit(maximum=8), **retry)
        try:
            return await work(line)
        finally:
            await line.transport.aclose()

    return asyncio.run(main())


def failing(service: Any, work: Callable[[Line], Awaitable[Any]], **retry: float) -> RivyaError:
    with pytest.raises(RivyaError) as caught:
        talk(service, work, **retry)
    return caught.value
