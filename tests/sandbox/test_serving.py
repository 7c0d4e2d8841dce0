"""How a sandbox is started, looked at and ended."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

import sandbox

from .conftest import ORDER, Client, web

Start = Callable[..., Client]
ROOT = Path(__file__).parents[2]


def test_every_page_says_that_no_real_service_is_involved(client: Client) -> None:
    client.finished({**ORDER, "prompt": "<script>alert(1)</script>"})
    for path in ("/", "/_sandbox/"):
        page = web().get(client.handle.url + path).text
        assert "No real service is involved" in page
        assert "<script>" not in page


def test_models_are_listed_as_documented(client: Client) -> None:
    listed = client.http.get("/api/v1/models").json()
    assert listed["object"] == "list"
    assert {model["id"]: model["base_credits"] for model in listed["data"]} == {
        "flux-kontext-pro": 4,
        "flux-kontext-max": 8,
    }
    documented = {
        *("id", "display_name", "category", "runtime", "base_credits", "billing_type", "supported_modes"),
        *("max_prompt_length", "reference_media", "params", "api_status", "api_input_status"),
        *("supported_api_inputs", "requires_files_api", "requires_upload_for_modes", "url_input_supported"),
        *("file_kinds", "chat_capabilities", "notices"),
    }
    assert set(listed["data"][0]) == documented


def test_it_listens_on_loopback_only(client: Client) -> None:
    assert httpx.URL(client.handle.url).host == "127.0.0.1"
    assert httpx.URL(client.handle.results_url).host == "127.0.0.1"
    assert client.handle.url != client.handle.results_url


def test_another_address_can_be_told_for_files(client: Client) -> None:
    client.handle.advertise("http://127.0.0.1:9")
    assert client.upload().json()["url"].startswith("http://127.0.0.1:9/uploads/")
    assert client.finished()["result"]["primary_url"].startswith("http://127.0.0.1:9/results/")
    client.handle.advertise(None)
    assert client.upload().json()["url"].startswith(client.handle.results_url)


def test_a_reset_begins_again(client: Client) -> None:
    client.create(key="one")
    client.handle.fault("create", "status", status=500)
    client.handle.reset()
    assert client.credits() == 1000
    assert client.handle.tasks() == []
    assert client.create(key="one").status_code == 201


def test_many_orders_at_once_are_kept_apart(start: Start) -> None:
    client = start(latency=0.3, credits=100_000, megapixels=0.004)

    def buy(number: int) -> bytes:
        task = client.finished({**ORDER, "prompt": f"order {number}"}, key=f"key-{number}")
        return web().get(task["result"]["primary_url"]).content

    with ThreadPoolExecutor(8) as threads:
        pictures = list(threads.map(buy, range(40)))
    assert len(set(pictures)) == 40
    assert len(client.handle.charges()) == 40


def test_a_process_of_its_own_has_the_same_control() -> None:
    options = {
        "latency": 0.1,
        "credits": 50,
        "megapixels": 0.004,
        "reject_repeats": True,
        "latencies": (0.0, 0.05),
    }
    with sandbox.spawned(**options) as handle:
        client = Client(handle)
        client.finished(key="one")
        assert client.create(key="one").status_code == 409
        assert client.credits() == 46
        assert [task["latency"] for task in handle.tasks()] == [0.0]
        handle.fault("credits", "status", status=503)
        assert client.get("/api/v1/credits").status_code == 503
        for origin in ("api", "results"):
            handle.close_listener(600, origin)
            handle.wait("credits", count=2)
            handle.clear_faults()
        with pytest.raises(ValueError, match="action must be"):
            handle.fault("credits", "explode")
        with pytest.raises(ValueError, match="no operation"):
            handle.call("unknown")
        pid = handle.pid
    assert pid is not None


def test_several_accounts_survive_the_command_line() -> None:
    accounts = {"alice": {"keys": ["rvya_sk_a1", "rvya_sk_a2"], "credits": 9}}
    with sandbox.spawned(accounts=accounts) as handle:
        assert handle.key == "rvya_sk_a1"
        assert Client(handle, "rvya_sk_a2").credits() == 9


@pytest.fixture
def started() -> Iterator[subprocess.Popen[str]]:
    """``python -m sandbox`` as a person starts it; it does not outlive the test."""
    command = [sys.executable, "-m", "sandbox", "--port", "0", "--latency", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        yield process
        process.kill()


@pytest.mark.skipif(sys.platform == "win32", reason="signals are sent otherwise there")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_at_once_even_in_the_middle_of_a_stall(
    started: subprocess.Popen[str], number: signal.Signals
) -> None:
    assert started.stdout is not None
    lines = [started.stdout.readline(), started.stdout.readline()]
    url = lines[0].split("API on ")[1].split(",")[0]
    assert all("no real service" in line for line in lines)
    assert "rvya_sk_sandbox" in lines[1]
    order = {"endpoint": "credits", "action": "stall"}
    assert web().post(f"{url}/_sandbox/fault", json=order).status_code == 200
    stalled = threading.Thread(target=lambda: _ignore(f"{url}/api/v1/credits"))
    stalled.start()
    assert (
        web().post(f"{url}/_sandbox/wait", json={"endpoint": "credits", "stage": "received"}).json()["result"]
    )
    before = time.monotonic()
    started.send_signal(number)
    started.wait(5)
    stalled.join(5)
    assert time.monotonic() - before < 3
    assert all("no real service" in line for line in started.stdout)


def _ignore(url: str) -> None:
    try:
        web().get(url, timeout=10)
    except httpx.HTTPError:
        pass


def test_a_port_that_is_taken_is_said_in_one_line(client: Client) -> None:
    port = str(httpx.URL(client.handle.url).port)
    found = subprocess.run(
        [sys.executable, "-m", "sandbox", "--port", port],
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=30,
    )
    assert found.returncode == 1
    assert "Traceback" not in found.stderr
    assert port in found.stderr
