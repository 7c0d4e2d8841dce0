"""Tasks run, credits are reserved, charged and refunded, and repeats are told apart."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from .conftest import ORDER, Client, web
from .test_validation import refused

Start = Callable[..., Client]
TASK_KEYS = {
    *(
        "id",
        "status",
        "model",
        "reserved_credits",
        "final_credits",
        "created_at",
        "updated_at",
        "result",
        "error",
    )
}


def test_a_task_is_queued_then_processing_then_succeeded(start: Start) -> None:
    client = start(latency=0.4)
    created = client.create()
    body = created.json()
    assert created.status_code == 201
    assert set(body) == TASK_KEYS
    assert (body["status"], body["reserved_credits"], body["final_credits"]) == ("queued", 4, 0)
    seen = [body["status"]]
    while seen[-1] != "succeeded":
        body = client.task(body["id"])
        assert set(body) == TASK_KEYS
        seen.append(body["status"])
        time.sleep(0.02)
    assert list(dict.fromkeys(seen)) == ["queued", "processing", "succeeded"]
    assert body["final_credits"] == 4
    assert body["result"]["urls"] == [body["result"]["primary_url"]]
    assert body["result"]["primary_url"].startswith(client.handle.results_url)


def test_an_order_that_takes_no_time_is_still_queued_in_its_first_answer(client: Client) -> None:
    body = client.create().json()
    assert (body["status"], body["result"]) == ("queued", None)
    assert client.task(body["id"])["status"] == "succeeded"


def test_each_model_has_its_price(client: Client) -> None:
    for model, price in (("flux-kontext-pro", 4), ("flux-kontext-max", 8)):
        before = client.credits()
        assert client.finished({**ORDER, "model": model})["final_credits"] == price
        assert before - client.credits() == price


def test_the_book_follows_every_credit(start: Start) -> None:
    client = start(latency=0.2, credits=20)
    client.handle.fault("create", "fail_task", after=1)
    first, second = client.create().json()["id"], client.create().json()["id"]
    account = client.handle.book()["accounts"]["main"]
    assert (account["credits"], account["reserved"], account["spent"]) == (12, 8, 0)
    time.sleep(0.25)
    book = client.handle.book()
    account = book["accounts"]["main"]
    assert (account["credits"], account["reserved"], account["spent"]) == (16, 0, 4)
    assert [(entry["task"], entry["kind"], entry["credits"]) for entry in book["entries"]] == [
        (first, "reserve", 4),
        (second, "reserve", 4),
        (first, "charge", 4),
        (second, "refund", 4),
    ]
    assert [entry["task"] for entry in client.handle.charges()] == [first]


def test_too_few_credits_are_said_at_once(start: Start) -> None:
    client = start(credits=7)
    assert client.create().status_code == 201
    refused(client.create(key="again"), 402, "insufficient_credits")
    client.handle.set_credits(4)
    assert client.create(key="again").status_code == 201


def test_a_failed_task_has_a_reason_and_is_refunded_or_not(client: Client) -> None:
    client.handle.fault("create", "fail_task")
    client.handle.fault("create", "fail_task", charged=True, error={"code": "moderated", "message": "No."})
    client.handle.fault("create", "fail_task", error=None)
    refunded, charged, silent = (client.finished() for _ in range(3))
    assert refunded["error"]["code"] == "generation_failed"
    assert (refunded["status"], refunded["result"], refunded["final_credits"]) == ("failed", None, 0)
    assert (charged["error"], charged["final_credits"]) == ({"code": "moderated", "message": "No."}, 4)
    assert silent["error"] is None
    assert client.credits() == 996


def test_a_reference_that_cannot_be_read_fails_the_task(client: Client) -> None:
    data = b"\x89PNG\r\n\x1a\n" + bytes(100)
    url = client.upload(data).json()["url"]
    failed = client.finished({**ORDER, "params": {"referenceMediaItems": [{"url": url, "kind": "image"}]}})
    assert failed["status"] == "failed"
    assert client.credits() == 1000


def test_the_same_key_and_body_replay_the_first_task(client: Client) -> None:
    first = client.create(key="one")
    again = client.create(key="one")
    assert (first.status_code, again.status_code) == (201, 200)
    assert again.json() == first.json()
    assert client.credits() == 996
    assert client.create(key="two").json()["id"] != first.json()["id"]


def test_a_replay_does_not_look_at_the_reference_or_the_credits_again(start: Start) -> None:
    client = start(credits=4)
    body = client.edit()
    first = client.create(body, key="one").json()
    client.handle.expire_uploads()
    assert client.create(body, key="one").json()["id"] == first["id"]


def test_the_same_key_with_other_bytes_is_a_conflict(client: Client) -> None:
    client.create(json.dumps(ORDER).encode(), key="one")
    refused(client.create(json.dumps(ORDER, indent=1).encode(), key="one"), 409, "idempotency_conflict")
    assert len(client.handle.tasks()) == 1


def test_a_service_that_rejects_repeats_answers_409(start: Start) -> None:
    client = start(reject_repeats=True)
    client.create(key="one")
    refused(client.create(key="one"), 409, "idempotency_conflict")
    assert len(client.handle.tasks()) == 1


def test_a_repeat_in_flight_is_a_conflict_and_later_a_replay(client: Client) -> None:
    client.handle.fault("create", "stall", when="during")
    answers: list[httpx.Response] = []
    first = threading.Thread(target=lambda: answers.append(Client(client.handle).create(key="one")))
    first.start()
    client.handle.wait("create", "received")
    refused(client.create(key="one"), 409, "idempotency_conflict")
    client.handle.clear_faults()
    first.join(10)
    assert client.create(key="one").json() == answers[0].json()
    assert len(client.handle.tasks()) == 1


def test_a_forgotten_key_buys_again(client: Client) -> None:
    client.create(key="one")
    client.handle.forget_keys()
    assert client.create(key="one").status_code == 201
    assert len(client.handle.tasks()) == 2


def test_another_account_sees_neither_tasks_nor_files_but_another_key_does(start: Start) -> None:
    client = start(accounts={"alice": {"keys": ["rvya_sk_a1", "rvya_sk_a2"]}, "bob": {"keys": ["rvya_sk_b"]}})
    order = client.edit()
    file, task = client.handle.book()["uploads"][0], client.create(order, key="one").json()
    rotated, stranger = Client(client.handle, "rvya_sk_a2"), Client(client.handle, "rvya_sk_b")
    assert rotated.task(task["id"])["id"] == task["id"]
    assert rotated.create(order, key="one").json()["id"] == task["id"]
    refused(stranger.get(f"/api/v1/generations/{task['id']}"), 404, "not_found")
    refused(stranger.get(f"/api/v1/files/{file['id']}"), 404, "not_found")
    refused(stranger.create(order, key="one"))
    assert stranger.create(key="one").json()["id"] != task["id"]
    assert stranger.credits() == 996


def test_an_expired_upload_is_gone_for_orders_and_reads(client: Client) -> None:
    order = client.edit()
    file = client.handle.book()["uploads"][0]
    assert client.get(f"/api/v1/files/{file['id']}").json()["url"] == file["url"]
    assert web().get(file["url"]).status_code == 200
    client.handle.expire_uploads(file["id"])
    refused(client.get(f"/api/v1/files/{file['id']}"), 404, "not_found")
    refused(client.create(order))
    assert web().get(file["url"]).status_code == 404


def test_the_reference_must_be_what_was_uploaded(client: Client) -> None:
    order = client.edit()
    item = order["params"]["referenceMediaItems"][0]
    item["mimeType"] = "image/jpeg"
    refused(client.create(order))
    item["mimeType"] = "image/png"
    item["durationToken"] = "made-up"
    refused(client.create(order))


def test_an_order_takes_one_reference_at_most(client: Client) -> None:
    order = client.edit()
    order["params"]["referenceMediaItems"] *= 2
    refused(client.create(order))


@pytest.mark.parametrize("spelling", ["duration_token", "durationToken"])
def test_a_duration_token_must_come_back(client: Client, spelling: str) -> None:
    client.handle.fault("upload", "duration_token", spelling=spelling)
    file = client.upload().json()
    item = {"url": file["url"], "kind": "image"}
    refused(client.create({**ORDER, "params": {"referenceMediaItems": [item]}}))
    item["durationToken"] = file[spelling]
    assert client.create({**ORDER, "params": {"referenceMediaItems": [item]}}).status_code == 201


def test_latencies_come_from_a_list_or_a_seeded_draw(start: Start) -> None:
    def latencies(**options: Any) -> list[float]:
        client = start(**options)
        for _ in range(4):
            client.create()
        return [task["latency"] for task in client.handle.tasks()]

    assert latencies(latencies=(0.5, 2.0, 1.0)) == [0.5, 2.0, 1.0, 0.5]
    drawn = latencies(latency=8.0, latency_sd=2.0, seed=5)
    assert drawn == latencies(latency=8.0, latency_sd=2.0, seed=5)
    assert len(set(drawn)) == 4
    assert drawn != latencies(latency=8.0, latency_sd=2.0, seed=6)


def test_the_book_says_when_a_task_ended_and_when_that_was_noticed(start: Start) -> None:
    client = start(latency=0.1)
    task_id = client.create().json()["id"]
    client.task(task_id)
    time.sleep(0.2)
    assert client.handle.tasks()[0]["noticed_at"] is None
    client.task(task_id)
    task = client.handle.tasks()[0]
    assert task["finish_at"] - task["created_at"] == pytest.approx(0.1)
    assert 0.05 < task["noticed_at"] - task["finish_at"] < 1.0
    assert task["polls"] == 2


def test_more_open_orders_than_allowed_are_rate_limited(start: Start) -> None:
    client = start(latency=60, max_open=2)
    client.create()
    client.create()
    answer = client.create()
    refused(answer, 429, "rate_limited")
    assert answer.headers["retry-after"] == "1"
    client.handle.finish_tasks()
    assert client.create().status_code == 201


def test_a_dropped_task_is_not_found(client: Client) -> None:
    task = client.create().json()["id"]
    client.handle.drop_tasks(task)
    refused(client.get(f"/api/v1/generations/{task}"), 404, "not_found")
