"""Faults do what they are told: to which request, how often, and before or after the work."""

from __future__ import annotations

import json
import socket
import struct
import threading
import time
from collections.abc import Callable
from email.utils import parsedate_to_datetime
from typing import Any

import httpx
import pytest

from .conftest import ORDER, Client, web
from .test_validation import refused

Start = Callable[..., Client]


def tasks_of(client: Client) -> int:
    return len(client.handle.tasks())


def raw(client: Client, request: bytes) -> bytes:
    """Send bytes to the API origin and read until the connection ends."""
    with socket.create_connection(
        ("127.0.0.1", httpx.URL(client.handle.url).port or 0), timeout=10
    ) as connection:
        connection.sendall(request)
        received = b""
        while chunk := connection.recv(65_536):
            received += chunk
        return received


def raw_order(client: Client, key: str) -> bytes:
    body = json.dumps(ORDER).encode()
    head = (
        f"POST /api/v1/generations HTTP/1.1\r\nHost: sandbox\r\nAuthorization: Bearer {client.handle.key}\r\n"
        f"Content-Type: application/json\r\nIdempotency-Key: {key}\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def call_endpoint(client: Client, endpoint: str) -> httpx.Response:
    """One well-formed request to an endpoint."""
    calls: dict[str, Callable[[], httpx.Response]] = {
        "upload": client.upload,
        "file": lambda: client.get("/api/v1/files/file_1"),
        "create": client.create,
        "status": lambda: client.get("/api/v1/generations/task_1"),
        "credits": lambda: client.get("/api/v1/credits"),
        "models": lambda: client.get("/api/v1/models"),
        "result": lambda: web().get(f"{client.handle.results_url}/results/task_1/0.jpg"),
    }
    return calls[endpoint]()


@pytest.mark.parametrize("endpoint", ["upload", "file", "create", "status", "credits", "models", "result"])
def test_every_endpoint_can_be_hit(client: Client, endpoint: str) -> None:
    client.handle.fault(endpoint, "status", status=502, sample="html")
    answer = call_endpoint(client, endpoint)
    assert (answer.status_code, answer.headers["content-type"]) == (502, "text/html; charset=utf-8")
    assert client.handle.requests(endpoint)[-1]["fault"] == "status"
    client.handle.fault(endpoint, "cut_before")
    with pytest.raises(httpx.RemoteProtocolError):
        call_endpoint(client, endpoint)
    assert call_endpoint(client, endpoint).status_code in (200, 201, 403, 404)


def test_cut_before_does_no_work_and_cut_after_does(client: Client) -> None:
    client.handle.fault("create", "cut_before")
    with pytest.raises(httpx.RemoteProtocolError):
        client.create(key="one")
    assert (tasks_of(client), client.credits()) == (0, 1000)
    client.handle.fault("create", "cut_after")
    with pytest.raises(httpx.RemoteProtocolError):
        client.create(key="one")
    assert (tasks_of(client), client.credits()) == (1, 996)
    assert client.create(key="one").status_code == 200
    assert tasks_of(client) == 1


def test_a_reset_is_a_reset(client: Client) -> None:
    client.handle.fault("create", "cut_after", reset=True)
    with pytest.raises(httpx.ReadError):
        client.create()


def test_an_answer_can_be_cut_at_every_byte(client: Client) -> None:
    client.handle.fault("create", "cut_after", at_byte=1_000_000)
    whole = raw(client, raw_order(client, "key-0"))
    assert whole.startswith(b"HTTP/1.1 201 Created\r\n")
    for at_byte in range(0, len(whole), 37):
        client.handle.fault("create", "cut_after", at_byte=at_byte)
        assert len(raw(client, raw_order(client, f"key-{at_byte + 1}"))) == at_byte
    assert tasks_of(client) == len(range(0, len(whole), 37)) + 1


def test_a_request_can_be_cut_in_the_middle_of_its_body(client: Client) -> None:
    client.handle.fault("upload", "cut_before", at_byte=1_000_000)
    with pytest.raises((httpx.WriteError, httpx.ReadError, httpx.RemoteProtocolError)):
        client.upload(b"\x89PNG\r\n\x1a\n" + bytes(9_000_000))
    client.handle.wait("upload", "answered")
    found = client.handle.requests("upload")[0]
    assert (found["status"], found["body_sha256"]) == (None, "")
    assert client.handle.book()["uploads"] == []


@pytest.mark.parametrize("when, tasks", [("before", 0), ("during", 0), ("after", 1)])
def test_a_stall_is_before_during_or_after_the_work(client: Client, when: str, tasks: int) -> None:
    client.handle.fault("create", "stall", when=when, seconds=30)
    impatient = Client(client.handle)
    impatient.http.timeout = httpx.Timeout(0.3)
    with pytest.raises(httpx.ReadTimeout):
        impatient.create(key="one")
    assert tasks_of(client) == tasks
    client.handle.clear_faults()
    client.handle.wait("create", "answered")
    assert tasks_of(client) == 1, "the work is done even when nobody waits for it any more"


def test_a_stall_ends_after_its_seconds(client: Client) -> None:
    client.handle.fault("credits", "stall", seconds=0.3)
    before = time.monotonic()
    assert client.credits() == 1000
    assert 0.3 <= time.monotonic() - before < 2


def test_a_download_can_stall_in_the_middle(client: Client) -> None:
    url = client.finished()["result"]["primary_url"]
    client.handle.fault("result", "stall", at_byte=600, seconds=30)
    with web().stream("GET", url, timeout=0.5) as answer:
        chunks = answer.iter_bytes()
        assert next(chunks)
        with pytest.raises(httpx.ReadTimeout):
            list(chunks)
    client.handle.clear_faults()
    assert web().get(url).status_code == 200


@pytest.mark.parametrize(
    "status, code",
    [
        (400, "validation_failed"),
        (401, "api_key_invalid"),
        (402, "insufficient_credits"),
        (403, "api_scope_denied"),
        (404, "not_found"),
        (409, "idempotency_conflict"),
        (429, "rate_limited"),
        (500, "internal_error"),
        (503, "public_api_disabled"),
    ],
)
def test_a_status_has_the_code_that_belongs_to_it(client: Client, status: int, code: str) -> None:
    client.handle.fault("create", "status", status=status)
    refused(client.create(), status, code)
    assert tasks_of(client) == 0


def test_a_status_can_come_after_the_work_and_with_another_code(client: Client) -> None:
    client.handle.fault("create", "status", status=500, when="after", code="new_code", message="Oh.")
    assert refused(client.create(key="one"), 500, "new_code") == "Oh."
    assert tasks_of(client) == 1


def test_retry_after_comes_as_seconds_as_a_date_or_not(client: Client) -> None:
    client.handle.fault("create", "status", status=429, retry_after=7)
    client.handle.fault("create", "status", status=429, retry_after=30, retry_after_form="date")
    client.handle.fault("create", "status", status=429)
    seconds, date, none = (client.create().headers.get("retry-after") for _ in range(3))
    assert seconds == "7"
    assert 25 < parsedate_to_datetime(str(date)).timestamp() - time.time() <= 30
    assert none is None


@pytest.mark.parametrize("sample", ["malformed", "shape", "empty_object", "text", "html", "empty", "half"])
def test_a_body_of_another_kind_comes_after_the_work(client: Client, sample: str) -> None:
    client.handle.fault("create", "body", sample=sample)
    answer = client.create(key="one")
    assert answer.status_code < 300
    try:
        assert "id" not in answer.json()
    except json.JSONDecodeError:
        assert sample not in ("shape", "empty_object")
    assert tasks_of(client) == 1


def test_bodies_of_the_tests_own(client: Client) -> None:
    client.handle.fault("status", "body", body={"id": 5}, headers={"X-Sandbox": "yes"}, status=203)
    client.handle.fault("result", "body", body_base64="AAEC", headers={"Content-Type": "image/png"})
    answer = client.get("/api/v1/generations/task_1")
    assert (answer.json(), answer.status_code, answer.headers["x-sandbox"]) == ({"id": 5}, 203, "yes")
    result = call_endpoint(client, "result")
    assert (result.content, result.headers["content-type"]) == (b"\x00\x01\x02", "image/png")


def test_a_truncated_answer_promises_more_than_it_sends(client: Client) -> None:
    client.handle.fault("create", "truncate")
    with pytest.raises(httpx.RemoteProtocolError, match="without sending complete message body"):
        client.create()
    assert tasks_of(client) == 1
    url = client.finished()["result"]["primary_url"]
    client.handle.fault("result", "truncate", at_byte=100)
    with (
        web().stream("GET", url) as answer,
        pytest.raises(httpx.RemoteProtocolError, match="received 100 bytes"),
    ):
        answer.read()
    assert int(answer.headers["content-length"]) > 1000


def test_a_slow_answer_drips(client: Client) -> None:
    client.handle.fault("credits", "slow", chunk=20, interval=0.05)
    before = time.monotonic()
    assert client.credits() == 1000
    assert time.monotonic() - before > 0.15


def test_parts_of_an_answer_can_be_changed_and_left_out(client: Client) -> None:
    task = client.create().json()["id"]
    client.handle.fault("status", "patch", values={"status": "warming_up", "extra": [1]}, drop=["created_at"])
    client.handle.fault("status", "patch", drop=["result.urls"], status=206, headers={"Retry-After": "3"})
    first = client.task(task)
    assert (first["status"], first["extra"]) == ("warming_up", [1])
    assert "created_at" not in first
    second = client.get(f"/api/v1/generations/{task}")
    assert (second.status_code, second.headers["retry-after"]) == (206, "3")
    assert set(second.json()["result"]) == {"primary_url"}
    assert client.task(task)["status"] == "succeeded"


def test_a_task_can_have_several_results_and_its_own_latency(client: Client) -> None:
    client.handle.fault("create", "results", count=3)
    urls = client.finished()["result"]["urls"]
    assert len({web().get(url).content for url in urls}) == 3
    client.handle.fault("create", "latency", seconds=60)
    assert client.task(client.create().json()["id"])["status"] == "queued"


def test_what_shapes_a_task_adds_up_and_waits_for_an_accepted_order(client: Client) -> None:
    client.handle.fault("create", "latency", seconds=60, times=None)
    client.handle.fault("create", "fail_task")
    client.handle.fault("create", "cut_before")
    with pytest.raises(httpx.RemoteProtocolError):
        client.create(key="one")
    client.create({**ORDER, "prompt": ""}, key="one")
    client.create(key="one")
    client.create(key="one")
    client.create(key="two")
    client.handle.finish_tasks()
    assert [(task["latency"] < 60, task["status"]) for task in client.handle.tasks()] == [
        (True, "failed"),
        (True, "succeeded"),
    ]
    assert [fault["hits"] for fault in client.handle.faults()] == [2, 1, 1]


def test_after_times_and_contains_choose_the_request(client: Client) -> None:
    client.handle.fault("create", "status", status=500, after=1, times=2)
    assert [client.create().status_code for _ in range(5)] == [201, 500, 500, 201, 201]
    client.handle.clear_faults()
    client.handle.fault("create", "status", status=500, contains="winter", times=None)
    client.handle.fault("create", "status", status=503, contains="key-b", times=None)
    assert client.create().status_code == 500
    assert client.create({**ORDER, "prompt": "Make it summer"}).status_code == 201
    assert client.create({**ORDER, "prompt": "Make it summer"}, key="key-b").status_code == 503


def test_a_probability_is_seeded(client: Client) -> None:
    def pattern(seed: int) -> list[int]:
        client.handle.clear_faults()
        client.handle.fault("*", "status", status=500, probability=0.2, times=None, seed=seed)
        return [client.get("/api/v1/credits").status_code for _ in range(100)]

    first = pattern(1)
    assert 8 <= first.count(500) <= 35
    assert first == pattern(1)
    assert first != pattern(2)


def test_a_closed_listener_refuses_from_the_answer_on(client: Client) -> None:
    idle = Client(client.handle)
    idle.credits()
    client.handle.fault("create", "close_listener", seconds=600)
    assert client.create().status_code == 201
    for caller in (client, idle):
        with pytest.raises(httpx.ConnectError):
            caller.credits()
    assert web().get(f"{client.handle.results_url}/results/x/0.jpg").status_code == 403
    client.handle.clear_faults()
    assert (client.credits(), tasks_of(client)) == (996, 1)


def test_the_origin_of_the_results_can_be_closed_alone(client: Client) -> None:
    client.handle.fault("status", "close_listener", seconds=600, origin="results")
    url = client.finished()["result"]["primary_url"]
    with pytest.raises(httpx.ConnectError):
        web().get(url)
    assert client.credits() == 996
    client.handle.clear_faults()
    assert web().get(url).status_code == 200


def test_a_closed_listener_comes_back_by_itself(client: Client) -> None:
    client.handle.close_listener(0.3)
    end, refused_once = time.monotonic() + 10, False
    while time.monotonic() < end:
        try:
            assert client.credits() == 1000
            break
        except httpx.ConnectError:
            refused_once = True
            time.sleep(0.02)
    else:
        pytest.fail("the listener did not come back")
    assert refused_once


@pytest.mark.parametrize(
    "order",
    [
        {"endpoint": "generate", "action": "cut_before"},
        {"endpoint": "create", "action": "explode"},
        {"endpoint": "create", "action": "cut_before", "seconds": 3},
        {"endpoint": "status", "action": "fail_task"},
        {"endpoint": "create", "action": "duration_token"},
        {"endpoint": "create", "action": "close_listener", "origin": "elsewhere"},
        {"endpoint": "create", "action": "body", "sample": "poem"},
        {"endpoint": "create", "action": "stall", "when": "sometimes"},
        {"endpoint": [], "action": "stall"},
    ],
)
def test_an_order_for_a_fault_that_makes_no_sense_is_refused(client: Client, order: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"must be|does not know|belongs to"):
        client.handle.call("fault", **order)


def test_the_log_tells_how_far_a_request_came(client: Client) -> None:
    client.handle.fault("create", "stall", when="after")
    thread = threading.Thread(target=lambda: Client(client.handle).create(key="one"))
    thread.start()
    client.handle.wait("create", "worked", fault="stall")
    found = client.handle.requests("create")[0]
    assert (found["stage"], found["idempotency_key"], found["account"]) == ("worked", "one", "main")
    assert len(found["body_sha256"]) == 64
    client.handle.clear_faults()
    thread.join(10)
    client.handle.wait("create", "answered")
    with pytest.raises(TimeoutError):
        client.handle.wait("upload", timeout=0.05)


def test_a_client_that_dies_in_the_middle_of_a_request_leaves_nothing(client: Client) -> None:
    connection = socket.create_connection(("127.0.0.1", httpx.URL(client.handle.url).port or 0))
    connection.sendall(raw_order(client, "one")[:-10])
    client.handle.wait("create", "arrived")
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()
    client.handle.wait("create", "answered")
    assert tasks_of(client) == 0
