"""Those who wait for an order: they share one walk of it, may leave at any time, and never stop what was paid for."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from sqlite3 import connect
from typing import Any

import pytest

from library.client import PATIENCE_S, SOON_S, Client, until
from rivya.engine.jobs import JobCancelled
from rivya.errors import TaskFailedError, ValidationError
from rivya.ledger.ledger import OrderState
from rivya.orders.run import OrderRun
from support.ledgers import locked

pytestmark = pytest.mark.heavy


def walks(client: Client) -> int:
    """How many walks of orders there are in the engine's loop, those included that are about to end."""

    def count() -> int:
        return sum(task.get_coro().__qualname__ == OrderRun.run.__qualname__ for task in asyncio.all_tasks())

    return int(client.loop_call(count))


def test_two_who_want_the_same_order_share_one_walk_and_pay_once(client: Client, service: Any) -> None:
    service.fault("create", "latency", seconds=60)
    first, second = client.tickets(client.order(), client.order())
    service.wait("status")
    (third,) = client.tickets(client.order())
    assert walks(client) == 1
    service.finish_tasks()
    results = {ticket.result(PATIENCE_S).result.read()[0] for ticket in (first, second, third)}
    assert len(results) == 1
    assert len(service.tasks()) == 1


def test_one_of_two_may_leave_and_the_other_still_gets_the_picture(client: Client, service: Any) -> None:
    service.fault("create", "latency", seconds=60)
    first, second = client.tickets(client.order(), client.order())
    service.wait("status")
    first.leave()
    with pytest.raises(JobCancelled):
        first.result(PATIENCE_S)
    service.finish_tasks()
    assert second.result(PATIENCE_S).source == "new"


def test_one_of_two_may_leave_before_the_order_is_sent_and_the_other_still_gets_it(
    make: Callable[..., Client], service: Any
) -> None:
    client = make(max_concurrency=1)
    service.fault("create", "latency", seconds=60)
    (running,) = client.tickets(client.order("takes the only place"))
    service.wait("status")
    first, second = client.tickets(client.order(), client.order())
    first.leave()
    with pytest.raises(JobCancelled):
        first.result(PATIENCE_S)
    service.finish_tasks()
    running.result(PATIENCE_S)
    assert second.result(PATIENCE_S).source == "new"


def test_an_order_left_while_it_waits_for_a_place_leaves_no_request_and_no_row(
    make: Callable[..., Client], service: Any
) -> None:
    client = make(max_concurrency=1)
    service.fault("create", "latency", seconds=60)
    (running,) = client.tickets(client.order("takes the only place"))
    service.wait("status")
    (waiting,) = client.tickets(client.order())
    until(lambda: len(client.account.slots._queue) == 1)
    waiting.leave()
    with pytest.raises(JobCancelled):
        waiting.result(SOON_S)
    service.finish_tasks()
    running.result(PATIENCE_S)
    until(lambda: walks(client) == 0)
    assert len(service.requests("create")) == 1
    assert len(client.rows()) == 1
    assert client.account.slots._taken == 0


def test_an_order_left_in_the_middle_of_its_upload_leaves_no_order_and_no_row(
    client: Client, service: Any
) -> None:
    reference = client.reference()
    service.expire_uploads()
    client.ledger.drop_upload(client.loop_call(lambda: client.account._scope), reference.content_hash)
    service.fault("upload", "stall", when="before", seconds=20)
    (ticket,) = client.tickets(client.order(reference=reference))
    service.wait("upload", stage="received", count=2)
    ticket.leave()
    with pytest.raises(JobCancelled):
        ticket.result(SOON_S)
    until(lambda: walks(client) == 0)
    assert client.rows() == []
    assert service.requests("create") == []
    service.clear_faults()
    assert client.run(client.order(reference=reference))[0].source == "new"


