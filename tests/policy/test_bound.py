"""The bound on what runs at once: it halves on refusal and recovers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rivya.api.policy import Bound

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
    bound, now = Bound(maximum), 0.0
    for refused, later, named in events:
        now += later
        if refused:
            bound.on_rate_limited(now, named)
        else:
            bound.on_success(now)
        assert 1 <= bound.places <= maximum
        assert 1 <= bound.limit <= maximum
        assert 0 <= bound.hold_s(now) <= bound.hold_cap_s


def test_several_refusals_of_one_burst_halve_it_once() -> None:
    bound = Bound(8)
    for now in (100.0, 100.1, 101.0, 104.9):
        bound.on_rate_limited(now)
    assert bound.places == 4
    bound.on_rate_limited(105.1)
    assert bound.places == 2


def test_it_recovers_by_one_place_for_a_full_round_of_successes() -> None:
    bound = Bound(8)
    bound.on_rate_limited(0)
    for _ in range(4):
        bound.on_success(10)
    assert 4.5 < bound.limit < 5.1
    for _ in range(100):
        bound.on_success(20)
    assert bound.places == 8


def test_answers_to_requests_of_the_same_burst_do_not_raise_it() -> None:
    bound = Bound(8)
    bound.on_rate_limited(0)
    bound.on_success(1)
    assert bound.limit == 4


def test_a_named_pace_holds_everybody_back_and_the_longest_wins() -> None:
    bound = Bound(8)
    bound.on_rate_limited(10, 30)
    bound.on_rate_limited(11, 5)
    assert bound.hold_s(11) == 29
    assert bound.hold_s(40) == 0


@pytest.mark.parametrize("maximum", [0, -1])
def test_a_maximum_below_one_is_refused(maximum: int) -> None:
    with pytest.raises(ValueError, match="maximum"):
        Bound(maximum)
