"""Any number of rows: outcomes as they end, a bounded window, one failure for one row, and a budget that holds."""

from __future__ import annotations

import gc
import itertools
import threading
import weakref
from collections.abc import Iterable, Iterator
from contextlib import closing
from functools import partial
from typing import Any

import numpy as np
import pytest

from library.client import PATIENCE_S, Client, until
from library.test_many_orders import most_at_once
from rivya.bulk.budget import Budget
from rivya.bulk.row_run import RowCount, RowRun, Work
from rivya.bulk.rows import read
from rivya.bulk.stream import Stream
from rivya.errors import Charged, ImageError, RivyaError, ValidationError
from rivya.kontext import KontextParams
from rivya.orders.order import Finished
from rivya.plan import Wanted
from support.quick import picture

pytestmark = pytest.mark.heavy

DEFAULT = Wanted(None, "make it night", KontextParams())


def load(image: Any) -> Any:
    if isinstance(image, str):
        raise ZeroDivisionError if image == "faulty" else ImageError(f"{image} cannot be read.")
    return image


def stream(
    client: Client, rows: Iterable[Any], most: int | None = None, task: Any = RowRun, **options: Any
) -> Stream[Any]:
    work = Work(
        client.engine, client.config, lambda given: read(given, DEFAULT), load, budget=Budget(most), **options
    )
    return Stream(client.engine, rows, partial(task, work), client.config.max_concurrency)


def outcomes(client: Client, rows: Iterable[Any], **options: Any) -> list[tuple[int, int, Any]]:
    """(row, variation, source or error) of each outcome, in the sequence of the rows."""
    told = [
        (row.number, row.variation, what.source if isinstance(what, Finished) else what)
        for row, what in stream(client, rows, **options)
    ]
    return sorted(told, key=lambda each: each[:2])


class Endless:
    """Pictures without end; counts how many were taken."""

    def __init__(self) -> None:
        self.taken = 0

    def __iter__(self) -> Iterator[Any]:
        for number in itertools.count():
            self.taken += 1
            yield picture(number)


def test_an_endless_iterable_is_read_no_further_than_the_window(make: Any, service: Any) -> None:
    client = make(max_concurrency=2)
    rows = Endless()
    with closing(iter(stream(client, rows))) as told:
        for _ in range(5):
            next(told)
            assert rows.taken <= 5 + 2 * 2 + 16 + 2
    taken = rows.taken
    until(lambda: not client.loop_call(lambda: client.engine._registry.under_way))
    ordered = len(service.charges())
    assert ordered <= 5 + 2 * 2 + 16
    assert len(client.run(client.order(seed=77))) == 1  # time for whatever would still be ordered
    assert (rows.taken, len(service.charges())) == (taken, ordered + 1)


def test_nothing_more_is_read_while_nobody_takes_outcomes(make: Any, service: Any) -> None:
    client = make(max_concurrency=2)
    rows = Endless()
    with closing(iter(stream(client, rows))) as told:
        next(told)
        window = 2 * 2 + 16
        until(lambda: len(service.charges()) >= window)
        until(lambda: all(task["noticed_at"] for task in service.tasks()))
        assert rows.taken <= window + 2
        assert len(service.charges()) <= window
        assert most_at_once(service) <= 2


def test_an_outcome_is_told_while_the_next_row_is_not_there_yet(client: Client) -> None:
    told_first = threading.Event()

    def rows() -> Iterator[Any]:
        yield picture(1)
        assert told_first.wait(PATIENCE_S)
        yield picture(2)

    told = iter(stream(client, rows()))
    row, finished = next(told)
    assert (row.number, finished.source) == (0, "new")
    told_first.set()
    assert [row.number for row, _ in told] == [1]


def test_a_row_that_cannot_be_ordered_fails_by_itself_and_names_itself(client: Client, service: Any) -> None:
    service.fault("create", "fail_task", contains="doomed")
    rows = [
        picture(0),
        "gone.png",
        {"image": picture(2), "aspect-ratio": "1:1"},
        {"image": picture(3), "prompt": "doomed"},
        {"image": picture(4), "seed": "x"},
        {"image": picture(5), "prompt": float("nan"), "seed": "7", "safety_tolerance": 3.0},
        {"image": ""},
        np.zeros((4, 4, 2), np.uint8),
    ]
    told = outcomes(client, rows)
    assert [number for number, _, _ in told] == list(range(8))
    assert [each if isinstance(each, str) else type(each).__name__ for _, _, each in told] == [
        "new",
        "ImageError",
        "ValidationError",
        "TaskFailedError",
        "ValidationError",
        "new",
        "ValidationError",
        "ValidationError",
    ]
    assert [each.charged for _, _, each in told if isinstance(each, ValidationError | ImageError)] == [
        Charged.NO
    ] * 5


