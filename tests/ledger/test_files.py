"""Private folders and files: modes, symbolic links, atomic writes, leftovers."""

from __future__ import annotations

import logging
import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from ledger.processes import Program
from rivya import files


def mode(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


@pytest.fixture(params=[0o000, 0o022, 0o277])
def umask(request: pytest.FixtureRequest) -> Iterator[int]:
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def test_folders_are_0700_and_files_0600_whatever_the_umask(umask: int, tmp_path: Path) -> None:
    folder = files.private_folder(tmp_path / "state")
    files.write_atomic(folder / "config.json", b"{}")
    assert (mode(folder), mode(folder / "config.json")) == (0o700, 0o600)


def test_a_symbolic_link_in_place_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "state").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(files.UnsafePathError, match="symbolic link"):
        files.private_folder(tmp_path / "state")


def test_a_file_in_place_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("")
    with pytest.raises(files.UnsafePathError, match="not an ordinary folder"):
        files.private_folder(tmp_path / "state")


def test_neither_reading_nor_writing_follows_a_symbolic_link(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("not for us")
    (tmp_path / "config.json").symlink_to(tmp_path / "secret")
    with pytest.raises(files.UnsafePathError):
        files.read_private(tmp_path / "config.json", 100)
    with pytest.raises(files.UnsafePathError):
        files.write_atomic(tmp_path / "config.json", b"ours")
    assert (tmp_path / "secret").read_text() == "not for us"


def test_a_pipe_in_place_of_a_file_is_refused_and_does_not_hang(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "config.json")
    with pytest.raises(files.UnsafePathError, match="not an ordinary file"):
        files.read_private(tmp_path / "config.json", 100)


def test_a_loose_mode_or_another_owner_is_warned_about_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    loose, foreign = tmp_path / "loose", tmp_path / "foreign"
    loose.write_bytes(b"1")
    loose.chmod(0o644)
    foreign.write_bytes(b"2")
    foreign.chmod(0o600)
    os.chown(foreign, 12345, -1)
    with caplog.at_level(logging.WARNING, "rivya"):
        for _ in range(3):
            assert files.read_private(loose, 10) == b"1"
            assert files.read_private(foreign, 10) == b"2"
    assert ["other users (mode 0644)" in text or "another user" in text for text in caplog.messages] == [
        True
    ] * 2


def test_a_file_that_is_too_large_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"x" * 11)
    with pytest.raises(OSError, match="larger than 10 bytes"):
        files.read_private(tmp_path / "f", 10)
    assert files.read_private(tmp_path / "f", 11) == b"x" * 11
    assert files.read_private(tmp_path / "missing", 10) is None


def test_a_write_that_is_killed_half_way_leaves_the_old_file_and_a_leftover_that_is_swept(
    tmp_path: Path,
) -> None:
    files.write_atomic(tmp_path / "config.json", b"old")
    code = """
    real = os.fsync
    def fsync(descriptor):
        say("written")
        wait()
    os.fsync = fsync
    files.write_atomic(folder / "config.json", b"new")
    """
    with Program(code, tmp_path) as writer:
        assert writer.heard() == "written"
        assert files.sweep(tmp_path) == 0, "a living writer's file is not touched"
        writer.kill()
    assert (tmp_path / "config.json").read_bytes() == b"old"
    assert len(list(tmp_path.iterdir())) == 2
    assert files.sweep(tmp_path) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["config.json"]


def test_a_failed_write_leaves_nothing_behind(tmp_path: Path) -> None:
    (tmp_path / "taken").mkdir()
    with pytest.raises(OSError):
        files.write_atomic(tmp_path / "taken" / "missing" / "f", b"x")
    with pytest.raises(files.UnsafePathError):
        files.write_atomic(tmp_path / "taken", b"x")
    assert [path.name for path in tmp_path.rglob("*")] == ["taken"]


MOUNTS = "/dev/vda / ext4 rw 0 0\nC:\\134 /mnt/c 9p rw 0 0\nnas:/x /srv/my\\040files nfs4 rw 0 0\n"


@pytest.mark.parametrize(
    "path, expected",
    [("/home/me", False), ("/mnt/c/Users", True), ("/mnt/cold", False), ("/srv/my files/state", True)],
)
def test_network_file_systems_are_told_by_the_innermost_mount(path: str, expected: bool) -> None:
    assert files.on_network(Path(path), MOUNTS) is expected
