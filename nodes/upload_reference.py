"""Rivya Upload Reference: uploads pictures as references that the service can edit."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..rivya.errors import costs_nothing
from . import host, waiting
from .notes import said
from .v3 import ReferenceType, io, schema

if TYPE_CHECKING:
    import torch

ENCODINGS = ["auto", "webp", "png", "jpeg"]


class RivyaUploadReference(io.ComfyNode):
    """Uploads each picture once, for as long as the service keeps it."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            "RivyaUploadReference",
            display_name="Rivya Upload Reference",
            description="Uploads pictures to be edited. Costs no credits; the same picture goes up once.",
            inputs=[
                io.Image.Input(
                    "image", tooltip="One picture or a batch; a batch of B pictures gives B references."
                ),
                io.Combo.Input(
                    "encoding",
                    options=ENCODINGS,
                    default="auto",
                    optional=True,
                    tooltip="auto: lossless where it fits into 10 MB, else as little loss as possible.",
                ),
            ],
            outputs=[
                ReferenceType.Output(display_name="reference", tooltip="Connect to Rivya Submit and Wait."),
                io.String.Output(
                    display_name="urls", tooltip="Where the service keeps the uploads, one a line."
                ),
            ],
        )

    @classmethod
    @costs_nothing()
    async def execute(cls, image: torch.Tensor, encoding: str = "auto") -> io.NodeOutput:
        from ..rivya.engine import engine
        from ..rivya.errors import ValidationError
        from . import limits, tensors

        if encoding not in ENCODINGS:
            raise ValidationError(
                f"encoding is {ascii(encoding)[:60]}; it must be one of {', '.join(ENCODINGS)}."
            )
        config = await waiting.result(engine.shared().codec(host.load_config))
        config.require_key()
        frames = await waiting.result(engine.shared().codec(tensors.frames, image))
        if len(frames) > config.max_orders_per_node:
            raise ValidationError(
                f"image is a batch of {len(frames)} pictures; at most {config.max_orders_per_node} can be ordered in "
                "one run.",
                hint=limits.in_parts(config.max_orders_per_node),
                code="too_many_orders",
            )
        jobs = [engine.shared().reference(config, frame, encoding) for frame in frames]
        shown = -1

        async def look() -> None:
            nonlocal shown
            done = sum(job.done.done() for job in jobs)
            if done != shown:
                shown = done
                host.say(f"Uploading {done} of {len(jobs)}")
                await host.progress(done / len(jobs))

        try:
            await look()
            await waiting.until_done(jobs, look)
        finally:
            for job in jobs:
                job.cancel()
        references = tuple(job.done.result() for job in jobs)
        notes = dict.fromkeys(note for reference in references for note in reference.notes)
        host.say_last([said("uploaded", count=len(references)), *notes])
        return io.NodeOutput(references, "\n".join(reference.url for reference in references))
