"""A real ComfyUI is killed with SIGKILL while money is on its way; the same graph runs again in a new one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from support.comfy import RivyaComfyUI, edit_graph, random_picture
from support.service import Watched


@dataclass(frozen=True)
class Moment:
    """What the service does until the kill, and the request that shows that the moment has come."""

    fault: dict[str, Any]
    seen: dict[str, Any]
    orders: int = 1


MOMENTS = {
    "after the work, before the answer": Moment(
        {"endpoint": "create", "action": "stall", "seconds": 60, "when": "after"},
        {"endpoint": "create", "stage": "worked"},
    ),
    "while polling, with eight orders open": Moment(
        {"endpoint": "create", "action": "latency", "seconds": 300, "times": None},
        {"endpoint": "create", "stage": "answered", "count": 8},
        orders=8,
    ),
    "in the middle of the download": Moment(
        {"endpoint": "result", "action": "stall", "seconds": 60, "at_byte": 1000},
        {"endpoint": "result", "stage": "worked"},
    ),
}


@pytest.mark.long
@pytest.mark.comfy
@pytest.mark.timeout(900)
@pytest.mark.parametrize("rounds", [1, pytest.param(9, marks=pytest.mark.by_hand)])
def test_a_killed_comfyui_pays_once_and_delivers_when_its_graph_runs_again(
    start_comfyui: Callable[..., RivyaComfyUI], service: Watched, rounds: int
) -> None:
    comfy = start_comfyui()
    comfy.configure(api_key=service.key, base_url=service.url)
    paid = 0
    for _ in range(rounds):
        for moment in MOMENTS.values():
            graph = edit_graph(comfy.put_image(random_picture()), variations=moment.orders)
            entries = service.book()["requests"]
            earlier = sum(entry["endpoint"] == moment.seen["endpoint"] for entry in entries)
            service.fault(**moment.fault)
            comfy.queue(graph)
            count = earlier + moment.seen.get("count", 1)
            service.wait(**{**moment.seen, "count": count, "timeout": 60.0})
            comfy.child.process.kill()
            comfy.child.process.wait()
            service.clear_faults()
            service.finish_tasks()
            comfy = start_comfyui()
            again = comfy.run(graph)
            assert again.succeeded, again.explain()
            assert len(comfy.pictures(again)) == moment.orders
            paid += moment.orders
            assert len(service.charges()) == len(service.tasks()) == paid
    assert service.violations() == []
