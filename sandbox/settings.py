"""The options of a sandbox."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from random import Random
from typing import Any

DEFAULT_KEY = "rvya_sk_sandbox"
NOTICE = "SANDBOX, no real service"
ORIGINS = ("api", "results")


@dataclass(frozen=True)
class Settings:
    """How a sandbox behaves.

    Attributes:
        port: of the API origin on 127.0.0.1; 0 takes a free one.
        results_port: of the second origin, with uploads and results; 0 takes a free one.
        key: API key of the account "main".
        credits: opening credits of an account, unless ``accounts`` says otherwise.
        accounts: instead of "main": ``{name: {"keys": [...], "credits": n}}``.
        latency: seconds from acceptance to an order's end (the mean, with ``latency_sd``).
        latency_sd: standard deviation of a normal draw per order, in seconds, with ``seed``.
        latencies: seconds of each order in turn, repeated; instead of ``latency``.
        seed: for drawn latencies.
        reject_repeats: answer every repeat of an idempotency key with 409 instead of replaying it.
        max_open: orders that an account may have open at once; more get 429. None: no limit.
        megapixels: size of the pictures; 0.004 suits runs with hundreds of orders.
        drift: seed of a drift, see `drift`; None: edits are exactly in place.
        upload_lifetime: seconds until an upload expires; None: never.
        result_lifetime: seconds that a result URL works, from the first response with it.
        expired_status: status of an expired result URL: 403, 404 or 410.
    """

    port: int = 0
    results_port: int = 0
    key: str = DEFAULT_KEY
    credits: int = 1000
    accounts: Mapping[str, Mapping[str, Any]] | None = None
    latency: float = 0.0
    latency_sd: float = 0.0
    latencies: tuple[float, ...] = ()
    seed: int = 0
    reject_repeats: bool = False
    max_open: int | None = None
    megapixels: float = 1.0
    drift: int | None = None
    upload_lifetime: float | None = None
    result_lifetime: float = 3600.0
    expired_status: int = 403


def latencies(settings: Settings) -> Iterator[float]:
    """Yield the seconds of each order, never negative; equal for equal settings."""
    if settings.latencies:
        yield from itertools.cycle(settings.latencies)
    random = Random(settings.seed)
    while settings.latency_sd:
        yield max(0.05, random.gauss(settings.latency, settings.latency_sd))
    yield from itertools.repeat(settings.latency)
