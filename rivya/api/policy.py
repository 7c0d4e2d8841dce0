"""Retries and concurrency limit, as pure decisions.

No I/O, sleeping, clock or randomness: time and random numbers are arguments, so that tests can check every decision.
`polling` decides when to poll.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from math import isfinite
from typing import Protocol

from ..errors import Sent


@dataclass(frozen=True)
class RetryPolicy:
    """When to retry a failed request, and after which delay.

    Attributes:
        base_s: maximum delay after the first failure; doubles with each further one.
        cap_s: maximum delay chosen here.
        budget_s: maximum duration of a call, attempts and delays included.
        retry_after_cap_s: maximum delay that the service may ask for.

    Raises:
        ValueError: a value is negative, infinite or NaN.
    """

    base_s: float = 0.5
    cap_s: float = 15.0
    budget_s: float = 300.0
    retry_after_cap_s: float = 150.0

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not isfinite(value) or value < 0:
                raise ValueError(f"{name} must be a number of seconds, 0 or more, not {value!r}")

    def delay(self, attempt: int, retry_after_s: float | None, rng: Callable[[], float]) -> float:
        """Seconds to wait after failure number `attempt` (1, 2, ...).

        Exponential backoff with full jitter. A Retry-After above 0 takes precedence: the delay is at least that, plus
        up to ``base_s``, within the cap.

        Args:
            attempt: failed attempts, 1 or more.
            retry_after_s: the service's Retry-After, or None.
            rng: returns numbers in [0, 1).
        """
        if retry_after_s is not None and isfinite(retry_after_s) and retry_after_s > 0:
            return min(retry_after_s + rng() * self.base_s, self.retry_after_cap_s)
        doublings = min(max(attempt, 1) - 1, 63)
        return rng() * min(self.cap_s, self.base_s * 2.0**doublings)

    def within_budget(self, elapsed_s: float, delay_s: float) -> bool:
        """Whether a call started `elapsed_s` ago may retry after `delay_s`."""
        return elapsed_s + delay_s <= self.budget_s

    def may_repeat(self, status: int | None, sent: Sent, repeatable: bool) -> bool:
        """Whether the same request may be sent again.

        Args:
            status: HTTP status, None without a response.
            sent: what the attempt proves.
            repeatable: whether the request is idempotent: a GET, or an order with key and byte-identical body.
        """
        if sent is Sent.NO or status == 429:
            return True
        if status == 408 or (status is not None and status >= 500):
            return repeatable
        if status is not None and 400 <= status < 500:
            return False
        return repeatable and sent is Sent.MAYBE


class Concurrency(Protocol):
    """The concurrency limit of an account's orders, such as `AdaptiveLimit`."""

    @property
    def maximum(self) -> int: ...

    @property
    def limit(self) -> float:
        """A fraction while it grows."""
        ...

    def on_rate_limited(self, now: float, retry_after_s: float | None = None) -> None: ...

    def on_success(self, now: float) -> None: ...

    def hold_s(self, now: float) -> float:
        """Seconds until new orders may be sent."""
        ...


@dataclass
class AdaptiveLimit:
    """The AIMD limit of concurrent orders: halved by a 429, then slowly raised.

    Times are seconds of one monotonic clock.

    Attributes:
        maximum: the user's, 1 or more; never exceeded.
        limit: the current limit, 1 to `maximum`; a fraction while it grows.
        burst_s: 429s within this time of a halving do not halve again.
        hold_cap_s: maximum hold that the service can impose.
    """

    maximum: int
    limit: float = 0.0
    burst_s: float = 5.0
    hold_cap_s: float = 150.0
    _halved_at: float | None = field(default=None, repr=False)
    _held_until: float | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if self.maximum < 1:
            raise ValueError(f"maximum must be 1 or more, not {self.maximum!r}")
        self.limit = float(self.maximum) if self.limit < 1 else min(float(self.limit), float(self.maximum))

    @property
    def slots(self) -> int:
        """Orders that may run now, 1 or more."""
        return max(1, int(self.limit))

    def on_rate_limited(self, now: float, retry_after_s: float | None = None) -> None:
        """Halve the limit once per burst, and hold new orders for the service's Retry-After."""
        if retry_after_s is not None and isfinite(retry_after_s) and retry_after_s > 0:
            self._held_until = max(self._held_until or now, now + min(retry_after_s, self.hold_cap_s))
        if self._halved_at is not None and 0 <= now - self._halved_at < self.burst_s:
            return
        self._halved_at = now
        self.limit = max(1.0, self.limit / 2)

    def on_success(self, now: float) -> None:
        """Raise the limit by one per full round of successes."""
        if self._halved_at is not None and 0 <= now - self._halved_at < self.burst_s:
            return
        self.limit = min(float(self.maximum), self.limit + 1 / self.limit)

    def follow(self, now: float, limit: float, hold_s: float) -> None:
        """Apply the limit and hold that the fleet learned."""
        self.limit = min(float(self.maximum), max(1.0, limit))
        if hold_s > 0:
            self._held_until = max(self._held_until or now, now + min(hold_s, self.hold_cap_s))

    def hold_s(self, now: float) -> float:
        """See `Concurrency.hold_s`; 0 without a Retry-After."""
        left = 0.0 if self._held_until is None else self._held_until - now
        return min(max(left, 0.0), self.hold_cap_s)
