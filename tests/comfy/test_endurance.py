"""Many prompts in a row: what the pack keeps for the life of the process does not grow with them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import psutil
import pytest

import sandbox
from support.comfy import Graph, RivyaComfyUI, edit_graph, new_seed

pytestmark = [pytest.mark.comfy, pytest.mark.long, pytest.mark.timeout(900)]


def look_only(seed: int, number: int) -> Graph:
    """One picture from text, looked at and not saved; ``number`` makes ComfyUI run it though it ran before."""
    graph = edit_graph(None, seed=seed, client_request_id=f"prompt-{number}")
    del graph["save"]
    graph["look"] = {"class_type": "PreviewAny", "inputs": {"source": ["edit", 3]}}
    return graph


def left_behind(process: psutil.Process, api_port: int) -> dict[str, Any]:
    sockets = process.net_connections("tcp")
    return {
        "threads": process.num_threads(),
        "files": process.num_fds(),
        "bytes": process.memory_info().rss,
        "to the service": {each.laddr.port for each in sockets if each.raddr and each.raddr.port == api_port},
    }


@pytest.mark.parametrize(
    ("prompts", "every"),
    [(60, 6), pytest.param(1000, 10, marks=pytest.mark.by_hand)],
    ids=["short", "thousand"],
)
def test_prompts_in_a_row_leave_no_threads_sockets_or_memory(
    start_comfyui: Callable[..., RivyaComfyUI], prompts: int, every: int
) -> None:
    """Each ``every``-th order is bought, the others come from the store."""
    with sandbox.running(megapixels=0.004, credits=10**6) as service:
        comfy = start_comfyui(env={"RIVYA_API_KEY": service.key, "RIVYA_BASE_URL": service.url})
        process = psutil.Process(comfy.child.process.pid)
        api_port = int(service.url.rsplit(":", 1)[1])
        seed, warm = 0, prompts // 3 - prompts // 3 % every
        before: dict[str, Any] = {}
        for number in range(prompts + 1):
            if number % every == 0:
                seed = new_seed()
            finished = comfy.run(look_only(seed, number))
            assert finished.succeeded, finished.explain()
            if number == warm:
                before = left_behind(process, api_port)
        after = left_behind(process, api_port)
        assert len(service.tasks()) == prompts // every + 1
    assert after["threads"] <= before["threads"] + 1
    assert after["files"] <= before["files"] + 2
    assert after["to the service"] & before["to the service"], "a new connection was made though one was open"
    assert len(after["to the service"]) <= 1
    if prompts >= 1000:
        assert after["bytes"] - before["bytes"] < (prompts - warm) * 20_000
