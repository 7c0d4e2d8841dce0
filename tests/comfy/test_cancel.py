"""Cancel, time limits and failures elsewhere: the graph ends at once, what was paid for is not lost."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from typing import Any

import pytest

from support.cases import slow_but
from support.comfy import Graph, RivyaComfyUI, edit_graph, eventually, random_picture
from support.service import Watched

SLACK_S = 4.0
"""Far below any stall that is ordered here, and wide enough for a busy machine; the benchmark measures the seconds."""

STATES = {
    "uploading": [{"endpoint": "upload", "action": "stall", "seconds": 30}],
    "submitting": [{"endpoint": "create", "action": "stall", "seconds": 4, "when": "after"}],
    "polling": [{"endpoint": "status", "action": "stall", "seconds": 30}],
    "downloading": [{"endpoint": "result", "action": "slow", "chunk": 64, "interval": 0.1}],
}


def order(service: Watched, faults: list[dict[str, Any]]) -> None:
    for fault in faults:
        fault = dict(fault)
        service.fault(fault.pop("endpoint"), fault.pop("action"), **fault)


def cancel(comfy: RivyaComfyUI, prompt_id: str) -> float:
    """Cancel and give the seconds until ComfyUI reports it as a cancel, not as an error."""
    began = time.monotonic()
    comfy.interrupt()
    finished = comfy.wait(prompt_id, 20)
    took = time.monotonic() - began
    assert finished.interrupted, finished.explain()
    return took


def assert_quiet(comfy: RivyaComfyUI) -> None:
    """Nothing in ComfyUI's log about what was left in its event loop."""
    for complaint in ("never retrieved", "was destroyed", "was never awaited", "Unclosed", "unclosed"):
        assert complaint not in comfy.child.log()


def stored(comfy: RivyaComfyUI) -> int:
    """How many results lie whole in the result store."""
    return len(list((comfy.home / "results").glob("*.json")))


def free_graph() -> Graph:
    """A graph without our nodes, to see that ComfyUI goes on."""
    return {
        "empty": {
            "class_type": "EmptyImage",
            "inputs": {"width": 64, "height": 64, "batch_size": 1, "color": 0},
        },
        "save": {"class_type": "SaveImage", "inputs": {"images": ["empty", 0], "filename_prefix": "free"}},
    }


@pytest.mark.parametrize("state", slow_but(STATES, "submitting", "polling"))
def test_cancel_answers_at_once_and_running_again_pays_nothing_twice(
    comfy: RivyaComfyUI, service: Watched, state: str
) -> None:
    order(service, STATES[state])
    endpoint = str(STATES[state][0]["endpoint"])
    graph = edit_graph(comfy.put_image(random_picture()))
    prompt_id = comfy.queue(graph)
    eventually(lambda: bool(service.requests(endpoint)), f"a request to {endpoint}")
    assert cancel(comfy, prompt_id) < SLACK_S
    service.clear_faults()  # or what was paid for is collected in the background as slowly as it began
    assert comfy.run(free_graph(), 5).succeeded
    again = comfy.run(graph)
    assert again.succeeded, again.explain()
    assert len(service.tasks()) == 1
    assert_quiet(comfy)


def test_cancel_answers_while_a_large_picture_is_packed(comfy: RivyaComfyUI, service: Watched) -> None:
    graph = edit_graph(comfy.put_image(random_picture(3000, 2400)))
    with comfy.listen() as heard:
        prompt_id = comfy.queue(graph)
        heard.wait_for("executing", lambda message: message["node"] == "reference")
        assert cancel(comfy, prompt_id) < SLACK_S
    assert comfy.run(free_graph(), 5).succeeded
    assert service.requests() == []
    assert_quiet(comfy)


def test_a_cancelled_batch_of_eight_is_collected_in_the_background(
    comfy: RivyaComfyUI, service: Watched
) -> None:
    service.fault("create", "latency", seconds=2.0, times=None)
    kept = stored(comfy)
    graph = edit_graph(None, variations=8)
    prompt_id = comfy.queue(graph)
    eventually(lambda: len(service.tasks()) == 8, "eight tasks")
    assert cancel(comfy, prompt_id) < SLACK_S
    eventually(lambda: stored(comfy) == kept + 8, "eight results in the store after the cancel")
    before = len(service.requests())
    again = comfy.run(graph)
    assert again.succeeded, again.explain()
    assert len(comfy.pictures(again)) == 8
    assert len(service.requests()) == before
    assert len(service.tasks()) == 8


