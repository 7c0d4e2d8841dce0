"""Rivya Prompt List: several prompts, each for every picture."""

from __future__ import annotations

import re
import unicodedata

from ..rivya import kontext
from ..rivya.errors import ValidationError, costs_nothing
from . import host, waiting
from .notes import said
from .v3 import io, schema

_ENDS = ".!?,;:…。！？，；：、"
_LABEL_CHARACTERS = 60


class RivyaPromptList(io.ComfyNode):
    """ComfyUI runs the connected node once per item of the list."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="RivyaPromptList",
            display_name="Rivya Prompt List",
            description="One prompt a line: connected to Rivya Submit and Wait, each is ordered for every reference. "
            "The badge there shows the price before you run.",
            inputs=[
                io.String.Input(
                    "prompts",
                    multiline=True,
                    tooltip="One prompt a line. Blank lines and lines that begin with # are left out. At most 64.",
                ),
                io.String.Input(
                    "always",
                    default="",
                    tooltip="Put behind each prompt, for example: keep everything else as it is",
                ),
            ],
            outputs=[
                io.String.Output(
                    display_name="prompt", is_output_list=True, tooltip="Connect to Rivya Submit and Wait."
                ),
                io.String.Output(
                    display_name="label",
                    is_output_list=True,
                    tooltip="A short name for each prompt, safe in file names: for filename_prefix of Save Image.",
                ),
            ],
        )

    @classmethod
    @costs_nothing()
    async def execute(cls, prompts: str, always: str = "") -> io.NodeOutput:
        from ..rivya.engine import engine

        kontext.validate_text("prompts", prompts)
        kontext.validate_text("always", always)
        lines = prompt_lines(prompts)
        if not lines:
            raise ValidationError("There is no prompt. Write one a line.", code="no_prompt")
        most = (await waiting.result(engine.shared().codec(host.load_config))).max_orders_per_node
        if len(lines) > most:
            raise ValidationError(
                f"There are {len(lines)} prompts; at most {most} can be ordered in one run.",
                hint="Use fewer prompts at once, or raise max_orders_per_node in config.json: max_credits_per_run "
                "there caps what a run may spend.",
                code="too_many_orders",
            )
        whole = [with_always(line, always) for line in lines]
        repeated = len(whole) - len(set(whole))
        again = [said("repeated", count=repeated)] if repeated else []
        host.say_last([said("prompts", count=len(whole)), *again])
        return io.NodeOutput(whole, [label(number, line) for number, line in enumerate(lines, 1)])


def prompt_lines(text: str) -> list[str]:
    """The lines of a text, without blank ones and those that begin with #."""
    lines = (line.strip() for line in text.splitlines())
    return [line for line in lines if line and not line.startswith("#")]


def with_always(line: str, always: str) -> str:
    more = always.strip()
    if not more:
        return line
    return f"{line}{' ' if line[-1] in _ENDS else ', '}{more}"


def label(number: int, line: str) -> str:
    """``01 make it night``: only letters, digits, spaces, hyphens and underscores."""
    kept = (
        letter if letter.isalnum() or letter in " -_" else " "
        for letter in unicodedata.normalize("NFC", line)
    )
    words = re.sub(r"\s+", " ", "".join(kept)).strip()
    return f"{number:02d} {words[:_LABEL_CHARACTERS]}".strip()
