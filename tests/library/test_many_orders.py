"""Many orders at once: how many run, what a refusal of the service changes, and that nothing is left behind."""

from __future__ import annotations

import asyncio
import gc
import logging
import threading
import time
from collections.abc import Callable
from typing import Any

import psutil
import pytest

from library.client import PATIENCE_S, SOON_S, Client, until
from rivya.api.policy import AdaptiveLimit
from rivya.engine.jobs import JobCancelled
from rivya.ledger.ledger import OrderState
from rivya.orders.slots import Slot, Slots


def most_at_once(service: Any) -> int:
    """The most orders that the service had open at any moment."""
    moments = [(task["created_at"], 1) for task in service.tasks()]
    moments += [(task["noticed_at"], -1) for task in service.tasks()]
    now = most = 0
    for _, step in sorted(moments, key=lambda moment: (moment[0], -moment[1])):
        now += step
        most = max(most, now)
    return most


def test_no_more_orders_run_at_once_than_there_are_places(make: Callable[..., Client], service: Any) -> None:
    client = make(max_concurrency=3)
    service.fault("create", "latency", seconds=0.1, times=None)
    results = client.run(*[client.order(seed=seed) for seed in range(12)])
    assert len({each.about["task_id"] for each in results}) == 12
    assert 1 < most_at_once(service) <= 3
    assert client.account.slots._taken == 0
    assert not client.account.slots._queue


def test_results_come_in_the_sequence_of_the_orders(client: Client, service: Any) -> None:
    service.fault("create", "latency", seconds=0.3)
    orders = [client.order(seed=seed) for seed in range(6)]
    results = client.run(*orders)
    assert [each.fingerprint for each in results] == [order.fingerprint for order in orders]
    assert [each.about["seed"] for each in results] == list(range(6))


def test_one_that_fails_does_not_stop_the_others(client: Client, service: Any) -> None:
    service.fault("create", "fail_task", contains="doomed")
    tickets = client.tickets(client.order("doomed"), *[client.order(seed=seed) for seed in range(5)])
    assert tickets[0].done.exception(PATIENCE_S) is not None
    assert {ticket.result(PATIENCE_S).source for ticket in tickets[1:]} == {"new"}
    assert client.account.slots._taken == 0


@pytest.mark.heavy
def test_a_refusal_halves_the_places_and_they_come_back(make: Callable[..., Client], service: Any) -> None:
    client = make(max_concurrency=8, retry_budget_s=30.0)
    service.fault("create", "status", status=429)
    client.run(*[client.order(seed=seed) for seed in range(4)])
    assert client.account.concurrency.slots < 8
    client.account.concurrency._halved_at = None
    client.run(*[client.order(seed=seed) for seed in range(4, 44)])
    assert client.account.concurrency.slots == 8
    assert len(service.charges()) == 44


def test_an_account_that_takes_few_orders_at_a_time_gets_them_all_done(
    make: Callable[..., Client], tmp_path: Any
) -> None:
    import sandbox

    with sandbox.running(megapixels=0.004, max_open=2, latency=0.02) as narrow:
        client = make(narrow, retry_budget_s=60.0)
        results = client.run(*[client.order(seed=seed) for seed in range(6)])
        assert len(results) == len(narrow.charges()) == 6


@pytest.mark.heavy
@pytest.mark.slow
def test_whatever_becomes_of_orders_their_places_come_back(make: Callable[..., Client], service: Any) -> None:
    client = make(max_concurrency=4, retry_budget_s=0.3)
    service.fault("create", "fail_task", probability=0.2, seed=1, times=None)
    service.fault("create", "status", status=400, probability=0.2, seed=2, times=None)
    service.fault("create", "cut_after", probability=0.2, seed=3, times=None)
    service.fault("status", "status", status=404, probability=0.2, seed=4, times=None)
    service.fault("result", "status", status=410, probability=0.2, seed=5, times=None)
    tickets = client.tickets(*[client.order(seed=seed) for seed in range(60)])
    for number, ticket in enumerate(tickets):
        if number % 7 == 3:
            ticket.leave()
    for ticket in tickets:
        ticket.done.exception(PATIENCE_S)
    until(lambda: not client.engine._registry.under_way)
    assert client.account.slots._taken == 0
    assert not client.account.slots._queue
    assert all(row.holder is None for row in client.rows())
    service.clear_faults()
    again = client.tickets(*[client.order(seed=seed) for seed in range(60)])
    for ticket in again:
        ticket.done.exception(PATIENCE_S)
    rest = client.run(*[client.order(seed=seed) for seed in range(60)])
    assert len(rest) == 60
    assert len(service.charges()) == 60


def test_eight_orders_under_way_are_left_at_once(make: Callable[..., Client], service: Any) -> None:
    client = make(max_concurrency=8)
    service.fault("create", "latency", seconds=60, times=None)
    tickets = client.tickets(*[client.order(seed=seed) for seed in range(16)])
    service.wait("status", count=8)
    begun = time.monotonic()
    for ticket in reversed(tickets):
        ticket.leave()
    for ticket in tickets:
        assert isinstance(ticket.done.exception(SOON_S), JobCancelled)
    assert time.monotonic() - begun < SOON_S
    service.finish_tasks()
    until(lambda: not client.engine._registry.under_way)
    assert len(service.tasks()) == 8
    assert {row.state for row in client.rows()} == {OrderState.STORED}


