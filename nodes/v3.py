"""The only import of ComfyUI's node API, in a fixed version, so that the schema keeps its meaning."""

from __future__ import annotations

import dataclasses
from typing import Any, TypeVar

try:
    from comfy_api.v0_0_2 import ComfyAPI, ComfyExtension, io
except ImportError:  # a later ComfyUI that has dropped this version
    from comfy_api.latest import ComfyAPI, ComfyExtension, io

from .search_terms import SEARCH_TERMS

CATEGORY = "Rivya"

ReferenceType = io.Custom("RIVYA_REFERENCE")
ParamsType = io.Custom("RIVYA_PARAMS")
PlacementType = io.Custom("RIVYA_PLACEMENT")

_Input = TypeVar("_Input", bound=io.Input)


def schema(node_id: str, **values: Any) -> io.Schema:
    """The schema of a node, with search terms from ComfyUI 0.10 on."""
    known = {field.name for field in dataclasses.fields(io.Schema)}
    terms = {"search_aliases": SEARCH_TERMS.get(node_id, [])} if "search_aliases" in known else {}
    return io.Schema(node_id=node_id, category=CATEGORY, **values, **terms)


def advanced(widget: _Input) -> _Input:
    """Mark an input as advanced: Nodes 2.0 shows it behind "Show advanced inputs" (ComfyUI 0.10)."""
    if hasattr(widget, "advanced"):
        widget.advanced = True
    return widget


__all__ = [
    "CATEGORY",
    "ComfyAPI",
    "ComfyExtension",
    "ParamsType",
    "PlacementType",
    "ReferenceType",
    "advanced",
    "io",
    "schema",
]
