"""When to poll a running order, learned from the durations of the account's finished orders.

An early poll wastes a request, a late one the user's time. Finished orders give a distribution of durations; "still
running after t seconds" conditions it. The next poll is where

    expected time from end to detection  +  price x expected number of polls

is smallest over all further polls: an optimal inspection schedule, by dynamic programming over a grid. The price is
the lowest at which the schedule costs no more requests than the service's advice (poll after 2.5 s, then every 5 s)
on the same distribution.

A broad long-tailed distribution is always mixed in, for few orders and for a service that becomes faster, slower or
stuck. Before the first finished order, polls are at fixed times. No clock, no I/O. Learning takes about a
millisecond, a decision some ten microseconds.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import pairwise
from math import erf, isfinite, sqrt
from statistics import median

SHORTEST_WAIT_S = 1.0
LONGEST_WAIT_S = 30.0
LONGEST_HINT_S = 150.0
WINDOW = 64
"""How many of the newest finished orders count."""

_ADVICE_FIRST_S, _ADVICE_STEP_S = 2.5, 5.0
_ADVICE_SHARE = 0.97  # of the polls after the first: a margin for an unknown distribution
_PRICES_S = tuple(0.36 * 1.25**i for i in range(17))
_FIRST_GUESS_S = 7.0  # an image edit's usual duration
# Before the first finished order: each later than in the advice, so never more polls.
_OPENING_S = (5.6, 8.6, 12.8, 17.9)
_TAIL_SHAPE = 2.0  # the broad part is log-logistic: half the orders above t last beyond 1.4 t
_PRIOR_ORDERS = 1.0  # the broad part weighs as much as one finished order
_HALF_LIFE = 32.0  # in orders: an order this long ago counts half
_CELLS = 200
_JITTER_SHARE, _JITTER_S = 0.1, 0.4
_LATE_SHARE = 0.15  # of the elapsed time, between polls of an order later than any before
_PATIENT_POLLS = 20
_TELLING_S = 0.25
_LEAST_TOLD_SHARE = 0.4
_TRUE_WITHIN_S = 1.5  # both sides' requests take time


def service_seconds(noticed_s: float, running_s: float | None, told_s: float | None = None) -> float | None:
    """The estimated duration of an order at the service, to learn from; None if unknown.

    Polls only bound it: the order ran at one poll and had ended at the next. Learning the later bound would never
    show that the service became faster. So the service's figure is used if it fits, else an estimate on the early
    side.

    Args:
        noticed_s: seconds from acceptance to the response that reported the end.
        running_s: seconds from acceptance to the last poll that saw it running. None: it had ended at the first poll,
            perhaps hours later, and only the service knows when.
        told_s: the service's ``updated_at`` minus ``created_at``, if known. Ignored if near the time of our poll,
            which it may then be, or, while polled, below 0.4 of `noticed_s`: such timestamps stand still, mark the
            start, or come from two clocks. A truly faster order is learned in two steps.
    """
    noticed = max(noticed_s, 0.0)
    least = 0.0 if running_s is None else _LEAST_TOLD_SHARE * noticed
    told_s = told_s if told_s is not None and told_s > least else None
    if running_s is None:
        known = told_s is not None and isfinite(told_s) and told_s <= noticed - _TELLING_S
        return told_s if known else None
    running = min(max(running_s, 0.0), noticed) if isfinite(running_s) else 0.0
    if told_s is not None and isfinite(told_s) and running - _TELLING_S <= told_s <= noticed - _TELLING_S:
        return max(told_s, 0.001)
    guess = noticed - min((noticed - running) / 2, 0.5 + 0.15 * noticed)
    return max(min(guess, told_s) if told_s is not None and running <= told_s else guess, 0.001)


class ServiceClock:
    """Whether to trust the service's timestamps; a single contradiction ends that.

    An order that ends while it was seen running, or after it was seen ended, reveals a constant duration, another
    time zone or a stopped clock.
    """

    def __init__(self) -> None:
        self.believed = True

    def seconds(self, noticed_s: float, running_s: float | None, told_s: float | None) -> float | None:
        """As `service_seconds`, without an untrusted ``told_s``."""
        if told_s is not None and isfinite(told_s):
            earliest = 0.0 if running_s is None else running_s - _TRUE_WITHIN_S
            self.believed = self.believed and max(earliest, 0.0) < told_s <= noticed_s + _TRUE_WITHIN_S
        return service_seconds(noticed_s, running_s, told_s if self.believed else None)


@dataclass(frozen=True)
class PollSchedule:
    """A poll schedule for one model and mode. Create it with `learn`.

    Attributes:
        step_s: grid cell width; point i is at i * step_s.
        ended: probability that an order has ended by each point.
        area: integral of `ended` from 0 to each point, seconds.
        ahead: minimum cost from each point on, times the probability to get there, seconds.
        share: progress at each point, 0..<1, never falling.
        price_s: seconds of later detection that one poll fewer is worth.
        typical_s: median duration.
        informed: whether it is based on any finished order.
    """

    step_s: float
    ended: tuple[float, ...] = field(repr=False)
    area: tuple[float, ...] = field(repr=False)
    ahead: tuple[float, ...] = field(repr=False)
    share: tuple[float, ...] = field(repr=False)
    price_s: float
    typical_s: float
    informed: bool

    @classmethod
    def learn(cls, durations_s: Sequence[float]) -> PollSchedule:
        """The schedule for these durations.

        Args:
            durations_s: of finished orders, seconds (see `service_seconds`), oldest first; the last 64 count, newer
                ones more. Values outside 0 < d <= 86400 are ignored. Empty: fixed times.
        """
        usable = [max(float(d), 0.1) for d in durations_s if isfinite(d) and 0 < d <= 86_400]
        return _learn(tuple(usable[-WINDOW:]))

    def next_poll(
        self,
        elapsed_s: float,
        polls_so_far: int,
        rng: Callable[[], float],
        hint_s: float | None = None,
        slowdown: float = 1.0,
    ) -> float:
        """Seconds until the next poll: 1 to 30 (150 with a hint).

        Args:
            elapsed_s: seconds since acceptance.
            polls_so_far: polls of this order; beyond 20 they stretch the wait.
            rng: returns numbers in [0, 1); spreads the polls of a batch.
            hint_s: the service's minimum wait, if any.
            slowdown: factor of 1 or more, raised by 429.
        """
        elapsed = max(0.0, elapsed_s) if isfinite(elapsed_s) else 0.0
        wait = self._best_wait(elapsed)
        wait += (2 * rng() - 1) * min(_JITTER_SHARE * wait, _JITTER_S)
        wait *= max(1.0, slowdown) if isfinite(slowdown) else 1.0
        wait *= max(1.0, polls_so_far / _PATIENT_POLLS)
        wait = min(max(wait, SHORTEST_WAIT_S), LONGEST_WAIT_S)
        if hint_s is not None and isfinite(hint_s):
            wait = max(wait, min(hint_s, LONGEST_HINT_S))
        return wait

    def expected_s(self) -> float:
        return self.typical_s

    def progress(self, elapsed_s: float) -> float:
        """The progress after `elapsed_s`: 0 or more, below 1, never falling.

        Elapsed time over the time by which half of the orders that ran as long had ended: a late order slows down
        instead of stopping at the end.
        """
        elapsed = max(0.0, elapsed_s) if isfinite(elapsed_s) else 0.0
        end = (len(self.share) - 1) * self.step_s
        if elapsed < end:
            return _between(self.share, elapsed / self.step_s)
        return min(1.0 - (1.0 - self.share[-1]) * end / elapsed, 0.999)

    def _best_wait(self, elapsed: float) -> float:
        """The wait of minimum cost, seconds: a scan of the remaining grid in half cells."""
        if not self.informed:
            return _opening_wait(elapsed)
        end = (len(self.ended) - 1) * self.step_s
        if elapsed + SHORTEST_WAIT_S >= end:
            return _late_wait(elapsed, self.price_s)
        ended = _between(self.ended, elapsed / self.step_s)
        area = _between(self.area, elapsed / self.step_s)
        best = wait = SHORTEST_WAIT_S
        least = float("inf")
        while wait <= LONGEST_WAIT_S and elapsed + wait <= end:
            place = (elapsed + wait) / self.step_s
            cost = _between(self.area, place) - area - ended * wait + _between(self.ahead, place)
            if cost < least:
                best, least = wait, cost
            wait += self.step_s / 2
        return best


def _between(values: tuple[float, ...], place: float) -> float:
    below = min(int(place), len(values) - 2)
    return values[below] + (values[below + 1] - values[below]) * (place - below)


def _opening_wait(elapsed: float) -> float:
    for place in _OPENING_S:
        if place >= elapsed + SHORTEST_WAIT_S:
            return place - elapsed
    return min(max(_ADVICE_STEP_S, _LATE_SHARE / 2 * elapsed), LONGEST_WAIT_S)


def _late_wait(elapsed: float, price_s: float) -> float:
    """The wait, seconds, once only the long tail is left, whose hazard is shape / t."""
    wait = max(sqrt(2 * price_s * elapsed / _TAIL_SHAPE), _LATE_SHARE * elapsed)
    return min(max(wait, SHORTEST_WAIT_S), LONGEST_WAIT_S)


@lru_cache(maxsize=16)
def _learn(durations: tuple[float, ...]) -> PollSchedule:
    typical = median(durations) if durations else _FIRST_GUESS_S
    end = max(2.5 * typical, 1.25 * max(durations, default=0.0), typical + 8.0)
    end = min(end, 20 * typical + 8.0)
    step = max(0.2, end / _CELLS)
    ended = _distribution(durations, typical, step, int(end / step) + 1)
    area = [0.0]
    for left, right in pairwise(ended):
        area.append(area[-1] + step * (left + right) / 2)
    allowed = 1.0 + _ADVICE_SHARE * (_advice_polls(ended, step) - 1.0)
    for price in _PRICES_S:
        ahead, polls = _cost_ahead(ended, area, step, price)
        if polls <= allowed:
            break
    share = tuple(_shares(ended, step))
    return PollSchedule(step, tuple(ended), tuple(area), tuple(ahead), share, price, typical, bool(durations))


def _distribution(durations: tuple[float, ...], typical: float, step: float, cells: int) -> list[float]:
    """The smoothed durations mixed with the broad part: probability of having ended by each grid point."""
    mass = [0.0] * (cells + 1)
    known, weight = 0.0, 1.0
    for duration, width in reversed(list(zip(durations, _widths(durations), strict=True))):
        first = max(1, int((duration - 3.5 * width) / step) + 1)
        last = min(cells, int((duration + 3.5 * width) / step) + 1)
        before = 0.0
        for i in range(first, last + 1):
            here = 0.5 + 0.5 * erf((i * step - duration) / (width * sqrt(2)))
            mass[i] += weight * (here - before)
            before = here
        known += weight
        weight *= 0.5 ** (1 / _HALF_LIFE)
    total, everything = 0.0, known + _PRIOR_ORDERS
    ended = []
    for i, part in enumerate(mass):
        total += part
        ratio = (i * step / typical) ** _TAIL_SHAPE
        ended.append((total + _PRIOR_ORDERS * ratio / (1 + ratio)) / everything)
    return ended


def _widths(durations: tuple[float, ...]) -> list[float]:
    """Kernel width of each duration, from the distance to its neighbours, so that two peaks stay two."""
    ordered = sorted(durations)
    count = len(ordered)
    reach = max(1, round(sqrt(count)))
    widths = []
    for duration in durations:
        at = bisect_left(ordered, duration)
        above = ordered[at + reach] - duration if at + reach < count else float("inf")
        below = duration - ordered[at - reach] if at >= reach else float("inf")
        least = 0.1 + duration * (0.02 + 0.25 / count)
        widths.append(max(least, min(above, below, 0.35 * duration)))
    return widths


def _advice_polls(ended: list[float], step: float) -> float:
    """Polls per order that the service's advice costs on this distribution, within the grid."""
    polls, place = 1.0, _ADVICE_FIRST_S
    while place < (len(ended) - 1) * step:
        polls += 1.0 - ended[int(place / step)]
        place += _ADVICE_STEP_S
    return polls


