"""The learned pace of polling: its limits whatever comes in, and its behaviour in the cases that matter."""

from __future__ import annotations

import functools
import random
from collections.abc import Callable
from itertools import pairwise
from math import inf, isfinite, nan

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rivya.api.polling import (
    LONGEST_HINT_S,
    LONGEST_WAIT_S,
    SHORTEST_WAIT_S,
    PollSchedule,
    ServiceClock,
    service_seconds,
)

ANY_FLOATS = st.floats(allow_nan=True, allow_infinity=True)
DURATIONS = st.lists(ANY_FLOATS | st.floats(0.01, 2000), max_size=80)
DRAWS = st.floats(0, 1, exclude_max=True)


def middle() -> float:
    return 0.5


def questions(schedule: PollSchedule, until: float) -> list[float]:
    """The times at which an order is asked about, up to `until`, without jitter."""
    times: list[float] = []
    now = 0.0
    while now < until:
        now += schedule.next_poll(now, len(times), middle)
        times.append(now)
    return times


@settings(deadline=None)
@given(
    durations=DURATIONS,
    elapsed=ANY_FLOATS,
    polls=st.integers(-1, 10**6),
    draw=DRAWS,
    hint=st.none() | ANY_FLOATS,
    slowdown=ANY_FLOATS,
)
def test_every_wait_is_finite_and_never_under_a_second(
    durations: list[float], elapsed: float, polls: int, draw: float, hint: float | None, slowdown: float
) -> None:
    wait = PollSchedule.learn(durations).next_poll(elapsed, polls, lambda: draw, hint, slowdown)
    assert isfinite(wait)
    assert SHORTEST_WAIT_S <= wait <= (LONGEST_WAIT_S if hint is None else LONGEST_HINT_S)


@settings(deadline=None)
@given(durations=DURATIONS, moments=st.lists(ANY_FLOATS | st.floats(0, 200), min_size=2, max_size=40))
def test_progress_never_falls_and_never_reaches_one(durations: list[float], moments: list[float]) -> None:
    schedule = PollSchedule.learn(durations)
    shown = [schedule.progress(moment) for moment in sorted(m for m in moments if isfinite(m))]
    assert shown == sorted(shown)
    assert all(0 <= share < 1 for share in shown)
    assert isfinite(schedule.expected_s())
    assert schedule.expected_s() > 0


@given(moment=st.sampled_from([nan, inf, -inf, -1.0]))
def test_progress_of_a_nonsensical_moment_is_none_yet(moment: float) -> None:
    assert PollSchedule.learn([8.0]).progress(moment) == 0


def test_progress_moves_with_the_order_and_goes_on_when_it_is_late() -> None:
    schedule = PollSchedule.learn([7.0, 8.0, 9.0] * 20)
    assert 0.4 < schedule.progress(4) < 0.6
    assert 0.75 < schedule.progress(7) < 0.95
    assert schedule.progress(60) > schedule.progress(30) > schedule.progress(12)


def test_without_any_finished_order_it_asks_no_earlier_than_the_service_advises() -> None:
    advice = [2.5 + 5.0 * n for n in range(20)]
    asked = questions(PollSchedule.learn([]), 100)
    assert all(ours >= theirs for ours, theirs in zip(asked, advice, strict=False))


def test_the_first_question_lies_near_the_end_of_a_regular_order() -> None:
    first = questions(PollSchedule.learn([8.0, 8.2, 7.8, 8.1] * 16), 1)[0]
    assert 7.8 < first < 9.2


def test_with_two_kinds_of_orders_it_does_not_ask_in_between() -> None:
    asked = questions(PollSchedule.learn([4.0, 4.2, 14.0, 14.5] * 16), 20)
    assert not [at for at in asked if 6.5 < at < 13.5]


def test_an_order_twenty_times_as_long_as_expected_is_asked_about_ever_more_seldom() -> None:
    asked = questions(PollSchedule.learn([8.0 + 0.1 * (n % 9) for n in range(64)]), 160)
    late = [at for at in asked if at > 20]
    gaps = [after - before for before, after in pairwise(late)]
    assert gaps == sorted(gaps)
    assert len(asked) < 1 + (160 - 2.5) / 5
    assert gaps[-1] > 15


def test_no_wait_is_longer_than_half_a_minute_unless_the_service_names_it() -> None:
    schedule = PollSchedule.learn([300.0] * 10)
    assert 28 < schedule.next_poll(0, 0, middle) <= LONGEST_WAIT_S
    assert schedule.next_poll(5000, 100, middle) == LONGEST_WAIT_S
    assert schedule.next_poll(0, 0, middle, hint_s=100) == 100


def test_a_refusal_stretches_the_wait() -> None:
    schedule = PollSchedule.learn([8.0] * 20)
    assert schedule.next_poll(10, 2, middle, slowdown=2) == pytest.approx(
        2 * schedule.next_poll(10, 2, middle)
    )


def test_the_orders_of_a_batch_are_not_asked_about_in_step() -> None:
    schedule, rng = PollSchedule.learn([8.0] * 20), random.Random(1)
    first = [schedule.next_poll(0, 0, rng.random) for _ in range(8)]
    assert max(first) - min(first) > 0.3


