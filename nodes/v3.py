"""The one place that imports ComfyUI's node API: the versioned one, so that the schema keeps its meaning."""

from __future__ import annotations

try:
    from comfy_api.v0_0_2 import ComfyAPI, ComfyExtension, io
except ImportError:  # a later ComfyUI that has dropped this version
    from comfy_api.latest import ComfyAPI, ComfyExtension, io

CATEGORY = "Rivya"

ReferenceType = io.Custom("RIVYA_REFERENCE")
ParamsType = io.Custom("RIVYA_PARAMS")
PlacementType = io.Custom("RIVYA_PLACEMENT")

__all__ = ["CATEGORY", "ComfyAPI", "ComfyExtension", "ParamsType", "PlacementType", "ReferenceType", "io"]
