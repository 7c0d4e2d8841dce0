"""The learned pace of polling beside fixed schedules, on simulated orders.

Every schedule sees the same orders one after another, as one account has them. The learned one starts with
nothing and learns from what it has itself seen of each order, the way `rivya` does: from the times of its own
questions, and from the service's timestamps in three kinds of service (see `TELLING`).

An answer needs a round trip; the state that it tells is the one at its middle.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from rivya.api.polling import PollSchedule, ServiceClock

ROUND_TRIP_S = 0.12
COLD_ORDERS = 10

Schedule = Callable[[float, int], float]
"""(seconds since acceptance, questions so far) -> seconds to wait."""

FIXED: dict[str, Schedule] = {
    "documented: 2.5 s, then 5 s": lambda _, polls: 5.0 if polls else 2.5,
    "core node: 0, then 5 s": lambda _, polls: 5.0 if polls else 0.0,
    "10 s": lambda _, polls: 10.0,
    "2.5 s x 1.45": lambda _, polls: min(2.5 * 1.45**polls, 30.0),
    "2.5 s, then 2 s": lambda _, polls: 2.0 if polls else 2.5,
    "1 s": lambda _, polls: 1.0,
}
DOCUMENTED = "documented: 2.5 s, then 5 s"

TELLING = ("timestamps", "timestamps of our own question", "none")
"""What the service's `updated_at` says: when the order ended, when somebody asked, or nothing."""


@dataclass(frozen=True)
class Seen:
    """One order as the client saw it, seconds since acceptance."""

    lag_s: float
    polls: int
    noticed_s: float
    running_s: float


@dataclass(frozen=True)
class Row:
    """What a schedule did on a family of orders."""

    family: str
    schedule: str
    orders: int
    lag_mean_s: float
    lag_p95_s: float
    polls: float


