"""Finds connected inputs without a value: the node must not buy without them.

ComfyUI's frontend removes a link to a muted or bypassed node from the prompt, so that the input looks unconnected.
The workflow sent for the pictures' metadata still has the link.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..rivya.errors import costs_nothing
from . import host

_OUTSIDE = "-10"
"""The node that stands for a subgraph's inputs (``SUBGRAPH_INPUT_ID`` of the frontend)."""

_MODES = {2: "muted", 4: "bypassed"}


@costs_nothing()
def refuse_missing(hidden: Any, values: Mapping[str, object]) -> None:
    """Refuse a run in which a connected input got no value.

    Args:
        hidden: the node's hidden values; needs ``dynprompt`` and ``extra_pnginfo``.
        values: value by input; None is no value.

    Raises:
        ValidationError: names the input and, if the workflow tells, the node behind the link.
    """
    from ..rivya.errors import ValidationError

    for name, value in values.items():
        if value is None and (source := _source(hidden, name)) is not None:
            raise ValidationError(
                f"{name} is connected, but nothing comes over the link{source}.",
                hint=f"Switch on what is connected to {name}, or remove the link to go without.",
                code="nothing_over_link",
            )


def _source(hidden: Any, name: str) -> str | None:
    """A phrase about the node behind the link, empty if unknown; None if nothing is connected."""
    node_id = host.executing()[1]
    sent = host.prompt_inputs(hidden.dynprompt, node_id).get(name)
    try:
        drawn = _Workflow(hidden.extra_pnginfo["workflow"]).source(node_id, name)
    except (AttributeError, IndexError, KeyError, TypeError, ValueError):
        drawn = None  # no workflow, or an API client's own form
    return "" if drawn is None and isinstance(sent, list) else drawn


class _Workflow:
    """A workflow in the frontend's form, schema version 0.4 or 1."""

    def __init__(self, workflow: dict[str, Any]) -> None:
        self._workflow = workflow
        definitions = workflow.get("definitions") or {}
        self._subgraphs = {each["id"]: each for each in definitions.get("subgraphs") or []}

    def source(self, node_id: str, name: str) -> str | None:
        """As `_source`. In an execution ID such as ``12:5``, node 5 is in the subgraph that node 12 shows."""
        graphs, instances = [self._workflow], []
        *outer, last = node_id.split(":")
        for number in outer:
            instances.append(_by_id(graphs[-1]["nodes"], number))
            graphs.append(self._subgraphs[instances[-1]["type"]])
        node = _by_id(graphs[-1]["nodes"], last)
        while (link := _link(graphs[-1], _by_name(node["inputs"], name))) is not None:
            origin, slot = link
            if origin != _OUTSIDE:
                return _described(_by_id(graphs[-1]["nodes"], origin))
            name = graphs.pop()["inputs"][slot]["name"]
            node = instances.pop()
        return None


def _link(graph: dict[str, Any], entry: dict[str, Any]) -> tuple[str, int] | None:
    for link in graph["links"]:
        names = ("id", "origin_id", "origin_slot")
        fields = link if isinstance(link, dict) else dict(zip(names, link, strict=False))
        if entry.get("link") is not None and fields["id"] == entry["link"]:
            return str(fields["origin_id"]), int(fields["origin_slot"])
    return None


def _by_id(nodes: list[dict[str, Any]], node_id: str) -> dict[str, Any]:
    return next((node for node in nodes if str(node["id"]) == node_id), {})


def _by_name(inputs: list[dict[str, Any]], name: str) -> dict[str, Any]:
    return next((entry for entry in inputs if entry["name"] == name), {})


def _described(node: dict[str, Any]) -> str:
    title = " ".join(str(node.get("title") or node.get("type") or "a node").split())[:60]
    mode = _MODES.get(node.get("mode", 0))
    return f" from {title}" + (f", which is {mode}" if mode else "")
