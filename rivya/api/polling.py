"""When to ask for the state of a running order, learned from how long the account's own orders took.

Asking early costs a request that brings nothing, asking late costs the user time. The schedule weighs both:
from the durations of finished orders it makes a distribution of how long an order takes, and from "it still
runs after t seconds" what is left of it. The next question is placed where

    expected time between the end and our noticing it  +  price x expected number of questions

is smallest over all further questions: an optimal inspection schedule, by dynamic programming over a grid.
The price of a question is the lowest at which the whole costs no more requests than the service's own advice
(ask after 2.5 s, then every 5 s) would on the same distribution.

A broad distribution with a long tail is always mixed in: it keeps the schedule sane after few orders, and when
the service becomes faster, slower or gets stuck. Before the first finished order there is a plan of fixed times.
Plain floats, no clock, no I/O. Learning costs about a millisecond, a question some ten microseconds.
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
"""How many finished orders are looked at, the newest ones."""

_ADVICE_FIRST_S, _ADVICE_STEP_S = 2.5, 5.0
_ADVICE_SHARE = 0.97  # of the questions beyond the first one: room for what the distribution does not know
_PRICES_S = tuple(0.36 * 1.25**i for i in range(17))
_FIRST_GUESS_S = 7.0  # what an image edit takes, as long as nothing is known
# Before the first finished order: each later than its like in the advice, so that they are never more.
_OPENING_S = (5.6, 8.6, 12.8, 17.9)
_TAIL_SHAPE = 2.0  # the broad part is log-logistic: half the orders above t last beyond 1.4 t
_PRIOR_ORDERS = 1.0  # the broad part weighs as much as one finished order
_HALF_LIFE = 32.0  # in orders: an order this long ago counts half
_CELLS = 200
_JITTER_SHARE, _JITTER_S = 0.1, 0.4
_LATE_SHARE = 0.15  # of the elapsed time, between questions about an order that is later than any before
_PATIENT_POLLS = 20
_TELLING_S = 0.25
_LEAST_TOLD_SHARE = 0.4
_TRUE_WITHIN_S = 1.5  # the requests on both sides take time as well


def service_seconds(noticed_s: float, running_s: float | None, told_s: float | None = None) -> float | None:
    """How long an order really took: the figure to learn from; None where nobody can tell.

    What we see is only that it still ran at one question and had ended at the next. Taking the latter would
    never show that the service became faster, since the end is always found where we looked for it. So the
    service's own account is used where it fits in between, and else a cautious guess on the early side.

    Args:
        noticed_s: seconds from acceptance to the answer that said it had ended.
        running_s: seconds from acceptance to the last moment at which it is known to have run. None for an
            order that had ended when it was first asked for, hours later perhaps: only the service can tell.
        told_s: the service's ``updated_at`` minus ``created_at``, if both came. Where it is about when we
            asked, it may be the time of our own question, and is not believed. Nor is less than 0.4 of
            `noticed_s` while the order was polled: the timestamps then stand still, tell when the order began,
            or come from two clocks. An order that really was so fast is learned in two steps instead of one.
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
    """Whether the timestamps of a service can be believed. One contradiction is enough to ignore them from then on.

    A constant duration, another zone or a stopped clock shows sooner or later: an order is said to have ended while it
    was seen to run, or after it was seen to have ended.
    """

    def __init__(self) -> None:
        self.believed = True

    def seconds(self, noticed_s: float, running_s: float | None, told_s: float | None) -> float | None:
        """As `service_seconds`, without ``told_s`` once it has been found untrue."""
        if told_s is not None and isfinite(told_s):
            earliest = 0.0 if running_s is None else running_s - _TRUE_WITHIN_S
            self.believed = self.believed and max(earliest, 0.0) < told_s <= noticed_s + _TRUE_WITHIN_S
        return service_seconds(noticed_s, running_s, told_s if self.believed else None)


@dataclass(frozen=True)
class PollSchedule:
    """A schedule of questions for the orders of one model and mode. Make it with `learn`.

    Attributes:
        step_s: width of a cell of the grid; point i lies at i * step_s.
        ended: probability that an order has ended by each point.
        area: integral of `ended` from 0 to each point, seconds.
        ahead: least cost from each point on, times the probability to get there, seconds.
        share: progress to show at each point, 0..<1, never falling.
        price_s: seconds of noticing later that one question fewer is worth.
        typical_s: half of the orders take no longer.
        informed: whether any finished order stands behind it.
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
        """The schedule that fits these orders.

        Args:
            durations_s: seconds from acceptance to end of finished orders (see `service_seconds`), oldest
                first; the last 64 count, newer ones more. What is no positive number of seconds up to a day
                is left out. None at all: a cautious start around what an image edit usually takes.
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
        """Seconds to wait from now until the next question: at least 1, at most 30 (150 with a hint).

        Args:
            elapsed_s: seconds since the service accepted the order.
            polls_so_far: questions asked about it so far; beyond twenty the wait is stretched.
            rng: gives numbers in [0, 1); spreads the questions of a batch.
            hint_s: the least wait that the service named, if it did.
            slowdown: factor of 1 or more, raised while the service answers 429.
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
        """Seconds that an order of this kind usually takes: half of them take no longer."""
        return self.typical_s

    def progress(self, elapsed_s: float) -> float:
        """How far an order is that runs since `elapsed_s`: 0 or more, below 1, never falling.

        The elapsed time over the time by which half of those that ran as long had ended: it slows down when
        an order is late, instead of standing at the end.
        """
        elapsed = max(0.0, elapsed_s) if isfinite(elapsed_s) else 0.0
        end = (len(self.share) - 1) * self.step_s
        if elapsed < end:
            return _between(self.share, elapsed / self.step_s)
        return min(1.0 - (1.0 - self.share[-1]) * end / elapsed, 0.999)

    def _best_wait(self, elapsed: float) -> float:
        """The wait of least cost, seconds: a scan of what is left of the grid, in half cells."""
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
    """Wait, seconds, when an order is so late that only the long tail is left, whose hazard is shape / t."""
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
    """Probability of having ended by each grid point: the smoothed durations, and the broad part."""
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
    """How far each duration is smeared: by the distance to its neighbours, so that two peaks stay two."""
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
    """Questions per order that the service's advice would cost on this distribution, up to the grid's end."""
    polls, place = 1.0, _ADVICE_FIRST_S
    while place < (len(ended) - 1) * step:
        polls += 1.0 - ended[int(place / step)]
        place += _ADVICE_STEP_S
    return polls


def _cost_ahead(
    ended: list[float], area: list[float], step: float, price: float
) -> tuple[list[float], float]:
    """Least cost from each grid point on (times the probability to get there), and questions per order.

    Backwards from the end of the grid. Far waits are tried in growing strides, except from the start, where
    the one long wait is that decides most.
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
    """Progress at each grid point: elapsed over the time by which half of those still running have ended."""
    shares, highest, at = [], 0.0, 0
    last = len(ended) - 1
    for i, here in enumerate(ended):
        half_left = (1.0 - here) / 2
        while at < last and 1.0 - ended[at] > half_left:
            at += 1
        # Beyond the grid there is the long tail alone.
        half = max(at, i + 1) * max(1.0, ((1.0 - ended[at]) / half_left) ** (1 / _TAIL_SHAPE))
        highest = max(highest, min(0.99, i / half))
        shares.append(highest)
    return shares
