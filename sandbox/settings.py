"""The options of one sandbox, as one frozen value."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from random import Random
from typing import Any

DEFAULT_KEY = "rvya_sk_sandbox"
NOTICE = "SANDBOX, no real service"
ORIGINS = ("api", "results")


@dataclass(frozen=True)
class Settings:
    """How one sandbox behaves.

    Attributes:
        port: port of the API origin on 127.0.0.1; 0 takes a free one.
        results_port: port of the second origin, which hands out uploads and results; 0 takes a free one.
        key: the API key of the account "main".
        credits: what the account "main" starts with.
        accounts: several accounts in place of "main": ``{name: {"keys": [...], "credits": n}}``.
        latency: seconds from the acceptance of an order to its end (the mean, where ``latency_sd`` is set).
        latency_sd: standard deviation of a normal draw per order, in seconds, with ``seed``.
        latencies: seconds per order in order of acceptance, over and over; wins over the draw.
        seed: for latencies and for faults with a probability.
        reject_repeats: answer every repeat of an idempotency key with 409 in place of replaying it.
        max_open: orders that may be queued or processing at a time in one account; more get 429. None: no bound.
        megapixels: size of the pictures; 0.004 makes tiny ones for runs with hundreds of orders.
        drift: seed of a drift as image models have it, see `drift`; None: edits are exact in their place.
        upload_lifetime: seconds until an upload is gone; None keeps it.
        result_lifetime: seconds that a result URL works, from the first time it was told.
        expired_status: what an expired result URL answers: 403, 404 or 410.
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

    def opening_accounts(self) -> dict[str, tuple[tuple[str, ...], int]]:
        """Accounts to open, by name: their keys and their credits."""
        if self.accounts is None:
            return {"main": ((self.key,), self.credits)}
        return {
            name: (tuple(spec["keys"]), int(spec.get("credits", self.credits)))
            for name, spec in self.accounts.items()
        }


@dataclass
class Latencies:
    """Hands out the service time of one order after the other, the same for the same settings."""

    settings: Settings
    _drawn: int = 0
    _random: Random = field(init=False)

    def __post_init__(self) -> None:
        self._random = Random(self.settings.seed)

    def next(self) -> float:
        """Seconds that the next order takes, never negative."""
        index, self._drawn = self._drawn, self._drawn + 1
        if self.settings.latencies:
            return self.settings.latencies[index % len(self.settings.latencies)]
        if self.settings.latency_sd:
            return max(0.05, self._random.gauss(self.settings.latency, self.settings.latency_sd))
        return self.settings.latency


def command_line(settings: Mapping[str, Any]) -> Iterable[str]:
    """The arguments of ``python -m sandbox`` that give these options."""
    for name, value in settings.items():
        flag = "--" + name.replace("_", "-")
        if value is True:
            yield flag
        elif name == "latencies":
            yield f"{flag}={','.join(map(str, value))}"
        elif name == "accounts" and value is not None:
            yield f"{flag}={json.dumps(value)}"
        elif value is not None and value is not False:
            yield f"{flag}={value}"