def test_orders_that_wait_for_a_place_are_dropped_by_a_cancel(comfy: RivyaComfyUI, service: Watched) -> None:
    comfy.configure(api_key=service.key, base_url=service.url, max_concurrency=2)
    service.fault("create", "latency", seconds=2.0, times=None)
    prompt_id = comfy.queue(edit_graph(None, variations=8))
    eventually(lambda: len(service.tasks()) == 2, "two tasks")
    assert cancel(comfy, prompt_id) < SLACK_S
    eventually(lambda: len(service.requests("result")) == 2, "both are collected")
    assert len(service.tasks()) == 2


def test_the_text_after_a_cancel_says_how_to_get_the_picture(comfy: RivyaComfyUI, service: Watched) -> None:
    service.fault("create", "latency", seconds=3.0, times=None)
    graph = edit_graph(None, seed=(seed := 77_001))
    with comfy.listen() as heard:
        prompt_id = comfy.queue(graph)
        eventually(lambda: len(service.tasks()) == 1, "a task")
        eventually(lambda: any("running" in text for _, text in heard.progress_texts()), "a status text")
        cancel(comfy, prompt_id)
        eventually(lambda: heard.progress_texts()[-1][1].startswith("Cancelled."), "the last text")
        assert f"seed {seed}" in heard.progress_texts()[-1][1]
        assert "Rivya Collect Tasks" in heard.progress_texts()[-1][1]


def test_a_failure_of_another_node_leaves_the_order_to_the_engine(
    comfy: RivyaComfyUI, service: Watched
) -> None:
    service.fault("create", "latency", seconds=2.0, times=None)
    graph = edit_graph(None)
    broken = edit_graph(None, prompt="refused")["edit"]
    graph["other"] = {**broken, "inputs": {**broken["inputs"], "client_request_id": "x" * 200}}
    graph["other"]["inputs"].pop("params")
    graph["look"] = {"class_type": "PreviewAny", "inputs": {"source": ["other", 3]}}
    failed = comfy.run(graph)
    assert failed.error is not None
    del graph["other"], graph["look"]
    again = comfy.run(graph)
    assert again.succeeded, again.explain()
    assert len(service.tasks()) == 1


@pytest.mark.slow
def test_the_time_limit_is_an_error_with_the_task_and_the_way_on(
    comfy: RivyaComfyUI, service: Watched
) -> None:
    service.fault("create", "latency", seconds=33.0, times=None)
    graph = edit_graph(None, timeout_s=30)
    failed = comfy.run(graph, 60)
    assert failed.error is not None
    assert failed.error["exception_type"].endswith("RivyaTimeoutError")
    (task,) = service.tasks()
    assert task["id"] in failed.error["exception_message"]
    assert "costs nothing more" in failed.error["exception_message"]
    again = comfy.run(graph, 60)
    assert again.succeeded, again.explain()
    assert len(service.tasks()) == 1


@pytest.mark.slow
@pytest.mark.parametrize("sign", [signal.SIGTERM, signal.SIGINT])
def test_quitting_with_open_orders_is_not_delayed_and_the_next_start_resumes(
    start_comfyui: Callable[..., RivyaComfyUI], service: Watched, sign: signal.Signals
) -> None:
    service.fault("create", "latency", seconds=6.0, times=None)
    comfy = start_comfyui(env={"RIVYA_API_KEY": service.key, "RIVYA_BASE_URL": service.url})
    graph = edit_graph(None, variations=4)
    comfy.queue(graph)
    eventually(lambda: len(service.tasks()) == 4, "four tasks")
    began = time.monotonic()
    comfy.child.process.send_signal(sign)
    comfy.child.process.wait(20)
    took = time.monotonic() - began
    assert_quiet(comfy)
    service.clear_faults()
    next_one = start_comfyui(env={"RIVYA_API_KEY": service.key, "RIVYA_BASE_URL": service.url})
    again = next_one.run(graph)
    assert again.succeeded, again.explain()
    assert len(next_one.pictures(again)) == 4
    assert len(service.tasks()) == 4
    began = time.monotonic()
    next_one.child.process.send_signal(sign)
    next_one.child.process.wait(20)
    idle = time.monotonic() - began
    assert took < idle + SLACK_S, (took, idle)
