"""More than one node may order at once: what the error advises works, and the owner may raise the limit."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from PIL import Image

import sandbox
from devtools.comfyui import Finished
from support.comfy import Graph, RivyaComfyUI, edit_graph, random_picture
from support.service import Watched


@pytest.fixture
def service() -> Iterator[Watched]:
    """A sandbox whose pictures are tiny and quick: there are many."""
    with sandbox.running(megapixels=0.004, credits=10_000) as running:
        running.fault("create", "latency", seconds=0.1, times=None)
        yield Watched(running)


@pytest.fixture
def comfy(comfy: RivyaComfyUI, service: Watched) -> RivyaComfyUI:
    comfy.configure(api_key=service.key, base_url=service.url)
    return comfy


def batch_of(comfy: RivyaComfyUI, count: int, name: str) -> Graph:
    """An edit of that many pictures, as Load Image gives them for an animation."""
    first, *others = [Image.fromarray(random_picture(40, 24)) for _ in range(count)]
    first.save(comfy.base / "input" / name, save_all=True, append_images=others, lossless=True)
    return edit_graph(name)


def part(graph: Graph, first: int, length: int) -> Graph:
    """The same graph for some pictures of the batch."""
    graph = {name: {**node, "inputs": dict(node["inputs"])} for name, node in graph.items()}
    graph["part"] = {
        "class_type": "ImageFromBatch",
        "inputs": {"image": ["photo", 0], "batch_index": first, "length": length},
    }
    graph["reference"]["inputs"]["image"] = ["part", 0]
    return graph


def refusal(finished: Finished) -> str:
    assert finished.error is not None, finished.explain()
    return str(finished.error["exception_message"])


def test_a_batch_beyond_the_limit_is_ordered_in_parts_as_the_error_says(
    comfy: RivyaComfyUI, service: Watched
) -> None:
    comfy.configure(api_key=service.key, base_url=service.url, max_orders_per_node=3)
    graph = batch_of(comfy, 5, "five.webp")
    text = refusal(comfy.run(graph))
    assert "5 pictures" in text
    for advice in ("ImageFromBatch", "length 3", "max_orders_per_node"):
        assert advice in text
    assert not service.requests()
    for first in (0, 3):
        finished = comfy.run(part(graph, first, 3))
        assert finished.succeeded, finished.explain()
    assert service.charges() == [4] * 5
    comfy.configure(api_key=service.key, base_url=service.url, max_orders_per_node=5)
    finished = comfy.run(graph)
    assert finished.succeeded, finished.explain()
    assert service.charges() == [4] * 5
    assert len(comfy.pictures(finished)) == 5


def test_variations_and_prompts_beyond_the_limit_are_refused_with_number_and_price(
    comfy: RivyaComfyUI, service: Watched
) -> None:
    comfy.configure(api_key=service.key, base_url=service.url, max_orders_per_node=3)
    assert "4 pictures for 16 credits; at most 3" in refusal(comfy.run(edit_graph(None, variations=4)))
    graph = edit_graph(None, prompt=["list", 0], variations=2)
    graph["list"] = {"class_type": "RivyaPromptList", "inputs": {"prompts": "one\ntwo", "always": ""}}
    assert "4 pictures for 16 credits; at most 3" in refusal(comfy.run(graph))
    assert not service.requests("create")


@pytest.mark.slow
def test_the_owner_may_allow_more_than_64(comfy: RivyaComfyUI, service: Watched) -> None:
    graph = batch_of(comfy, 66, "many.webp")
    assert "66 pictures" in refusal(comfy.run(graph, 240))
    comfy.configure(
        api_key=service.key, base_url=service.url, max_orders_per_node=66, max_credits_per_run=263
    )
    assert "264 credits" in refusal(comfy.run(graph, 240))
    assert not service.requests("create")
    comfy.configure(api_key=service.key, base_url=service.url, max_orders_per_node=66, max_concurrency=66)
    finished = comfy.run(graph, 240)
    assert finished.succeeded, finished.explain()
    assert sum(service.charges()) == 66 * 4
    assert len(comfy.pictures(finished)) == 66
    graph["edit"] = {"class_type": "RivyaCollectTasks", "inputs": {"task_ids": "\n".join(ids(service))}}
    finished = comfy.run({name: graph[name] for name in ("edit", "save")})
    assert len(comfy.pictures(finished)) == 66, finished.explain()
    assert sum(service.charges()) == 66 * 4


def ids(service: Watched) -> list[str]:
    return [task["id"] for task in service.tasks()]


@pytest.mark.slow
def test_a_list_of_more_than_64_prompts_is_ordered_where_the_owner_allows_it(
    comfy: RivyaComfyUI, service: Watched
) -> None:
    graph = edit_graph(None, prompt=["list", 0])
    lines = "\n".join(f"a harbour, number {number}" for number in range(65))
    graph["list"] = {"class_type": "RivyaPromptList", "inputs": {"prompts": lines, "always": ""}}
    assert "max_orders_per_node" in refusal(comfy.run(graph, 240))
    comfy.configure(api_key=service.key, base_url=service.url, max_orders_per_node=65, max_concurrency=65)
    finished = comfy.run(graph, 240)
    assert finished.succeeded, finished.explain()
    assert sum(service.charges()) == 65 * 4


def test_what_no_batch_in_memory_can_hold_is_refused_before_it_is_bought(
    comfy: RivyaComfyUI, service: Watched
) -> None:
    comfy.configure(api_key=service.key, base_url=service.url, max_orders_per_node=10_000)
    graph = batch_of(comfy, 31, "long.webp")
    graph["edit"]["inputs"]["variations"] = 16
    text = refusal(comfy.run(graph))
    assert "496 pictures are too many for memory" in text
    assert not service.requests("create")
