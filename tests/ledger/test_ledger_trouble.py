"""No ledger, no spending: what cannot be written down is refused in words; what is damaged is moved aside."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from sqlite3 import Connection, Cursor, OperationalError, connect

import pytest

from ledger.processes import Program
from rivya.errors import LedgerError
from rivya.ledger import schema, sqlite
from rivya.ledger.ledger import FILE_NAME, Ledger, OrderRow, OrderState
from support.disk import fill

Prepare = Callable[..., OrderRow]
OpenLedger = Callable[..., Ledger]
NOBODY = "65534"


def refused(caught: pytest.ExceptionInfo[LedgerError], *words: str) -> None:
    text = str(caught.value)
    assert caught.value.charged is None, "the ledger does not know what was sent; the run of the order does"
    assert caught.value.hint
    assert all(word in text for word in words), text


def test_a_folder_that_may_not_be_written_is_refused_in_words(
    folder: Path, ledger: Ledger, prepare: Prepare
) -> None:
    prepare(ledger)
    for path in (folder.parent.parent, folder.parent, folder):
        path.chmod(0o755)
    for path in (folder / FILE_NAME, folder / f"{FILE_NAME}-wal", folder / f"{FILE_NAME}-shm"):
        path.chmod(0o644)
    code = """
    from rivya.errors import LedgerError
    import sqlite3, rivya.ledger.sqlite
    os.setgroups([])
    os.setuid(int(sys.argv[2]))
    try:
        holder = holders.FileHolder(folder)
    except LedgerError as error:
        say(error.message)
    class Stub:
        id, held = "1-x", True
    book = ledger.Ledger(folder, Stub())
    try:
        prepared(book, "g")
    except LedgerError as error:
        say(f"{error.charged} {error.message}")
    """
    with Program(code, folder, NOBODY) as stranger:
        assert stranger.heard() == "The lock folder state/locks cannot be used: Permission denied."
        said = stranger.heard()
        stranger.end()
    assert said.startswith("None The ledger state/ledger.sqlite3 cannot be used: ")
    assert ledger.newest("s", "g") is None


def test_a_full_disk_is_refused_before_anything_is_sent_and_works_again_once_there_is_space(
    small_disk: Path, open_ledger: OpenLedger, prepare: Prepare
) -> None:
    ledger = open_ledger(small_disk / "state")
    open_order = prepare(ledger, "0")
    filler = fill(small_disk)
    accepted = 0

    def until_it_is_full() -> None:
        nonlocal accepted
        while accepted < 1000:
            prepare(ledger, str(accepted + 1), body=b"y" * 2000)
            accepted += 1

    with pytest.raises(LedgerError) as caught:
        until_it_is_full()
    refused(caught, "full", "Free some space")
    assert ledger.get(open_order.id) == open_order, "reading still works"
    filler.unlink()
    prepare(ledger, "again")
    assert len(ledger.orders(5000)) == accepted + 2


def test_a_disk_that_is_full_from_the_start_is_refused(
    small_disk: Path, open_ledger: OpenLedger, prepare: Prepare
) -> None:
    ledger = open_ledger(small_disk / "state")
    fill(small_disk)
    with pytest.raises(LedgerError) as caught:
        prepare(ledger)
    refused(caught, "full")


def test_a_ledger_that_another_program_keeps_locked_is_refused_after_the_wait(
    folder: Path, open_ledger: OpenLedger, prepare: Prepare
) -> None:
    ledger = open_ledger(busy_s=0.2)
    row = prepare(ledger)
    code = """
    from sqlite3 import OperationalError, connect
    connection = connect(folder / "ledger.sqlite3", isolation_level=None)
    connection.execute("BEGIN IMMEDIATE")
    say("locked")
    wait()
    connection.execute("ROLLBACK")
    say("free")
    """
    with Program(code, folder) as other:
        other.heard()
        with pytest.raises(LedgerError) as caught:
            prepare(ledger, "g")
        refused(caught, "locked for more than 0.2 seconds")
        assert ledger.get(row.id) == row, "reading needs no lock"
        other.go()
        assert other.heard() == "free"
        prepare(ledger, "g")


def test_a_short_lock_is_waited_for(folder: Path, ledger: Ledger, prepare: Prepare) -> None:
    prepare(ledger)
    code = """
    from sqlite3 import OperationalError, connect
    connection = connect(folder / "ledger.sqlite3", isolation_level=None)
    connection.execute("BEGIN IMMEDIATE")
    say("locked")
    time.sleep(0.3)
    connection.execute("ROLLBACK")
    """
    with Program(code, folder) as other:
        other.heard()
        prepare(ledger, "g")


def damage_header(path: Path) -> None:
    with path.open("r+b") as file:
        file.write(b"\x00" * 100)


def damage_page(path: Path) -> None:
    """The page of the table itself, behind a sound header and schema."""
    with connect(path) as connection:
        (root,) = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = 'orders'").fetchone()
        (size,) = connection.execute("PRAGMA page_size").fetchone()
    connection.close()
    with path.open("r+b") as file:
        file.seek((root - 1) * size)
        file.write(b"\xa5" * size)


def become_text(path: Path) -> None:
    path.write_text("this is no database, but it is long enough to be looked at as one" * 40)


def lose_tables(path: Path) -> None:
    with connect(path) as connection:
        connection.execute("DROP TABLE orders")
    connection.close()


def become_a_strangers(path: Path) -> None:
    path.unlink()
    with connect(path) as connection:
        connection.execute("CREATE TABLE recipes (name TEXT)")
    connection.close()


def cut_off(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


DAMAGES = [damage_header, damage_page, become_text, lose_tables, become_a_strangers, cut_off]


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_ledger_is_moved_aside_with_a_dated_name_and_a_new_one_begun(
    damage: Callable[[Path], None], folder: Path, open_ledger: OpenLedger, prepare: Prepare
) -> None:
    ledger = open_ledger()
    for number in range(30):
        prepare(ledger, str(number))
    ledger.close()
    damage(folder / FILE_NAME)
    damaged = (folder / FILE_NAME).read_bytes()
    prepare(ledger, "new")
    assert ledger.newest("s", "3") is None
    asides = [path for path in folder.iterdir() if "damaged" in path.name and path.suffix == ".sqlite3"]
    assert len(asides) == 1
    assert asides[0].read_bytes()[:100] == damaged[:100]
    assert asides[0].name in (ledger.notice or "")


def test_a_log_that_another_process_still_writes_goes_aside_with_the_damaged_ledger(
    folder: Path, ledger: Ledger, prepare: Prepare
) -> None:
    code = """
    prepared(book)
    say('done')
    wait()
    say(prepared(book, "later")[1])
    """
    with Program(code, folder, with_ledger=True) as other:
        other.heard()
        damage_header(folder / FILE_NAME)
        prepare(ledger, "new")
        asides = {path.name.partition(".")[2] for path in folder.iterdir() if "damaged" in path.name}
        assert {"sqlite3", "sqlite3-wal", "sqlite3-shm"} <= asides
        other.go()
        assert other.heard() == "True"
    assert ledger.newest("s", "later"), "the other has found the new one"


def test_damage_found_while_running_leads_to_a_new_ledger_too(
    folder: Path, ledger: Ledger, prepare: Prepare
) -> None:
    for number in range(300):
        prepare(ledger, str(number))
    ledger._database.truncate_log()
    damage_page(folder / FILE_NAME)
    connection = ledger._database._connection
    assert connection is not None
    connection.execute("PRAGMA shrink_memory")
    prepare(ledger, "new")
    assert ledger.notice
    assert ledger.newest("s", "new")


def test_the_second_of_two_that_find_the_damage_keeps_the_firsts_new_ledger(
    folder: Path, open_ledger: OpenLedger, prepare: Prepare
) -> None:
    first, second = open_ledger(), open_ledger()
    prepare(first, "old")
    assert second.newest("s", "old")
    first.close()
    second.close()
    become_text(folder / FILE_NAME)
    prepare(first, "new")
    assert second.newest("s", "new")
    assert second.notice is None
    assert sum("damaged" in path.name and path.suffix == ".sqlite3" for path in folder.iterdir()) == 1


def test_an_empty_file_is_a_new_ledger(folder: Path, ledger: Ledger, prepare: Prepare) -> None:
    prepare(ledger)
    ledger.close()
    (folder / FILE_NAME).write_bytes(b"")
    prepare(ledger)
    assert ledger.notice is None


@pytest.mark.parametrize("together", [True, False])
def test_a_ledger_that_is_deleted_under_a_running_process_is_begun_anew_on_disk(
    together: bool, folder: Path, ledger: Ledger, prepare: Prepare, open_ledger: OpenLedger
) -> None:
    prepare(ledger, "old")
    (folder / FILE_NAME).unlink()
    if together:
        (folder / f"{FILE_NAME}-wal").unlink()
        (folder / f"{FILE_NAME}-shm").unlink()
    prepare(ledger, "new")
    assert ledger.newest("s", "old") is None
    assert open_ledger().newest("s", "new") is not None, "what was written is on the disk, not in a lost file"


def test_two_whose_ledger_is_deleted_meet_again_in_the_new_one(
    folder: Path, open_ledger: OpenLedger, prepare: Prepare
) -> None:
    first, second = open_ledger(), open_ledger()
    prepare(first, "old")
    second.newest("s", "old")
    (folder / FILE_NAME).unlink()
    for number in range(20):
        prepare(first, f"first {number}")
    for number in range(20):
        prepare(second, f"second {number}")
        prepare(first, f"then {number}")
    second.close()
    first.close()
    assert len(first.orders()) == len(second.orders()) == 60


@pytest.mark.parametrize("suffix", ["", "-wal", "-shm", "-journal"])
def test_a_symbolic_link_in_place_of_a_file_of_the_ledger_is_refused(
    suffix: str, folder: Path, ledger: Ledger, prepare: Prepare
) -> None:
    folder.mkdir(mode=0o700, exist_ok=True)
    victim = folder.parent / "victim"
    victim.write_bytes(b"")
    (folder / f"{FILE_NAME}{suffix}").symlink_to(victim)
    if suffix:
        (folder / FILE_NAME).write_bytes(b"")
        (folder / FILE_NAME).chmod(0o600)
    with pytest.raises(LedgerError) as caught:
        prepare(ledger)
    refused(caught, "symbolic link")
    assert victim.read_bytes() == b""


def test_a_ledger_of_a_newer_version_is_refused_and_left_as_it_is(
    folder: Path, ledger: Ledger, prepare: Prepare
) -> None:
    row = prepare(ledger)
    ledger.close()
    with connect(folder / FILE_NAME) as connection:
        connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(LedgerError) as caught:
        ledger.get(row.id)
    refused(caught, "newer version", "Update the pack")
    with connect(folder / FILE_NAME) as connection:
        assert connection.execute("SELECT count(*) FROM orders").fetchone() == (1,)
    connection.close()


def test_an_older_ledger_is_brought_forward_step_by_step_and_keeps_its_orders(
    folder: Path, ledger: Ledger, prepare: Prepare
) -> None:
    row = prepare(ledger)
    ledger.close()
    path = folder / FILE_NAME
    steps = (*schema.STEPS, "ALTER TABLE orders ADD COLUMN colour TEXT", "UPDATE orders SET colour = 'green'")
    connection = connect(path, isolation_level=None)
    schema.migrate(connection, path, steps)
    assert connection.execute("SELECT id, colour FROM orders").fetchall() == [(row.id, "green")]
    assert connection.execute("PRAGMA user_version").fetchone() == (len(steps),)
    connection.close()


def test_two_that_begin_a_ledger_at_once_make_its_tables_once(folder: Path, ledger: Ledger) -> None:
    folder.mkdir(exist_ok=True)
    path = folder / FILE_NAME
    first = connect(path, isolation_level=None)
    first.execute("BEGIN IMMEDIATE")
    second = connect(path, isolation_level=None, check_same_thread=False)
    waits = threading.Event()
    second.set_trace_callback(lambda statement: waits.set() if "IMMEDIATE" in statement else None)
    with ThreadPoolExecutor(1) as pool:
        racing = pool.submit(schema.migrate, second, path)
        assert waits.wait(10)
        for statement in schema.STEPS[0].split(";\n"):
            first.execute(statement)
        first.execute("PRAGMA user_version = 1")
        first.execute("COMMIT")
        racing.result(10)
    first.close()
    second.close()


def test_an_error_of_the_disk_is_called_full_where_there_is_no_space(
    folder: Path, ledger: Ledger, prepare: Prepare, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepare(ledger)
    error = OperationalError("disk I/O error")
    assert "cannot be used: disk I/O error" in str(ledger._database._explained(error))
    monkeypatch.setattr(sqlite, "_space_left", lambda path: 0)
    assert "full" in str(ledger._database._explained(error))


def test_a_step_that_fails_leaves_the_ledger_as_it_was(
    folder: Path, ledger: Ledger, prepare: Prepare
) -> None:
    prepare(ledger)
    ledger.close()
    path = folder / FILE_NAME
    connection = connect(path, isolation_level=None)
    with pytest.raises(Exception, match="syntax error"):
        schema.migrate(connection, path, (*schema.STEPS, "UPDATE orders SET model = 'x';\nNONSENSE"))
    assert connection.execute("SELECT model FROM orders").fetchall() == [("flux-kontext-pro",)]
    assert connection.execute("PRAGMA user_version").fetchone() == (len(schema.STEPS),)
    connection.close()


def test_a_network_mount_gets_a_rollback_journal_with_full_synchronisation_and_a_warning(
    folder: Path,
    ledger: Ledger,
    prepare: Prepare,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(sqlite, "on_network", lambda path: True)
    row = prepare(ledger)
    ledger.submitted(row.id, task_id="t", reserved_credits=None)
    connection = ledger._database._connection
    assert connection is not None
    assert connection.execute("PRAGMA journal_mode").fetchone()[0] == "delete"
    assert connection.execute("PRAGMA synchronous").fetchone()[0] == 2
    assert not (folder / f"{FILE_NAME}-wal").exists()
    assert ledger.get(row.id).state is OrderState.SUBMITTED  # type: ignore[union-attr]
    ledger.close()
    ledger.get(row.id)
    (warning,) = [text for text in caplog.messages if "network mount" in text]
    assert "set RIVYA_LEDGER to a PostgreSQL database" in warning


@pytest.mark.parametrize("words", ["disk I/O error", "locking protocol", "unable to open database file"])
def test_a_write_ahead_log_that_is_refused_gives_way_to_a_rollback_journal_and_it_is_said_once(
    words: str,
    folder: Path,
    open_ledger: OpenLedger,
    prepare: Prepare,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Refusing(Connection):
        def execute(self, sql: str, *parameters: object) -> Cursor:  # type: ignore[override]
            if sql == "PRAGMA journal_mode = wal":
                raise OperationalError(words)
            return super().execute(sql, *parameters)  # type: ignore[arg-type]

    monkeypatch.setattr(sqlite, "connect", partial(connect, factory=Refusing))
    for number in range(3):
        ledger = open_ledger()
        row = prepare(ledger, str(number))
        ledger.submitted(row.id, task_id="t", reserved_credits=None)
        ledger.close()
    assert (folder / FILE_NAME).read_bytes()[18:20] == b"\1\1"
    assert len([text for text in caplog.messages if "rollback journal" in text]) == 1
    assert len(ledger.orders()) == 3


def test_the_write_ahead_log_is_used_with_full_synchronisation(ledger: Ledger, prepare: Prepare) -> None:
    row = prepare(ledger)
    ledger.release(row.id)
    ledger.take(row.id)
    ledger.submitted(row.id, task_id="t", reserved_credits=None)
    connection = ledger._database._connection
    assert connection is not None
    assert connection.execute("PRAGMA journal_mode").fetchone()[0] == "wal"
    assert connection.execute("PRAGMA synchronous").fetchone()[0] == 2


def test_damaged_text_in_one_row_does_not_hide_the_others(ledger: Ledger, prepare: Prepare) -> None:
    row, other = prepare(ledger), prepare(ledger, "g")
    connection = ledger._database._connection
    assert connection is not None
    connection.execute("UPDATE orders SET details = '{\"seed', result_urls = '7' WHERE id = ?", (row.id,))
    assert [each.details for each in ledger.orders()] == [other.details, {}]
