"""What a node says while it waits, and what it raises at the end."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from library.pack import progress
from rivya import errors
from rivya.engine.jobs import JobCancelled, Ticket
from rivya.errors import Charged, RivyaError, RivyaTimeoutError, TaskFailedError
from rivya.orders.order import Progress


class Usually:
    """A schedule that knows one duration."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    def expected_s(self) -> float:
        return self.seconds

    def progress(self, elapsed_s: float) -> float:
        return 0.5


def ticket(name: str = "a", *, left: list[Ticket] | None = None, **progress: Any) -> Ticket:
    def leave(ticket: Ticket) -> None:
        if left is not None:
            left.append(ticket)
        if not ticket.done.done():
            ticket.done.set_exception(JobCancelled())

    made = Ticket(name, leave)
    made.watch = lambda: Progress(**progress)
    return made


def text(*tickets: Ticket, after_s: float = 3.0) -> str:
    watch = progress.Watch(tickets, 900, lambda count: "Run again.")
    return str(watch.text(watch._began + after_s))


# -- the text


def test_one_order_is_one_word_and_the_time() -> None:
    assert text(ticket()) == "waiting\n3 s"
    assert text(ticket(state="sending", source="new")) == "sending\n3 s"


def test_a_running_order_tells_how_long_it_usually_takes_and_what_it_costs() -> None:
    shown = text(ticket(state="running", source="new", credits=4, schedule=Usually(7.6)))
    assert shown == "running\n3 s (usually about 8 s)\n4 credits"


def test_several_orders_are_counted_by_state_in_the_sequence_of_their_life() -> None:
    failed, done = ticket(), ticket(state="done", source="new", credits=4)
    failed.done.set_exception(TaskFailedError("It failed."))
    done.done.set_result(None)  # type: ignore[arg-type]
    states = ["downloading", "waiting", "running", "waiting"]
    shown = text(failed, done, *[ticket(state=state, source="new", credits=4) for state in states])
    assert shown.splitlines()[0] == "2 waiting · 1 running · 1 downloading · 1 done · 1 failed"
    assert "20 credits" in shown


def test_what_was_resumed_or_stored_is_told_and_costs_nothing() -> None:
    new = ticket(state="running", source="new", credits=4)
    resumed = ticket(state="running", source="resumed", credits=4)
    shown = text(new, resumed, resumed)
    assert "4 credits" in shown
    assert shown.splitlines()[-1] == "1 new, 2 resumed"
    assert text(resumed).splitlines()[-1] == "1 resumed"
    assert "credits" not in text(resumed)


def test_the_expected_time_is_that_of_the_slowest_that_still_runs() -> None:
    done = ticket(state="done", source="new", schedule=Usually(60))
    done.done.set_result(None)  # type: ignore[arg-type]
    assert "about 9 s" in text(done, *[ticket(state="running", schedule=Usually(s)) for s in (5, 9, 7)])


def test_trouble_that_is_being_waited_out_is_told_once() -> None:
    shown = text(*[ticket(state="sending", source="new", trouble="Rivya is busy.")] * 3)
    assert shown.count("Rivya is busy. Trying again.") == 1


# -- time limits


def outcomes(watch: Any) -> dict[str, Any]:
    return dict(asyncio.run(watch.outcomes()))


def test_an_order_out_of_time_is_left_and_told_with_its_task_the_others_are_not() -> None:
    left: list[Ticket] = []
    quick = ticket("quick", left=left)
    quick.done.set_exception(TaskFailedError("It failed."))
    slow = ticket("slow", left=left, state="running", task_id="task_1", since=time.monotonic() - 100)
    watch = progress.Watch([quick, slow], 0.3, lambda count: "Run again.")
    begun = time.monotonic()
    found = outcomes(watch)
    assert 0.2 < time.monotonic() - begun < 10.0
    assert isinstance(found["slow"], RivyaTimeoutError)
    assert found["slow"].task_id == "task_1"
    assert found["slow"].charged is Charged.YES
    assert "costs nothing more" in found["slow"].hint
    assert isinstance(found["quick"], TaskFailedError)
    assert {each.fingerprint for each in left} == {"quick", "slow"}


def test_the_time_limit_counts_from_the_acceptance_by_the_service() -> None:
    waits = ticket("waits")
    watch = progress.Watch([waits], 0.1, lambda count: "Run again.")
    watch._check_time(time.monotonic() + 1000)
    assert not waits.done.done()


def test_the_time_limit_of_a_run_does_not_count_what_was_before_it() -> None:
    resumed = ticket("resumed", state="running", since=time.monotonic() - 5000)
    watch = progress.Watch([resumed], 900, lambda count: "Run again.")
    watch._check_time(time.monotonic() + 800)
    assert not resumed.done.done()
    watch._check_time(time.monotonic() + 901)
    assert resumed.done.done()


def test_an_error_that_is_not_ours_is_raised_as_what_it_is() -> None:
    broken = ticket()
    broken.done.set_exception(ZeroDivisionError("a bug"))
    with pytest.raises(ZeroDivisionError):
        outcomes(progress.Watch([broken], 900, lambda count: ""))


# -- one error for many


def test_the_error_of_a_single_order_is_raised_as_it_is() -> None:
    error = TaskFailedError("It failed.", task_id="task_1")
    assert progress.summary({"a": error}, 1, 0) is error


def test_several_errors_are_one_with_their_numbers_tasks_and_the_worst_that_may_have_been_charged() -> None:
    failures = {
        "a": TaskFailedError("The task failed.", task_id="task_1", charged=Charged.NO),
        "b": TaskFailedError("The task failed.", task_id="task_2", charged=Charged.YES),
        "c": errors.RivyaConnectionError(
            "Rivya broke the connection off.", charged=Charged.UNKNOWN, order_key="k"
        ),
    }
    error = progress.summary(failures, 8, 5)
    assert isinstance(error, errors.RivyaConnectionError), "the one that says most about money"
    assert error.charged is Charged.UNKNOWN
    assert error.order_key == "k"
    assert error.task_id == "task_1, task_2"
    assert error.message.startswith(
        "3 of 8 pictures failed: The task failed. / Rivya broke the connection off."
    )
    assert "5 others are stored" in error.message
    assert "no credits" in error.message


@pytest.mark.parametrize(
    ("charges", "worst"),
    [
        ([Charged.NO, Charged.NO], Charged.NO),
        ([Charged.NO, Charged.YES], Charged.YES),
        ([Charged.YES, Charged.UNKNOWN], Charged.UNKNOWN),
        ([Charged.NO, Charged.UNKNOWN], Charged.UNKNOWN),
    ],
)
def test_the_summary_never_says_less_than_the_worst(charges: list[Charged], worst: Charged) -> None:
    failures = {str(number): RivyaError("It broke.", charged=each) for number, each in enumerate(charges)}
    assert progress.summary(failures, 3, 1).charged is worst


def test_what_only_one_of_several_knows_to_be_unknown_is_named() -> None:
    failures = {
        "a": RivyaError("It failed."),
        "b": errors.UnknownOutcomeError("Not known.", order_key="key-of-b", charged=Charged.UNKNOWN),
    }
    assert "key-of-b" in str(progress.summary(failures, 2, 0))


def test_many_different_errors_do_not_make_an_endless_text() -> None:
    failures = {str(number): RivyaError(f"Error number {number}.") for number in range(64)}
    assert len(str(progress.summary(failures, 64, 0))) < 600
