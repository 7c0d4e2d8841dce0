"""What nodes of other packs give, and what the frontend takes away, in a real ComfyUI."""

from __future__ import annotations

from typing import Any

import pytest

from devtools.comfyui import Finished
from support.cases import slow_but
from support.comfy import Graph, RivyaComfyUI, edit_graph, random_picture
from support.service import Watched


def run_as_drawn(comfy: RivyaComfyUI, graph: Graph, *nodes: dict[str, Any], **more: Any) -> Finished:
    """Run a graph with the workflow that the frontend sends beside it; node 9 of it is the one that submits."""
    workflow = {"nodes": [*nodes], "links": [[1, 7, 0, 9, 1, "RIVYA_REFERENCE"]], **more}
    graph["9"] = graph.pop("edit")
    graph["save"]["inputs"]["images"] = ["9", 0]
    return comfy.wait(comfy.queue(graph, {"extra_pnginfo": {"workflow": workflow}}))


def drawn(node_id: int, kind: str, mode: int = 0, link: int | None = None, **more: Any) -> dict[str, Any]:
    inputs = [
        {"name": "params", "link": None},
        {"name": "reference", "type": "RIVYA_REFERENCE", "link": link},
    ]
    return {"id": node_id, "type": kind, "mode": mode, "inputs": inputs, **more}


def refusal(finished: Finished, service: Watched) -> str:
    """The text of the error of a run that must have sent nothing but uploads."""
    assert finished.error is not None, finished.explain()
    assert finished.error["exception_type"] == "rivya.ValidationError", finished.explain()
    assert not service.requests("create")
    return str(finished.error["exception_message"])


@pytest.mark.parametrize("mode, word", [(2, "muted"), (4, "bypassed")])
def test_a_reference_that_is_switched_off_buys_nothing(
    comfy: RivyaComfyUI, service: Watched, mode: int, word: str
) -> None:
    upload = drawn(7, "RivyaUploadReference", mode, title="My photo")
    finished = run_as_drawn(comfy, edit_graph(None), upload, drawn(9, "RivyaSubmitAndWait", link=1))
    text = refusal(finished, service)
    assert f"reference is connected, but nothing comes over the link from My photo, which is {word}." in text
    assert "No credits were charged." in text
    assert not service.requests()


WORKFLOWS: dict[str, object] = {
    "none": None,
    "empty": {},
    "a list": [],
    "nodes that are a number": {"nodes": 5},
    "a node without inputs": {"nodes": [{"id": 9}], "links": []},
    "no nodes": {"nodes": [], "links": []},
}


@pytest.mark.parametrize("name", slow_but(WORKFLOWS, "none", "a node without inputs"))
def test_what_was_never_connected_is_made_from_text(comfy: RivyaComfyUI, service: Watched, name: str) -> None:
    graph = edit_graph(None)
    graph["9"] = graph.pop("edit")
    graph["save"]["inputs"]["images"] = ["9", 0]
    finished = comfy.wait(comfy.queue(graph, {"extra_pnginfo": {"workflow": WORKFLOWS[name]}}))
    assert finished.succeeded, finished.explain()
    assert service.charges() == [4]


@pytest.mark.parametrize("name", ["reference", "params"])
def test_a_switch_that_gives_nothing_buys_nothing(comfy: RivyaComfyUI, service: Watched, name: str) -> None:
    graph = edit_graph(None)
    graph["switch"] = {"class_type": "NothingOr", "inputs": {}}
    graph["edit"]["inputs"][name] = ["switch", 0]
    assert f"{name} is connected" in refusal(comfy.run(graph), service)


def test_nothing_in_a_list_of_references_stops_them_all_before_the_first_order(
    comfy: RivyaComfyUI, service: Watched
) -> None:
    graph = edit_graph(comfy.put_image(random_picture()))
    graph["switch"] = {"class_type": "NothingOr", "inputs": {"value": ["reference", 0]}}
    graph["edit"]["inputs"]["reference"] = ["switch", 0]
    assert "reference is connected" in refusal(comfy.run(graph), service)


def given(graph: Graph, **names: str) -> Graph:
    """The graph with values of `other_nodes.VALUES`, by their names, at inputs of the submitting node."""
    for at, name in names.items():
        graph[f"give {at}"] = {"class_type": "GiveValue", "inputs": {"name": name}}
        graph["edit"]["inputs"][at] = [f"give {at}", 0]
    return graph


@pytest.mark.parametrize(
    ("name", "seed"),
    [
        ("uint64", 2**64 - 1),
        pytest.param("int32", 3, marks=pytest.mark.slow),
        pytest.param("float32", 2, marks=pytest.mark.slow),
        pytest.param("float", 5, marks=pytest.mark.slow),
        pytest.param("tensor of one", 8, marks=pytest.mark.slow),
        ("bfloat16", 6),
    ],
)
def test_a_seed_of_another_node_is_the_seed_of_the_widget(
    comfy: RivyaComfyUI, service: Watched, name: str, seed: int
) -> None:
    graph = edit_graph(None)
    prompt = graph["edit"]["inputs"]["prompt"]
    for each in (
        given(edit_graph(None, prompt=prompt), seed=name),
        edit_graph(None, prompt=prompt, seed=seed),
    ):
        finished = comfy.run(each)
        assert finished.succeeded, finished.explain()
    assert service.charges() == [4]


@pytest.mark.parametrize("name", slow_but(["fraction", "nan", "infinity", "two"], "fraction"))
@pytest.mark.parametrize("at", ["seed", "variations", "timeout_s"])
def test_what_is_no_whole_number_is_refused_by_the_name_of_its_input(
    comfy: RivyaComfyUI, service: Watched, at: str, name: str
) -> None:
    assert refusal(comfy.run(given(edit_graph(None), **{at: name})), service).startswith(f"{at} is ")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["numpy false", "tensor false"])
def test_booleans_of_another_node_are_taken(comfy: RivyaComfyUI, service: Watched, name: str) -> None:
    graph = edit_graph(None)
    graph["edit"]["inputs"]["params"] = ["params", 0]
    graph["params"] = {
        "class_type": "RivyaKontextParams",
        "inputs": {
            "model": "flux-kontext-pro",
            "aspect_ratio": "1:1",
            "output_format": "png",
            "enable_translation": ["give", 0],
            "prompt_upsampling": ["give", 0],
            "safety_tolerance": ["tolerance", 0],
            "watermark": "",
        },
    }
    graph["give"] = {"class_type": "GiveValue", "inputs": {"name": name}}
    graph["tolerance"] = {"class_type": "GiveValue", "inputs": {"name": "tensor"}}
    finished = comfy.run(graph)
    assert finished.succeeded, finished.explain()
    (task,) = service.tasks()
    params = task["params"]
    assert (params["enableTranslation"], params["promptUpsampling"]) == ("false", "false")
    assert params["safetyTolerance"] == 4