def _cost_ahead(
    ended: list[float], area: list[float], step: float, price: float
) -> tuple[list[float], float]:
    """Minimum cost from each grid point on (times the probability to get there), and polls per order.

    Backwards from the grid's end. Long waits are tried in growing strides, except at the decisive start.
    """
    last = len(ended) - 1
    left_over, late = 1.0 - ended[last], _late_wait(last * step, price)
    ahead = [left_over * (2 * price + late)] * (last + 1)
    polls = [left_over * 2.0] * (last + 1)
    shortest, longest = max(1, int(SHORTEST_WAIT_S / step + 0.999)), int(LONGEST_WAIT_S / step)
    strides, stride = [], float(shortest)
    while stride <= longest:
        strides.append(int(stride))
        stride = max(stride + 1, stride * 1.12)
    for i in range(last - 1, -1, -1):
        running = 1.0 - ended[i]
        least, at = float("inf"), last
        for offset in strides if i else range(shortest, longest + 1):
            j = i + offset
            if j > last:
                break
            cost = area[j] - area[i] - ended[i] * offset * step + ahead[j]
            if cost < least:
                least, at = cost, j
        if at == last:
            least = min(least, ahead[last] + running * late / 2)
        ahead[i] = price * running + least
        polls[i] = running + polls[at]
    return ahead, polls[0]


def _shares(ended: list[float], step: float) -> list[float]:
    """Progress at each grid point; see `PollSchedule.progress`."""
    shares, highest, at = [], 0.0, 0
    last = len(ended) - 1
    for i, here in enumerate(ended):
        half_left = (1.0 - here) / 2
        while at < last and 1.0 - ended[at] > half_left:
            at += 1
        # Beyond the grid only the long tail is left.
        half = max(at, i + 1) * max(1.0, ((1.0 - ended[at]) / half_left) ** (1 / _TAIL_SHAPE))
        highest = max(highest, min(0.99, i / half))
        shares.append(highest)
    return shares
