"""Where pictures are saved: settled before anything is sent, and nothing counts as delivered before it is there."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from library.client import Client, Run, in_thread, png
from rivya import client as program
from rivya.edited import Edited
from rivya.errors import Charged, RivyaError, SavingError
from support.cases import slow_after
from support.disk import fill, mounted

pytestmark = pytest.mark.heavy


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """Mounts disks with these options."""
    with ExitStack() as disks:
        yield lambda options: disks.enter_context(mounted(tmp_path / options, options))


@pytest.fixture
def photos(work: Path) -> Path:
    folder = work / "photos"
    folder.mkdir()
    for number, name in enumerate(("harbour", "lake", "tower")):
        (folder / f"{name}.png").write_bytes(png(number))
    return folder


def charges(service: Any) -> int:
    return len(service.charges()) - 6  # those that the fixture made


def test_folders_are_made_however_deep(shell: Run, work: Path, photos: Path) -> None:
    done = shell("edit", "photos/lake.png", "make it night", "-o", "of/this/week/lake.png")
    assert done.returncode == 0, done.stderr
    assert (work / "of/this/week/lake.png").read_bytes().startswith(b"\x89PNG")
    assert shell("edit", "photos/lake.png", "make it day", "-o", "new/").returncode == 0
    assert [path.name for path in (work / "new").iterdir()] == ["lake-0-0.jpg"]
    assert shell("collect").stdout.startswith("Nothing to collect")


@pytest.mark.parametrize(
    ("arguments", "words"),
    slow_after(
        6,
        [
            (["photos/lake.png", "x", "-o", "taken/lake.jpg"], "taken is a file"),
            (["--text", "x", "-o", "readonly/lake.jpg"], "Read-only"),
            (["--batch", "photos", "x", "-o", "full"], "full"),
            (["photos/lake.png", "x", "--output-format", "png", "-o", "photos/lake.png"], "replaced"),
            (["--text", "x", "-o", "pipe.jpg"], "no ordinary file"),
            (["--text", "x", "-o", "n" * 253], "too long"),
            (["photos/lake.png", "x", "-o", "taken/more/lake.jpg"], "taken is a file"),
            (["--batch", "photos", "x", "-o", "taken"], "taken is a file"),
            (["--text", "x", "-o", "/proc/lake.jpg"], "/proc"),
            (["--batch", "photos", "x", "-o", "readonly/new"], "Read-only"),
            (["--text", "x", "-o", "full/lake.jpg"], "full"),
            (["--batch", "photos", "x", "--variations", "5", "-o", "small"], "needed"),
            (["--text", "x", "-o", f"{'n' * 260}.jpg"], "too long"),
            (["photos/lake.png", "x", "--keep-size", "-o", "photos/../photos/lake.png"], "replaced"),
            (["photos/lake.png", "x", "--mask", "photos/tower.png", "-o", "photos/tower.png"], "replaced"),
            (["photos/lake.png", "x", "--variations", "2", "-o", "lake.jpg"], "several"),
        ],
    ),
)
def test_a_target_that_cannot_be_written_is_refused_before_the_first_byte(
    shell: Run,
    service: Any,
    work: Path,
    photos: Path,
    disk: Callable[[str], Path],
    arguments: list[str],
    words: str,
) -> None:
    (work / "taken").write_bytes(b"a file")
    os.mkfifo(work / "pipe.jpg")
    if {"readonly", "full", "small"} & {part for word in arguments for part in word.split("/")}:
        full = disk("size=64k")
        fill(full)
        for name, place in (("readonly", disk("ro")), ("full", full), ("small", disk("size=2m"))):
            (work / name).symlink_to(place)
    before = len(service.requests()), sorted(work.rglob("*"))
    done = shell("edit", *arguments)
    assert done.returncode == 1
    assert words in done.stderr
    assert "No credits were charged." in done.stderr
    assert (len(service.requests()), sorted(work.rglob("*"))) == before


def test_what_cannot_be_saved_after_all_says_what_it_cost_where_it_is_and_how_to_get_it(
    shell: Run, client: Client, service: Any, work: Path, photos: Path, disk: Callable[[str], Path]
) -> None:
    (work / "out").symlink_to(disk("size=4m"))
    before = len(service.requests("create"))

    def fill_the_disk() -> None:
        service.wait("create", count=before + 3)
        fill(work / "out")

    service.fault("create", "latency", seconds=2, times=None)
    filling = in_thread(fill_the_disk)
    done = shell("edit", "--batch", "photos", "make it night", "-o", "out")
    filling.join()
    service.clear_faults()
    assert done.returncode == 1
    assert charges(service) == 3
    new = service.tasks()[6:]
    for task in new:
        assert f" collect {task['id']} -o FOLDER" in done.stderr
    assert done.stderr.count("No space left on device. Credits were charged. The picture (4 credits)") == 3
    kept = [Path(found) for found in re.findall(r" is kept in (.*?)\. Save", done.stderr)]
    assert {path.read_bytes() for path in kept} == {service.picture(task["id"]) for task in new}
    assert [row.delivered_at for row in client.rows()[6:]] == [None] * 3
    (work / "out" / "filler").unlink()
    (told,) = set(re.findall(rf"or run (.*) collect {new[0]['id']} -o FOLDER", done.stderr))
    listed = subprocess.run([*shlex.split(told), "orders"], capture_output=True, text=True, check=True)
    assert new[0]["id"] in listed.stdout
    assert [path.name for path in (work / "out").iterdir()] == ["results.jsonl"]
    again = shell("edit", "photos/lake.png", "make it night", "-o", "out/")
    assert "(stored, 0 credits" in again.stdout
    collected = shell("collect", "-o", "rest")
    assert collected.returncode == 0, collected.stderr
    assert len(list((work / "rest").iterdir())) == 2
    assert charges(service) == 3


@pytest.fixture
def library(client: Client, monkeypatch: pytest.MonkeyPatch) -> Client:
    from rivya.engine import engine

    monkeypatch.setattr(engine, "_shared", client.engine)
    monkeypatch.setattr(engine, "_shared_by", os.getpid())
    return client


def test_one_that_cannot_be_saved_keeps_none_of_the_others_from_the_disk(
    library: Client, service: Any, tmp_path: Path
) -> None:
    (tmp_path / "taken").write_bytes(b"a file")
    targets = [tmp_path / "one.jpg", tmp_path / "taken" / "two.jpg", tmp_path / "three.jpg"]
    results = program.edit_all(
        "make it night",
        [png(1), png(2), png(3)],
        config=library.config,
        save=lambda number, edited: edited.save(targets[number]),
    )
    first, failed, third = results
    assert isinstance(first, Edited)
    assert isinstance(third, Edited)
    assert isinstance(failed, SavingError)
    assert failed.charged is Charged.YES
    assert [targets[0].read_bytes(), targets[2].read_bytes()] == [first.data, third.data]
    (left,) = program.collect(config=library.config)
    assert isinstance(left, Edited)
    assert left.task_id == failed.task_id


def test_a_picture_wanted_twice_is_delivered_only_when_it_is_at_both_places(
    library: Client, service: Any, tmp_path: Path
) -> None:
    (tmp_path / "taken").write_bytes(b"a file")
    targets = [tmp_path / "one.jpg", tmp_path / "taken" / "two.jpg"]
    program.edit_all(
        "make it night",
        [png(1), png(1)],
        config=library.config,
        save=lambda number, edited: edited.save(targets[number]),
    )
    assert targets[0].exists()
    assert [row.delivered_at for row in library.rows()] == [None]


def test_a_program_that_names_its_file_is_told_before_anything_is_sent(
    library: Client, service: Any, tmp_path: Path
) -> None:
    (tmp_path / "taken").write_bytes(b"a file")
    with pytest.raises(SavingError, match="taken is a file") as caught:
        program.edit("a quiet harbour", save_to=tmp_path / "taken" / "a.jpg", config=library.config)
    assert caught.value.charged is Charged.NO
    assert service.requests() == []
    made = program.edit("a quiet harbour", save_to=tmp_path / "new" / "a.jpg", config=library.config)
    assert (tmp_path / "new" / "a.jpg").read_bytes() == made.data


def test_a_file_is_replaced_whole_or_left_as_it_was(tmp_path: Path, disk: Callable[[str], Path]) -> None:
    small = disk("size=64k")
    (small / "night.jpg").write_bytes(b"the picture before")
    (small / "night.jpg").chmod(0o640)
    edited = Edited(bytes(100_000), "jpg", "task_1", 4, "new", {})
    with pytest.raises(RivyaError):
        edited.save(small / "night.jpg")
    assert {path.name: path.read_bytes() for path in small.iterdir()} == {"night.jpg": b"the picture before"}
    Edited(b"the new picture", "jpg", "task_1", 4, "new", {}).save(small / "night.jpg")
    assert (small / "night.jpg").read_bytes() == b"the new picture"
    assert (small / "night.jpg").stat().st_mode & 0o777 == 0o640


def test_collect_takes_a_file_for_one_task_and_is_refused_where_nothing_can_be_saved(
    shell: Run, client: Client, service: Any, work: Path
) -> None:
    client.run(*[client.order("not yet seen", seed=seed) for seed in range(2)])
    first, second = (task["id"] for task in service.tasks()[6:])
    (work / "taken").write_bytes(b"a file")
    refused = shell("collect", "-o", "taken/deep")
    assert refused.returncode == 1
    assert "taken is a file" in refused.stderr
    assert "several" in shell("collect", "-o", "night.jpg").stderr
    one = shell("collect", first, "-o", "one/night.jpg")
    assert one.returncode == 0, one.stderr
    assert (work / "one" / "night.jpg").read_bytes() == service.picture(first)
    assert second in shell("collect").stdout


@pytest.mark.parametrize(
    ("given", "kept"),
    slow_after(
        2,
        [
            ("n.JPG", "n.JPG"),
            ("n.webp", "n.jpg"),
            ("n.jfif", "n.jfif"),
            ("n.PNG", "n.jpg"),
            ("n", "n.jpg"),
            ("v1.2", "v1.2.jpg"),
            ("dir.v2/n", "dir.v2/n.jpg"),
        ],
    ),
)
def test_collected_pictures_have_the_ending_of_what_they_are_and_a_change_is_said(
    shell: Run, client: Client, service: Any, work: Path, given: str, kept: str
) -> None:
    client.run(client.order("not yet seen"))
    task = service.tasks()[-1]["id"]
    done = shell("collect", task, "-o", given)
    assert done.returncode == 0, done.stderr
    assert (work / kept).read_bytes() == service.picture(task)
    assert ("so it is not named" in done.stdout) is (given in ("n.webp", "n.PNG"))


@pytest.mark.parametrize("ending", ["webp", "gif", "png", "tiff", "heic"])
def test_an_ending_that_tells_of_another_format_is_refused_before_anything_is_sent(
    shell: Run, library: Client, service: Any, photos: Path, ending: str
) -> None:
    before = len(service.requests())
    target = f"new/night.{ending}"
    for arguments in (["photos/lake.png", "x"], ["--text", "x"]):
        done = shell("edit", *arguments, "--output-format", "jpeg", "-o", target)
        assert done.returncode == 1
        assert f"{target.split('/')[1]}: the picture will be JPEG" in done.stderr
    with pytest.raises(SavingError):
        program.edit("x", photos / "lake.png", save_to=photos / target, config=library.config)
    assert len(service.requests()) == before
    assert not (photos / "new").exists()


@pytest.mark.parametrize(
    "arguments", [["--batch", "", "x"], ["--text", "x", "-o", ""], ["lake.png", "x", "--mask", " "]]
)
def test_a_variable_that_was_not_set_never_means_the_current_folder(
    shell: Run, service: Any, photos: Path, arguments: list[str]
) -> None:
    before = len(service.requests())
    done = shell("edit", *arguments)
    assert done.returncode == 2
    assert "the path is empty" in done.stderr
    assert len(service.requests()) == before


def test_what_a_killed_program_left_is_removed_after_a_day(shell: Run, work: Path) -> None:
    old, new, other = (work / name for name in (".rivya-0123456789ab.tmp", ".rivya-ba9876543210.tmp", ".tmp"))
    for path in (old, new, other):
        path.write_bytes(b"half a picture")
    for path in (old, other):
        os.utime(path, (1e9, 1e9))
    assert shell("edit", "--text", "x").returncode == 0
    assert {path.name for path in work.iterdir()} == {new.name, other.name, "picture-0-0.jpg"}
