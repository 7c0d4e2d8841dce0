"""Which failures may be repeated, and after what wait."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rivya.api.policy import RetryPolicy
from rivya.errors import Delivery

POLICY = RetryPolicy()
DRAWS = st.floats(0, 1, exclude_max=True)


@given(attempt=st.integers(-3, 10**9), draw=DRAWS)
def test_full_jitter_stays_between_nothing_and_the_doubled_base(attempt: int, draw: float) -> None:
    delay = POLICY.delay(attempt, None, lambda: draw)
    assert 0 <= delay <= min(POLICY.cap_s, POLICY.base_s * 2.0 ** (min(max(attempt, 1), 60) - 1))


def test_full_jitter_uses_its_whole_width() -> None:
    assert POLICY.delay(3, None, lambda: 0.0) == 0.0
    assert POLICY.delay(3, None, lambda: 0.999) == pytest.approx(2.0, rel=0.01)
    assert POLICY.delay(40, None, lambda: 0.999) == pytest.approx(POLICY.cap_s, rel=0.01)


@given(named=st.floats(0.001, 149), attempt=st.integers(1, 20), draw=DRAWS)
def test_a_named_pace_is_never_undercut_and_hardly_exceeded(named: float, attempt: int, draw: float) -> None:
    assert named <= POLICY.delay(attempt, named, lambda: draw) <= named + POLICY.base_s


@given(named=st.floats(150, 1e300), draw=DRAWS)
def test_a_named_pace_is_capped(named: float, draw: float) -> None:
    assert POLICY.delay(1, named, lambda: draw) == POLICY.retry_after_cap_s


@pytest.mark.parametrize("named", [0.0, -1.0, float("nan"), float("inf")])
def test_a_pace_of_zero_or_nonsense_counts_as_none(named: float) -> None:
    assert POLICY.delay(1, named, lambda: 0.5) == 0.25


def test_the_budget_counts_the_wait_that_is_still_to_come() -> None:
    policy = RetryPolicy(budget_s=60)
    assert policy.within_budget(50, 10)
    assert not policy.within_budget(50, 10.1)


@pytest.mark.parametrize("field", ["base_s", "cap_s", "budget_s", "retry_after_cap_s"])
@pytest.mark.parametrize("value", [-1.0, float("nan"), float("inf")])
def test_a_policy_of_nonsense_is_refused(field: str, value: float) -> None:
    with pytest.raises(ValueError, match=field):
        RetryPolicy(**{field: value})


@pytest.mark.parametrize("repeatable", [True, False])
def test_what_never_arrived_and_what_came_too_fast_may_always_be_repeated(repeatable: bool) -> None:
    assert POLICY.may_repeat(None, Delivery.NEVER, repeatable)
    assert POLICY.may_repeat(429, Delivery.REFUSED, repeatable)


@pytest.mark.parametrize("status", [408, 500, 502, 503, 504, 529, 599])
@pytest.mark.parametrize("delivery", [Delivery.REFUSED, Delivery.UNKNOWN])
def test_trouble_of_the_service_is_repeated_only_where_that_does_no_harm(
    status: int, delivery: Delivery
) -> None:
    assert POLICY.may_repeat(status, delivery, repeatable=True)
    assert not POLICY.may_repeat(status, delivery, repeatable=False)


@pytest.mark.parametrize("status", [None, 200, 201])
def test_an_unknown_outcome_is_repeated_only_where_that_does_no_harm(status: int | None) -> None:
    assert POLICY.may_repeat(status, Delivery.UNKNOWN, repeatable=True)
    assert not POLICY.may_repeat(status, Delivery.UNKNOWN, repeatable=False)


@given(status=st.integers(400, 499).filter(lambda s: s not in (408, 429)), repeatable=st.booleans())
def test_other_refusals_are_final(status: int, repeatable: bool) -> None:
    assert not POLICY.may_repeat(status, Delivery.REFUSED, repeatable)


@given(status=st.integers(300, 399))
def test_a_redirect_is_final(status: int) -> None:
    assert not POLICY.may_repeat(status, Delivery.REFUSED, repeatable=True)
