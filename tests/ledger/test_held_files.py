"""Files that a scanner or an indexer holds for a moment, as Windows lets them: tried again, for two seconds.

Nothing refuses a held file on other systems, so the refusal is made here; the files and the waits are real.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rivya import files
from rivya.storage.folder import FolderStore

pytestmark = pytest.mark.heavy

SHARING_VIOLATION = 32


def held(real: Callable[..., Any], seconds: float) -> Callable[..., Any]:
    """``real`` as it is while another program holds the file for so long from the first call on."""
    until: list[float] = []

    def call(*arguments: Any, **options: Any) -> Any:
        until[:] = until or [time.monotonic() + seconds]
        if time.monotonic() < until[0]:
            error = PermissionError(13, "The process cannot access the file", str(arguments[0]))
            error.winerror = SHARING_VIOLATION  # type: ignore[attr-defined]  # Python has it on Windows alone
            raise error
        return real(*arguments, **options)

    return call


def test_a_file_that_is_held_for_a_moment_is_written_read_and_removed_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("replace", "open", "unlink"):
        with monkeypatch.context() as changed:
            changed.setattr(os, name, held(getattr(os, name), 0.5))
            files.write_atomic(tmp_path / "config.json", name.encode())
            assert files.read_private(tmp_path / "config.json", 100) == name.encode()
            files.remove(tmp_path / "config.json")
        assert not list(tmp_path.iterdir())


def test_a_file_that_stays_held_is_given_up_after_two_seconds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files.write_atomic(tmp_path / "config.json", b"old")
    monkeypatch.setattr(os, "replace", held(os.replace, 60))
    began = time.monotonic()
    with pytest.raises(PermissionError):
        files.write_atomic(tmp_path / "config.json", b"new")
    assert time.monotonic() - began > 1.8
    assert (tmp_path / "config.json").read_bytes() == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["config.json"]


def test_what_is_refused_for_good_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []

    def refused(*paths: str) -> None:
        calls.append(paths[0])
        raise PermissionError(13, "Permission denied", paths[0])

    monkeypatch.setattr(files, "refuses", lambda path: True)
    monkeypatch.setattr(os, "replace", refused)
    with pytest.raises(PermissionError):
        files.write_atomic(tmp_path / "config.json", b"new")
    assert len(calls) == 1


def test_a_picture_that_is_held_while_room_is_made_does_not_fail_the_new_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = FolderStore(tmp_path, cap_bytes=1500)
    store.put("s", "old", [(b"x" * 1000, "png")], {})
    store.mark_delivered("s", "old")
    with monkeypatch.context() as changed:
        changed.setattr(os, "unlink", held(os.unlink, 60))
        assert store.put("s", "new", [(b"y" * 1000, "png")], {}).read() == [b"y" * 1000]
    store.evict()
    assert store.get("s", "old") is None
    assert store.get("s", "new") is not None
