"""A pack of custom nodes whose node expands into many of another one, as the loops of popular packs do."""

from __future__ import annotations

from typing import Any

from comfy_execution.graph_utils import GraphBuilder


class RepeatSubmit:
    """``count`` orders by as many nodes, of which the user sees one."""

    RETURN_TYPES = ("STRING",)
    FUNCTION = "repeat"
    CATEGORY = "tests"

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:  # noqa: N802 - ComfyUI's name
        return {"required": {"count": ("INT", {"default": 1}), "first_seed": ("INT", {"default": 0})}}

    def repeat(self, count: int, first_seed: int) -> dict[str, Any]:
        graph = GraphBuilder()
        nodes = [
            graph.node("RivyaSubmitAndWait", prompt="a quiet harbour", seed=first_seed + number, variations=1)
            for number in range(count)
        ]
        joined = nodes[0].out(2)
        for node in nodes[1:]:
            joined = graph.node(
                "StringConcatenate", string_a=joined, string_b=node.out(2), delimiter=" "
            ).out(0)
        return {"result": (joined,), "expand": graph.finalize()}


NODE_CLASS_MAPPINGS = {"RepeatSubmit": RepeatSubmit}
