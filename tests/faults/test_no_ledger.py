"""No ledger, no spending: what cannot be written down is refused before anything is sent.

Stored pictures still answer for the orders that they belong to.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

from faults.zygote import Worker
from rivya.ledger.ledger import FILE_NAME
from support.disk import fill
from support.ledgers import locked

TEXT: dict[str, Any] = {"prompt": "a quiet harbour", "seed": 3}
NEW: dict[str, Any] = {**TEXT, "seed": 4}
EDIT: dict[str, Any] = {"prompt": "make it night", "seed": 3, "picture": 1}
Start = Callable[..., Worker]


def refused(told: list[dict[str, Any]], service: Any, *words: str) -> None:
    """Nothing was ordered, and each error says so in words."""
    for each in told:
        error = each["error"]
        assert error["charged"] == "no"
        assert error["type"] == "LedgerError"
        assert error["hint"]
        assert all(word in error["message"] for word in words), error["message"]
    assert service.requests("create") == []


def test_a_full_disk_is_refused_before_anything_is_sent(
    start: Start, replaying: Any, small_disk: Path
) -> None:
    home = small_disk / "state"
    filler = fill(small_disk)
    refused(start(home=home).run(TEXT, EDIT), replaying, "")
    filler.unlink()
    assert "pictures" in start(home=home).run(TEXT)[0]


def test_a_disk_that_fills_up_after_the_purchase_loses_nothing(
    start: Start, replaying: Any, small_disk: Path
) -> None:
    home = small_disk / "state"
    replaying.fault("create", "latency", seconds=60)
    worker = start(home=home)
    worker.tell(do="run", wanted=[TEXT], timeout_s=6.0)
    replaying.wait("status", count=2)
    filler = fill(small_disk)
    replaying.finish_tasks()
    (told,) = worker.heard()["result"]
    assert told["error"]["charged"] != "no"
    worker.kill()
    filler.unlink()
    (told,) = start(home=home).run(TEXT)
    assert told["pictures"]
    assert len(replaying.charges()) == 1


def test_a_ledger_that_is_locked_by_another_program_is_refused(
    start: Start, replaying: Any, tmp_path: Path
) -> None:
    start().run(EDIT)
    replaying.reset()
    worker = start(busy_s=0.3)
    with locked(tmp_path / "state"):
        refused(worker.run(TEXT), replaying, "locked")
        assert "pictures" in worker.run(EDIT)[0], "what is stored needs nothing to be written"
    assert "pictures" in worker.run(TEXT)[0]


def test_a_state_folder_that_cannot_be_used_is_refused(start: Start, replaying: Any, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "link").symlink_to(tmp_path)
    for home in (tmp_path / "file", tmp_path / "link", tmp_path / "file" / "below"):
        refused(start(home=home).run(TEXT), replaying)


def test_a_damaged_ledger_is_replaced_and_stored_pictures_still_answer(
    start: Start, replaying: Any, tmp_path: Path
) -> None:
    home = tmp_path / "state"
    first = start().run(TEXT, EDIT)
    for path in home.glob(f"{FILE_NAME}-*"):
        path.unlink()
    (home / FILE_NAME).write_bytes(os.urandom(20_000))
    again = start().run(TEXT, EDIT, NEW)
    assert [each["pictures"] for each in again[:2]] == [each["pictures"] for each in first]
    assert len(replaying.charges()) == 3
    assert len(list(home.glob("ledger-damaged-*.sqlite3"))) == 1


def test_a_ledger_of_a_newer_version_is_refused_and_stored_pictures_still_answer(
    start: Start, replaying: Any, tmp_path: Path
) -> None:
    start().run(TEXT)
    replaying.reset()
    with sqlite3.connect(tmp_path / "state" / FILE_NAME) as connection:
        connection.execute("PRAGMA user_version = 99")
    connection.close()
    refused(start().run(NEW), replaying, "newer version")
    assert start().run(TEXT)[0]["source"] == "stored"


def test_a_state_folder_that_vanishes_under_a_running_process_is_begun_anew(
    start: Start, replaying: Any, tmp_path: Path
) -> None:
    worker = start()
    worker.run(TEXT)
    shutil.rmtree(tmp_path / "state")
    (told,) = worker.run(NEW)
    assert told["pictures"]
    assert start().run(NEW)[0]["source"] == "stored"
