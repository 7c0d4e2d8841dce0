"""The result store: whole or not there, found without the ledger, bounded, and never through a link."""

from __future__ import annotations

import json
import logging
import os
import stat
import time
from contextlib import ExitStack
from pathlib import Path

import pytest

from ledger.processes import Program
from rivya.errors import LedgerError
from rivya.storage.folder import FolderStore
from rivya.storage.results import ResultGone
from support.disk import fill

PNG, JPEG = b"\x89PNG" + b"p" * 3000, b"\xff\xd8" + b"j" * 2000


@pytest.fixture
def store(folder: Path) -> FolderStore:
    return FolderStore(folder)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / "results").iterdir() if path.name != ".lock")


def test_pictures_come_back_as_they_went_in_also_in_another_process(store: FolderStore, folder: Path) -> None:
    put = store.put("s", "f", [(PNG, "png"), (JPEG, "jpg")], {"task_id": "t", "credits": 4})
    got = FolderStore(folder).get("s", "f")
    assert got == put
    assert got is not None
    assert (got.read(), got.about, got.delivered) == ([PNG, JPEG], {"task_id": "t", "credits": 4}, False)
    assert [path.suffix for path in got.paths] == [".png", ".jpg"]


def test_scopes_and_fingerprints_are_kept_apart(store: FolderStore) -> None:
    store.put("s", "f", [(PNG, "png")], {})
    assert store.get("t", "f") is None
    assert store.get("s", "g") is None
    assert store.get("s\nf", "") is None


def test_delivery_is_marked_on_disk(store: FolderStore, folder: Path) -> None:
    store.put("s", "f", [(PNG, "png")], {})
    store.mark_delivered("s", "f")
    got = FolderStore(folder).get("s", "f")
    assert got is not None
    assert got.delivered


def test_a_second_result_takes_the_place_of_the_first(store: FolderStore) -> None:
    store.put("s", "f", [(PNG, "png")], {"n": 1})
    assert store.put("s", "f", [(JPEG, "png")], {"n": 2}).read() == [JPEG]


@pytest.mark.parametrize(
    "fingerprint", ["../../escape", "/etc/passwd", "task:abc", "x" * 5000, "\x00", "a\nb"]
)
def test_no_fingerprint_and_no_extension_leads_out_of_the_folder(
    store: FolderStore, folder: Path, fingerprint: str
) -> None:
    stored = store.put("s", fingerprint, [(PNG, "../../png")], {})
    assert stored.read() == [PNG]
    assert all(path.parent == folder / "results" for path in stored.paths)
    assert len(names(folder)) == 2


def damage_first(folder: Path, kind: str) -> None:
    (path,) = (folder / "results").glob("*.0.png")
    if kind == "missing":
        path.unlink()
    elif kind == "changed":
        path.write_bytes(PNG[:-1] + b"!")
    elif kind == "cut off":
        path.write_bytes(PNG[:-1])
    elif kind == "longer":
        path.write_bytes(PNG + b"!")
    elif kind == "a link":
        path.rename(folder / "victim")
        path.symlink_to(folder / "victim")


@pytest.mark.parametrize("kind", ["missing", "changed", "cut off", "longer", "a link"])
def test_a_damaged_picture_is_gone_and_never_delivered(store: FolderStore, folder: Path, kind: str) -> None:
    before = store.put("s", "f", [(PNG, "png")], {})
    damage_first(folder, kind)
    with pytest.raises(ResultGone):
        before.read()
    found = store.get("s", "f")
    if found is not None:
        with pytest.raises(ResultGone):
            found.read()
    if kind != "a link":
        assert store.put("s", "f", [(PNG, "png")], {}).read() == [PNG]


@pytest.mark.parametrize(
    "manifest",
    [
        "",
        "{",
        "[]",
        "null",
        '{"version": 1}',
        '{"pictures": [], "about": {}}',
        '{"about": {}, "pictures": [{"name": "../secret", "size": 6, "sha256": "x"}]}',
        '{"about": 3, "pictures": 7}',
    ],
)
def test_a_damaged_manifest_is_no_result(store: FolderStore, folder: Path, manifest: str) -> None:
    store.put("s", "f", [(PNG, "png")], {})
    (folder / "secret").write_text("secret")
    (path,) = (folder / "results").glob("*.json")
    path.write_text(manifest)
    assert store.get("s", "f") is None


KILLED = """
count = 0
real = os.replace
def replace(source, target):
    global count
    count += 1
    if count == int(sys.argv[2]):
        say("now")
        wait()
    real(source, target)
os.replace = replace
FolderStore(folder).put("s", "f", [(b"1" * 100, "png"), (b"2" * 100, "png")], {})
"""


@pytest.mark.parametrize("moment", [1, 2, 3])
def test_a_writer_killed_at_any_moment_leaves_no_result_and_nothing_for_good(
    store: FolderStore, folder: Path, moment: int
) -> None:
    with Program(KILLED, folder, str(moment)) as writer:
        assert writer.heard() == "now"
        assert store.evict() == 0
        left = names(folder)
        assert len(left) == moment, "a living writer's files are not touched"
        writer.kill()
    assert store.get("s", "f") is None
    fresh = FolderStore(folder)
    fresh.evict()
    assert names(folder) == []


