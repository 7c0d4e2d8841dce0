"""Rivya Credits: the account's balance."""

from __future__ import annotations

from ..rivya.errors import costs_nothing
from . import host, waiting
from .notes import said
from .v3 import io, schema


class RivyaCredits(io.ComfyNode):
    """Asks the service at every run."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            "RivyaCredits",
            display_name="Rivya Credits",
            description="Shows the credits of the account. Costs nothing.",
            is_output_node=True,
            inputs=[],
            outputs=[
                io.Int.Output(display_name="credits", tooltip="Credits of the account now."),
                io.String.Output(display_name="text", tooltip="The same as a sentence."),
            ],
        )

    @classmethod
    def fingerprint_inputs(cls, **_: object) -> float:
        """NaN: the balance changes without the inputs, so the node always runs."""
        return float("nan")

    @classmethod
    @costs_nothing()
    async def execute(cls) -> io.NodeOutput:
        from ..rivya.engine import engine

        config = await waiting.result(engine.shared().codec(host.load_config))
        config.require_key()
        credits = await waiting.result(engine.shared().credits(config))
        text = f"{credits} credits"
        host.say_last([said("balance", count=credits)])
        return io.NodeOutput(credits, text, ui={"text": (text,)})
