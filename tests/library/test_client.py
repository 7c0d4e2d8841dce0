"""The library as a Python program uses it."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import rivya
from library.client import Client, png
from rivya import client, edited
from rivya.engine import engine
from rivya.errors import (
    Charged,
    ConfigurationError,
    InsufficientCreditsError,
    LedgerError,
    RivyaError,
    RivyaTimeoutError,
    UnusableAnswerError,
    ValidationError,
)
from support.ledgers import locked
from support.quick import picture


@pytest.fixture
def program(client: Client, monkeypatch: pytest.MonkeyPatch) -> Client:
    """A program whose environment names the sandbox; the shared engine is one of its own."""
    monkeypatch.setattr(engine, "_shared", client.engine)
    monkeypatch.setattr(engine, "_shared_by", os.getpid())
    monkeypatch.setenv("RIVYA_HOME", str(client.config.home))
    monkeypatch.setenv("RIVYA_API_KEY", client.config.require_key().reveal())
    monkeypatch.setenv("RIVYA_BASE_URL", client.config.base_url)
    return client


def test_a_picture_is_edited_and_saved(program: Client, service: Any, tmp_path: Path) -> None:
    (tmp_path / "photo.png").write_bytes(png(1))
    night = rivya.edit("make it night", tmp_path / "photo.png")
    task = service.tasks()[0]
    assert night.data == service.picture(task["id"])
    assert (night.task_id, night.credits, night.source, night.extension) == (task["id"], 4, "new", "jpg")
    saved = night.save(tmp_path / "night")
    assert saved == tmp_path / "night.jpg"
    assert saved.read_bytes() == night.data


@pytest.mark.parametrize("kind", ["path", "text", "bytes", "array"])
def test_a_picture_may_be_given_as_path_text_bytes_or_array(
    program: Client, service: Any, tmp_path: Path, kind: str
) -> None:
    path = tmp_path / "photo.png"
    path.write_bytes(png(1))
    given: dict[str, Any] = {"path": path, "text": str(path), "bytes": png(1), "array": picture(1)}
    assert rivya.edit("make it night", given[kind]).source == "new"
    assert rivya.edit("make it night", picture(1)).source == "stored"


def test_a_grey_array_of_two_dimensions_is_a_picture_too(program: Client) -> None:
    assert rivya.edit("make it night", picture(1)[:, :, 0]).source == "new"


def test_without_a_picture_one_is_made_from_the_prompt(program: Client, service: Any) -> None:
    assert rivya.edit("a quiet harbour").source == "new"
    assert service.tasks()[0]["upload"] is None


def test_the_same_call_again_costs_nothing_and_another_seed_does(program: Client, service: Any) -> None:
    first = rivya.edit("a quiet harbour")
    assert rivya.edit("a quiet harbour").data == first.data
    assert rivya.edit("a quiet harbour", seed=1).source == "new"
    assert len(service.charges()) == 2


def test_what_was_returned_counts_as_delivered(program: Client) -> None:
    rivya.edit("a quiet harbour")
    assert program.rows()[0].delivered_at is not None
    assert rivya.collect() == []


def test_several_pictures_and_variations_come_picture_major_and_failures_as_values(
    program: Client, service: Any
) -> None:
    service.fault("create", "fail_task", after=1)
    calls: list[tuple[int, int]] = []
    results = client.edit_all(
        "make it night", [picture(1), picture(2)], variations=2, on_progress=lambda *call: calls.append(call)
    )
    assert len(results) == 4
    failed = [result for result in results if isinstance(result, RivyaError)]
    assert len(failed) == 1
    assert failed[0].charged is Charged.NO
    wanted = [(n, v) for n in (1, 2) for v in (0, 1)]
    for (number, variation), result in zip(wanted, results, strict=True):
        if isinstance(result, RivyaError):
            continue
        item = next(t for t in service.tasks() if t["id"] == result.task_id)
        upload = next(u for u in service.book()["uploads"] if u["id"] == item["upload"])
        assert result.about["variation"] == variation
        assert upload["name"] == program.reference(number).name
    assert calls[-1] == (4, 4)


def test_the_same_picture_twice_is_paid_once_and_given_twice(program: Client, service: Any) -> None:
    first, second = client.edit_all("make it night", [picture(1), picture(1)])
    assert isinstance(first, client.Edited)
    assert isinstance(second, client.Edited)
    assert first.data == second.data
    assert len(service.charges()) == 1


def test_a_failure_of_the_only_picture_is_raised(program: Client, service: Any) -> None:
    service.set_credits(3)
    with pytest.raises(InsufficientCreditsError) as caught:
        rivya.edit("a quiet harbour")
    assert caught.value.charged is Charged.NO


def test_a_picture_that_is_not_ready_in_time_is_told_and_comes_with_the_next_call(
    program: Client, service: Any
) -> None:
    service.fault("create", "latency", seconds=60)
    with pytest.raises(RivyaTimeoutError) as caught:
        rivya.edit("a quiet harbour", timeout_s=0.2)
    assert caught.value.charged is Charged.YES
    assert caught.value.task_id == service.tasks()[0]["id"]
    service.finish_tasks()
    assert rivya.edit("a quiet harbour").source in ("new", "resumed", "stored")
    assert len(service.charges()) == 1


def test_what_was_paid_and_not_delivered_is_collected(program: Client, service: Any) -> None:
    service.fault("create", "latency", seconds=60)
    with pytest.raises(RivyaTimeoutError):
        rivya.edit("a quiet harbour", timeout_s=0.2)
    service.finish_tasks()
    (picture,) = rivya.collect()
    assert isinstance(picture, client.Edited)
    assert picture.task_id == service.tasks()[0]["id"]
    assert rivya.collect() == []
    assert isinstance(rivya.collect([picture.task_id])[0], client.Edited)


def test_credits_are_asked_for(program: Client, service: Any) -> None:
    service.set_credits(77)
    assert rivya.credits() == 77


def test_without_a_key_nothing_is_sent(
    program: Client, service: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RIVYA_API_KEY")
    for call in (lambda: rivya.edit("x"), rivya.collect, rivya.credits):
        with pytest.raises(ConfigurationError) as caught:
            call()
        assert caught.value.code == "api_key_missing"
        assert "RIVYA_API_KEY" in caught.value.hint
        assert str(program.config.home / "config.json") in caught.value.hint
    assert service.requests() == []


@pytest.mark.parametrize(
    "options",
    [
        {"prompt": "   "},
        {"seed": -1},
        {"seed": 2**64},
        {"seed": 1.5},
        {"seed": True},
        {"variations": 0},
        {"variations": 17},
        {"model": "flux-kontext-ultra"},
        {"aspect_ratio": "2:1"},
        {"safety_tolerance": 7},
        {"guidance": 3},
        {"client_request_id": "x" * 129},
        {"encoding": "tiff"},
    ],
)
def test_what_is_outside_of_the_table_is_refused_before_anything_is_sent(
    program: Client, service: Any, options: dict[str, Any]
) -> None:
    call: dict[str, Any] = {"prompt": "make it night", "image": picture(1), **options}
    with pytest.raises(RivyaError):
        rivya.edit(**call)
    assert service.requests() == []


def test_no_pictures_at_all_is_an_error_that_says_so(program: Client) -> None:
    with pytest.raises(ValidationError):
        client.edit_all("make it night", [])


def test_the_cap_of_credits_counts_only_what_is_new(
    make: Callable[..., Client], service: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    capped = make(max_credits_per_run=8)
    monkeypatch.setattr(engine, "_shared", capped.engine)
    monkeypatch.setattr(engine, "_shared_by", os.getpid())
    with pytest.raises(ConfigurationError) as caught:
        client.edit_all("a quiet harbour", [None], variations=3, config=capped.config)
    assert "12 credits" in caught.value.message
    assert service.requests("create") == []
    client.edit_all("a quiet harbour", [None], variations=2, config=capped.config)
    assert len(client.edit_all("a quiet harbour", [None], variations=4, config=capped.config)) == 4
    assert len(service.charges()) == 4


def test_one_picture_that_cannot_be_read_does_not_stop_the_others(program: Client, service: Any) -> None:
    good, bad = client.edit_all("make it night", [picture(1), b"this is no picture"])
    assert isinstance(good, client.Edited)
    assert isinstance(bad, RivyaError)
    assert bad.charged is Charged.NO


def test_a_task_with_several_pictures_gives_them_all(program: Client, service: Any) -> None:
    service.fault("create", "results", count=3)
    picture = rivya.edit("a quiet harbour")
    task = service.tasks()[0]["id"]
    assert [picture.data, *picture.more] == [service.picture(task, index) for index in range(3)]


def test_a_delivery_that_cannot_be_noted_keeps_no_picture_from_the_program(
    program: Client, service: Any, caplog: pytest.LogCaptureFixture
) -> None:
    first = rivya.edit("a quiet harbour")
    with locked(program.config.home):
        assert rivya.edit("a quiet harbour").data == first.data
    assert "locked" in caplog.text


def test_nothing_is_spent_while_the_ledger_cannot_be_written(program: Client, service: Any) -> None:
    rivya.edit("a quiet harbour")
    with locked(program.config.home), pytest.raises(LedgerError):
        rivya.edit("a loud harbour")
    assert len(service.requests("create")) == 1


def test_a_single_task_id_may_be_given_as_text(program: Client, service: Any) -> None:
    rivya.edit("a quiet harbour")
    task = service.tasks()[0]["id"]
    assert [picture.task_id for picture in rivya.collect(task)] == [task]  # type: ignore[union-attr]


def test_a_forked_child_has_an_engine_of_its_own(program: Client, service: Any) -> None:
    first = rivya.edit("a quiet harbour")
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:  # pragma: no cover - another process
        answer = b"nothing"
        try:
            answer = rivya.edit("a quiet harbour").source.encode()
        except BaseException as error:
            answer = repr(error).encode()
        finally:
            os.write(writing, answer)
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        assert pipe.read() == b"stored"
    os.waitpid(child, 0)
    assert rivya.edit("a quiet harbour").data == first.data


def test_arrays_that_are_no_picture_are_refused(program: Client, service: Any) -> None:
    for array in (np.zeros((4, 4, 3), dtype=np.float32), np.zeros((0, 4, 3), dtype=np.uint8), np.zeros(3)):
        with pytest.raises(RivyaError):
            rivya.edit("make it night", array)
    assert service.requests() == []


def test_a_picture_that_is_not_there_is_named_and_nothing_is_sent(
    program: Client, service: Any, tmp_path: Path
) -> None:
    with pytest.raises(RivyaError) as caught:
        rivya.edit("make it night", tmp_path / "nowhere.png")
    assert "nowhere.png" in caught.value.message
    assert service.requests() == []


def test_further_pictures_are_saved_beside_the_first(program: Client, service: Any, tmp_path: Path) -> None:
    service.fault("create", "results", count=2)
    picture = rivya.edit("a quiet harbour")
    picture.save(tmp_path / "harbour")
    assert (tmp_path / "harbour.jpg").read_bytes() == picture.data
    assert (tmp_path / "harbour-2.jpg").read_bytes() == picture.more[0]


def test_a_picture_that_vanishes_between_store_and_program_is_told_and_not_marked(
    program: Client, service: Any
) -> None:
    (finished,) = program.run(program.order())
    for path in finished.result.paths:
        path.unlink()
    with pytest.raises(UnusableAnswerError) as caught:
        edited.read_finished(finished)
    assert caught.value.charged is Charged.YES
    assert rivya.edit("a quiet harbour").source in ("resumed", "stored")
    assert len(service.charges()) == 1


def test_further_pictures_take_no_other_file_s_place(tmp_path: Path) -> None:
    (tmp_path / "night-2.jpg").write_bytes(b"the user's own")
    edited = client.Edited(b"one", "jpg", None, None, "new", {}, more=(b"two", b"three"))
    for _ in range(2):
        edited.save(tmp_path / "night.jpg")
    found = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert found == {
        "night.jpg": b"one",
        "night-2.jpg": b"the user's own",
        "night-2_2.jpg": b"two",
        "night-3.jpg": b"three",
    }
