"""Every workflow that came with version 0.1.0 still means what it meant: its values land in the inputs that they had.

The frontend of ComfyUI puts ``widgets_values`` into the widgets by position, and links go by the position of an output.
"""

from __future__ import annotations

import json
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from library.pack import PACK, submit_and_wait
from rivya.kontext import KontextParams

WORKFLOWS = Path(__file__).with_name("workflows_of_0_1_0")
NAMES = sorted(path.stem for path in WORKFLOWS.glob("*.json"))
MODULES = {
    "RivyaUploadReference": "upload_reference",
    "RivyaKontextParams": "kontext_params",
    "RivyaSubmitAndWait": "submit_and_wait",
    "RivyaCollectTasks": "collect_tasks",
    "RivyaCredits": "credits",
}
LINKED = {"IMAGE", "MASK", "RIVYA_REFERENCE", "RIVYA_PARAMS"}


def nodes(name: str) -> list[dict[str, Any]]:
    """The nodes of this pack in a workflow, those in its subgraphs included."""
    workflow = json.loads((WORKFLOWS / f"{name}.json").read_text("utf-8"))
    graphs = [workflow, *workflow.get("definitions", {}).get("subgraphs", [])]
    return [node for graph in graphs for node in graph["nodes"] if node["type"].startswith("Rivya")]


def interface(node_type: str) -> tuple[dict[str, tuple[Any, dict[str, Any]]], list[tuple[str, str]]]:
    """Inputs by name, in the order of the frontend, and types and names of the outputs, as ComfyUI has them now."""
    node = getattr(import_module(f"{PACK}.nodes.{MODULES[node_type]}"), node_type)
    sections = node.INPUT_TYPES()
    inputs = {**sections.get("required", {}), **sections.get("optional", {})}
    return inputs, list(zip(node.RETURN_TYPES, node.RETURN_NAMES, strict=True))


def fits(kind: Any, options: dict[str, Any], value: Any) -> bool:
    if kind == "INT":
        return type(value) is int and options["min"] <= value <= options["max"]
    if kind == "BOOLEAN":
        return type(value) is bool
    if kind == "STRING":
        return isinstance(value, str)
    return value in (options.get("options") or kind)


def values(node: dict[str, Any]) -> dict[str, Any]:
    """The widgets of a node by name, as the frontend would fill them now."""
    inputs, _ = interface(node["type"])
    widgets = []
    for name, (kind, options) in inputs.items():
        if kind not in LINKED:
            widgets += [name, *(["control"] if options.get("control_after_generate") else [])]
    return dict(zip(widgets, node.get("widgets_values") or [], strict=False))


def test_the_workflows_are_there_and_hold_all_nodes_of_0_1_0() -> None:
    assert len(NAMES) == 8
    assert {node["type"] for name in NAMES for node in nodes(name)} == set(MODULES)


@pytest.mark.parametrize("name", NAMES)
def test_each_value_lands_in_the_widget_that_it_was_saved_from_and_fits(name: str) -> None:
    for node in nodes(name):
        inputs, _ = interface(node["type"])
        filled = values(node)
        saved = [each["name"] for each in node["inputs"] if "widget" in each]
        assert [each for each in filled if each != "control"] == saved
        for widget, value in filled.items():
            if widget == "control":
                assert value in ("fixed", "randomize", "increment", "decrement")
            else:
                assert fits(*inputs[widget], value), (widget, value)


@pytest.mark.parametrize("name", NAMES)
def test_each_link_finds_its_input_and_its_output(name: str) -> None:
    for node in nodes(name):
        inputs, outputs = interface(node["type"])
        linked = {each["name"]: each["type"] for each in node["inputs"] if "widget" not in each}
        assert {each: inputs[each][0] for each in linked} == linked
        assert [(each["type"], each["name"]) for each in node["outputs"]] == outputs[: len(node["outputs"])]


@pytest.mark.parametrize("name", NAMES)
def test_what_a_workflow_orders_is_taken(name: str) -> None:
    for node in nodes(name):
        filled = values(node)
        if node["type"] == "RivyaKontextParams":
            assert KontextParams(**filled).validate() == KontextParams(**filled)
        if node["type"] == "RivyaSubmitAndWait":
            del filled["control"]
            prompt = filled.pop("prompt") or "from the box around it"
            orders = submit_and_wait.plan(prompt, params=None, reference=None, **filled)
            assert [order.identity.seed for order in orders] == [filled["seed"]] * filled["variations"]
