"""The limit on what runs at once: it halves on refusal and recovers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rivya.api.policy import AdaptiveLimit

EVENTS = st.lists(
    st.tuples(
        st.booleans(),
        st.floats(0, 100),
        st.none() | st.floats(allow_nan=True, allow_infinity=True),
    ),
    max_size=200,
)


@given(maximum=st.integers(1, 1000), events=EVENTS)
def test_whatever_happens_it_stays_between_one_and_the_maximum(
    maximum: int, events: list[tuple[bool, float, float | None]]
) -> None:
    concurrency, now = AdaptiveLimit(maximum), 0.0
    for refused, later, named in events:
        now += later
        if refused:
            concurrency.on_rate_limited(now, named)
        else:
            concurrency.on_success(now)
        assert 1 <= concurrency.slots <= maximum
        assert 1 <= concurrency.limit <= maximum
        assert 0 <= concurrency.hold_s(now) <= concurrency.hold_cap_s


def test_several_refusals_of_one_burst_halve_it_once() -> None:
    concurrency = AdaptiveLimit(8)
    for now in (100.0, 100.1, 101.0, 104.9):
        concurrency.on_rate_limited(now)
    assert concurrency.slots == 4
    concurrency.on_rate_limited(105.1)
    assert concurrency.slots == 2


def test_it_recovers_by_one_place_for_a_full_round_of_successes() -> None:
    concurrency = AdaptiveLimit(8)
    concurrency.on_rate_limited(0)
    for _ in range(4):
        concurrency.on_success(10)
    assert 4.5 < concurrency.limit < 5.1
    for _ in range(100):
        concurrency.on_success(20)
    assert concurrency.slots == 8


def test_answers_to_requests_of_the_same_burst_do_not_raise_it() -> None:
    concurrency = AdaptiveLimit(8)
    concurrency.on_rate_limited(0)
    concurrency.on_success(1)
    assert concurrency.limit == 4


def test_a_named_pace_holds_everybody_back_and_the_longest_wins() -> None:
    concurrency = AdaptiveLimit(8)
    concurrency.on_rate_limited(10, 30)
    concurrency.on_rate_limited(11, 5)
    assert concurrency.hold_s(11) == 29
    assert concurrency.hold_s(40) == 0


@pytest.mark.parametrize("maximum", [0, -1])
def test_a_maximum_below_one_is_refused(maximum: int) -> None:
    with pytest.raises(ValueError, match="maximum"):
        AdaptiveLimit(maximum)
