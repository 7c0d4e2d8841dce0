"""Rivya Kontext Params: model and parameters as one value."""

from __future__ import annotations

from ..rivya import kontext
from ..rivya.errors import costs_nothing
from .v3 import ParamsType, advanced, io, schema


class RivyaKontextParams(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            "RivyaKontextParams",
            display_name="Rivya Kontext Params",
            description="Model and parameters for Rivya Submit and Wait. Costs nothing.",
            inputs=[
                io.Combo.Input(
                    "model",
                    options=list(kontext.MODELS),
                    default=kontext.DEFAULT_MODEL,
                    tooltip="flux-kontext-pro: 4 credits a picture. flux-kontext-max: 8, better with text and detail.",
                ),
                io.Combo.Input(
                    "aspect_ratio",
                    options=[kontext.AUTO, *kontext.ASPECT_RATIOS],
                    default=kontext.AUTO,
                    tooltip="auto: the ratio nearest to the reference; 16:9 without a reference. "
                    "Real sizes differ a little: 16:9 is 1392x752, 4:3 is 1184x880. "
                    "A 3:2 photo becomes 4:3 and loses a tenth, or is squeezed; "
                    "Rivya Crop for Edit prevents that.",
                ),
                io.Combo.Input(
                    "output_format",
                    options=list(kontext.OUTPUT_FORMATS),
                    default="jpeg",
                    tooltip="jpeg is smaller and faster; png has no compression artefacts.",
                ),
                io.Boolean.Input(
                    "enable_translation",
                    default=True,
                    tooltip="Let Rivya translate a prompt that is not English.",
                ),
                io.Boolean.Input(
                    "prompt_upsampling",
                    default=False,
                    tooltip="Let the model expand the prompt: more detail, less literal.",
                ),
                advanced(
                    io.Int.Input(
                        "safety_tolerance",
                        default=2,
                        min=kontext.SAFETY_MIN,
                        max=kontext.SAFETY_MAX,
                        tooltip="0 is strict, 6 permissive. Edits may be held to a narrower range than new pictures.",
                    )
                ),
                advanced(
                    io.String.Input(
                        "watermark", default="", tooltip="Text drawn into the picture; empty: none."
                    )
                ),
            ],
            outputs=[ParamsType.Output(display_name="params", tooltip="Connect to Rivya Submit and Wait.")],
        )

    @classmethod
    @costs_nothing()
    def execute(
        cls,
        model: str,
        aspect_ratio: str,
        output_format: str,
        enable_translation: bool,
        prompt_upsampling: bool,
        safety_tolerance: int,
        watermark: str,
    ) -> io.NodeOutput:
        params = kontext.KontextParams(
            model=model,
            aspect_ratio=aspect_ratio,
            output_format=output_format,
            enable_translation=enable_translation,
            prompt_upsampling=prompt_upsampling,
            safety_tolerance=safety_tolerance,
            watermark=watermark,
        )
        return io.NodeOutput(params.validate())
