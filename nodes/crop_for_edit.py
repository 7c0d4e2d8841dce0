"""Rivya Crop for Edit: cuts out the part to edit, in a size that the service keeps."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..rivya import kontext
from ..rivya.errors import costs_nothing
from .v3 import PlacementType, io, schema

if TYPE_CHECKING:
    import torch

FITS = ["pad", "crop"]


class RivyaCropForEdit(io.ComfyNode):
    """Uses one shape for the whole batch, so that the crops stay one batch."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="RivyaCropForEdit",
            display_name="Rivya Crop for Edit",
            description="Cuts out what is to be edited, at exactly the size in which Kontext answers, and says how "
            "much detail the answer will have. Rivya Stitch Edit puts the edit back. Costs nothing.",
            inputs=[
                io.Image.Input("image", tooltip="The picture, at any size; or a batch."),
                io.Float.Input(
                    "context",
                    default=2.0,
                    min=1.0,
                    max=8.0,
                    step=0.1,
                    tooltip="How much around the mask Kontext sees, in mask sizes. More shows it more of the scene.",
                ),
                io.Combo.Input(
                    "shape",
                    options=[kontext.AUTO, *kontext.ASPECT_RATIOS],
                    default=kontext.AUTO,
                    tooltip="auto: the shape that keeps most detail. 16:9 is really 1392x752, 4:3 is 1184x880.",
                ),
                io.Combo.Input(
                    "fit",
                    options=FITS,
                    default="pad",
                    tooltip="Where no shape fits. pad: fill up with repeated edges, nothing is lost. crop: leave the "
                    "rest out; it stays as it is.",
                ),
                io.Mask.Input(
                    "mask", optional=True, tooltip="What is to be edited; without it, the whole picture."
                ),
            ],
            outputs=[
                io.Image.Output(display_name="image", tooltip="Connect to Rivya Upload Reference."),
                PlacementType.Output(display_name="placement", tooltip="Connect to Rivya Stitch Edit."),
                io.Mask.Output(display_name="mask", tooltip="The mask in the crop."),
            ],
        )

    @classmethod
    @costs_nothing()
    async def execute(
        cls,
        image: torch.Tensor,
        context: float,
        shape: str,
        fit: str,
        mask: torch.Tensor | None = None,
    ) -> io.NodeOutput:
        from ..rivya.engine import engine
        from . import host, waiting
        from .cropping import cropped, text

        work = engine.shared().codec(cropped, image, context, shape, fit, mask, **host.tensor_placement())
        crops, placements, masks, notes = await waiting.result(work)
        host.say_last([text(placements), *notes])
        return io.NodeOutput(crops, placements, masks)
