"""Rivya Stitch Edit: puts the edit back into the photo, at the photo's size."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from ..rivya.errors import costs_nothing
from .v3 import PlacementType, io, schema

if TYPE_CHECKING:
    import torch

    from ..rivya.stitching import Placement

KEEPS = ["auto", "mask", "changed", "mask and changed", "all"]


class RivyaStitchEdit(io.ComfyNode):
    """Takes all pictures of a run in one call, so that edits find their originals at any sizes."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="RivyaStitchEdit",
            display_name="Rivya Stitch Edit",
            description="Puts an edit back into the original: aligned, in its colours, at full size, with only what "
            "was edited in it. Every other pixel stays as it was. Costs nothing, works with any editor.",
            is_input_list=True,
            inputs=_inputs(),
            outputs=[
                io.Image.Output(
                    display_name="images",
                    is_output_list=True,
                    tooltip="The originals at their size, with the edit in them.",
                ),
                io.Mask.Output(
                    display_name="masks",
                    is_output_list=True,
                    tooltip="How much of the edit is in each pixel, at full size.",
                ),
                io.Image.Output(
                    display_name="layers",
                    is_output_list=True,
                    tooltip="The whole edit laid over the original, not blended: for layers in another program.",
                ),
                io.String.Output(display_name="report", tooltip="What was done with each picture, as JSON."),
            ],
        )

    @classmethod
    @costs_nothing()
    async def execute(
        cls,
        original: list[torch.Tensor],
        edited: list[torch.Tensor],
        keep: list[str],
        align: list[bool],
        match_color: list[bool],
        feather: list[float],
        placement: list[tuple[Placement, ...]] | None = None,
        mask: list[torch.Tensor] | None = None,
        report: list[str] | None = None,
    ) -> io.NodeOutput:
        from ..rivya.engine import engine
        from ..rivya.stitching import Options
        from . import host, stitching, waiting

        options = Options(keep[0], align[0], match_color[0], feather[0]).validate()
        work = await waiting.result(
            engine.shared().codec(stitching.Work, original, edited, placement, mask, report, options)
        )
        batches, pictures = await work.done()
        host.say_last(stitching.texts(pictures))
        return io.NodeOutput(
            batches.images, batches.masks, batches.layers, json.dumps({"pictures": pictures}, indent=1)
        )


def _inputs() -> list[Any]:
    return [
        io.Image.Input("original", tooltip="What was edited, at any size: one picture or a batch."),
        io.Image.Input(
            "edited",
            tooltip="The edits of it. Several edits of each picture: all of the first, then all of the next.",
        ),
        io.Combo.Input(
            "keep",
            options=KEEPS,
            default="auto",
            tooltip="What of the edit to keep. auto: what lies under the mask; without a mask, what changed.",
        ),
        io.Boolean.Input(
            "align",
            default=True,
            tooltip="Find where the edit lies: models give it back a little larger or shifted.",
        ),
        io.Boolean.Input(
            "match_color",
            default=True,
            tooltip="Give the edit the colours of the original. Turn it off where light or colour is the edit.",
        ),
        io.Float.Input(
            "feather",
            default=1.0,
            min=0.0,
            max=10.0,
            step=0.1,
            tooltip="Width of the soft edge in % of the shorter side of the edited part; it lies inside the mask.",
        ),
        PlacementType.Input(
            "placement",
            optional=True,
            tooltip="From Rivya Crop for Edit; without it the whole picture was edited.",
        ),
        io.Mask.Input(
            "mask", optional=True, tooltip="Where the edit may show. Wins over the mask in placement."
        ),
        io.String.Input(
            "report",
            optional=True,
            force_input=True,
            tooltip="From Rivya Submit and Wait: which edit is of which picture, where some are missing.",
        ),
    ]
