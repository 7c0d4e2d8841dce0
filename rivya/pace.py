"""When to ask for the state of a running order, learned from how long the account's own orders took.

Asking early costs a request that brings nothing, asking late costs the user time. The schedule weighs both:
from the durations of finished orders it makes a distribution of how long an order takes, and from "it still
runs after t seconds" what is left of it. The next question is placed where

    expected wait between the end and our noticing it  +  `price_s` x expected number of questions

is smallest over all further questions (an optimal inspection schedule, by dynamic programming over a grid).
The price of a question is chosen so that the whole costs no more requests than the service's own advice would
on the same distribution: ask after 2.5 s, then every 5 s.

Part of the distribution is always a broad one with a long tail: it is all there is before the first finished
order, and later it keeps the schedule sane when the service becomes faster, slower or gets stuck.
Plain Python floats, no clock, no I/O. Learning costs a few milliseconds and is remembered for equal
durations; a question costs some ten microseconds.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from math import erf, isfinite, sqrt
from statistics import median

SHORTEST_WAIT_S = 1.0
LONGEST_WAIT_S = 30.0
WINDOW = 64
"""How many finished orders are looked at, the newest ones."""

_ADVICE_FIRST_S, _ADVICE_STEP_S = 2.5, 5.0
_FIRST_GUESS_S = 8.0
_TAIL_SHAPE = 2.0
_PRIOR_ORDERS = 1.0
_HALF_LIFE = 32.0
_PRICES_S = (0.5, 0.7, 1.0, 1.4, 2.0, 2.8, 4.0, 5.6, 8.0, 16.0, 32.0)
_BUDGET_SHARE = 0.95
_CELLS = 200


@dataclass(frozen=True)
class Pace:
    """A schedule of questions for the orders of one model and mode. Make it with `learn`.

    Attributes:
        step_s: width of a cell of the grid; point i lies at i * step_s.
        ended: probability that an order has ended by each point.
        area: integral of `ended` from 0 to each point, seconds.
        ahead: least cost from each point on, times the probability to get there.
        share: progress to show at each point, 0..<1, never falling.
        price_s: seconds of noticing later that one question fewer is worth.
        typical_s: half of the orders take no longer.
    """

    step_s: float
    ended: tuple[float, ...] = field(repr=False)
    area: tuple[float, ...] = field(repr=False)
    ahead: tuple[float, ...] = field(repr=False)
    share: tuple[float, ...] = field(repr=False)
    price_s: float
    typical_s: float

    @classmethod
    def learn(cls, durations_s: Sequence[float]) -> Pace:
        """The schedule that fits these orders.

        Args:
            durations_s: seconds from acceptance to end of finished orders, oldest first; the last 64 count,
                newer ones more. Values that are no positive number are left out. None at all: a cautious
                start around what an image edit usually takes.
        """
        usable = tuple(float(d) for d in durations_s if isfinite(d) and 0 < d <= 86_400)
        return _learn(usable[-WINDOW:])

    def next_poll(
        self,
        elapsed_s: float,
        polls_so_far: int,
        rng: Callable[[], float],
        hint_s: float | None = None,
        slowdown: float = 1.0,
    ) -> float:
        """Seconds to wait from now until the next question, 1 or more and finite.

        Args:
            elapsed_s: seconds since the service accepted the order.
            polls_so_far: questions asked about it so far (they are implied by `elapsed_s`; many of them
                without an end stretch the wait further).
            rng: gives numbers in [0, 1); spreads the questions of a batch.
            hint_s: the least wait that the service named, if it did.
            slowdown: factor of 1 or more, raised while the service answers 429.
        """
        elapsed = max(0.0, elapsed_s) if isfinite(elapsed_s) else 0.0
        wait = self._best_wait(elapsed)
        wait += (2 * rng() - 1) * min(0.1 * wait, 0.4)
        wait *= max(1.0, slowdown) if isfinite(slowdown) else 1.0
        wait *= 1.0 + max(0, polls_so_far - 20) / 20
        wait = min(max(wait, SHORTEST_WAIT_S), LONGEST_WAIT_S)
        if hint_s is not None and isfinite(hint_s):
            wait = max(wait, min(hint_s, 5 * LONGEST_WAIT_S))
        return wait

    def expected_s(self) -> float:
        """Seconds that an order of this kind usually takes: half of them take no longer."""
        return self.typical_s

    def progress(self, elapsed_s: float) -> float:
        """How far an order is that runs since `elapsed_s`: 0 or more, below 1, never falling.

        The time it has taken over the time it will have taken, by what half of those still running after
        as long needed: so it slows down when an order is late instead of standing at the end.
        """
        elapsed = max(0.0, elapsed_s) if isfinite(elapsed_s) else 0.0
        last = len(self.share) - 1
        end = last * self.step_s
        if elapsed >= end:
            return 1.0 - (1.0 - self.share[last]) * end / max(elapsed, end)
        return _between(self.share, elapsed / self.step_s)

    def _best_wait(self, elapsed: float) -> float:
        end = (len(self.ended) - 1) * self.step_s
        if elapsed >= end - SHORTEST_WAIT_S:
            return _tail_wait(elapsed, self.price_s)
        ended, area = _between(self.ended, elapsed / self.step_s), _between(self.area, elapsed / self.step_s)
        best, best_cost = SHORTEST_WAIT_S, float("inf")
        wait = SHORTEST_WAIT_S
        while wait <= LONGEST_WAIT_S and elapsed + wait <= end:
            place = (elapsed + wait) / self.step_s
            late = _between(self.area, place) - area - ended * wait
            cost = late + _between(self.ahead, place)
            if cost < best_cost:
                best, best_cost = wait, cost
            wait += self.step_s / 2
        return best


def _between(values: tuple[float, ...], place: float) -> float:
    """Value at a fractional index, linear between its neighbours."""
    below = min(max(int(place), 0), len(values) - 2)
    return values[below] + (values[below + 1] - values[below]) * (place - below)


def _tail_wait(elapsed: float, price_s: float) -> float:
    """Best distance between questions so late that only the long tail is left, whose hazard is shape / t."""
    return min(max(sqrt(2 * price_s * elapsed / _TAIL_SHAPE), SHORTEST_WAIT_S), LONGEST_WAIT_S)


@lru_cache(maxsize=16)
def _learn(durations: tuple[float, ...]) -> Pace:
    typical = median(durations) if durations else _FIRST_GUESS_S
    end = max(2.5 * typical, 1.25 * max(durations, default=0.0), typical + 8.0)
    end = min(end, 20 * typical + 8.0)
    step = max(0.2, end / _CELLS)
    cells = int(end / step) + 1
    ended = _distribution(durations, typical, step, cells)
    area = [0.0]
    for left, right in zip(ended, ended[1:]):
        area.append(area[-1] + step * (left + right) / 2)
    allowed = _BUDGET_SHARE * _advice_polls(ended, step)
    for price in _PRICES_S:
        ahead, polls = _cost_ahead(ended, area, step, price)
        if polls <= allowed:
            break
    return Pace(step, tuple(ended), tuple(area), tuple(ahead), tuple(_shares(ended, step)), price, typical)


def _distribution(durations: tuple[float, ...], typical: float, step: float, cells: int) -> list[float]:
    """Probability of having ended by each grid point: a smooth form of the durations, and the broad one."""
    weights = [0.5 ** (age / _HALF_LIFE) for age in range(len(durations) - 1, -1, -1)]
    known = sum(weights)
    broad = _PRIOR_ORDERS / (_PRIOR_ORDERS + known)
    mass = [0.0] * (cells + 1)
    for duration, width, weight in zip(durations, _widths(durations), weights):
        first = max(1, int((duration - 3 * width) / step) + 1)
        last = min(cells, int((duration + 3 * width) / step) + 1)
        before = 0.0
        for i in range(first, last + 1):
            now = 0.5 + 0.5 * erf((i * step - duration) / (width * 1.4142135623730951)) if i < last else 1.0
            if i == cells and (duration + 3 * width) / step >= cells:
                now = 0.5 + 0.5 * erf((i * step - duration) / (width * 1.4142135623730951))
            mass[i] += weight * (now - before)
            before = now
    ended, total = [0.0], 0.0
    for i in range(1, cells + 1):
        total += mass[i]
        ratio = (i * step / typical) ** _TAIL_SHAPE
        ended.append(
            (1 - broad) * total / known + broad * ratio / (1 + ratio) if known else ratio / (1 + ratio)
        )
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
        below = duration - ordered[at - reach] if at - reach >= 0 else float("inf")
        least = 0.1 + duration * (0.02 + 0.25 / count)
        most = 0.35 * duration
        widths.append(max(least, min(above, below, most)))
    return widths


def _advice_polls(ended: list[float], step: float) -> float:
    """Questions per order that the service's advice would cost on this distribution, to the grid's end."""
    polls, place = 1.0, _ADVICE_FIRST_S
    while place < (len(ended) - 1) * step:
        polls += 1.0 - ended[int(place / step)]
        place += _ADVICE_STEP_S
    return polls


def _cost_ahead(
    ended: list[float], area: list[float], step: float, price: float
) -> tuple[list[float], float]:
    """Least cost from each grid point on (times the probability to get there), and questions per order."""
    last = len(ended) - 1
    end = last * step
    gap = _tail_wait(end, price)
    ahead = [(1.0 - ended[last]) * (2 * price + gap)] * (last + 1)
    polls = [(1.0 - ended[last]) * 2.0] * (last + 1)
    shortest = max(1, int(SHORTEST_WAIT_S / step + 0.999))
    offsets, offset = [], float(shortest)
    while offset * step <= LONGEST_WAIT_S:
        offsets.append(int(offset))
        offset = max(offset + 1, offset * 1.12)
    for i in range(last - 1, -1, -1):
        base, here = area[i], ended[i]
        asked = price * (1.0 - here)
        best, at = float("inf"), last
        for offset_cells in offsets if i else range(shortest, last):
            j = i + offset_cells
            if j > last:
                break
            cost = area[j] - base - here * offset_cells * step + ahead[j]
            if cost < best:
                best, at = cost, j
        if best == float("inf"):
            best = ahead[last] + gap * (1.0 - here) / 2
        ahead[i] = asked + best
        polls[i] = (1.0 - here) + polls[at]
    return ahead, polls[0]


def _shares(ended: list[float], step: float) -> list[float]:
    """Progress at each grid point: elapsed over the time by which half of those still running have ended."""
    shares, highest, j = [], 0.0, 0
    last = len(ended) - 1
    for i, here in enumerate(ended):
        target = here + (1.0 - here) / 2
        while j < last and ended[j] < target:
            j += 1
        half = j * step if ended[j] >= target else last * step * sqrt((1.0 - ended[last]) / (1.0 - target))
        highest = max(highest, min(0.99, i * step / max(half, (i + 1) * step)))
        shares.append(highest)
    return shares
