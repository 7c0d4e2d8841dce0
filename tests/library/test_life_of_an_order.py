"""The life of an order: paid once, resumed from wherever it was left, never bought anew by itself."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import pytest

from library.client import PATIENCE_S, Client, sources
from rivya import kontext
from rivya.errors import (
    AuthenticationError,
    Charged,
    ConflictError,
    InsufficientCreditsError,
    NotFoundError,
    RivyaConnectionError,
    RivyaError,
    ServiceUnavailableError,
    TaskFailedError,
    UnusableAnswerError,
    ValidationError,
)
from rivya.kontext import idempotency_key
from rivya.ledger.ledger import OrderState


def create_requests(service: Any) -> list[dict[str, Any]]:
    return list(service.requests("create"))


def same_key_and_bytes(requests: list[dict[str, Any]]) -> bool:
    return len({(each["idempotency_key"], each["body_sha256"]) for each in requests}) == 1


def prepare(client: Client, **order: Any) -> None:
    """As an earlier run left it that was killed after *prepared*."""
    chosen = client.order(**order)
    scope = client.engine.start(lambda: _scope(client)).result(PATIENCE_S)
    row, _ = client.ledger.prepare(
        scope=scope,
        fingerprint=chosen.fingerprint,
        attempt=1,
        key=idempotency_key(scope, chosen.fingerprint, 1),
        body=kontext.order_body(chosen.identity, None, ""),
        model=chosen.identity.params.model,
        mode=chosen.mode,
        details=chosen.details(),
    )
    client.ledger.release(row.id)


async def _scope(client: Client) -> str:
    return await (await client.engine.account(client.config)).scope()


# -- new, stored, resumed


def test_an_order_is_written_down_sent_followed_and_stored(client: Client, service: Any) -> None:
    (finished,) = client.run(client.order())
    (task,) = service.tasks()
    (row,) = client.rows()
    assert finished.source == "new"
    assert finished.result.read() == [service.picture(task["id"])]
    assert (row.state, row.task_id, row.final_credits, row.charged) == (
        OrderState.STORED,
        task["id"],
        4,
        "yes",
    )
    assert row.key == task["idempotency_key"]
    assert (row.body, row.result_urls, row.holder) == (None, (), None)
    assert finished.about["credits"] == 4
    assert finished.about["task_id"] == task["id"]


def test_the_same_order_again_is_delivered_from_the_store_without_a_request(
    client: Client, service: Any
) -> None:
    first = client.run(client.order())[0]
    before = len(service.requests())
    again = client.run(client.order())[0]
    assert again.source == "stored"
    assert again.result.read() == first.result.read()
    assert len(service.requests()) == before


@pytest.mark.parametrize(
    "change", [{"seed": 1}, {"variation": 1}, {"prompt": "a loud harbour"}, {"output_format": "png"}]
)
def test_another_seed_variation_prompt_or_parameter_is_another_order(
    client: Client, service: Any, change: dict[str, Any]
) -> None:
    client.run(client.order())
    assert client.run(client.order(**change))[0].source == "new"
    assert len(service.charges()) == 2


def test_an_order_that_another_engine_has_running_is_waited_for_and_paid_once(
    make: Callable[..., Client], service: Any
) -> None:
    one, two = make(), make()
    service.fault("create", "latency", seconds=60)
    (first,) = one.tickets(one.order())
    service.wait("status")
    (second,) = two.tickets(two.order())
    end = time.monotonic() + PATIENCE_S
    while second.progress.task_id is None and time.monotonic() < end:
        time.sleep(0.01)
    assert second.progress.source == "resumed"
    assert second.progress.since is not None, "a time limit must count for the order of another process too"
    service.finish_tasks()
    assert first.result(PATIENCE_S).result.read() == second.result(PATIENCE_S).result.read()
    assert len(service.tasks()) == 1


@pytest.mark.heavy
def test_fifty_orders_of_two_engines_started_together_are_fifty_charges(
    make: Callable[..., Client], service: Any
) -> None:
    one, two = make(max_concurrency=16), make(max_concurrency=16)
    wanted = [one.order(seed=seed) for seed in range(50)]
    tickets = [ticket for client in (one, two) for ticket in client.tickets(*wanted)]
    results = [ticket.result(PATIENCE_S).result.read() for ticket in tickets]
    assert results[:50] == results[50:]
    assert len(service.charges()) == 50


def test_an_order_of_an_engine_that_has_ended_is_taken_over_at_once(
    make: Callable[..., Client], service: Any
) -> None:
    one = make()
    service.fault("create", "latency", seconds=60)
    (ticket,) = one.tickets(one.order())
    service.wait("status")
    one.state.holder.close()
    service.finish_tasks()
    two = make()
    assert two.run(two.order())[0].source == "resumed"
    assert len(service.tasks()) == 1
    del ticket


def test_what_was_prepared_by_a_run_that_was_killed_is_sent_with_its_key_and_bytes(
    client: Client, service: Any
) -> None:
    prepare(client)
    (before,) = client.rows()
    (finished,) = client.run(client.order())
    (request,) = create_requests(service)
    assert finished.source == "resumed"
    assert request["idempotency_key"] == before.key
    assert len(service.tasks()) == 1


def test_a_refusal_of_what_was_prepared_by_a_killed_run_does_not_prove_that_nothing_was_charged(
    client: Client, service: Any
) -> None:
    prepare(client)
    service.set_credits(0)
    error = client.failure(client.order())
    assert isinstance(error, InsufficientCreditsError)
    assert error.charged is Charged.UNKNOWN
    assert error.order_key == client.rows()[0].key
    assert client.rows()[0].state is OrderState.UNKNOWN
    service.set_credits(100)
    assert client.run(client.order())[0].source == "resumed"
    assert same_key_and_bytes(create_requests(service))


# -- refusals


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (400, "validation_failed", ValidationError),
        (401, "api_key_invalid", AuthenticationError),
        (402, "insufficient_credits", InsufficientCreditsError),
        (404, "not_found", NotFoundError),
        (409, "idempotency_conflict", ConflictError),
    ],
)
def test_a_refusal_of_a_first_send_is_final_and_free_but_a_conflict(
    client: Client, service: Any, status: int, code: str, kind: type[RivyaError]
) -> None:
    service.fault("create", "status", status=status, code=code, times=None)
    error = client.failure(client.order())
    assert isinstance(error, kind)
    assert error.code == code
    assert error.request_id
    assert len(create_requests(service)) == 1
    if status == 409:
        assert error.charged is Charged.UNKNOWN
        assert client.rows()[0].state is OrderState.UNKNOWN
    else:
        assert error.charged is Charged.NO
        assert client.rows() == []


def test_a_refusal_after_a_lost_answer_does_not_prove_that_nothing_was_charged(
    client: Client, service: Any
) -> None:
    service.fault("create", "cut_after")
    service.fault("create", "status", status=402)
    error = client.failure(client.order())
    assert isinstance(error, InsufficientCreditsError)
    assert error.charged is Charged.UNKNOWN
    assert client.run(client.order())[0].source == "resumed"
    assert len(service.tasks()) == 1
    assert same_key_and_bytes(create_requests(service))


def test_a_conflict_on_a_repeat_is_waited_for_as_in_flight(make: Callable[..., Client], service: Any) -> None:
    client = make(retry_budget_s=20.0, conflict_wait_s=20.0)
    service.fault("create", "stall", when="during", seconds=2.5)
    (finished,) = client.run(client.order())
    assert finished.source in ("new", "resumed")
    assert len(service.tasks()) == 1
    assert 409 in {each["status"] for each in create_requests(service)}
    assert same_key_and_bytes(create_requests(service))


def test_where_repeats_are_rejected_a_lost_answer_stays_unknown_and_is_charged_once(
    make: Callable[..., Client], rejecting: Any
) -> None:
    client = make(rejecting)
    rejecting.fault("create", "cut_after")
    error = client.failure(client.order())
    assert isinstance(error, ConflictError)
    assert error.charged is Charged.UNKNOWN
    assert error.order_key is not None
    assert error.order_key in str(error)
    second = client.failure(client.order())
    assert second.charged is Charged.UNKNOWN
    assert len(rejecting.tasks()) == 1


def test_an_unknown_outcome_that_is_too_old_is_not_repeated(
    make: Callable[..., Client], service: Any
) -> None:
    client = make(repeat_window_s=0.2)
    prepare(client)
    time.sleep(0.3)
    error = client.failure(client.order())
    assert error.charged is Charged.UNKNOWN
    assert create_requests(service) == []
    client.ledger.forget(client.rows()[0].id)
    assert client.run(client.order())[0].source == "new"
    first, second = client.rows()
    assert (first.attempt, second.attempt) == (1, 2)
    assert first.key != second.key


# -- failed tasks


def test_after_a_failed_task_that_cost_nothing_the_next_run_is_a_new_attempt_with_another_key(
    client: Client, service: Any
) -> None:
    service.fault("create", "fail_task")
    error = client.failure(client.order())
    assert isinstance(error, TaskFailedError)
    assert error.charged is Charged.NO
    assert "returned" in error.message
    assert error.task_id == service.tasks()[0]["id"]
    assert client.run(client.order())[0].source == "new"
    first, second = create_requests(service)
    assert first["idempotency_key"] != second["idempotency_key"]
    assert first["body_sha256"] == second["body_sha256"]
    assert [(row.attempt, row.state) for row in client.rows()] == [
        (1, OrderState.FAILED),
        (2, OrderState.STORED),
    ]


def test_after_a_failed_task_that_was_charged_nothing_is_ordered_by_itself(
    client: Client, service: Any
) -> None:
    service.fault("create", "fail_task", charged=True)
    assert client.failure(client.order()).charged is Charged.YES
    again = client.failure(client.order())
    assert isinstance(again, TaskFailedError)
    assert again.charged is Charged.YES
    assert "seed" in again.hint
    assert len(create_requests(service)) == 1
    assert client.run(client.order(seed=1))[0].source == "new"


def test_a_failed_task_whose_cost_is_not_told_counts_as_unknown_and_is_not_ordered_again(
    client: Client, service: Any
) -> None:
    service.fault("create", "fail_task")
    service.fault("status", "patch", drop=["final_credits"], times=None)
    assert client.failure(client.order()).charged is Charged.UNKNOWN
    assert client.failure(client.order()).charged is Charged.UNKNOWN
    assert len(create_requests(service)) == 1


def test_a_failed_task_without_a_reason_is_told_all_the_same(client: Client, service: Any) -> None:
    service.fault("create", "fail_task", error=None)
    error = client.failure(client.order())
    assert error.message.startswith("The task failed at Rivya.")
    assert error.code == "generation_failed"


# -- following


@pytest.mark.parametrize(
    ("status", "kind"), [(401, AuthenticationError), (403, RivyaError), (404, NotFoundError)]
)
def test_an_error_while_polling_ends_the_run_and_not_the_order(
    client: Client, service: Any, status: int, kind: type[RivyaError]
) -> None:
    service.fault("status", "status", status=status)
    error = client.failure(client.order())
    assert isinstance(error, kind)
    assert error.charged is Charged.YES
    assert error.task_id == service.tasks()[0]["id"]
    assert client.rows()[0].state is OrderState.SUBMITTED
    assert client.rows()[0].holder is None
    assert client.run(client.order())[0].source == "resumed"
    assert len(create_requests(service)) == 1


def test_an_unknown_status_counts_as_running(client: Client, service: Any) -> None:
    service.fault("status", "patch", values={"status": "warming_up"}, times=3)
    assert client.run(client.order())[0].source == "new"
    assert len(service.requests("status")) == 4


def test_a_success_without_a_picture_is_an_error_that_says_it_was_charged(
    client: Client, service: Any
) -> None:
    service.fault("status", "patch", values={"result": None}, times=None)
    error = client.failure(client.order())
    assert isinstance(error, UnusableAnswerError)
    assert error.charged is Charged.YES
    service.clear_faults()
    assert client.run(client.order())[0].source == "resumed"


@pytest.mark.parametrize("status", [401, 403, 404, 410])
def test_a_result_url_that_is_over_is_read_anew_from_the_task(
    client: Client, service: Any, status: int
) -> None:
    service.fault("result", "status", status=status)
    assert client.run(client.order())[0].source == "new"
    assert len(service.requests("result")) == 2
    assert len(create_requests(service)) == 1


def test_a_picture_that_the_service_gives_out_no_more_is_told_as_charged_and_never_bought_again(
    client: Client, service: Any
) -> None:
    service.fault("result", "status", status=410, times=None)
    for _ in range(2):
        error = client.failure(client.order())
        assert error.charged is Charged.YES
        assert "does not give out" in error.message
    assert len(create_requests(service)) == 1


@pytest.mark.parametrize("trouble", [{"action": "cut_after"}, {"action": "status", "status": 503}])
def test_a_download_that_breaks_is_made_again(client: Client, service: Any, trouble: dict[str, Any]) -> None:
    service.fault("result", **trouble)
    assert client.run(client.order())[0].source == "new"
    assert len(service.requests("result")) == 2


def test_a_result_that_is_no_picture_is_an_error_and_nothing_is_stored(client: Client, service: Any) -> None:
    service.fault("result", "body", sample="html", times=None)
    error = client.failure(client.order())
    assert isinstance(error, UnusableAnswerError)
    assert error.charged is Charged.YES
    service.clear_faults()
    assert client.run(client.order())[0].source == "resumed"
    assert len(create_requests(service)) == 1


def test_a_task_with_several_pictures_stores_them_all_in_order(client: Client, service: Any) -> None:
    service.fault("create", "results", count=3)
    (finished,) = client.run(client.order())
    task = service.tasks()[0]["id"]
    assert finished.result.read() == [service.picture(task, index) for index in range(3)]


# -- the store and the ledger lose something


def test_a_picture_that_was_evicted_is_fetched_again_by_its_task_for_nothing(
    client: Client, service: Any
) -> None:
    first = client.run(client.order())[0].result.read()
    for path in (client.config.home / "results").iterdir():
        path.unlink()
    (again,) = client.run(client.order())
    assert again.source == "resumed"
    assert again.result.read() == first
    assert len(create_requests(service)) == 1


def test_a_stored_picture_that_was_damaged_is_fetched_again_by_its_task_for_nothing(
    client: Client, service: Any
) -> None:
    (finished,) = client.run(client.order())
    data = finished.result.paths[0].read_bytes()
    finished.result.paths[0].write_bytes(data[:-1] + bytes([data[-1] ^ 255]))
    (again,) = client.run(client.order())
    assert again.source == "resumed"
    assert again.result.read() == [data]
    assert len(create_requests(service)) == 1


def test_an_evicted_picture_that_the_service_no_longer_has_is_an_error_and_no_purchase(
    client: Client, service: Any
) -> None:
    client.run(client.order())
    for path in (client.config.home / "results").iterdir():
        path.unlink()
    service.drop_tasks()
    error = client.failure(client.order())
    assert isinstance(error, NotFoundError)
    assert error.charged is Charged.YES
    assert "another seed" in error.hint
    assert len(create_requests(service)) == 1


def test_a_lost_ledger_buys_nothing_twice_the_service_replays(
    make: Callable[..., Client], service: Any
) -> None:
    one = make()
    (first,) = one.run(one.order())
    two = make(home=one.config.home.with_name("another"))
    (again,) = two.run(two.order())
    assert again.result.read() == first.result.read()
    assert len(service.tasks()) == 1
    assert same_key_and_bytes(create_requests(service))


def test_a_lost_ledger_with_pictures_delivers_from_the_store(
    make: Callable[..., Client], service: Any
) -> None:
    one = make()
    one.run(one.order())
    one.ledger.close()
    for path in one.config.home.glob("ledger.sqlite3*"):
        path.unlink()
    two = make()
    (again,) = two.run(two.order())
    assert sources([again]) == ["stored"]
    assert again.row_id is None
    two.engine.delivered([again]).result(PATIENCE_S)
    assert len(create_requests(service)) == 1


def test_a_lost_ledger_and_a_new_upload_lead_to_a_safe_stop(
    make: Callable[..., Client], service: Any
) -> None:
    one = make()
    one.run(one.order(reference=one.reference()))
    two = make(home=one.config.home.with_name("another"))
    error = two.failure(two.order(reference=two.reference()))
    assert isinstance(error, ConflictError)
    assert error.charged is Charged.UNKNOWN
    assert len(service.tasks()) == 1


# -- accounts


def test_orders_of_another_account_never_answer_for_each_other(
    make: Callable[..., Client], service: Any
) -> None:
    one = make()
    one.run(one.order())
    service.set_key("rvya_sk_other", account="other")
    two = make(key="rvya_sk_other")
    assert two.run(two.order())[0].source == "new"
    assert {task["account"] for task in service.tasks()} == {"main", "other"}
    assert len({task["idempotency_key"] for task in service.tasks()}) == 2


def test_a_new_key_of_the_same_account_finds_what_the_old_one_bought(
    make: Callable[..., Client], service: Any
) -> None:
    one = make()
    one.run(one.order())
    service.set_key("rvya_sk_rotated")
    two = make(key="rvya_sk_rotated")
    assert two.run(two.order())[0].source == "stored"
    assert len(service.tasks()) == 1


def test_a_key_that_has_ordered_nothing_joins_the_later_one_of_its_account(
    make: Callable[..., Client], service: Any
) -> None:
    one = make()
    one.reference(1)
    service.set_key("rvya_sk_rotated")
    two = make(key="rvya_sk_rotated")
    assert two.run(two.order())[0].source == "new"
    again = make()
    assert again.run(again.order())[0].source == "stored"
    assert len(service.tasks()) == 1


def test_a_new_key_that_cannot_be_placed_now_spends_nothing(
    make: Callable[..., Client], service: Any
) -> None:
    one = make()
    one.run(one.order())
    service.set_key("rvya_sk_rotated")
    service.fault("status", "status", status=500, times=None)
    two = make(key="rvya_sk_rotated")
    error = two.failure(two.order())
    assert isinstance(error, ServiceUnavailableError)
    assert error.charged is Charged.NO
    assert len(create_requests(service)) == 1


# -- not reachable


def test_a_service_that_cannot_be_reached_costs_nothing_and_leaves_nothing(
    make: Callable[..., Client],
) -> None:
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        client = make(type("Nobody", (), {"url": f"http://127.0.0.1:{taken.getsockname()[1]}", "key": "k"}))
        error = client.failure(client.order())
    assert isinstance(error, RivyaConnectionError)
    assert error.charged is Charged.NO
    assert "No credits were charged." in str(error)
    assert client.rows() == []


def test_neither_prompt_nor_signed_urls_stay_in_the_ledger_of_a_finished_order(client: Client) -> None:
    client.run(client.order(prompt="a very private harbour"))
    client.ledger.close()
    texts = b"".join(path.read_bytes() for path in client.config.home.glob("ledger.sqlite3*"))
    assert b"private harbour" not in texts
    assert b"signature=" not in texts
    assert b"rvya_sk" not in texts


def test_the_log_names_order_and_task_and_neither_prompt_nor_key_nor_urls(
    client: Client, service: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG", logger="rivya")
    service.fault("status", "status", status=500)
    client.run(client.order(prompt="a very private harbour"))
    assert service.tasks()[0]["id"] in caplog.text
    for secret in ("private harbour", service.key, "signature=", "/results/"):
        assert secret not in caplog.text
    assert json.dumps(client.rows()[0].details).count("harbour") == 0