def test_an_order_left_between_two_tries_of_its_submit_is_not_sent_again_and_stays_a_question(
    make: Callable[..., Client], service: Any
) -> None:
    client = make(retry_budget_s=60.0)
    service.fault("create", "status", status=502, retry_after=1, times=None)
    (ticket,) = client.tickets(client.order())
    service.wait("create")
    ticket.leave()
    with pytest.raises(JobCancelled):
        ticket.result(SOON_S)
    service.clear_faults()
    until(lambda: walks(client) == 0)
    assert len(service.requests("create")) == 1
    assert [row.state for row in client.rows()] == [OrderState.UNKNOWN]
    assert client.run(client.order())[0].source == "resumed"
    assert len(service.tasks()) == 1


def test_an_order_that_provably_was_never_taken_is_forgotten_when_all_leave(
    make: Callable[..., Client], service: Any
) -> None:
    client = make(retry_budget_s=60.0)
    service.fault("create", "status", status=429, retry_after=1, times=None)
    (ticket,) = client.tickets(client.order())
    service.wait("create")
    ticket.leave()
    until(lambda: walks(client) == 0)
    assert len(service.requests("create")) == 1
    assert client.rows() == []


def test_an_order_left_while_the_service_holds_everybody_back_is_not_sent(
    make: Callable[..., Client], service: Any
) -> None:
    client = make(retry_budget_s=60.0)
    service.fault("create", "status", status=429, retry_after=1)
    (told,) = client.tickets(client.order("the one that is told to wait"))
    service.wait("create")
    (held,) = client.tickets(client.order())
    until(lambda: [row.state for row in client.rows()] == [OrderState.PREPARED, OrderState.PREPARED])
    held.leave()
    told.result(PATIENCE_S)
    until(lambda: walks(client) == 0)
    assert len(service.tasks()) == 1
    assert len(client.rows()) == 1


def test_an_order_left_while_it_runs_goes_on_and_is_stored_and_delivered_without_a_request(
    client: Client, service: Any
) -> None:
    service.fault("create", "latency", seconds=60)
    (ticket,) = client.tickets(client.order())
    service.wait("status")
    ticket.leave()
    with pytest.raises(JobCancelled):
        ticket.result(SOON_S)
    assert client.account.slots._taken == 0
    service.finish_tasks()
    until(lambda: walks(client) == 0)
    assert [row.state for row in client.rows()] == [OrderState.STORED]
    before = len(service.requests())
    assert client.run(client.order())[0].source == "stored"
    assert len(service.requests()) == before


def test_a_submit_that_is_under_way_when_all_leave_is_followed_to_its_answer(
    client: Client, service: Any
) -> None:
    service.fault("create", "stall", when="after", seconds=20)
    (ticket,) = client.tickets(client.order())
    service.wait("create", stage="worked")
    ticket.leave()
    with pytest.raises(JobCancelled):
        ticket.result(SOON_S)
    service.clear_faults()
    until(lambda: [row.state for row in client.rows()] == [OrderState.STORED])
    assert len(service.requests("create")) == 1


def test_whoever_comes_back_while_it_runs_joins_the_same_walk(client: Client, service: Any) -> None:
    service.fault("create", "latency", seconds=60)
    (ticket,) = client.tickets(client.order())
    service.wait("status")
    ticket.leave()
    (again,) = client.tickets(client.order())
    assert walks(client) == 1
    service.finish_tasks()
    again.result(PATIENCE_S)
    assert len(service.tasks()) == 1


def test_the_same_order_never_runs_twice_at_once_though_it_is_left_and_wanted_again(
    client: Client, service: Any
) -> None:
    service.fault("create", "latency", seconds=60)
    (ticket,) = client.tickets(client.order())
    service.wait("status")
    ticket.leave()
    service.finish_tasks()
    until(lambda: walks(client) == 0)
    client.ledger.forget(client.rows()[0].id)
    for path in (client.config.home / "results").iterdir():
        path.unlink()
    most = 0
    gate = threading.Event()
    client.engine.start(lambda: client.engine._get_threads().disk(gate.wait))  # the disk threads are busy ...
    for _ in range(3):
        client.engine.start(lambda: client.engine._get_threads().disk(gate.wait))
    for _ in range(20):
        (ticket,) = client.tickets(client.order())
        most = max(most, walks(client))
        ticket.leave()
        most = max(most, walks(client))
    (last,) = client.tickets(client.order())
    gate.set()
    assert last.result(PATIENCE_S).source == "new"
    assert most == 1


