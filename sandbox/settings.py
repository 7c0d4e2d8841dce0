"""The options of one sandbox."""

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
        results_port: port of the second origin, with uploads and results; 0 takes a free one.
        key: API key of the account "main".
        credits: opening credits of the account "main".
        accounts: accounts in place of "main": ``{name: {"keys": [...], "credits": n}}``.
        latency: seconds from acceptance to the end of an order (the mean, with ``latency_sd``).
        latency_sd: standard deviation of a normal draw per order, in seconds, with ``seed``.
        latencies: seconds of each order in turn, repeated; instead of ``latency``.
        seed: for the drawn latencies.
        reject_repeats: answer every repeat of an idempotency key with 409 instead of replaying it.
        max_open: orders that may be open at once in one account; more get 429. None: no limit.
        megapixels: size of the pictures; 0.004 suits runs with hundreds of orders.
        upload_lifetime: seconds until an upload expires; None: never.
        result_lifetime: seconds that a result URL works, from the first answer that has it.
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
    upload_lifetime: float | None = None
    result_lifetime: float = 3600.0
    expired_status: int = 403

    def opening_accounts(self) -> dict[str, tuple[tuple[str, ...], int]]:
        """Return the accounts to open, by name: keys and credits."""
        if self.accounts is None:
            return {"main": ((self.key,), self.credits)}
        return {
            name: (tuple(spec["keys"]), int(spec.get("credits", self.credits)))
            for name, spec in self.accounts.items()
        }


@dataclass
class Latencies:
    """The latency of one order after the other; the same settings give the same latencies."""

    settings: Settings
    _drawn: int = 0
    _random: Random = field(init=False)

    def __post_init__(self) -> None:
        self._random = Random(self.settings.seed)

    def next(self) -> float:
        """Return the seconds that the next order takes, never negative."""
        index, self._drawn = self._drawn, self._drawn + 1
        if self.settings.latencies:
            return self.settings.latencies[index % len(self.settings.latencies)]
        if self.settings.latency_sd:
            return max(0.05, self._random.gauss(self.settings.latency, self.settings.latency_sd))
        return self.settings.latency


def command_line(settings: Mapping[str, Any]) -> Iterable[str]:
    """Return the arguments of ``python -m sandbox`` that set these options."""
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