def families(count: int, seed: int = 4) -> dict[str, list[float]]:
    """`count` service times of each kind, seconds, in the order in which one account has them."""
    draw = random.Random(seed)
    cold: list[float] = []
    while len(cold) < count:
        usual, spread = draw.lognormvariate(math.log(9), 0.6), draw.choice((0.05, 0.2, 0.4))
        cold += [usual * draw.lognormvariate(0, spread) for _ in range(COLD_ORDERS)]
    steps = (6, 12, 8, 20, 5)
    return {
        "usual, N(8, 2)": [max(1.0, draw.gauss(8, 2)) for _ in range(count)],
        "narrow, N(8, 0.4)": [draw.gauss(8, 0.4) for _ in range(count)],
        "wide, 3 to 30": [draw.uniform(3, 30) for _ in range(count)],
        "bimodal, 4 or 14": [
            draw.gauss(4, 0.4) if draw.random() < 0.6 else draw.gauss(14, 1.5) for _ in range(count)
        ],
        "heavy tail, Pareto 1.5": [min(1800.0, 4 * draw.random() ** (-1 / 1.5)) for _ in range(count)],
        "heavy tail, log-normal 1": [draw.lognormvariate(math.log(8), 1) for _ in range(count)],
        "drifting, 5 to 15": [max(1.0, draw.gauss(10 + 5 * math.sin(i / 200), 1.2)) for i in range(count)],
        "jumping every 200": [max(1.0, draw.gauss(steps[i // 200 % 5], 1)) for i in range(count)],
        "cold start, first 10": cold[:count],
    }


def follow(duration_s: float, schedule: Schedule, round_trip_s: float = ROUND_TRIP_S) -> Seen:
    """Ask about one order until its end has been noticed."""
    now, polls, running = schedule(0.0, 0), 1, 0.0
    while now + round_trip_s / 2 < duration_s:
        running = now
        now += round_trip_s
        now += schedule(now, polls)
        polls += 1
    noticed = now + round_trip_s
    return Seen(noticed - duration_s, polls, noticed, running)


def follow_learned(durations: Sequence[float], telling: str, cold: bool = False, seed: int = 5) -> list[Seen]:
    """Follow the orders of one account with the learned pace (`cold`: of a new account every ten)."""
    rng = random.Random(seed).random
    history: list[float] = []
    clock, seen = ServiceClock(), []
    for number, duration in enumerate(durations):
        if cold and number % COLD_ORDERS == 0:
            history, clock = [], ServiceClock()
        pace = PollSchedule.learn(history)
        one = follow(duration, lambda elapsed, polls, pace=pace: pace.next_poll(elapsed, polls, rng))
        seen.append(one)
        told = {"timestamps": duration, "none": None}.get(telling, one.noticed_s - ROUND_TRIP_S / 2)
        history = [*history[-63:], clock.seconds(one.noticed_s, one.running_s, told)]
    return seen


def follow_first(durations: Sequence[float], seed: int = 6) -> list[Seen]:
    """Follow each order as the very first one of its account."""
    pace, rng = PollSchedule.learn([]), random.Random(seed).random
    return [follow(duration, lambda at, polls: pace.next_poll(at, polls, rng)) for duration in durations]


def summarise(family: str, schedule: str, seen: Sequence[Seen]) -> Row:
    lags = sorted(one.lag_s for one in seen)
    p95 = lags[int(0.95 * len(lags))]
    return Row(family, schedule, len(seen), fmean(lags), p95, fmean(one.polls for one in seen))


def rows(count: int, telling: Sequence[str] = ("timestamps", "none")) -> Iterator[Row]:
    """Every schedule on every family, `count` orders each."""
    for family, durations in families(count).items():
        for name, schedule in FIXED.items():
            yield summarise(family, name, [follow(duration, schedule) for duration in durations])
        for kind in telling:
            seen = follow_learned(durations, kind, cold=family.startswith("cold"))
            yield summarise(family, f"learned ({kind})", seen)
        if not family.startswith("cold"):
            yield summarise(family, "learned, very first order", follow_first(durations))


def table(results: Sequence[Row]) -> str:
    lines = [f"{'orders':26} {'schedule':42} {'lag mean':>9} {'p95':>7} {'polls':>6}"]
    for before, row in zip([None, *results], results, strict=False):
        family = row.family if before is None or before.family != row.family else ""
        lines.append(
            f"{family:26} {row.schedule:42} {row.lag_mean_s:7.2f} s {row.lag_p95_s:5.2f} s {row.polls:6.2f}"
        )
    return "\n".join(lines)


def plot(results: Sequence[Row], path: Path) -> None:
    """Lag against questions per order, one panel a family."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    names = list(dict.fromkeys(row.family for row in results))
    figure, panels = pyplot.subplots(3, 3, figsize=(12, 10), constrained_layout=True)
    for name, panel in zip(names, panels.flat, strict=False):
        for row in results:
            if row.family != name:
                continue
            learned = row.schedule.startswith("learned")
            marker = {"learned (timestamps)": "*", "learned (none)": "P"}.get(
                row.schedule, "X" if learned else "o"
            )
            panel.scatter(
                row.polls, row.lag_mean_s, s=150 if learned else 45, marker=marker, label=row.schedule
            )
        panel.set_title(name, fontsize=10)
        panel.set_xlabel("questions per order")
        panel.set_ylabel("mean lag, s")
        panel.set_ylim(bottom=0)
        panel.set_xlim(left=0)
        panel.grid(alpha=0.3)
    handles, labels = panels.flat[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3, fontsize=9)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=90)
    pyplot.close(figure)


def simulate(count: int, plot_path: Path | None = None) -> list[Row]:
    """Run it all, and print the table."""
    results = list(rows(count))
    print(table(results))
    if plot_path is not None:
        plot(results, plot_path)
    return results


def verdict(results: Sequence[Row]) -> dict[str, Any]:
    """Whether the learned pace noticed sooner with no more questions than the advice, in every family."""
    advice = {row.family: row for row in results if row.schedule == DOCUMENTED}
    learned = [row for row in results if row.schedule.startswith("learned")]
    worse = [
        f"{row.family}: {row.schedule}"
        for row in learned
        if row.lag_mean_s >= advice[row.family].lag_mean_s or row.polls > advice[row.family].polls
    ]
    return {
        "compared": len(learned),
        "worse_than_the_advice": worse,
        "rows": [asdict(row) for row in results],
    }
