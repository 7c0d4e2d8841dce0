"""The interface that other people's saved workflows depend on.

``interface.json`` is what the pack has promised: node ids, inputs with order, type, default and range, outputs. A saved
workflow keeps widget values by position and links by name, so nothing in it may change or move. What may be added: a
node, an optional input after all others, an option, an output at the end; then it is added to the file as well.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from support.comfy import RivyaComfyUI

PROMISED: dict[str, Any] = json.loads(Path(__file__).with_name("interface.json").read_text("utf-8"))

# Words for people, which may be improved at any time.
_WORDS = ("tooltip", "placeholder", "display_name", "advanced", "socketless")


def interface(info: dict[str, Any]) -> dict[str, Any]:
    """What of one node's /object_info a saved workflow depends on."""
    return {
        "display_name": info["display_name"],
        "category": info["category"],
        "output_node": info["output_node"],
        "inputs": [
            [name, "required" if group == "required" else "optional", kind(spec), options(spec)]
            for group in ("required", "optional")
            for name in info["input_order"].get(group, [])
            for spec in [info["input"][group][name]]
        ],
        "outputs": [
            list(one)
            for one in zip(*(info[f"output{part}"] for part in ("", "_name", "_is_list")), strict=True)
        ],
    }


def kind(spec: list[Any]) -> str:
    return spec[0] if isinstance(spec[0], str) else "COMBO"


def options(spec: list[Any]) -> dict[str, Any]:
    found = dict(spec[1]) if len(spec) > 1 else {}
    if not isinstance(spec[0], str):
        found["options"] = spec[0]
    return {name: value for name, value in sorted(found.items()) if name not in _WORDS and value is not None}


def test_the_nodes_are_what_saved_workflows_depend_on(comfyui: RivyaComfyUI) -> None:
    info = comfyui.object_info()
    nodes = {name: interface(node) for name, node in info.items() if name.startswith("Rivya")}
    assert nodes == PROMISED


def test_no_node_claims_to_be_one_of_comfyui_s_own(comfyui: RivyaComfyUI) -> None:
    nodes = [node for name, node in comfyui.object_info().items() if name.startswith("Rivya")]
    assert len(nodes) == len(PROMISED)
    for node in nodes:
        assert not node.get("api_node")
        assert node["python_module"] == "custom_nodes.rivya-nodes"
        assert not node["deprecated"]


def test_each_input_and_output_says_what_it_is(comfyui: RivyaComfyUI) -> None:
    for name, node in comfyui.object_info().items():
        if not name.startswith("Rivya"):
            continue
        assert node["description"]
        for group in ("required", "optional"):
            for input_name, spec in node["input"].get(group, {}).items():
                assert len(spec) > 1, f"{name}.{input_name}"
                assert spec[1].get("tooltip"), f"{name}.{input_name}"
        assert all(node["output_tooltips"]), name
