"""Ledgers that hosts had of their own, merged into one: every picture collectable, nothing bought anew."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rivya.errors import ConfigurationError
from rivya.ledger.copying import copy
from rivya.ledger.holders import FileHolder
from rivya.ledger.ledger import FILE_NAME, Ledger, OrderRow, OrderState
from rivya.secret import Secret
from support.postgres import opened

pytestmark = pytest.mark.heavy

Prepare = Callable[..., OrderRow]
ERROR = {"message": "no answer"}


def submit(ledger: Ledger, row: OrderRow, task: str = "task_1") -> None:
    ledger.submitted(row.id, task_id=task, reserved_credits=4)


def store(ledger: Ledger, row: OrderRow, task: str = "task_1") -> None:
    submit(ledger, row, task)
    ledger.succeeded(row.id, urls=["https://x.example/1"], final_credits=4, seconds=8.0)
    ledger.stored(row.id)


WAYS: dict[str, Callable[[Ledger, OrderRow], Any]] = {
    "prepared": lambda ledger, row: None,
    "unknown": lambda ledger, row: ledger.unknown(row.id, error=ERROR),
    "submitted": submit,
    "stored": store,
    "refused": lambda ledger, row: ledger.failed(row.id, error=ERROR, charged="no"),
    "forgotten": lambda ledger, row: ledger.forget(row.id),
}


def write(folder: Path, work: Callable[[Ledger], Any]) -> str:
    """A state folder whose ledger was written so, by a process that has ended."""
    holder = FileHolder(folder)
    ledger = Ledger(folder, holder)
    work(ledger)
    ledger.close()
    holder.close()
    return str(folder)


@pytest.mark.parametrize(
    ("one", "other", "merged"),
    [
        ("prepared", "submitted", "submitted"),
        ("unknown", "stored", "stored"),
        ("submitted", "stored", "stored"),
        ("refused", "prepared", "prepared"),
        ("refused", "unknown", "unknown"),
        ("forgotten", "unknown", "unknown"),
        ("forgotten", "submitted", "submitted"),
        ("prepared", "prepared", "prepared"),
    ],
)
@pytest.mark.parametrize("turned", [False, True], ids=["", "turned"])
def test_of_two_rows_the_one_that_is_furthest_on_stays(
    tmp_path: Path, prepare: Prepare, one: str, other: str, merged: str, turned: bool
) -> None:
    ways = (other, one) if turned else (one, other)
    folders = [
        write(tmp_path / str(number), lambda ledger, way=way: WAYS[way](ledger, prepare(ledger)))
        for number, way in enumerate(ways)
    ]
    copy(folders[0], folders[1])
    seen = Ledger(folders[1], FileHolder(folders[1]))
    (row,) = seen.orders()
    assert (row.state.value, row.holder is None or row.holder.startswith("")) == (merged, True)
    assert row.key == "key-f-1"
    if merged in ("prepared", "unknown"):
        assert row.body == b'{"prompt": "a quiet harbour"}'


def test_two_diverged_ledgers_become_one_in_which_every_picture_can_be_had(
    tmp_path: Path, prepare: Prepare, database_url: Secret
) -> None:
    def first(ledger: Ledger) -> None:
        for number in range(20):
            row = prepare(ledger, f"f{number}")
            if number % 2:
                store(ledger, row, f"task_{number}")

    def second(ledger: Ledger) -> None:
        for number in range(30):
            row = prepare(ledger, f"f{number}")
            if not number % 2:
                submit(ledger, row, f"task_{number}")
            else:
                ledger.unknown(row.id, error=ERROR)
        ledger.join_scope("o", "key", "s")
        ledger.save_upload("s", "c", file_id="1", url="u", duration_token=None, mime="m", name="n")

    folders = [write(tmp_path / "a", first), write(tmp_path / "b", second)]
    told = copy(folders[0], database_url.reveal())
    assert (told.new, told.improved, told.known) == (20, 0, 0)
    told = copy(folders[1], database_url.reveal())
    assert (told.new, told.improved, told.rescued, told.known) == (10, 10, 10, 10)
    ledger = opened(database_url)
    rows = {row.fingerprint: row for row in ledger.orders()}
    assert len(rows) == 30
    wanted = {f"task_{number}" for number in range(30) if number < 20 or not number % 2}
    assert {row.task_id for row in ledger.uncollected("s")} == wanted
    assert {row.state for row in rows.values() if row.task_id is None} == {OrderState.UNKNOWN}
    assert ledger.find_scope("o", "key") == "s"
    assert ledger.find_upload("s", "c") is not None
    again = write(tmp_path / "c", lambda ledger: None)
    back = copy(database_url.reveal(), again) if ledger._holder.close() is None else None
    assert back is not None
    assert back.new == 30


def test_two_tasks_of_one_order_both_stay_collectable(tmp_path: Path, prepare: Prepare) -> None:
    folders = [
        write(tmp_path / task, lambda ledger, task=task: submit(ledger, prepare(ledger), task))
        for task in ("task_1", "task_2")
    ]
    copy(*folders)
    ledger = Ledger(folders[1], FileHolder(folders[1]))
    assert {row.task_id for row in ledger.uncollected("s")} == {"task_1", "task_2"}


def test_a_key_with_two_scopes_proves_that_both_are_one_account(tmp_path: Path, prepare: Prepare) -> None:
    def host(scope: str) -> Callable[[Ledger], None]:
        def work(ledger: Ledger) -> None:
            ledger.join_scope("o", "key", scope)
            submit(ledger, prepare(ledger, scope, scope=scope), f"task_{scope}")

        return work

    folders = [write(tmp_path / scope, host(scope)) for scope in ("one", "two")]
    copy(*folders)
    ledger = Ledger(folders[1], FileHolder(folders[1]))
    assert {row.task_id for row in ledger.uncollected("two")} == {"task_one", "task_two"}


def test_the_old_file_is_renamed_and_a_copy_that_fails_renames_nothing(
    tmp_path: Path, prepare: Prepare, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = write(tmp_path / "a", lambda ledger: prepare(ledger))
    target = write(tmp_path / "b", lambda ledger: None)
    with monkeypatch.context() as broken:
        broken.setattr("rivya.ledger.copying._copy_uploads", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            copy(source, target)
    assert (Path(source) / FILE_NAME).is_file()
    told = copy(source, target)
    assert (told.known, told.new) == (1, 0)  # the copy that failed had got so far
    assert not (Path(source) / FILE_NAME).exists()
    assert told.kept_as is not None
    assert (Path(source) / told.kept_as).is_file()


def test_a_ledger_that_is_used_or_is_none_is_refused(
    tmp_path: Path, prepare: Prepare, database_url: Secret
) -> None:
    source = write(tmp_path / "a", lambda ledger: prepare(ledger))
    holder = FileHolder(source)
    with pytest.raises(ConfigurationError, match="1 running program uses"):
        copy(source, str(tmp_path / "b"))
    assert (Path(source) / FILE_NAME).is_file()
    holder.close()
    living = opened(database_url)
    with pytest.raises(ConfigurationError, match="1 running program uses"):
        copy(database_url.reveal(), source)
    living._holder.close()
    with pytest.raises(ConfigurationError, match="There is no ledger"):
        copy(str(tmp_path / "none"), source)
    with pytest.raises(ConfigurationError, match="same ledger"):
        copy(source, source)