def test_leaving_a_queue_in_any_sequence_is_quiet(
    make: Callable[..., Client], service: Any, caplog: pytest.LogCaptureFixture
) -> None:
    client = make(max_concurrency=1)
    service.fault("create", "latency", seconds=60, times=None)
    tickets = client.tickets(*[client.order(seed=seed) for seed in range(9)])
    service.wait("status")
    until(lambda: len(client.account.slots._queue) == 8)
    with caplog.at_level(logging.WARNING):
        client.loop_call(
            lambda: [client.engine._registry.leave(*_place_of(client, t)) for t in reversed(tickets)]
        )
        service.finish_tasks()
        until(lambda: not client.engine._registry.under_way)
    # An order that an earlier test left may still ask for its service, which has ended.
    own = [ticket.fingerprint[:12] for ticket in tickets]
    said = [
        text for text in caplog.messages if "trying again" not in text or any(name in text for name in own)
    ]
    assert said == []
    assert len(service.tasks()) == 1


def _place_of(client: Client, ticket: Any) -> tuple[Any, Any]:
    used = client.config
    return (used.place, used.base_url, used.key_hash, ticket.fingerprint), ticket


@pytest.mark.slow
def test_hundreds_of_orders_leave_neither_threads_nor_sockets_nor_tasks(
    make: Callable[..., Client], service: Any
) -> None:
    client = make(max_concurrency=8)
    client.run(*[client.order("a first batch opens what stays open", seed=seed) for seed in range(32)])
    before = _left(client)
    for batch in range(5):
        tickets = client.tickets(*[client.order(seed=batch * 40 + each) for each in range(40)])
        for ticket in tickets[::10]:
            ticket.leave()
        for ticket in tickets:
            ticket.done.exception(PATIENCE_S)
        until(lambda: not client.engine._registry.under_way)
    after = _left(client)
    assert after["tasks"] <= before["tasks"]
    assert after["threads"] <= before["threads"] + 2
    # Both ends of each connection are here, and at any time no more are in use than there are slots, or nearly so.
    assert after["sockets"] <= before["sockets"] + 16
    assert after["files"] <= before["files"] + 4


def _left(client: Client) -> dict[str, int]:
    gc.collect()
    process = psutil.Process()
    return {
        "tasks": int(client.loop_call(lambda: len(asyncio.all_tasks()))),
        "threads": threading.active_count(),
        "sockets": len(process.net_connections()),
        "files": len(process.open_files()),
    }


def test_nothing_is_said_to_asyncio_s_exception_handler(
    client: Client, service: Any, caplog: pytest.LogCaptureFixture
) -> None:
    service.fault("create", "status", status=400, probability=0.5, seed=1, times=None)
    with caplog.at_level(logging.WARNING, logger="asyncio"):
        tickets = client.tickets(*[client.order(seed=seed) for seed in range(20)])
        for ticket in tickets[::2]:
            ticket.leave()
        for ticket in tickets:
            ticket.done.exception(PATIENCE_S)
        until(lambda: not client.engine._registry.under_way)
        gc.collect()
        client.loop_call(gc.collect)
    assert [record for record in caplog.records if record.name == "asyncio"] == []


def test_the_engine_s_thread_is_a_daemon_and_carries_no_context_of_its_callers(client: Client) -> None:
    import contextvars

    mark: contextvars.ContextVar[str] = contextvars.ContextVar("mark", default="none")
    mark.set("the caller's")

    async def look() -> tuple[str, bool]:
        return mark.get(), threading.current_thread().daemon

    assert client.engine.start(look).result(PATIENCE_S) == ("none", True)


# -- places


def test_places_are_given_in_the_sequence_of_asking_and_twice_back_is_once_back() -> None:
    async def main() -> list[int]:
        slots = Slots(AdaptiveLimit(maximum=2))
        first, second = await slots.take(), await slots.take()
        order: list[int] = []

        async def wait(number: int) -> Slot:
            place = await slots.take()
            order.append(number)
            return place

        waiting = [asyncio.ensure_future(wait(number)) for number in range(3)]
        await asyncio.sleep(0)
        first.release()
        first.release()
        await asyncio.sleep(0.01)
        assert order == [0]
        second.release()
        (await waiting[0]).release()
        await asyncio.sleep(0.01)
        for each in waiting[1:]:
            (await each).release()
        assert (slots._taken, len(slots._queue)) == (0, 0)
        return order

    assert asyncio.run(main()) == [0, 1, 2]


@pytest.mark.parametrize("rest", range(64))
def test_whoever_is_cancelled_in_the_queue_takes_no_place_with_him(rest: int) -> None:
    """Cancels and returns in every sequence of three who wait: at the end all places are free."""

    async def main() -> None:
        slots = Slots(AdaptiveLimit(maximum=1))
        held = await slots.take()
        waiting = [asyncio.ensure_future(slots.take()) for _ in range(3)]
        await asyncio.sleep(0)
        for number, task in enumerate(waiting):
            if rest >> number & 1:
                task.cancel()
            if rest >> 3 & 1:
                await asyncio.sleep(0)
        held.release()
        for number, task in enumerate(waiting):
            if rest >> 4 & 1:
                await asyncio.sleep(0)
            if rest >> 5 & 1 and number == 2:
                task.cancel()
        for task in waiting:
            try:
                (await task).release()
            except asyncio.CancelledError:
                continue
        assert (slots._taken, len(slots._queue)) == (0, 0)
        (await asyncio.wait_for(slots.take(), 1)).release()

    asyncio.run(main())
