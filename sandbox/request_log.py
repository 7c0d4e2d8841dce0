"""The request log: each request, its stage and response. Tests read it and wait on it."""

from __future__ import annotations

import threading
import time
from dataclasses import asdict, dataclass, field
from typing import Any

STAGES = ("arrived", "received", "worked", "answered")


@dataclass
class Exchange:
    """One request, without its key and its URL's query.

    Attributes:
        time: of arrival, in seconds since the epoch.
        stage: arrived (headers read), received (body read), worked (the work is done), or answered (the last byte was
            handed to the system).
        fault: action of the fault that hit it.
    """

    number: int
    time: float
    origin: str
    endpoint: str
    method: str
    path: str
    idempotency_key: str | None
    content_type: str
    request_id: str
    account: str | None = None
    size: int = 0
    body_sha256: str = ""
    stage: str = "arrived"
    status: int | None = None
    fault: str | None = None
    seconds: float | None = None

    def reached(self, stage: str) -> bool:
        return STAGES.index(self.stage) >= STAGES.index(stage)


@dataclass
class RequestLog:
    """All requests to the service's endpoints in order of arrival, and clients' violations."""

    exchanges: list[Exchange] = field(default_factory=list)
    violations: list[dict[str, Any]] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    changed: threading.Condition = field(default_factory=threading.Condition)

    def add(self, **fields: Any) -> Exchange:
        with self.changed:
            exchange = Exchange(number=len(self.exchanges) + 1, time=time.time(), **fields)
            self.exchanges.append(exchange)
            self.changed.notify_all()
            return exchange

    def advance(self, exchange: Exchange, stage: str, **fields: Any) -> None:
        with self.changed:
            exchange.stage = stage
            for name, value in fields.items():
                setattr(exchange, name, value)
            if stage == "answered":
                exchange.seconds = time.time() - exchange.time
            self.changed.notify_all()

    def violation(self, exchange: Exchange, text: str) -> None:
        """Log something that a client must never do."""
        with self.changed:
            self.violations.append({"time": time.time(), "request": exchange.number, "text": text})

    def wait(self, endpoint: str, stage: str, count: int, timeout: float, fault: str | None) -> bool:
        """Wait for requests, see `sandbox.control.Control.wait`; False after ``timeout`` seconds."""

        def wanted(exchange: Exchange) -> bool:
            return (
                exchange.endpoint == endpoint and exchange.reached(stage) and fault in (None, exchange.fault)
            )

        with self.changed:
            return self.changed.wait_for(lambda: sum(map(wanted, self.exchanges)) >= count, timeout)

    def as_dicts(self) -> list[dict[str, Any]]:
        with self.changed:
            return [asdict(exchange) for exchange in self.exchanges]
