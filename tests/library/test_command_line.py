"""The command line: a few cases in a process of its own, the others by a call of its main function."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from library.client import Client, Run, environment, png
from support.cases import slow_after

pytestmark = pytest.mark.heavy


def test_a_picture_is_edited_and_its_cost_told(process: Run, service: Any, tmp_path: Path) -> None:
    folder = tmp_path / "work"
    (folder / "photo.png").write_bytes(png(1))
    done = process("edit", "photo.png", "make it night", "--seed", "7")
    assert done.returncode == 0, done.stderr
    task = service.tasks()[-1]
    assert f"photo-7-0.jpg  (new, 4 credits, task {task['id']})" in done.stdout
    assert (folder / "photo-7-0.jpg").read_bytes() == service.picture(task["id"])
    again = process("edit", "photo.png", "make it night", "--seed", "7", "-o", "night.jpg")
    assert "night.jpg  (stored, 0 credits" in again.stdout
    assert (folder / "night.jpg").read_bytes() == (folder / "photo-7-0.jpg").read_bytes()


def test_a_folder_of_pictures_is_edited_each_under_a_name_of_its_own(
    shell: Run, service: Any, tmp_path: Path
) -> None:
    photos = tmp_path / "work" / "photos"
    photos.mkdir()
    for number, name in enumerate(["a.png", "b.PNG", "a.webp.png", "notes.txt"]):
        (photos / name).write_bytes(png(number) if name != "notes.txt" else b"no picture")
    (photos / "a.jpeg").write_bytes(png(9))  # another picture that only differs in its ending
    (photos / "broken.png").write_bytes(b"this is no picture")
    done = shell("edit", "--batch", "photos", "make it night", "--variations", "2", "-o", "out")
    assert done.returncode == 1
    assert "broken" in done.stderr
    assert "Traceback" not in done.stderr
    saved = [path for path in (tmp_path / "work" / "out").iterdir() if path.name != "results.jsonl"]
    assert len(saved) == 8
    assert len(service.tasks()) == 6 + 8
    assert {path.read_bytes() for path in saved} == {
        service.picture(task["id"]) for task in service.tasks()[6:]
    }


def test_a_picture_is_made_from_a_prompt(shell: Run, service: Any, tmp_path: Path) -> None:
    done = shell("edit", "--text", "a quiet harbour", "--aspect-ratio", "1:1", "--output-format", "png")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "work" / "picture-0-0.png").exists()
    assert service.tasks()[-1]["params"]["aspectRatio"] == "1:1"


def test_the_largest_seed_of_comfyui_is_a_seed_here_too(shell: Run, service: Any, tmp_path: Path) -> None:
    done = shell("edit", "--text", "a quiet harbour", "--seed", str(2**64 - 1), "--variations", "2.0")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "work" / "picture-18446744073709551615-1.jpg").exists()


@pytest.mark.parametrize("seed", slow_after(2, ["7.5", str(2**64), "nan", "-1", "seven", "1e99", ""]))
def test_a_seed_that_is_none_is_refused_by_name(shell: Run, service: Any, seed: str) -> None:
    requests = len(service.requests())
    done = shell("edit", "--text", "a quiet harbour", f"--seed={seed}")
    assert done.returncode != 0
    assert re.search(
        r"argument --seed: invalid number|^seed is .*; it must be a whole number from", done.stderr, re.M
    )
    assert len(service.requests()) == requests


def test_options_may_stand_between_picture_and_prompt(shell: Run, tmp_path: Path) -> None:
    (tmp_path / "work" / "photo.png").write_bytes(png(1))
    done = shell("edit", "photo.png", "--seed", "5", "make it night")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "work" / "photo-5-0.jpg").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["edit", "nowhere.png", "make it night"], "nowhere.png"),
        (["edit", "make it night"], "--batch"),
        (["edit", "--batch", "nowhere", "make it night"], "nowhere"),
        (["edit", "--text", "  "], "blank"),
        (["edit", "--text", "x", "--variations", "99"], "variations"),
        (["collect", "not/a/task"], "task id"),
        (["forget", "12345678"], "0 orders match"),
    ],
)
def test_what_cannot_be_done_is_one_readable_text(
    shell: Run, service: Any, arguments: list[str], words: str
) -> None:
    before = len(service.requests())
    done = shell(*arguments)
    assert done.returncode == 1
    assert words in done.stderr
    assert "Traceback" not in done.stderr
    assert len(service.requests()) == before


def test_without_a_key_the_error_says_where_to_put_one(process: Run) -> None:
    done = process("credits", RIVYA_API_KEY="")
    assert done.returncode == 1
    assert "RIVYA_API_KEY" in done.stderr
    assert "config.json" in done.stderr


def test_credits_are_told_and_a_refused_key_is_not_shown(shell: Run, service: Any) -> None:
    service.set_credits(77)
    assert shell("credits").stdout == "77 credits\n"
    refused = shell("credits", RIVYA_API_KEY="rvya_sk_stranger")
    assert refused.returncode == 1
    assert "api_key_invalid" in refused.stderr
    assert "stranger" not in refused.stderr


def test_orders_are_listed_collected_and_forgotten(
    shell: Run, client: Client, service: Any, tmp_path: Path
) -> None:
    service.fault("create", "latency", seconds=60)
    (ticket,) = client.tickets(client.order("left alone"))
    service.wait("status", count=7)
    ticket.leave()
    client.state.holder.close()  # as if that program had ended
    service.finish_tasks()
    listed = shell("orders", "--limit", "2").stdout.splitlines()
    task = service.tasks()[-1]["id"]
    assert len(listed) == 2
    assert task in listed[0]
    assert "submitted" in listed[0]
    assert "delivered" in listed[1]
    assert "left alone" not in listed[0]
    collected = shell("collect", "-o", "out")
    assert collected.returncode == 0, collected.stderr
    assert (tmp_path / "work" / "out" / f"{task}.jpg").read_bytes() == service.picture(task)
    assert "0 credits" in collected.stdout
    assert "Nothing to collect" in shell("collect").stdout
    assert "finished" in shell("forget", task).stdout
    assert len(service.charges()) == 7


def test_the_ending_of_the_output_file_decides_the_format(shell: Run, tmp_path: Path) -> None:
    assert shell("edit", "--text", "a boat", "-o", "boat.png").returncode == 0
    assert (tmp_path / "work" / "boat.png").read_bytes().startswith(b"\x89PNG")


def test_an_empty_ledger_lists_nothing(shell: Run, tmp_path: Path) -> None:
    assert shell("orders", RIVYA_HOME=str(tmp_path / "fresh")).stdout == "No orders yet.\n"


@pytest.mark.skipif(os.name != "posix", reason="sends a signal")
def test_ctrl_c_ends_it_at_once_and_the_same_command_resumes(
    process: Run, client: Client, service: Any, tmp_path: Path
) -> None:
    service.fault("create", "latency", seconds=60)
    begun = subprocess.Popen(
        [sys.executable, "-m", "rivya", "edit", "--text", "a quiet harbour"],
        env=environment(client),
        cwd=tmp_path / "work",
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    service.wait("create", count=7)
    service.wait("status", count=7)
    begun.send_signal(signal.SIGINT)
    _, errors = begun.communicate(timeout=10)
    assert begun.returncode == 130
    assert "resumes" in errors
    assert "Traceback" not in errors
    service.finish_tasks()
    again = process("edit", "--text", "a quiet harbour")
    assert "(resumed, 0 credits" in again.stdout
    assert len(service.tasks()) == 7


def test_a_picture_never_takes_the_place_of_another_one(shell: Run, service: Any, tmp_path: Path) -> None:
    for prompt in ("a quiet harbour", "a loud harbour", "a quiet harbour"):
        assert shell("edit", "--text", prompt).returncode == 0
    saved = {path.name: path.read_bytes() for path in (tmp_path / "work").iterdir()}
    first, second = (service.picture(task["id"]) for task in service.tasks()[6:])
    assert saved == {"picture-0-0.jpg": first, "picture-0-0_2.jpg": second}


def test_an_option_that_is_not_known_is_refused(shell: Run) -> None:
    for arguments in (["edit", "--text", "x", "--sead", "3"], ["orders", "more"], ["credits", "--all"]):
        done = shell(*arguments)
        assert done.returncode == 2
        assert "unrecognized arguments" in done.stderr


def test_what_could_not_be_saved_stays_collectable(shell: Run, client: Client, tmp_path: Path) -> None:
    client.run(*[client.order("not yet seen", seed=seed) for seed in range(3)])
    (tmp_path / "work" / "out").write_text("a file where the folder should be")
    failed = shell("collect", "-o", "out")
    assert failed.returncode == 1
    assert failed.stderr.strip()
    saved = shell("collect", "-o", "elsewhere")
    assert saved.returncode == 0, saved.stderr
    assert len(list((tmp_path / "work" / "elsewhere").iterdir())) == 3
    assert "Nothing to collect" in shell("collect").stdout


def test_an_order_that_was_accepted_is_given_up_only_if_that_is_said(
    shell: Run, client: Client, service: Any
) -> None:
    service.fault("create", "latency", seconds=60)
    (ticket,) = client.tickets(client.order("left alone"))
    service.wait("status", count=7)
    ticket.leave()
    client.state.holder.close()  # as if that program had ended
    task = service.tasks()[-1]["id"]
    kept = shell("forget", task)
    assert kept.returncode == 1
    assert f"collect {task}" in kept.stderr
    assert "Forgotten" in shell("forget", task, "--give-up").stdout
