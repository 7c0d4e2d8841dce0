"""The ledger fails in the middle of an order: what is said of the credits stays true, and nothing is forgotten."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import pytest

from library.client import PATIENCE_S, Client
from rivya.errors import Charged, LedgerError, TaskFailedError
from rivya.ledger.ledger import OrderState
from support.ledgers import locked

pytestmark = pytest.mark.heavy


def test_an_acceptance_that_cannot_be_noted_is_not_called_free_and_the_next_run_gets_its_picture(
    client: Client, service: Any
) -> None:
    client.run(client.order("the first one, so that everything is open"))
    service.fault("create", "stall", when="after", seconds=20)
    (ticket,) = client.tickets(client.order())
    service.wait("create", stage="worked", count=2)
    with locked(client.config.home):
        service.clear_faults()
        error = ticket.done.exception(PATIENCE_S)
    assert isinstance(error, LedgerError)
    assert error.charged is Charged.YES
    assert error.task_id == service.tasks()[1]["id"]
    assert client.rows()[1].state is OrderState.PREPARED
    assert client.run(client.order())[0].about["task_id"] == error.task_id
    assert len(service.charges()) == 2


def test_an_accepted_order_stays_in_a_ledger_that_can_be_written_again_a_moment_later(
    client: Client, service: Any
) -> None:
    client.run(client.order("the first one, so that everything is open"))
    service.fault("create", "stall", when="after", seconds=20)
    (ticket,) = client.tickets(client.order())
    service.wait("create", stage="worked", count=2)
    lock = locked(client.config.home)
    lock.__enter__()

    class Unlock(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if "could not be noted" in record.getMessage():
                lock.__exit__(None, None, None)

    handler = Unlock()
    logging.getLogger("rivya").addHandler(handler)
    try:
        service.clear_faults()
        error = ticket.done.exception(PATIENCE_S)
    finally:
        logging.getLogger("rivya").removeHandler(handler)
    assert getattr(error, "charged", None) is Charged.YES
    assert [row.state for row in client.rows()] == [OrderState.STORED, OrderState.PREPARED]
    assert client.rows()[1].holder is None


def test_an_unknown_outcome_that_cannot_be_noted_is_still_told_as_unknown(
    client: Client, service: Any
) -> None:
    client.run(client.order("the first one, so that everything is open"))
    service.fault("create", "stall", when="after", seconds=20)
    (ticket,) = client.tickets(client.order())
    service.wait("create", stage="worked", count=2)
    with locked(client.config.home):
        service.fault("create", "cut_before", times=None)
        error = ticket.done.exception(PATIENCE_S)
    service.clear_faults()
    assert getattr(error, "charged", None) is Charged.UNKNOWN
    assert client.rows()[1].state is OrderState.PREPARED
    client.run(client.order())
    assert len(service.charges()) == 2


def test_an_end_that_cannot_be_noted_is_not_called_free(client: Client, service: Any) -> None:
    service.fault("create", "latency", seconds=60)
    (ticket,) = client.tickets(client.order())
    service.wait("status")
    with locked(client.config.home):
        service.finish_tasks()
        error = ticket.done.exception(PATIENCE_S)
    assert isinstance(error, LedgerError)
    assert error.charged is Charged.YES
    assert error.task_id == service.tasks()[0]["id"]
    assert client.run(client.order())[0].source == "resumed"
    assert len(service.charges()) == 1


def test_a_refusal_that_cannot_be_taken_back_in_the_ledger_is_told_as_the_refusal_it_was(
    client: Client, service: Any
) -> None:
    client.run(client.order("the first one, so that everything is open"))
    service.fault("create", "stall", when="before", seconds=20)
    service.set_credits(0)
    (ticket,) = client.tickets(client.order())
    service.wait("create", stage="received", count=2)
    with locked(client.config.home):
        service.clear_faults()
        error = ticket.done.exception(PATIENCE_S)
    assert getattr(error, "code", None) == "insufficient_credits"
    assert error.charged is Charged.NO  # type: ignore[union-attr]


def test_nothing_is_sent_while_the_ledger_cannot_be_written(
    client: Client, service: Any, make: Callable[..., Client]
) -> None:
    client.run(client.order("the first one, so that everything is open"))
    with locked(client.config.home):
        error = client.failure(client.order())
    assert isinstance(error, LedgerError)
    assert error.charged is Charged.NO
    assert len(service.requests("create")) == 1


def test_a_failure_that_cannot_be_noted_is_told_as_the_failure_it_was(client: Client, service: Any) -> None:
    service.fault("create", "fail_task")
    service.fault("status", "stall", when="after", seconds=20, times=None)
    (ticket,) = client.tickets(client.order())
    service.wait("status", stage="worked")
    with locked(client.config.home):
        service.clear_faults()
        error = ticket.done.exception(PATIENCE_S)
    assert isinstance(error, TaskFailedError)
    assert error.charged is Charged.NO
    assert client.failure(client.order()).task_id == error.task_id
    assert client.run(client.order())[0].source == "new"


def test_an_order_that_an_earlier_run_sent_is_not_called_free_where_it_cannot_be_taken_over(
    make: Callable[..., Client], service: Any
) -> None:
    before, now = make(), make()
    service.fault("create", "latency", seconds=60)
    before.tickets(before.order(seed=1))
    service.wait("status")
    (task,) = service.tasks()
    service.clear_faults()
    service.fault("create", "cut_after", times=None)
    before.failure(before.order(seed=2))
    for row in before.rows():
        assert before.ledger.release(row.id) is None
    with locked(now.config.home):
        accepted, unanswered = now.failure(now.order(seed=1)), now.failure(now.order(seed=2))
    assert [type(error) for error in (accepted, unanswered)] == [LedgerError, LedgerError]
    assert (accepted.charged, accepted.task_id) == (Charged.YES, task["id"])
    assert unanswered.charged is Charged.UNKNOWN