def test_who_collects_first_and_who_orders_later_both_get_the_picture(
    make: Callable[..., Client], service: Any
) -> None:
    client = make(max_concurrency=1)
    service.fault("create", "latency", seconds=60)
    (running,) = client.tickets(client.order("takes the only place"))
    service.wait("status")
    order = client.order()
    gate = threading.Event()
    for _ in range(4):
        client.engine.start(lambda: client.engine._get_threads().disk(gate.wait))
    collecting = client.engine.collect(client.config, order.fingerprint)
    collecting.leave()
    (ordering,) = client.tickets(order)
    gate.set()
    service.finish_tasks()
    running.result(PATIENCE_S)
    assert ordering.result(PATIENCE_S).source == "new"


def test_work_on_the_disk_ends_before_what_its_cancelled_caller_does_next(client: Client) -> None:
    steps: list[str] = []
    begun, gate = threading.Event(), threading.Event()

    def slow() -> None:
        begun.set()
        gate.wait()
        steps.append("work")

    async def caller() -> None:
        try:
            await client.engine._get_threads().disk(slow)
        finally:
            steps.append("next")

    job = client.engine.start(caller)
    begun.wait(PATIENCE_S)
    job.cancel()
    client.loop_call(lambda: None)
    assert steps == []
    gate.set()
    with pytest.raises(JobCancelled):
        job.result(PATIENCE_S)
    assert steps == ["work", "next"]


def test_leaving_answers_at_once_while_the_ledger_is_locked(client: Client, service: Any) -> None:
    client.run(client.order("opens everything"))
    client.state.ledger._database._busy_s = 5.0
    with locked(client.config.home):
        (ticket,) = client.tickets(client.order())
        time.sleep(0.1)
        begun = time.monotonic()
        ticket.leave()
        with pytest.raises(JobCancelled):
            ticket.result(PATIENCE_S)
        assert time.monotonic() - begun < SOON_S


def test_what_ends_badly_in_the_background_is_logged(
    client: Client, service: Any, caplog: pytest.LogCaptureFixture
) -> None:
    service.fault("create", "latency", seconds=60)
    (ticket,) = client.tickets(client.order())
    service.wait("status")
    ticket.leave()
    service.drop_tasks()
    until(lambda: walks(client) == 0)
    assert "in the background" in caplog.text
    assert "does not know this task" in caplog.text


def test_an_error_that_nobody_expected_reaches_all_who_wait(client: Client, service: Any) -> None:
    service.fault("create", "latency", seconds=60)
    tickets = client.tickets(client.order(), client.order())
    service.wait("status")
    client.loop_call(lambda: client.engine._registry.under_way.copy())
    (walk,) = client.engine._registry.under_way.values()
    walk.context.account.threads = None  # type: ignore[assignment]
    service.finish_tasks()
    for ticket in tickets:
        assert isinstance(ticket.done.exception(PATIENCE_S), AttributeError)


def test_whoever_joins_an_order_under_way_is_not_told_that_he_bought_it(client: Client, service: Any) -> None:
    service.fault("create", "latency", seconds=0.3)
    (buyer,) = client.tickets(client.order("one for two"))
    service.wait("create")
    (guest,) = client.tickets(client.order("one for two"))
    assert buyer.result(PATIENCE_S).source == "new"
    assert guest.result(PATIENCE_S).source == "resumed"
    assert len(service.charges()) == 1