def test_what_is_no_duration_is_left_out() -> None:
    assert PollSchedule.learn([8.0, nan, inf, -3.0, 0.0, 1e9, 8.5]) == PollSchedule.learn([8.0, 8.5])


def test_only_the_newest_orders_count() -> None:
    assert PollSchedule.learn([99.0] * 100 + [5.0] * 64) == PollSchedule.learn([5.0] * 64)


def test_the_services_own_figure_is_believed_where_it_fits_between_two_questions() -> None:
    assert service_seconds(9.5, 8.0, 8.9) == 8.9
    assert service_seconds(9.5, 0.0, 4.0) == 4.0


@pytest.mark.parametrize("told", [None, nan, inf, -1.0, 2.0, 9.45, 500.0])
def test_else_the_end_is_taken_to_lie_before_we_noticed_it(told: float | None) -> None:
    assert 8.0 <= service_seconds(9.5, 8.0, told) <= 8.75


def test_of_an_order_that_had_ended_when_it_was_first_asked_for_only_the_service_can_tell() -> None:
    assert service_seconds(7200.0, None, 8.9) == 8.9
    for told in (None, nan, inf, 0.0, 7199.9, 8000.0):
        assert service_seconds(7200.0, None, told) is None
    assert service_seconds(0.01, None, 8.9) is None


def lag_after_five(told: Callable[[float], float | None], accounts: int) -> float:
    """Mean lag, seconds, of orders of about 8 s, from the sixth of an account on, with such a told duration."""
    draw, jitter = random.Random(4), random.Random(5)
    lags = []
    for _ in range(accounts):
        history: list[float] = []
        clock = ServiceClock()
        for number in range(15):
            duration, schedule = draw.gauss(8, 2), PollSchedule.learn(history)
            now, polls, running = 0.0, 0, 0.0
            while now < max(duration, 1.0):
                running = now
                now += schedule.next_poll(now, polls, jitter.random)
                polls += 1
            noticed = now + 0.1
            if number >= 5:
                lags.append(noticed - duration)
            learned = clock.seconds(noticed, running, told(duration))
            assert learned is not None
            history.append(learned)
    return sum(lags) / len(lags)


UNTRUE = {
    "still": lambda _: 0.0,
    "a moment": lambda _: 0.05,
    "constant": lambda _: 1.0,
    "of the start": lambda duration: 0.5 + duration / 20,
    "another zone": lambda duration: duration + 7200,
    "a zone behind": lambda duration: duration - 7200,
    "earlier": lambda duration: duration - 7,
}


@pytest.mark.parametrize("told", UNTRUE.values(), ids=UNTRUE)
def test_untrue_timestamps_are_as_good_as_none(told: Callable[[float], float]) -> None:
    assert lag_after_five(told, accounts=4) == lag_after_five(lambda _: None, accounts=4)


@functools.cache
def lag_with_true_timestamps() -> float:
    return lag_after_five(lambda duration: duration, accounts=60)


LIKELY = {
    "constant": lambda _: 3.0,
    "constant, nearer": lambda _: 4.0,
    "a slow clock": lambda duration: 0.7 * duration,
    "two clocks": lambda duration: duration - 3,
}


@pytest.mark.slow
@pytest.mark.parametrize("name", LIKELY)
def test_untrue_timestamps_that_may_be_true_of_one_order_are_found_out(name: str) -> None:
    assert lag_after_five(LIKELY[name], accounts=60) <= 1.1 * lag_with_true_timestamps()


def test_a_true_clock_is_never_found_untrue_and_an_untrue_one_is_believed_no_more() -> None:
    clock = ServiceClock()
    for noticed, running, told in ((9.5, 8.0, 8.9), (9.5, 8.0, 6.6), (9.5, 0.0, 10.9), (7200.0, None, 8.9)):
        clock.seconds(noticed, running, told)
        assert clock.believed
    assert clock.seconds(9.5, 8.0, 3.0) == service_seconds(9.5, 8.0)
    assert clock.seconds(9.5, 8.0, 8.9) == service_seconds(9.5, 8.0)
    assert clock.seconds(7200.0, None, 8.9) is None


@pytest.mark.slow
def test_after_five_orders_no_timestamps_are_nearly_as_good_as_true_ones() -> None:
    true = lag_with_true_timestamps()
    assert lag_after_five(lambda _: None, accounts=60) <= 1.1 * true


@pytest.mark.parametrize("told", [0.0, 0.05, 1.0, -0.5, -7200.0])
def test_timestamps_that_stand_still_or_run_backwards_teach_nothing(told: float) -> None:
    assert service_seconds(9.5, 0.0, told) == service_seconds(9.5, 0.0, None)
    assert service_seconds(9.5, 8.0, told) == service_seconds(9.5, 8.0, None)
    if told <= 0:
        assert service_seconds(7200.0, None, told) is None


@given(noticed=st.floats(0, 1e5), running=ANY_FLOATS, told=st.none() | ANY_FLOATS)
def test_a_duration_is_positive_and_not_beyond_the_moment_of_noticing(
    noticed: float, running: float, told: float | None
) -> None:
    assert 0 < service_seconds(noticed, running, told) <= max(noticed, 0.001)
