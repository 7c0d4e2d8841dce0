"""``edit --batch``: folders and tables of any size, limits, and what is on the disk when it is stopped."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from library.client import PATIENCE_S, Client, Run, environment, png
from support.cases import slow_after

pytestmark = pytest.mark.heavy

PROMPT = "make it night"


@pytest.fixture
def photos(work: Path) -> Callable[[int], Path]:
    """Makes a folder of so many pictures."""

    def make(count: int) -> Path:
        folder = work / "photos"
        folder.mkdir(exist_ok=True)
        for number in range(count):
            (folder / f"p{number:03}.png").write_bytes(png(number))
        return folder

    return make


def records(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "results.jsonl").read_text("utf-8").splitlines()]


def pictures(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.jpg"))


def test_each_picture_is_saved_and_told_and_again_for_nothing(
    shell: Run, service: Any, work: Path, photos: Callable[[int], Path]
) -> None:
    photos(5)
    bought = len(service.charges())
    done = shell("edit", "--batch", "photos", PROMPT, "-o", "out", "--seed", "3")
    assert done.returncode == 0, done.stderr
    told = records(work / "out")
    assert sorted(each["source"] for each in told) == [f"photos/p{number:03}.png" for number in range(5)]
    for each in told:
        assert (work / "out" / each["file"]).read_bytes() == service.picture(each["task_id"])
        assert (each["status"], each["credits"], each["error"]) == ("new", 4, None)
        assert Path(each["file"]).stem == f"{Path(each['source']).stem}-3-0"
    requests = len(service.requests())
    again = shell("edit", "--batch", "photos", PROMPT, "-o", "out", "--seed", "3", "--json")
    assert again.returncode == 0
    lines = [json.loads(line) for line in again.stdout.splitlines()]
    assert [each["status"] for each in lines[:-1]] == ["stored"] * 5
    assert lines[-1] == {"pictures": 5, "stored": 5, "credits": 0}
    assert records(work / "out")[5:] == lines[:-1]
    assert len(pictures(work / "out")) == 5
    assert (len(service.requests()), len(service.charges())) == (requests, bought + 5)


def test_a_table_is_edited_row_by_row_and_a_bad_row_stops_no_other(
    shell: Run, service: Any, work: Path, photos: Callable[[int], Path]
) -> None:
    photos(3)
    (work / "photos" / "words.png").write_text("this is no picture")
    (work / "rows.csv").write_text(
        "image,text,seed,model,label\n"
        "photos/p000.png,a hat,1,,x\n"
        "photos/p000.png,a scarf,1,,two with one name\n"
        "photos/p001.png,,2,flux-kontext-max,\n"
        "photos/gone.png,a hat,3,,\n"
        "photos/words.png,a hat,3,,\n"
        "photos/p002.png,a hat,7.5,,\n"
        ",a hat,3,,\n"
        "photos/p002.png,a hat,3,no-such-model,\n"
    )
    done = shell("edit", "--batch", "rows.csv", PROMPT, "--prompt-column", "text", "-o", "out")
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "not used: label" in done.stderr
    told = {each["row"]: each for each in records(work / "out")}
    assert [told[row]["status"] for row in range(8)] == ["new"] * 3 + ["failed"] * 5
    assert [told[row]["credits"] for row in range(8)] == [4, 4, 8, 0, 0, 0, 0, 0]
    assert {told[row]["error"]["charged"] for row in range(3, 8)} == {"no"}
    assert {told[0]["file"], told[1]["file"]} == {"p000-1-0.jpg", "p000-1-0_2.jpg"}
    assert told[2]["file"] == "p001-2-0.jpg"
    assert {task["prompt"] for task in service.tasks()[-3:]} == {"a hat", "a scarf", PROMPT}


def test_above_64_new_pictures_a_limit_is_asked_for_and_then_kept(
    shell: Run, service: Any, work: Path, photos: Callable[[int], Path]
) -> None:
    photos(70)
    requests, bought = len(service.requests()), len(service.charges())
    done = shell("edit", "--batch", "photos", PROMPT, "-o", "out")
    assert done.returncode == 1
    assert "--max-credits 280" in done.stderr
    assert "No credits were charged" in done.stderr
    assert (len(service.requests()), (work / "out").exists()) == (requests, False)
    done = shell("edit", "--batch", "photos", PROMPT, "-o", "out", "--max-credits", "40")
    assert done.returncode == 1
    assert (len(service.charges()) - bought, len(pictures(work / "out"))) == (10, 10)
    assert [each["status"] for each in records(work / "out")].count("failed") == 60
    counted = shell("edit", "--batch", "photos", PROMPT, "--dry-run", "--json")
    assert counted.returncode == 0
    assert json.loads(counted.stdout) == {
        "pictures": 70, "new": 60, "credits": 240, "bought": 10, "failed": 0,
    }  # fmt: skip
    # Sixty new ones need no limit any more.
    assert shell("edit", "--batch", "photos", PROMPT, "-o", "out").returncode == 0
    assert (len(service.charges()) - bought, len(pictures(work / "out"))) == (70, 70)


def test_pictures_are_on_the_disk_while_others_are_still_ordered(
    client: Client, service: Any, work: Path, photos: Callable[[int], Path]
) -> None:
    photos(60)
    bought = len(service.charges())
    env = {**environment(client), "RIVYA_MAX_CONCURRENCY": "2", "PYTHONUNBUFFERED": "1"}
    words = ["edit", "--batch", "photos", PROMPT, "-o", "out"]
    with subprocess.Popen(
        [sys.executable, "-m", "rivya", *words], env=env, cwd=work, stdout=subprocess.PIPE, text=True
    ) as running:
        assert running.stdout is not None
        first = running.stdout.readline().split("  ")[0]
        ordered = len(service.charges()) - bought
        assert (work / first).exists()
        assert len(records(work / "out")) >= 1
        assert ordered < 60
        running.send_signal(signal.SIGINT)
        assert running.wait(PATIENCE_S) == 130
    there = len(pictures(work / "out"))
    assert 1 <= there < 60
    assert len(records(work / "out")) in (there, there - 1)


@pytest.mark.slow
@pytest.mark.parametrize("moment", [0.3, None])
def test_killed_at_any_moment_the_same_command_goes_on(
    client: Client, service: Any, work: Path, photos: Callable[[int], Path], moment: float | None
) -> None:
    photos(40)
    bought = len(service.charges())
    env = {**environment(client), "RIVYA_MAX_CONCURRENCY": "4"}
    command = [sys.executable, "-m", "rivya", "edit", "--batch", "photos", PROMPT, "-o", "out"]
    service.fault("create", "latency", seconds=0.2, times=None)
    for share in [moment] if moment is not None else [random.random() for _ in range(10)]:
        log = work / "log"
        with log.open("w") as told:
            running = subprocess.Popen(command, env=env, cwd=work, stdout=told, stderr=told)
            end = time.monotonic() + 60
            while len(service.charges()) - bought < 40 * share and running.poll() is None:
                assert time.monotonic() < end, log.read_text()
                time.sleep(0.01)
            os.kill(running.pid, signal.SIGKILL)
            running.wait(PATIENCE_S)
    service.clear_faults()
    done = subprocess.run(command, env=env, cwd=work, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    assert len(service.charges()) - bought == 40
    saved = pictures(work / "out")
    assert [path.name for path in saved] == [f"p{number:03}-0-0.jpg" for number in range(40)]
    tasks = service.tasks()[-40:]
    assert {path.read_bytes() for path in saved} == {service.picture(task["id"]) for task in tasks}


def test_half_a_line_that_a_kill_left_does_not_spoil_the_next(
    shell: Run, service: Any, work: Path, photos: Callable[[int], Path]
) -> None:
    photos(1)
    (work / "out").mkdir()
    (work / "out" / "results.jsonl").write_text('{"row": 0, "sour')
    assert shell("edit", "--batch", "photos", PROMPT, "-o", "out").returncode == 0
    _, line = (work / "out" / "results.jsonl").read_text().splitlines()
    assert json.loads(line)["status"] == "new"


@pytest.mark.parametrize(
    ("arguments", "said"),
    slow_after(
        4,
        [
            (["--batch", "nowhere", PROMPT], "neither a folder nor a table"),
            (["--batch", "photos", PROMPT, "-o", "taken"], "results.jsonl"),
            (["--batch", "rows.csv", PROMPT, "--image-column", "photo"], "no column photo"),
            (["photos/p000.png", PROMPT, "--dry-run"], "goes with --batch"),
            (["--batch", "photos/p000.png", PROMPT], "without --batch"),
            (["--batch", "photos", PROMPT, "--mask", "m.png"], "one picture"),
            (["--batch", "photos", PROMPT, "--prompt-column", "x"], "for a table"),
            (["--batch", "photos", PROMPT, "-o", "out/night.jpg"], "several pictures"),
            (["--batch", "photos", PROMPT, "-o", "photos/p000.png/out"], "is a file"),
            (["--batch", "photos", PROMPT, "--max-credits", "x"], "max-credits"),
            (["--batch", "photos", PROMPT, "--max-credits", "-4"], "max_credits"),
            (["--batch", "photos"], "blank"),
            (["--batch", "rows.csv"], "blank"),
        ],
    ),
)
def test_what_cannot_be_done_is_said_before_anything_is_sent(
    shell: Run, service: Any, work: Path, photos: Callable[[int], Path], arguments: list[str], said: str
) -> None:
    photos(1)
    (work / "taken" / "results.jsonl").mkdir(parents=True)
    (work / "rows.csv").write_text("image\nphotos/p000.png\n")
    requests = len(service.requests())
    done = shell("edit", *arguments)
    assert done.returncode != 0
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert len(service.requests()) == requests
    assert not (work / "out").exists()
