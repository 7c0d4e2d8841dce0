"""The task ids that a person writes into Rivya Collect Tasks."""

from __future__ import annotations

from typing import Any

import pytest

from library.pack import collect_tasks
from rivya.errors import Charged, ValidationError


@pytest.mark.parametrize(
    ("text", "ids"),
    [
        ("", []),
        (" \n\t ,, ", []),
        ("task_1", ["task_1"]),
        ("task_1\ntask_2", ["task_1", "task_2"]),
        (" task_1 ,task_2;".rstrip(";"), ["task_1", "task_2"]),
        ("task-A_9\r\n\r\ntask_2\n", ["task-A_9", "task_2"]),
        ("x" * 128, ["x" * 128]),
        ("\n".join(f"task_{n}" for n in range(64)), [f"task_{n}" for n in range(64)]),
    ],
)
def test_ids_are_separated_by_white_space_or_commas(text: str, ids: list[str]) -> None:
    assert collect_tasks.parse_task_ids(text) == ids


@pytest.mark.parametrize(
    "text",
    [
        "task/1",
        "../credits",
        "task_1;task_2",
        "x" * 129,
        "täsk",
        "https://rivya.ai/task_1",
        "a\x00b",
        "<b>",
        None,
        7,
        ["a"],
    ],
)
def test_anything_else_is_refused_before_anything_is_sent(text: Any) -> None:
    with pytest.raises(ValidationError) as caught:
        collect_tasks.parse_task_ids(text)
    assert caught.value.charged is Charged.NO
    assert len(caught.value.message) < 120
    assert caught.value.message.isascii()


def test_more_than_64_are_refused_with_their_number() -> None:
    with pytest.raises(ValidationError, match="65 tasks"):
        collect_tasks.parse_task_ids(" ".join(f"task_{n}" for n in range(65)))


def test_the_same_id_many_times_is_one_task() -> None:
    assert collect_tasks.parse_task_ids("task_1 " * 100) == ["task_1"]


def test_a_text_without_end_is_refused_at_once() -> None:
    with pytest.raises(ValidationError):
        collect_tasks.parse_task_ids("a " * 10_000)
