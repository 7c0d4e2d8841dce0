"""What the ledger's files hold, byte by byte, and who may read them."""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ledger.processes import Program
from rivya.ledger.ledger import Ledger, OrderRow

Prepare = Callable[..., OrderRow]
PROMPT = b"a very private wish"
SIGNATURE = "X-Signature=deadbeef"


def found(folder: Path, needle: bytes) -> list[str]:
    return [path.name for path in folder.rglob("*") if path.is_file() and needle in path.read_bytes()]


def succeed(ledger: Ledger, row: OrderRow) -> None:
    ledger.submitted(row.id, task_id=f"t{row.id}", reserved_credits=1)
    ledger.succeeded(row.id, urls=[f"https://m.example/a?{SIGNATURE}"], final_credits=1, seconds=1.0)


ENDS: dict[str, Callable[[Ledger, OrderRow], object]] = {
    "stored": lambda ledger, row: (succeed(ledger, row), ledger.stored(row.id)),
    "failed": lambda ledger, row: (
        succeed(ledger, row),
        ledger.failed(row.id, error={"message": "no"}, charged="yes"),
    ),
    "forgotten": lambda ledger, row: (succeed(ledger, row), ledger.forget(row.id)),
    "discarded": lambda ledger, row: ledger.discard(row.id),
}


@pytest.mark.parametrize("end", list(ENDS))
@pytest.mark.parametrize("size", [1, 300], ids=["short", "long"])
def test_prompt_and_signed_urls_are_in_no_file_once_the_order_has_ended(
    end: str, size: int, folder: Path, ledger: Ledger, prepare: Prepare
) -> None:
    row = prepare(ledger, body=PROMPT * size)
    assert found(folder, PROMPT), "needed while the order is open"
    ENDS[end](ledger, row)
    assert found(folder, PROMPT) == []
    assert found(folder, SIGNATURE.encode()) == []


def test_an_order_that_is_still_open_keeps_only_its_own_text(
    folder: Path, ledger: Ledger, prepare: Prepare
) -> None:
    ended, still_open = prepare(ledger, "f", body=PROMPT), prepare(ledger, "g", body=b"another wish")
    ENDS["stored"](ledger, ended)
    assert ledger.get(still_open.id).body == b"another wish"  # type: ignore[union-attr]
    ledger.close()
    assert found(folder, PROMPT) == []


def test_what_a_killed_process_left_is_erased_with_the_next_order(
    folder: Path, ledger: Ledger, prepare: Prepare
) -> None:
    code = f"""
    book = ledger.Ledger(folder, holders.FileHolder(folder))
    row, _ = prepared(book, "killed", body={PROMPT!r})
    say(row.id)
    wait()
    """
    with Program(code, folder) as other:
        killed = int(other.heard())
        other.kill()
    assert found(folder, PROMPT)
    assert ledger.take(killed)
    ENDS["stored"](ledger, ledger.get(killed))  # type: ignore[arg-type]
    assert found(folder, PROMPT) == []


def test_others_who_read_at_that_moment_only_put_the_erasing_off(
    folder: Path, open_ledger: Callable[..., Ledger], prepare: Prepare
) -> None:
    ledger, reader = open_ledger(), open_ledger()
    row = prepare(ledger, body=PROMPT)
    reader.get(row.id)
    connection = reader._database._connection
    assert connection is not None
    connection.execute("BEGIN")
    connection.execute("SELECT * FROM orders").fetchone()
    begun = time.monotonic()
    ENDS["stored"](ledger, row)
    assert time.monotonic() - begun < 8, "nobody waits for it"
    connection.execute("ROLLBACK")
    ENDS["stored"](ledger, prepare(ledger, "next"))
    assert found(folder, PROMPT) == []


@pytest.fixture(params=[0o000, 0o277])
def umask(request: pytest.FixtureRequest) -> Iterator[None]:
    before = os.umask(request.param)
    yield
    os.umask(before)


@pytest.mark.usefixtures("umask")
def test_folders_are_0700_and_every_file_0600_whatever_the_umask(
    folder: Path, ledger: Ledger, prepare: Prepare
) -> None:
    prepare(ledger)
    assert (folder / "ledger.sqlite3-wal").exists()
    assert (folder / "ledger.sqlite3-shm").exists()
    modes = {path.name: stat.S_IMODE(path.lstat().st_mode) for path in [folder, *folder.rglob("*")]}
    assert {name: mode for name, mode in modes.items() if mode != 0o600} == {"state": 0o700, "locks": 0o700}
    assert len(modes) >= 6
