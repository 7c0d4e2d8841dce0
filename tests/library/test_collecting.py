"""Collecting: what was paid for and never delivered, by task or all of it; never a purchase."""

from __future__ import annotations

import time
from collections.abc import Callable
from sqlite3 import connect
from typing import Any

import pytest

import sandbox
from library.client import PATIENCE_S, Client
from rivya.errors import Charged, NotFoundError, TaskFailedError
from rivya.ledger.ledger import OrderState

pytestmark = pytest.mark.heavy


def collectable(client: Client, *task_ids: str) -> list[Any]:
    return client.engine.collectable(client.config, task_ids).result(PATIENCE_S)


def collect(client: Client, *task_ids: str) -> list[Any]:
    """As the node does: look, bring, deliver."""
    rows = collectable(client, *task_ids)
    tickets = [client.engine.collect(client.config, row.fingerprint) for row in rows]
    finished = [ticket.result(PATIENCE_S) for ticket in tickets]
    client.engine.delivered(finished).result(PATIENCE_S)
    return finished


def left_running(client: Client, service: Any, *seeds: int) -> list[str]:
    """Orders that somebody stopped waiting for; their task ids."""
    service.fault("create", "latency", seconds=60, times=None)
    tickets = client.tickets(*[client.order(seed=seed) for seed in seeds])
    end = time.monotonic() + PATIENCE_S
    while any(ticket.progress.since is None for ticket in tickets):
        assert time.monotonic() < end
        time.sleep(0.01)
    for ticket in tickets:
        ticket.leave()
    service.clear_faults()
    return [task["id"] for task in service.tasks()]


def test_all_that_was_accepted_and_never_delivered_is_collected_oldest_first(
    client: Client, service: Any
) -> None:
    tasks = left_running(client, service, 1, 2, 3)
    service.finish_tasks()
    finished = collect(client)
    assert {each.about["task_id"] for each in finished} == set(tasks)
    assert [each.row_id for each in finished] == sorted(each.row_id for each in finished)
    assert collectable(client) == []
    assert len(service.charges()) == 3


def test_what_was_delivered_is_not_collected(client: Client) -> None:
    (finished,) = client.run(client.order())
    client.engine.delivered([finished]).result(PATIENCE_S)
    assert collectable(client) == []


def test_what_was_stored_in_the_background_is_collected_without_a_request(
    client: Client, service: Any
) -> None:
    client.run(client.order())
    before = len(service.requests())
    assert [each.source for each in collect(client)] == ["stored"]
    assert len(service.requests()) == before


def test_a_running_order_can_be_collected_by_its_task(client: Client, service: Any) -> None:
    (first, _) = left_running(client, service, 1, 2)
    service.finish_tasks()
    (finished,) = collect(client, first)
    assert finished.about["task_id"] == first
    assert len(service.requests("create")) == 2


def test_a_task_that_this_ledger_never_saw_is_adopted_and_brought(
    make: Callable[..., Client], service: Any
) -> None:
    one = make()
    (bought,) = one.run(one.order())
    two = make(home=one.config.home.with_name("another"))
    (finished,) = collect(two, bought.about["task_id"])
    assert finished.result.read() == bought.result.read()
    assert finished.source == "resumed"
    assert [row.state for row in two.rows()] == [OrderState.STORED]
    assert collect(two, bought.about["task_id"])[0].source == "stored"
    assert len(service.tasks()) == 1


def test_an_adopted_task_is_nobody_s_until_somebody_collects_it(
    make: Callable[..., Client], service: Any
) -> None:
    one = make()
    (bought,) = one.run(one.order())
    home = one.config.home.with_name("another")
    two, three = make(home=home), make(home=home)
    (row,) = collectable(two, bought.about["task_id"])
    assert two.ledger.get(row.id).holder is None  # type: ignore[union-attr]
    assert three.engine.collect(three.config, row.fingerprint).result(PATIENCE_S).source == "resumed"


def test_a_task_that_nobody_knows_is_an_error(client: Client) -> None:
    with pytest.raises(NotFoundError):
        collectable(client, "task_of_somebody_else")
    assert client.rows() == []


def test_the_same_task_named_twice_is_collected_once(client: Client, service: Any) -> None:
    client.run(client.order())
    task = service.tasks()[0]["id"]
    assert len(collectable(client, task, task)) == 1


def test_a_failed_task_is_told_and_not_ordered_again(client: Client, service: Any) -> None:
    service.fault("create", "fail_task")
    client.failure(client.order())
    task = service.tasks()[0]["id"]
    (row,) = collectable(client, task)
    error = client.engine.collect(client.config, row.fingerprint).done.exception(PATIENCE_S)
    assert isinstance(error, TaskFailedError)
    assert error.charged is Charged.NO
    assert len(service.requests("create")) == 1
    assert collectable(client) == []


