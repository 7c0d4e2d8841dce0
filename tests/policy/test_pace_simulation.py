"""The pace on simulated orders: no more requests than the service's advice, and sooner, on every kind of orders.

The long form (5,000 orders of each kind, beside the schedules of others, with a plot) is part of the bench.
"""

from __future__ import annotations

import pytest

from benchmarks.pace import (
    DOCUMENTED,
    FIXED,
    TELLING,
    families,
    follow,
    follow_first,
    follow_learned,
    summarise,
)
from support.cases import slow_but

pytestmark = pytest.mark.heavy

FAMILIES = families(600)


USUAL, HEAVY = "usual, N(8, 2)", "heavy tail, Pareto 1.5"
LONG = [pytest.param(telling, 600, marks=pytest.mark.slow) for telling in TELLING]


# Without timestamps, longer rows, and the other families, in the long tests.
@pytest.mark.parametrize("telling, count", [("timestamps", 300), *LONG])
@pytest.mark.parametrize("family", slow_but(FAMILIES, HEAVY))
def test_it_notices_sooner_with_no_more_questions_than_the_advice(
    family: str, telling: str, count: int
) -> None:
    durations = FAMILIES[family][:count]
    advice = summarise(family, "advice", [follow(d, FIXED[DOCUMENTED]) for d in durations])
    learned = summarise(family, "learned", follow_learned(durations, telling, cold=family.startswith("cold")))
    assert learned.lag_mean_s < advice.lag_mean_s
    assert learned.polls <= advice.polls


@pytest.mark.parametrize("family", list(FAMILIES))
def test_the_very_first_order_is_no_worse_off_than_by_the_advice(family: str) -> None:
    durations = FAMILIES[family]
    advice = summarise(family, "advice", [follow(d, FIXED[DOCUMENTED]) for d in durations])
    first = summarise(family, "first", follow_first(durations))
    assert first.lag_mean_s <= advice.lag_mean_s
    assert first.polls <= advice.polls


@pytest.mark.slow
def test_on_usual_orders_it_notices_within_the_target() -> None:
    learned = summarise("usual", "learned", follow_learned(FAMILIES[USUAL], "timestamps"))
    assert learned.lag_mean_s <= 1.2
    assert learned.polls <= 2.7
