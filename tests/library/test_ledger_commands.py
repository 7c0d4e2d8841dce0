"""``python -m rivya ledger``, and the command line on a ledger in PostgreSQL."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from library.client import Client, Run
from rivya.secret import Secret
from support.postgres import PASSWORD

pytestmark = pytest.mark.heavy


def test_a_ledger_is_made_used_checked_and_copied(
    shell: Run, client: Client, service: Any, work: Path, database_url: Secret
) -> None:
    ledger = {"RIVYA_LEDGER": database_url.reveal()}
    made = shell("ledger", "init", **ledger)
    assert (made.returncode, "is ready" in made.stdout) == (0, True)
    before = len(service.tasks())
    first, second = str(work / "one.jpg"), str(work / "two.jpg")
    done = shell("edit", "--text", "a lighthouse", "-o", first, **ledger)
    assert done.returncode == 0, done.stderr
    other_host = {**ledger, "RIVYA_HOME": str(work / "another host")}
    done = shell("edit", "--text", "a lighthouse", "-o", second, **other_host)
    assert done.returncode == 0, done.stderr
    assert len(service.tasks()) == before + 1
    assert Path(first).read_bytes() == Path(second).read_bytes()
    checked = shell("ledger", "check", **other_host)
    assert "1 stored" in checked.stdout
    assert "processes at work on it: 0" in checked.stdout

    client.ledger.close()
    client.state.holder.close()
    copied = shell("ledger", "copy", str(client.config.home), database_url.reveal())
    assert copied.returncode == 0, copied.stderr
    assert "6 orders are new there" in copied.stdout
    assert "is kept as ledger-copied-" in copied.stdout
    assert "7 stored" in shell("ledger", "check", **ledger).stdout
    assert PASSWORD not in "".join(each.stdout + each.stderr for each in (made, done, checked, copied))


@pytest.mark.parametrize(
    "words", [("credits",), ("edit", "--text", "a lighthouse", "-o", "a.jpg"), ("orders",)]
)
def test_a_database_that_does_not_answer_ends_every_command_before_anything_is_sent(
    shell: Run, service: Any, words: tuple[str, ...]
) -> None:
    before = len(service.requests())
    done = shell(*words, RIVYA_LEDGER="postgresql://u:planted@127.0.0.1:1/x")
    assert done.returncode == 1
    assert "The ledger 127.0.0.1/x does not answer." in done.stderr
    assert "RIVYA_LEDGER" in done.stderr
    assert "No credits were charged." in done.stderr
    assert "planted" not in done.stdout + done.stderr
    assert len(service.requests()) == before