def test_a_changed_limit_keeps_one_bound_for_the_account(client: Client, service: Any) -> None:
    wider = replace(client.config, max_concurrency=20)

    async def concurrency_of(config: Any) -> Any:
        return (await client.engine.account(config)).concurrency

    first = client.engine.start(lambda: concurrency_of(client.config)).result(PATIENCE_S)
    second = client.engine.start(lambda: concurrency_of(wider)).result(PATIENCE_S)
    assert second is first
    assert first.slots == 20


def orders_of(service: Any) -> int:
    return len({each["idempotency_key"] for each in service.requests("create")})


@pytest.mark.parametrize("charged", [True, False])
def test_a_task_that_was_cancelled_at_the_service_ends_the_order_and_is_not_ordered_again(
    client: Client, service: Any, charged: bool
) -> None:
    error = {"code": "cancelled", "message": "The task was cancelled."}
    service.fault("create", "fail_task", charged=charged, error=error, times=None)
    assert isinstance(client.failure(client.order()), TaskFailedError)
    assert orders_of(service) == 1


def test_a_refusal_whose_code_says_cancelled_is_a_refusal(client: Client, service: Any) -> None:
    service.fault("create", "status", status=400, code="cancelled", message="no", times=None)
    assert isinstance(client.failure(client.order()), ValidationError)
    assert len(service.requests("create")) == 1


def test_for_those_who_only_collect_an_order_is_not_sent_when_its_buyer_has_left(
    make: Callable[..., Client], service: Any
) -> None:
    client = make(max_concurrency=1)
    service.fault("create", "fail_task", charged=False, error={"code": "generation_failed", "message": "x"})
    order = client.order("fails once")
    failed = client.failure(order)
    service.fault("create", "latency", seconds=60)
    (busy,) = client.tickets(client.order("takes the only place"))
    service.wait("create", count=2)
    (buyer,) = client.tickets(order)
    until(lambda: buyer.progress.state == "waiting")
    assert failed.task_id is not None
    (row,) = client.engine.collectable(client.config, [failed.task_id]).result(PATIENCE_S)
    collector = client.engine.collect(client.config, row.fingerprint)
    buyer.leave()
    assert isinstance(collector.done.exception(PATIENCE_S), TaskFailedError)
    service.finish_tasks()
    busy.result(PATIENCE_S)
    assert orders_of(service) == 2


def test_a_download_that_is_resumed_counts_against_the_time_limit(
    make: Callable[..., Client], service: Any
) -> None:
    first = make()
    service.fault("result", "status", status=503, times=None)
    (ticket,) = first.tickets(first.order())
    until(lambda: [row.state for row in first.rows()] == [OrderState.SUCCEEDED])
    first.state.holder.close()
    second = make(home=first.config.home)
    (ticket,) = second.tickets(second.order())
    until(lambda: ticket.progress.state == "downloading")
    assert ticket.progress.since is not None


def test_what_a_killed_holder_stored_but_did_not_record_is_recorded_by_the_next_who_finds_it(
    make: Callable[..., Client], service: Any
) -> None:
    killed = make()
    killed.run(killed.order())
    own = killed.state.holder.id
    with connect(killed.config.home / "ledger.sqlite3") as connection:
        connection.execute("UPDATE orders SET state = 'succeeded', holder = ?", (own,))
    other = make(home=killed.config.home)
    (finished,) = other.run(other.order())
    assert finished.source == "stored"
    assert [row.state for row in other.rows()] == [OrderState.STORED]
    assert orders_of(service) == 1


def test_codec_work_that_was_left_behind_keeps_its_place_until_it_ends(client: Client) -> None:
    gate, running = threading.Event(), []

    def heavy() -> None:
        running.append(threading.current_thread())
        gate.wait(PATIENCE_S)

    for _ in range(12):
        job = client.engine.codec(heavy)
        time.sleep(0.01)
        job.cancel()
        with pytest.raises(JobCancelled):
            job.result(PATIENCE_S)
    assert len(running) <= 4
    gate.set()
    assert client.engine.codec(lambda: "free").result(PATIENCE_S) == "free"
