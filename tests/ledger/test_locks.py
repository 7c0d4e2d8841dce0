"""Holders: alive as long as their process, and not a moment longer."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ledger.processes import Program
from rivya import files
from rivya.errors import LedgerError
from rivya.files import guard
from rivya.ledger import holders
from rivya.ledger.holders import FileHolder

pytestmark = pytest.mark.heavy

HOLD = """
holder = holders.FileHolder(folder)
say(holder.id)
wait()
"""


def lock_files(folder: Path) -> set[str]:
    return {path.name for path in (folder / "locks").iterdir()}


def test_two_holders_of_one_process_see_each_other_as_alive(folder: Path) -> None:
    first, second = FileHolder(folder), FileHolder(folder)
    assert first.alive(second.id)
    assert second.alive(first.id)
    second.close()
    assert not first.alive(second.id)
    first.close()
    assert lock_files(folder) == set()


def test_a_killed_process_is_dead_at_once_and_its_file_is_removed(folder: Path) -> None:
    ours = FileHolder(folder)
    with Program(HOLD, folder) as other:
        name = other.heard()
        assert ours.alive(name)
        other.kill()
        assert not ours.alive(name)
    assert lock_files(folder) == {f"{ours.id}.lock"}


def test_a_new_holder_sweeps_the_files_of_the_dead_and_leaves_the_living(folder: Path) -> None:
    with Program(HOLD, folder) as dead, Program(HOLD, folder) as living:
        dead_id, living_id = dead.heard(), living.heard()
        dead.kill()
        ours = FileHolder(folder)
        assert lock_files(folder) == {f"{living_id}.lock", f"{ours.id}.lock"}
        assert not ours.alive(dead_id)


def test_a_forked_child_does_not_keep_a_dead_parent_alive(folder: Path) -> None:
    code = """
    holder = holders.FileHolder(folder)
    if os.fork() == 0:
        say(f"{holder.id} {os.getpid()} {holder.held}")
        time.sleep(60)
    time.sleep(60)
    """
    ours = FileHolder(folder)
    with Program(code, folder) as parent:
        name, child, held = parent.heard().split()
        try:
            assert held == "False"
            assert ours.alive(name)
            parent.kill()
            os.kill(int(child), 0)
            assert not ours.alive(name)
        finally:
            os.kill(int(child), 9)


def test_a_program_started_by_the_process_does_not_inherit_the_lock(folder: Path) -> None:
    code = """
    import subprocess
    holder = holders.FileHolder(folder)
    child = subprocess.Popen(["sleep", "60"], close_fds=False, stdin=subprocess.DEVNULL,
                             stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    say(f"{holder.id} {child.pid}")
    wait()
    """
    ours = FileHolder(folder)
    with Program(code, folder) as parent:
        name, child = parent.heard().split()
        parent.kill()
        try:
            os.kill(int(child), 0)
            assert not ours.alive(name)
        finally:
            os.kill(int(child), 9)


def test_lookers_do_not_take_each_other_for_the_owner(folder: Path) -> None:
    ours = FileHolder(folder)
    with Program(HOLD, folder) as other:
        name = other.heard()
        other.kill()
    looker = files.open_private(folder / "locks" / f"{name}.lock", os.O_RDWR)
    assert files.try_lock(looker, shared=True)
    assert not ours.alive(name)
    os.close(looker)


def test_holders_of_one_process_need_no_lock_to_see_each_other(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where locks belong to processes (flock over NFS), our own could always be had, and trying would lose it."""
    first, second = FileHolder(folder), FileHolder(folder)
    monkeypatch.setattr(holders, "try_lock", lambda descriptor, shared=False: True)
    assert first.alive(second.id)


def test_a_name_cannot_lead_out_of_the_folder_and_a_link_counts_as_alive(folder: Path) -> None:
    ours = FileHolder(folder)
    (folder / "victim.lock").write_text("")
    assert not ours.alive("../victim")
    assert (folder / "victim.lock").exists()
    (folder / "locks" / "x.lock").symlink_to(folder / "victim.lock")
    assert ours.alive("x")


def test_a_folder_that_cannot_be_written_is_an_error_in_words(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("a file")
    with pytest.raises(LedgerError, match="locks cannot be used"):
        FileHolder(tmp_path / "state")


def test_a_guard_waits_for_its_turn_and_gives_up_after_its_time(tmp_path: Path) -> None:
    path = tmp_path / "x.lock"
    with (
        guard(path, shared=True, wait_s=0),
        guard(path, shared=True, wait_s=0),
        pytest.raises(LedgerError, match=r"locked for 0\.05 seconds"),
        guard(path, wait_s=0.05),
    ):
        pass
    with guard(path, wait_s=0):
        pass