def test_above_the_cap_the_least_recently_delivered_go_and_the_undelivered_stay(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = FolderStore(folder, cap_bytes=12_000)
    for number in range(3):
        store.put("s", str(number), [(PNG, "png")], {})
    for age, number in enumerate((1, 0, 2)):
        store.mark_delivered("s", str(number))
        (marker,) = {path for path in (folder / "results").glob("*.delivered") if path.stat().st_mtime > 1e9}
        os.utime(marker, (1000 + age, 1000 + age))
    store.put("s", "3", [(PNG, "png")], {})
    assert [number for number in range(4) if store.get("s", str(number))] == [0, 2, 3]
    store.mark_delivered("s", "0")  # delivered again: now the most recent
    store.put("s", "4", [(PNG, "png")], {})
    assert [number for number in range(5) if store.get("s", str(number))] == [0, 3, 4]
    with caplog.at_level(logging.WARNING, "rivya"):
        store.put("s", "5", [(PNG, "png")], {})
        store.put("s", "6", [(PNG, "png")], {})
        store.put("s", "7", [(PNG, "png")], {})
    assert [number for number in range(8) if store.get("s", str(number))] == [3, 4, 5, 6, 7]
    assert len(caplog.messages) == 1
    leftover = {name.split(".")[0] for name in names(folder)}
    assert len(leftover) == 5, "nothing remains of what was evicted"


@pytest.mark.heavy
def test_many_processes_write_and_evict_at_once_and_nothing_undelivered_is_lost(folder: Path) -> None:
    code = """
    store = FolderStore(folder, 30_000)
    me = sys.argv[2]
    say("ready")
    wait()
    for number in range(40):
        store.put("s", f"{me}-{number}", [(os.urandom(2000), "png")], {})
        if number % 2:
            store.mark_delivered("s", f"{me}-{number}")
    """
    with ExitStack() as stack:
        writers = [stack.enter_context(Program(code, folder, str(number))) for number in range(4)]
        for writer in writers:
            writer.heard()
        for writer in writers:
            writer.go()
        for writer in writers:
            writer.end()
    store = FolderStore(folder, 30_000)
    kept = [store.get("s", f"{me}-{number}") for me in range(4) for number in range(0, 40, 2)]
    assert all(result is not None and len(result.read()[0]) == 2000 for result in kept)
    store.evict()
    assert not list((folder / "results").glob("*.delivered")), "everything delivered had to make room"


def test_a_full_disk_stores_nothing_and_says_so(small_disk: Path) -> None:
    store = FolderStore(small_disk / "state")
    store.put("s", "small", [(PNG, "png")], {})
    filler = fill(small_disk)
    with pytest.raises(LedgerError, match="No space left") as caught:
        store.put("s", "f", [(PNG, "png")], {})
    assert caught.value.charged is None, "the store does not know what its pictures cost"
    assert store.get("s", "f") is None
    assert not [path for path in (small_disk / "state" / "results").iterdir() if path.suffix == ".tmp"]
    filler.unlink()
    assert store.put("s", "f", [(PNG, "png")], {}).read() == [PNG]


def test_files_are_for_the_owner_alone(store: FolderStore, folder: Path) -> None:
    before = os.umask(0)
    try:
        store.put("s", "f", [(PNG, "png")], {})
        store.mark_delivered("s", "f")
    finally:
        os.umask(before)
    assert {stat.S_IMODE(path.lstat().st_mode) for path in (folder / "results").iterdir()} == {0o600}
    assert stat.S_IMODE((folder / "results").lstat().st_mode) == 0o700


def test_a_link_in_place_of_folder_picture_or_marker_is_refused(store: FolderStore, folder: Path) -> None:
    stored = store.put("s", "f", [(PNG, "png")], {})
    victim = folder / "victim"
    victim.write_bytes(b"mine")
    (marker,) = (path.with_name(f"{path.name.split('.')[0]}.delivered") for path in stored.paths)
    marker.symlink_to(victim)
    with pytest.raises(LedgerError, match="symbolic link"):
        store.mark_delivered("s", "f")
    stored.paths[0].unlink()
    stored.paths[0].symlink_to(victim)
    with pytest.raises(LedgerError, match="symbolic link"):
        store.put("s", "f", [(PNG, "png")], {})
    assert victim.read_bytes() == b"mine"
    other = folder.parent / "other"
    other.mkdir()
    (other / "results").symlink_to(folder)
    with pytest.raises(LedgerError, match="symbolic link"):
        FolderStore(other).put("s", "f", [(PNG, "png")], {})


@pytest.mark.heavy
def test_reading_a_result_costs_the_same_among_thousands(folder: Path) -> None:
    store = FolderStore(folder)
    stored = store.put("s", "f", [(PNG, "png")], {})
    (manifest,) = (folder / "results").glob("*.json")
    text = json.loads(manifest.read_text())
    for number in range(2_000):
        name = f"{number:040x}"
        (folder / "results" / f"{name}.json").write_text(json.dumps(text))
    begun = time.perf_counter()
    for _ in range(20):
        assert store.get("s", "f") == stored
    assert (time.perf_counter() - begun) / 20 < 0.05
