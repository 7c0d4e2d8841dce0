"""What to do about a failed attempt, and how much may run at once: decisions as plain values.

Nothing here does I/O, sleeps, reads a clock or draws a random number of its own: time and randomness come in
as arguments, so that every decision can be tested by its numbers. When to ask for the state of a running
order is decided in `polling`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from math import isfinite
from typing import Protocol

from ..errors import Sent


@dataclass(frozen=True)
class RetryPolicy:
    """When a failed request may go out again, and after what wait.

    Attributes:
        base_s: longest wait after the first failure; it doubles with each further one.
        cap_s: longest wait that is chosen here, whatever the number of failures.
        budget_s: how long one call may go on in all, first attempt and waits included.
        retry_after_cap_s: longest wait that the service may ask for.

    Raises:
        ValueError: for a value that is negative, infinite or not a number.
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

        Exponential with full jitter, so that clients which failed together do not come back together. A pace
        that the service named wins: never sooner than that, spread a little beyond it, within the cap. A
        named pace of 0 says nothing about when it will work, and counts as none.

        Args:
            attempt: how many attempts have failed, 1 or more.
            retry_after_s: what the service named, or None.
            rng: gives numbers in [0, 1).
        """
        if retry_after_s is not None and isfinite(retry_after_s) and retry_after_s > 0:
            return min(retry_after_s + rng() * self.base_s, self.retry_after_cap_s)
        doublings = min(max(attempt, 1) - 1, 63)
        return rng() * min(self.cap_s, self.base_s * 2.0**doublings)

    def within_budget(self, elapsed_s: float, delay_s: float) -> bool:
        """Whether a call that began `elapsed_s` ago may wait another `delay_s` and try again."""
        return elapsed_s + delay_s <= self.budget_s

    def may_repeat(self, status: int | None, sent: Sent, repeatable: bool) -> bool:
        """Whether the same request may be sent again.

        Args:
            status: HTTP status of the answer, None where there was none.
            sent: what the attempt proves.
            repeatable: whether sending it twice does no more than sending it once: a GET, or an order with
                its key and a byte-identical body.
        """
        if sent is Sent.NO or status == 429:
            return True
        if status == 408 or (status is not None and status >= 500):
            return repeatable
        if status is not None and 400 <= status < 500:
            return False
        return repeatable and sent is Sent.MAYBE


class Bound(Protocol):
    """What bounds the orders of an account; `AdaptiveLimit` is one."""

    @property
    def maximum(self) -> int:
        """What the user allows."""
        ...

    @property
    def limit(self) -> float:
        """How many may run now, a fraction while it grows."""
        ...

    def on_rate_limited(self, now: float, retry_after_s: float | None = None) -> None:
        """The service answered 429."""
        ...

    def on_success(self, now: float) -> None:
        """A request got through."""
        ...

    def hold_s(self, now: float) -> float:
        """Seconds for which nobody should send a new order."""
        ...


@dataclass
class AdaptiveLimit:
    """How many orders may run at once: halved when the service says "too many", then slowly raised again.

    Additive increase, multiplicative decrease: the bound settles near what the account may do, without
    anybody knowing that number. Times are seconds of one monotonic clock.

    Attributes:
        maximum: what the user allows, 1 or more; never exceeded.
        limit: the present bound, between 1 and `maximum`; a fraction while it grows.
        burst_s: refusals within this time of a halving are of the same burst and do not halve again.
        hold_cap_s: longest time for which the service can hold everybody back.
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
        """How many may run now, 1 or more."""
        return max(1, int(self.limit))

    def on_rate_limited(self, now: float, retry_after_s: float | None = None) -> None:
        """The service answered 429: halve once a burst, and hold everybody back for what it named."""
        if retry_after_s is not None and isfinite(retry_after_s) and retry_after_s > 0:
            self._held_until = max(self._held_until or now, now + min(retry_after_s, self.hold_cap_s))
        if self._halved_at is not None and 0 <= now - self._halved_at < self.burst_s:
            return
        self._halved_at = now
        self.limit = max(1.0, self.limit / 2)

    def on_success(self, now: float) -> None:
        """A request got through: one place more for each full round of successes."""
        if self._halved_at is not None and 0 <= now - self._halved_at < self.burst_s:
            return
        self.limit = min(float(self.maximum), self.limit + 1 / self.limit)

    def follow(self, now: float, limit: float, hold_s: float) -> None:
        """Take over what all hosts of an account have learned together."""
        self.limit = min(float(self.maximum), max(1.0, limit))
        if hold_s > 0:
            self._held_until = max(self._held_until or now, now + min(hold_s, self.hold_cap_s))

    def hold_s(self, now: float) -> float:
        """Seconds for which nobody should send a new order, because the service asked for a wait; else 0."""
        left = 0.0 if self._held_until is None else self._held_until - now
        return min(max(left, 0.0), self.hold_cap_s)
