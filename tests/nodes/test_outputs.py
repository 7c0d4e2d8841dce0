"""What a node gives out: batches in order, one entry for each picture and failure, and the right sums."""

from __future__ import annotations

import asyncio
import json
import os
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import sandbox
from library.client import PATIENCE_S, Client
from library.pack import outputs
from rivya.engine import engine
from rivya.errors import Charged, RivyaError, TaskFailedError
from rivya.orders.order import Finished
from support.quick import QuickAccount
from support.sources import ROOT

pytestmark = pytest.mark.heavy


@pytest.fixture
def service() -> Any:
    with sandbox.running(megapixels=0.004, credits=100_000) as running:
        yield running


@pytest.fixture
def client(service: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Client:
    monkeypatch.setattr(engine, "Account", QuickAccount)
    client = Client(tmp_path / "state", service.url, service.key)
    monkeypatch.setattr(engine, "_shared", client.engine)
    monkeypatch.setattr(engine, "_shared_by", os.getpid())
    return client


def deliver(*rows: Any) -> tuple[Any, list[dict[str, Any]]]:
    """What is given out, and the entries of its report."""
    given = asyncio.run(outputs.deliver(rows))
    report = json.loads(given.report)
    assert report["credits_charged"] == given.charged
    assert report["credits_reused"] == given.reused
    return given, report["orders"]


def place(outcome: Finished | RivyaError, fingerprint: str = "", **more: Any) -> Any:
    name = outcome.fingerprint if isinstance(outcome, Finished) else fingerprint
    return outputs.OutputRow(more.pop("reference", 0), more.pop("variation", 0), name, outcome, more)


def test_a_picture_is_one_batch_with_one_entry_that_tells_all(client: Client, service: Any) -> None:
    (finished,) = client.run(client.order(reference=client.reference()))
    given, (entry,) = deliver(place(finished, reference=0, variation=0, model="flux-kontext-pro"))
    (batch,) = given.images
    count, height, width, channels = batch.shape
    assert (count, channels) == (1, 3)
    assert [tuple(mask.shape) for mask in given.masks] == [(1, height, width)]
    assert {name: entry[name] for name in ("reference", "variation", "batch", "position", "width", "height")} == {
        "reference": 0, "variation": 0, "batch": 0, "position": 0, "width": width, "height": height,
    }  # fmt: skip
    task = service.tasks()[0]["id"]
    assert (entry["task_id"], entry["status"], entry["source"], entry["credits"]) == (
        task,
        "delivered",
        "new",
        4,
    )
    assert (entry["model"], entry["aspect_ratio"], entry["encoding"]) == ("flux-kontext-pro", "4:3", "png")
    assert entry["error"] is None
    assert given.task_ids == task
    assert (given.charged, given.reused) == (4, 0)


def test_the_report_has_exactly_the_promised_names(client: Client) -> None:
    (finished,) = client.run(client.order())
    given, (entry,) = deliver(place(finished))
    assert list(json.loads(given.report)) == ["credits_charged", "credits_reused", "orders"]
    assert list(entry) == [
        "reference", "variation", "batch", "position", "task_id", "status", "source", "credits", "seconds", "width",
        "height", "coarser", "model", "aspect_ratio", "encoding", "notes", "request_id", "error",
    ]  # fmt: skip


def test_what_was_stored_is_reused_and_not_charged(client: Client) -> None:
    client.run(client.order())
    (stored,) = client.run(client.order())
    (new,) = client.run(client.order(seed=1))
    given, entries = deliver(place(stored), place(new))
    assert (given.charged, given.reused) == (4, 4)
    assert [entry["source"] for entry in entries] == ["stored", "new"]
    assert given.text == "2 pictures · 4 credits charged · 4 credits reused"


def test_the_same_order_at_two_places_is_given_twice_and_counted_once(client: Client) -> None:
    first, second = client.run(client.order(), client.order(seed=1))
    given, entries = deliver(place(first), place(second, reference=1), place(first, reference=2))
    (batch,) = given.images
    assert len(batch) == 3
    assert (batch[0] == batch[2]).all()
    assert not (batch[0] == batch[1]).all()
    assert [entry["position"] for entry in entries] == [0, 1, 2]
    assert given.charged == 8
    assert given.task_ids.splitlines() == [first.about["task_id"], second.about["task_id"]]


def test_a_task_with_several_pictures_has_an_entry_for_each_and_is_counted_once(
    client: Client, service: Any
) -> None:
    service.fault("create", "results", count=3)
    (finished,) = client.run(client.order())
    given, entries = deliver(place(finished))
    assert sum(len(batch) for batch in given.images) == 3
    assert [entry["position"] for entry in entries] == [0, 1, 2]
    assert {entry["task_id"] for entry in entries} == {finished.about["task_id"]}
    assert given.charged == 4


def test_pictures_of_other_sizes_are_other_batches_and_the_report_says_where_they_are(client: Client) -> None:
    wide, square, wide_too = client.run(
        client.order(aspect_ratio="16:9"),
        client.order(aspect_ratio="1:1"),
        client.order(aspect_ratio="16:9", seed=1),
    )
    given, entries = deliver(place(wide), place(square), place(wide_too))
    assert [len(batch) for batch in given.images] == [2, 1]
    assert [(entry["batch"], entry["position"]) for entry in entries] == [(0, 0), (1, 0), (0, 1)]
    for entry in entries:
        assert given.images[entry["batch"]].shape[1:3] == (entry["height"], entry["width"])


def test_a_failure_among_others_has_an_entry_with_its_error_and_no_picture(client: Client) -> None:
    (finished,) = client.run(client.order())
    error = TaskFailedError("The task failed.", task_id="task_9", request_id="req_9", charged=Charged.NO)
    given, (good, bad) = deliver(
        place(finished), place(error, "b", model="flux-kontext-max", aspect_ratio="1:1")
    )
    assert good["status"] == "delivered"
    assert (bad["status"], bad["source"], bad["batch"], bad["position"]) == ("failed", None, None, None)
    assert (bad["task_id"], bad["request_id"]) == ("task_9", "req_9")
    assert bad["error"]["charged"] == "no"
    assert (bad["model"], bad["aspect_ratio"]) == ("flux-kontext-max", "1:1")
    assert given.charged == 4
    assert given.task_ids.splitlines() == [finished.about["task_id"], "task_9"]


def test_a_failure_that_was_charged_counts_with_its_credits(client: Client, service: Any) -> None:
    (finished,) = client.run(client.order())
    service.fault("create", "fail_task", charged=True)
    error = client.failure(client.order(seed=1))
    given, (_, bad) = deliver(place(finished), place(error, "b", model="flux-kontext-pro"))
    assert bad["credits"] == 4
    assert given.charged == 8
    again = client.failure(client.order(seed=1))
    given, _ = deliver(place(finished), place(again, "b", model="flux-kontext-pro"))
    assert given.charged == 4, "it was charged in an earlier run"


def test_only_what_was_given_out_counts_as_delivered(client: Client) -> None:
    first, _ = client.run(client.order(), client.order(seed=1))
    deliver(place(first))
    given = {row.fingerprint for row in client.rows() if row.delivered_at is not None}
    assert given == {first.fingerprint}
    collectable = client.engine.collectable(client.config).result(PATIENCE_S)
    assert [row.fingerprint for row in collectable] == [client.order(seed=1).fingerprint]


@pytest.mark.parametrize("ruin", [lambda path: path.unlink(), lambda path: path.write_bytes(b"damaged")])
def test_a_picture_that_vanishes_before_it_is_given_out_is_an_error_in_words_and_comes_with_the_next_run(
    client: Client, ruin: Callable[[Path], None]
) -> None:
    (finished,) = client.run(client.order())
    ruin(finished.result.paths[0])
    with pytest.raises(RivyaError) as caught:
        asyncio.run(outputs.deliver([place(finished)]))
    assert caught.value.charged is Charged.YES
    assert "nothing more" in caught.value.hint
    assert client.rows()[0].delivered_at is None
    assert client.run(client.order())[0].source == "resumed"


def test_pictures_that_are_too_many_for_memory_come_with_the_command_that_lists_their_tasks(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    (finished,) = client.run(client.order())
    monkeypatch.setattr(outputs.tensors, "MAX_PIXELS_TOGETHER", 1)
    monkeypatch.setattr(outputs.host, "default_home", lambda: client.config.home)
    monkeypatch.delenv("RIVYA_HOME", raising=False)
    with pytest.raises(RivyaError) as caught:
        deliver(place(finished))
    assert caught.value.code == "images_too_large"
    command = shlex.split(caught.value.hint)
    assert command[command.index(sys.executable) :] == [
        *(sys.executable, str(ROOT), "--home", str(client.config.home), "orders", "lists", "them."),
    ]
