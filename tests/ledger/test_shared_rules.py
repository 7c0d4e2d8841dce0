"""What several processes may do to one order, also when one of them was taken for dead by mistake."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from sqlite3 import connect
from typing import Any

import pytest

from rivya.errors import ConfigurationError, LedgerError
from rivya.ledger.holders import FileHolder
from rivya.ledger.ledger import FILE_NAME, Ledger, OrderRow, OrderState
from rivya.ledger.postgres import PostgresDatabase
from rivya.ledger.runs import Spending
from rivya.ledger.sqlite import SqliteDatabase

BOTH = True
OpenLedger = Callable[..., Ledger]
Prepare = Callable[..., OrderRow]
ERROR = {"message": "no answer", "code": "timeout"}


def state_of(ledger: Ledger, row: OrderRow) -> OrderState:
    found = ledger.get(row.id)
    assert found is not None
    return found.state


@pytest.fixture
def taken(open_ledger: OpenLedger, prepare: Prepare) -> tuple[Ledger, Ledger, OrderRow]:
    """One who sent an order and was then taken for dead, the one who has it now, and the order."""
    slow, quick = open_ledger(), open_ledger()
    row = prepare(slow)
    quick._database.write(
        lambda connection: connection.execute("UPDATE orders SET holder = ?", (quick._holder.id,))
    )
    return slow, quick, row


def test_what_the_service_said_may_be_noted_by_one_who_was_taken_for_dead(
    taken: tuple[Ledger, Ledger, OrderRow],
) -> None:
    slow, quick, row = taken
    slow.submitted(row.id, task_id="task_1", reserved_credits=4)
    noted = quick.get(row.id)
    assert noted is not None
    assert (noted.task_id, noted.holder) == ("task_1", quick._holder.id)
    slow.succeeded(row.id, urls=["https://x.example/1"], final_credits=4, seconds=8.0)
    slow.stored(row.id)
    assert state_of(quick, row) is OrderState.STORED


def test_a_task_that_comes_late_ends_an_unknown_outcome(taken: tuple[Ledger, Ledger, OrderRow]) -> None:
    slow, quick, row = taken
    quick.unknown(row.id, error=ERROR)
    slow.submitted(row.id, task_id="task_1", reserved_credits=4)
    quick.unknown(row.id, error=ERROR)
    assert state_of(quick, row) is OrderState.SUBMITTED


def test_one_who_was_taken_for_dead_neither_drops_the_order_nor_gives_it_up(
    taken: tuple[Ledger, Ledger, OrderRow],
) -> None:
    slow, quick, row = taken
    assert slow.discard(row.id) is False
    for give_up in (
        lambda: slow.unknown(row.id, error=ERROR),
        lambda: slow.failed(row.id, error=ERROR, charged="no"),
    ):
        with pytest.raises(LedgerError, match="another program has it"):
            give_up()
    assert state_of(quick, row) is OrderState.PREPARED
    assert quick.discard(row.id) is True


class _LostAnswers:
    """Every commit is carried out and its answer lost, so that the work is done again."""

    def write(self, work: Any, *, durable: bool = True) -> Any:
        super().write(work, durable=durable)  # type: ignore[misc]
        return super().write(work, durable=durable)  # type: ignore[misc]


class _Sqlite(_LostAnswers, SqliteDatabase):
    pass


class _Postgres(_LostAnswers, PostgresDatabase):
    pass


@pytest.fixture
def forgetful(open_ledger: OpenLedger, kind: str) -> Ledger:
    return open_ledger(kept_by=_Postgres if kind == "postgres" else _Sqlite)


def test_every_note_may_be_made_twice(forgetful: Ledger, prepare: Prepare) -> None:
    row = prepare(forgetful)  # it says that this call made the row: else the order would count as sent
    assert forgetful.take(row.id)
    forgetful.submitted(row.id, task_id="task_1", reserved_credits=4)
    forgetful.succeeded(row.id, urls=["https://x.example/1"], final_credits=4, seconds=8.0)
    forgetful.stored(row.id)
    forgetful.submitted(row.id, task_id="task_1", reserved_credits=4)
    assert state_of(forgetful, row) is OrderState.STORED
    failed = prepare(forgetful, "fails")
    forgetful.failed(failed.id, error=ERROR, charged="no")
    assert state_of(forgetful, failed) is OrderState.FAILED
    assert forgetful.discard(prepare(forgetful, "dropped").id)
    assert forgetful.forget(prepare(forgetful, "forgotten").id)


def test_a_commit_whose_answer_was_lost_spends_once(forgetful: Ledger, prepare: Prepare) -> None:
    row = prepare(forgetful, spending=Spending("night", 4, 100))
    assert forgetful.run_report("night").spent == 4
    forgetful.failed(row.id, error=ERROR, charged="no")
    assert forgetful.run_report("night").spent == 0


def test_what_another_living_process_waits_for_is_not_collected(
    open_ledger: OpenLedger, prepare: Prepare
) -> None:
    ours, theirs = open_ledger(), open_ledger()
    for book, name in ((ours, "ours"), (theirs, "theirs")):
        row = prepare(book, name)
        book.submitted(row.id, task_id=f"task_{name}", reserved_credits=4)
    assert [row.fingerprint for row in ours.uncollected("s")] == ["ours"]
    theirs.stored(row.id)  # theirs is done and nobody has got it yet: then nobody holds it either
    assert [row.fingerprint for row in ours.uncollected("s")] == ["ours", "theirs"]
    assert theirs.take(row.id)
    assert [row.fingerprint for row in ours.uncollected("s")] == ["ours"]
    theirs._holder.close()
    assert [row.fingerprint for row in ours.uncollected("s")] == ["ours", "theirs"]


def test_two_processes_share_the_budget_of_a_run(open_ledger: OpenLedger, prepare: Prepare) -> None:
    books = open_ledger(), open_ledger()
    for number in range(5):
        prepare(books[number % 2], f"f{number}", spending=Spending("night", 4, 20))
    with pytest.raises(ConfigurationError, match="limit of 20 credits of the run night") as caught:
        prepare(books[0], "one too many", spending=Spending("night", 4, 20))
    assert (caught.value.code, caught.value.charged) == ("over_credit_cap", None)
    assert books[1].newest("s", "one too many") is None
    assert books[1].newest("s", "f0") is not None
    books[0].discard(books[0].newest("s", "f0").id)  # type: ignore[union-attr]
    prepare(books[1], "in its place", spending=Spending("night", 4, 20))
    report = books[1].run_report("night")
    assert (report.spent, report.orders) == (20, {"prepared": 5})


def test_a_file_that_knows_no_run_has_no_table_for_it(folder: Path, prepare: Prepare) -> None:
    holder = FileHolder(folder)
    ledger = Ledger(folder, holder)
    ledger.discard(prepare(ledger).id)
    assert ledger.run_report("night").orders == {}
    ledger.close()
    holder.close()
    with closing(connect(folder / FILE_NAME)) as connection:
        tables = {row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    assert tables == {"orders", "scopes", "uploads"}


def test_a_holder_that_is_closed_takes_nothing(ledger: Ledger) -> None:
    ledger._holder.close()
    with pytest.raises(LedgerError, match="was closed"):
        ledger.take(1)