def test_an_order_of_unknown_outcome_is_neither_sent_nor_called_free(client: Client, service: Any) -> None:
    service.fault("create", "cut_after", times=None)
    client.failure(client.order())
    sent = len(service.requests("create"))
    error = client.engine.collect(client.config, client.order().fingerprint).done.exception(PATIENCE_S)
    assert getattr(error, "charged", None) is Charged.UNKNOWN
    assert len(service.requests("create")) == sent


def test_an_order_that_nobody_ever_placed_cannot_be_collected(client: Client, service: Any) -> None:
    error = client.engine.collect(client.config, client.order().fingerprint).done.exception(PATIENCE_S)
    assert isinstance(error, NotFoundError)
    assert service.requests("create") == []


def test_what_was_forgotten_is_not_collected_and_the_next_run_buys_it_anew(
    client: Client, service: Any
) -> None:
    service.fault("create", "cut_after", times=None)
    client.failure(client.order())
    service.clear_faults()
    assert client.ledger.forget(client.rows()[0].id)
    assert collectable(client) == []
    assert client.run(client.order())[0].source == "new"
    assert len(service.tasks()) == 2


def test_would_buy_names_what_is_neither_stored_nor_accepted(client: Client, service: Any) -> None:
    client.run(client.order(seed=1))
    left_running(client, service, 2)
    service.fault("create", "fail_task")
    client.failure(client.order(seed=3))
    service.fault("create", "fail_task", charged=True)
    client.failure(client.order(seed=4))
    wanted = [client.order(seed=seed) for seed in (1, 2, 3, 4, 5, 5)]
    bought = client.engine.would_buy(client.config, wanted).result(PATIENCE_S)
    assert [order.identity.seed for order in bought] == [3, 5]


def test_a_forgotten_order_is_told_as_that_and_not_as_a_failure(client: Client, service: Any) -> None:
    (task,) = left_running(client, service, 1)
    client.run(client.order(seed=2))
    walking = client.engine._registry.under_way
    service.finish_tasks()
    end = time.monotonic() + PATIENCE_S
    while walking and time.monotonic() < end:
        time.sleep(0.01)
    for path in (client.config.home / "results").iterdir():
        path.unlink()
    assert client.ledger.forget(client.rows()[0].id)
    (row,) = collectable(client, task)
    error = client.engine.collect(client.config, row.fingerprint).done.exception(PATIENCE_S)
    assert isinstance(error, NotFoundError)
    assert "forgotten" in error.message
    assert error.charged is Charged.YES
    assert error.task_id == task


@pytest.mark.parametrize("told", [True, False])
def test_how_long_an_order_took_that_had_ended_before_we_came_back_is_only_what_the_service_says(
    make: Callable[..., Client], told: bool
) -> None:
    # A service of its own: what earlier tests left running would get the answers that are meant for this order.
    with sandbox.running(megapixels=0.004) as service:
        client = make(service)
        service.fault("create", "latency", seconds=60)
        service.fault("status", "status", status=403)
        client.failure(client.order())
        with connect(client.config.home / "ledger.sqlite3") as ledger:
            ledger.execute("UPDATE orders SET submitted_at = submitted_at - 7200")
        times = {"created_at": "2026-05-10T00:00:00.000Z", "updated_at": "2026-05-10T00:00:09.000Z"}
        service.fault("status", "patch", **({"values": times} if told else {"drop": list(times)}))
        service.finish_tasks()
        (finished,) = client.run(client.order())
    assert finished.source == "resumed"
    assert finished.about["seconds"] == (9.0 if told else None)
    (row,) = client.rows()
    assert client.ledger.durations(row.scope, row.model, row.mode) == ([9.0] if told else [])


def test_what_the_service_does_not_know_any_more_stands_behind_what_it_has(
    make: Callable[..., Client], service: Any
) -> None:
    client = make()
    client.run(*[client.order("old", seed=seed) for seed in range(3)])
    service.drop_tasks()
    for path in (client.config.home / "results").iterdir():
        path.unlink()
    (new,) = client.run(client.order("new"))
    assert collectable(client)[-1].task_id == new.about["task_id"]
    for row in collectable(client)[:3]:
        with pytest.raises(NotFoundError):
            client.engine.collect(client.config, row.fingerprint).result(PATIENCE_S)
    assert collectable(client)[0].task_id == new.about["task_id"]
