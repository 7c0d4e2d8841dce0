"""An order's rows through their life, in one process."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import count
from typing import Any

import pytest

from rivya.errors import LedgerError
from rivya.ledger.ledger import Ledger, OrderRow, OrderState
from rivya.ledger.rows import FURTHER_ON, MAY_BECOME

Prepare = Callable[..., OrderRow]
BOTH = True
OpenLedger = Callable[..., Ledger]
ERROR = {"message": "no", "code": "generation_failed"}


@pytest.fixture
def ledger(open_ledger: OpenLedger) -> Ledger:
    ticks: Iterator[int] = count(1000)
    return open_ledger(clock=lambda: float(next(ticks)))


def submit(ledger: Ledger, row: OrderRow, task_id: str | None = None) -> None:
    ledger.submitted(row.id, task_id=task_id or f"task_{row.id}", reserved_credits=4, request_id="req_1")


def succeed(ledger: Ledger, row: OrderRow, seconds: float | None = 8.5) -> None:
    ledger.succeeded(row.id, urls=["https://m.example/a?sig=1"], final_credits=4, seconds=seconds)


def store(ledger: Ledger, row: OrderRow) -> None:
    submit(ledger, row)
    succeed(ledger, row)
    ledger.stored(row.id)


def test_an_order_is_prepared_submitted_succeeded_stored_and_delivered(
    ledger: Ledger, prepare: Prepare
) -> None:
    row = prepare(ledger, "f", key="K", body=b'{"a":1}', details={"seed": 7})
    assert (row.state, row.body, row.key, row.details, row.charged) == (
        OrderState.PREPARED,
        b'{"a":1}',
        "K",
        {"seed": 7},
        "no",
    )
    submit(ledger, row, "task_1")
    row = ledger.newest("s", "f") or row
    assert (row.state, row.task_id, row.reserved_credits, row.request_id, row.charged) == (
        OrderState.SUBMITTED,
        "task_1",
        4,
        "req_1",
        "unknown",
    )
    succeed(ledger, row)
    row = ledger.get(row.id) or row
    assert (row.state, row.result_urls, row.final_credits, row.seconds, row.charged) == (
        OrderState.SUCCEEDED,
        ("https://m.example/a?sig=1",),
        4,
        8.5,
        "yes",
    )
    ledger.stored(row.id)
    row = ledger.by_task("s", "task_1") or row
    assert (row.state, row.body, row.result_urls, row.holder) == (OrderState.STORED, None, (), None)
    assert [each.id for each in ledger.uncollected("s")] == [row.id]
    ledger.delivered([row.id])
    assert ledger.uncollected("s") == []
    row = ledger.get(row.id) or row
    times = (row.created_at, row.submitted_at, row.finished_at, row.stored_at, row.delivered_at)
    assert all(time is not None for time in times)
    assert list(times) == sorted(times)  # type: ignore[type-var]


def test_preparing_twice_gives_the_first_row_unchanged(ledger: Ledger, prepare: Prepare) -> None:
    first = prepare(ledger)
    again, created = ledger.prepare(
        scope="s",
        fingerprint="f",
        attempt=1,
        key="other",
        body=b"other",
        model="m",
        mode="edit",
        details={},
    )
    assert (again, created) == (first, False)


def test_the_newest_attempt_counts(ledger: Ledger, prepare: Prepare) -> None:
    first = prepare(ledger, attempt=1)
    ledger.failed(first.id, error=ERROR, charged="no", final_credits=0)
    second = prepare(ledger, attempt=2)
    newest = ledger.newest("s", "f")
    assert newest is not None
    assert (newest.id, newest.attempt) == (second.id, 2)
    failed = ledger.get(first.id)
    assert failed is not None
    assert (failed.state, failed.error, failed.charged, failed.body) == (OrderState.FAILED, ERROR, "no", None)


def test_an_unknown_order_keeps_its_body_and_may_still_be_accepted(ledger: Ledger, prepare: Prepare) -> None:
    row = prepare(ledger, body=b"exact bytes")
    ledger.unknown(row.id, error=ERROR, request_id="req_9")
    unknown = ledger.get(row.id)
    assert unknown is not None
    assert (unknown.state, unknown.body, unknown.charged, unknown.request_id) == (
        OrderState.UNKNOWN,
        b"exact bytes",
        "unknown",
        "req_9",
    )
    submit(ledger, row)
    accepted = ledger.get(row.id)
    assert accepted is not None
    assert (accepted.state, accepted.error) == (OrderState.SUBMITTED, None)


REACH: dict[OrderState, Callable[[Ledger, OrderRow], Any]] = {
    OrderState.PREPARED: lambda ledger, row: None,
    OrderState.SUBMITTED: submit,
    OrderState.SUCCEEDED: lambda ledger, row: (submit(ledger, row), succeed(ledger, row)),
    OrderState.STORED: store,
    OrderState.FAILED: lambda ledger, row: ledger.failed(row.id, error=ERROR, charged="no"),
    OrderState.UNKNOWN: lambda ledger, row: ledger.unknown(row.id, error=ERROR),
    OrderState.FORGOTTEN: lambda ledger, row: ledger.forget(row.id),
}
MOVES: dict[OrderState, Callable[[Ledger, OrderRow], Any]] = {
    OrderState.SUBMITTED: submit,
    OrderState.SUCCEEDED: succeed,
    OrderState.STORED: lambda ledger, row: ledger.stored(row.id),
    OrderState.FAILED: REACH[OrderState.FAILED],
    OrderState.UNKNOWN: REACH[OrderState.UNKNOWN],
}


@pytest.mark.parametrize("before", list(OrderState))
@pytest.mark.parametrize("after", list(MOVES))
def test_a_state_follows_only_where_it_can(
    ledger: Ledger, prepare: Prepare, before: OrderState, after: OrderState
) -> None:
    row = prepare(ledger)
    REACH[before](ledger, row)
    ledger.take(row.id)
    if before in MAY_BECOME[after]:
        MOVES[after](ledger, row)
        expected = after
    elif before in FURTHER_ON.get(after, ()):
        MOVES[after](ledger, row)
        expected = before
    else:
        with pytest.raises(LedgerError, match="cannot be noted") as caught:
            MOVES[after](ledger, row)
        assert caught.value.charged is None
        expected = before
    assert ledger.get(row.id).state is expected  # type: ignore[union-attr]


def test_a_stored_order_that_was_evicted_can_be_fetched_again_and_stays_delivered(
    ledger: Ledger, prepare: Prepare
) -> None:
    row = prepare(ledger)
    store(ledger, row)
    ledger.delivered([row.id])
    assert ledger.take(row.id)
    succeed(ledger, row, seconds=None)
    ledger.stored(row.id)
    again = ledger.get(row.id)
    assert again is not None
    assert (again.state, again.seconds, ledger.uncollected("s")) == (OrderState.STORED, 8.5, [])


def test_discard_removes_only_an_order_that_was_never_sent(ledger: Ledger, prepare: Prepare) -> None:
    sent, unsent = prepare(ledger, "sent"), prepare(ledger, "unsent")
    submit(ledger, sent)
    ledger.discard(sent.id)
    ledger.discard(unsent.id)
    assert ledger.get(sent.id) is not None
    assert ledger.get(unsent.id) is None


def test_forgetting_erases_the_body_and_makes_room_for_a_new_attempt(
    ledger: Ledger, prepare: Prepare
) -> None:
    row = prepare(ledger)
    ledger.unknown(row.id, error=ERROR)
    assert ledger.forget(row.id)
    forgotten = ledger.newest("s", "f")
    assert forgotten is not None
    assert (forgotten.state, forgotten.body) == (OrderState.FORGOTTEN, None)
    prepare(ledger, attempt=2)
    assert not ledger.forget(999)


def test_only_the_holder_moves_an_order_on(open_ledger: OpenLedger, prepare: Prepare) -> None:
    ours, theirs = open_ledger(), open_ledger()
    row = prepare(ours)
    assert not theirs.take(row.id)
    assert not theirs.forget(row.id)
    with pytest.raises(LedgerError, match="another program has it"):
        theirs.unknown(row.id, error=ERROR)
    theirs.discard(row.id)
    theirs.release(row.id)
    assert not theirs.take(row.id)
    assert ours.take(row.id)
    ours.release(row.id)
    assert theirs.take(row.id)
    submit(theirs, row)
    assert not ours.take(row.id)


def test_the_files_prove_that_an_order_is_stored_whoever_says_it(
    open_ledger: OpenLedger, prepare: Prepare
) -> None:
    ours, theirs = open_ledger(), open_ledger()
    row = prepare(ours)
    submit(ours, row)
    theirs.stored(row.id)
    ours.stored(row.id)
    assert ours.get(row.id).state is OrderState.STORED  # type: ignore[union-attr]


def test_a_task_from_elsewhere_is_adopted_once(ledger: Ledger, prepare: Prepare) -> None:
    adopted = ledger.adopt("s", "task_elsewhere", model="flux-kontext-max")
    assert (adopted.state, adopted.fingerprint, adopted.body, adopted.task_id, adopted.model) == (
        OrderState.SUBMITTED,
        "task:task_elsewhere",
        None,
        "task_elsewhere",
        "flux-kontext-max",
    )
    assert ledger.adopt("s", "task_elsewhere") == adopted
    ours = prepare(ledger)
    submit(ledger, ours, "task_ours")
    assert ledger.adopt("s", "task_ours").id == ours.id
    assert ledger.by_task("another scope", "task_ours") is None


def test_uncollected_is_what_was_accepted_and_not_delivered_oldest_first(
    ledger: Ledger, prepare: Prepare
) -> None:
    rows = {state: prepare(ledger, state.value) for state in OrderState}
    for state, row in rows.items():
        REACH[state](ledger, row)
    other = prepare(ledger, "elsewhere", scope="another")
    submit(ledger, other)
    expected = [rows[state].id for state in (OrderState.SUBMITTED, OrderState.SUCCEEDED, OrderState.STORED)]
    assert [row.id for row in ledger.uncollected("s")] == expected


def test_durations_are_those_of_the_model_mode_and_account(ledger: Ledger, prepare: Prepare) -> None:
    for number, (scope, model, mode) in enumerate(
        [("s", "m", "text"), ("s", "m", "text"), ("s", "m", "edit"), ("s", "n", "text"), ("t", "m", "text")]
    ):
        row = prepare(ledger, str(number), scope=scope, model=model, mode=mode)
        submit(ledger, row)
        succeed(ledger, row, seconds=float(number))
    assert ledger.durations("s", "m", "text") == [1.0, 0.0]
    assert ledger.durations("s", "m", "text", limit=1) == [1.0]


def test_orders_are_listed_newest_first(ledger: Ledger, prepare: Prepare) -> None:
    rows = [prepare(ledger, str(number)) for number in range(3)]
    assert [row.id for row in ledger.orders(limit=2)] == [rows[2].id, rows[1].id]


def test_a_key_joins_a_scope_and_scopes_name_their_newest_task(ledger: Ledger, prepare: Prepare) -> None:
    assert ledger.find_scope("https://rivya.ai", "hash-1") is None
    ledger.join_scope("https://rivya.ai", "hash-1", "s")
    ledger.join_scope("https://rivya.ai", "hash-2", "t")
    ledger.join_scope("http://127.0.0.1:9", "hash-1", "u")
    for fingerprint in "ab":
        submit(ledger, prepare(ledger, fingerprint), f"task_{fingerprint}")
    assert ledger.scopes("https://rivya.ai") == [("t", None), ("s", "task_b")]
    ledger.join_scope("https://rivya.ai", "hash-3", "s")
    assert ledger.find_scope("https://rivya.ai", "hash-3") == "s"
    assert ledger.scopes("https://rivya.ai") == [("s", "task_b"), ("t", None)]


def test_an_open_order_of_another_key_is_found_unless_its_account_is_known(
    ledger: Ledger, prepare: Prepare
) -> None:
    for key, scope in (("old", "old"), ("new", "new")):
        ledger.join_scope("https://rivya.ai", key, scope)
    ledger.join_scope("http://127.0.0.1:9", "old", "elsewhere")
    row = prepare(ledger, scope="old")
    prepare(ledger, scope="elsewhere")
    found = ledger.open_elsewhere("https://rivya.ai", "new", "f")
    assert found is not None
    assert found.id == row.id
    assert ledger.open_elsewhere("https://rivya.ai", "old", "f") is None
    assert ledger.open_elsewhere("https://rivya.ai", "new", "g") is None
    ledger.unknown(row.id, error=ERROR)
    assert ledger.open_elsewhere("https://rivya.ai", "new", "f") is not None
    submit(ledger, prepare(ledger, "g", scope="old"))
    assert ledger.open_elsewhere("https://rivya.ai", "new", "f") is None, "its task tells whose it is"
    assert ledger.forget(row.id)
    assert ledger.open_elsewhere("https://rivya.ai", "new", "f") is None


def test_uploads_are_remembered_by_account_and_content(ledger: Ledger) -> None:
    values = {"file_id": "file_1", "url": "https://up/1", "duration_token": None, "mime": "image/png"}
    saved = ledger.save_upload("s", "hash", **values, name="reference.png")
    assert ledger.find_upload("s", "hash") == saved
    assert ledger.find_upload("t", "hash") is None
    ledger.confirm_upload("s", "hash")
    confirmed = ledger.find_upload("s", "hash")
    assert confirmed is not None
    assert confirmed.confirmed_at > confirmed.created_at == saved.created_at
    ledger.save_upload("s", "hash", **{**values, "url": "https://up/2"}, name="reference.png")
    assert ledger.find_upload("s", "hash").url == "https://up/2"  # type: ignore[union-attr]
    ledger.drop_upload("s", "hash")
    assert ledger.find_upload("s", "hash") is None


@pytest.mark.parametrize("value", ["'; DROP TABLE orders; --", "\x00nul", "💥\u202e", "x" * 100_000])
def test_text_is_only_ever_data(ledger: Ledger, prepare: Prepare, value: str) -> None:
    row = prepare(ledger, value, key=value, body=value.encode(), model=value, details={value: value})
    submit(ledger, row, value)
    assert ledger.newest("s", value).details == {value: value}  # type: ignore[union-attr]
    assert ledger.by_task("s", value).body == value.encode()  # type: ignore[union-attr]