@pytest.mark.parametrize("task", [RowRun, RowCount])
def test_a_fault_of_the_program_is_an_outcome_of_each_order_of_its_row(client: Client, task: Any) -> None:
    rows = [picture(0), {"image": "faulty", "variations": 2}, picture(1)]
    told = outcomes(client, rows, task=task)
    assert [each[:2] for each in told] == [(0, 0), (1, 0), (1, 1), (2, 0)]
    assert [getattr(each, "code", "") for _, _, each in told] == ["", "internal_error", "internal_error", ""]


def test_an_error_of_the_iterable_comes_after_what_it_gave(client: Client, service: Any) -> None:
    def rows() -> Iterator[Any]:
        yield picture(1)
        yield picture(2)
        raise OSError("the disk with the list has gone")

    seen = []
    with pytest.raises(OSError, match="the list"):
        for row, finished in stream(client, rows()):
            seen.append((row.number, finished.source))
    assert sorted(seen) == [(0, "new"), (1, "new")]


def test_what_was_bought_before_needs_no_request_and_no_packing(
    client: Client, service: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [{"image": picture(number), "variations": 2} for number in range(4)]
    assert {source for _, _, source in outcomes(client, rows)} == {"new"}
    requests = len(service.requests())
    monkeypatch.setattr("rivya.images.encode.encode", None)
    told = outcomes(client, rows)
    assert [each[:2] for each in told] == [(row, each) for row in range(4) for each in range(2)]
    assert {source for _, _, source in told} == {"stored"}
    assert len(service.requests()) == requests


def test_the_budget_buys_exactly_what_it_allows(client: Client, service: Any) -> None:
    rows = [picture(number) for number in range(7)]
    told = outcomes(client, rows, most=12)
    refused = [each for _, _, each in told if isinstance(each, RivyaError)]
    assert (len(service.charges()), len(refused)) == (3, 4)
    assert {(each.code, each.charged) for each in refused} == {("over_credit_cap", Charged.NO)}
    # What is stored does not count: the next 12 credits buy three more.
    told = outcomes(client, rows, most=12)
    assert [each for _, _, each in told].count("stored") == 3
    assert len(service.charges()) == 6


def test_an_order_that_was_bought_leaves_nothing_in_memory_but_its_price(
    client: Client, service: Any
) -> None:
    budget = Budget(400)
    rows = [*map(picture, range(6)), picture(0)]
    work = Work(client.engine, client.config, lambda given: read(given, DEFAULT), load, budget=budget)
    assert len([outcome for _, outcome in Stream(client.engine, rows, partial(RowRun, work), 2)]) == 7
    assert (len(service.charges()), budget.spent) == (6, 24)
    assert budget._prices == {}


@pytest.mark.parametrize("status", [None, 400])
def test_an_order_that_ended_is_freed_at_once_and_not_when_python_s_collector_looks(
    client: Client, service: Any, status: int | None
) -> None:
    if status:
        service.fault("create", "status", status=status)
    gc.disable()
    try:
        (ticket,) = client.tickets(client.order())
        assert (ticket.done.exception(PATIENCE_S) is None) is (status is None)
        left = weakref.ref(ticket)
        del ticket
        until(lambda: left() is None)
    finally:
        gc.enable()


def test_a_failure_that_cost_nothing_is_given_back_to_the_budget(client: Client, service: Any) -> None:
    service.fault("create", "status", status=400, times=1)
    ended = threading.Event()

    def rows() -> Iterator[Any]:
        yield picture(0)
        assert ended.wait(PATIENCE_S)
        yield picture(1)

    told = iter(stream(client, rows(), most=4))
    _, failed = next(told)
    assert isinstance(failed, ValidationError)
    ended.set()
    assert [outcome.source for _, outcome in told] == ["new"]
    assert len(service.charges()) == 1


def test_ending_the_iteration_drops_the_orders_that_wait_for_their_turn(make: Any, service: Any) -> None:
    client = make(max_concurrency=1)
    service.fault("create", "latency", seconds=0.3, times=None)
    with closing(iter(stream(client, Endless()))) as told:
        next(told)
        until(lambda: len(client.account.slots._queue) == 4)
    until(lambda: not client.loop_call(lambda: client.engine._registry.under_way))
    assert len(service.charges()) <= 3  # the one that was told, and those that went out while it was


def test_equal_rows_are_paid_once(client: Client, service: Any) -> None:
    told = outcomes(client, [picture(1)] * 5, most=4)
    assert len(told) == 5
    assert not [each for _, _, each in told if isinstance(each, RivyaError)]
    assert len(service.charges()) == 1


def test_text_alone_makes_pictures(client: Client, service: Any) -> None:
    rows = [{"prompt": f"a harbour, {number}", "image": None} for number in range(3)]
    assert [each for _, _, each in outcomes(client, rows)] == ["new"] * 3


def test_an_order_out_of_time_is_an_outcome_and_is_had_later_for_nothing(
    client: Client, service: Any
) -> None:
    service.fault("create", "latency", seconds=1.0)
    told = outcomes(client, [picture(1)], timeout_s=0.1)
    assert told[0][2].charged is Charged.YES
    assert outcomes(client, [picture(1)])[0][2] in ("resumed", "stored")
    assert len(service.charges()) == 1
