"""Rivya Collect Tasks: pictures that were paid for and never arrived. Never spends."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from ..rivya import scalars
from ..rivya.errors import costs_nothing
from . import host, waiting
from .notes import said
from .submit_and_wait import outputs
from .v3 import advanced, io, schema

if TYPE_CHECKING:
    from ..rivya.ledger.ledger import OrderRow

MAX_TASKS = 64
_TASK_ID = r"[A-Za-z0-9_-]{1,128}"


class RivyaCollectTasks(io.ComfyNode):
    """Brings the pictures of named tasks, or of all that were accepted and never delivered."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            "RivyaCollectTasks",
            display_name="Rivya Collect Tasks",
            description="Brings pictures that were paid for and never arrived. Never costs credits.",
            is_output_node=True,
            inputs=[
                io.String.Input(
                    "task_ids",
                    multiline=True,
                    default="",
                    tooltip="One a line. Empty: everything of this account that was paid for and never delivered.",
                ),
                advanced(
                    io.Int.Input(
                        "timeout_s",
                        default=900,
                        min=30,
                        max=86400,
                        optional=True,
                        tooltip="Seconds to wait for each picture that is not ready yet.",
                    )
                ),
            ],
            outputs=outputs(),
        )

    @classmethod
    def fingerprint_inputs(cls, **_: object) -> float:
        """What there is to collect changes by itself, so this node always runs."""
        return float("nan")

    @classmethod
    async def execute(cls, task_ids: str, timeout_s: int = 900) -> io.NodeOutput:
        from ..rivya.engine import engine
        from .outputs import OutputRow, conclude
        from .progress import Watch

        named = parse_task_ids(task_ids)
        timeout_s = scalars.whole("timeout_s", timeout_s, 30, 86400)
        config = await waiting.result(engine.shared().codec(host.load_config))
        config.require_key()
        rows = await waiting.result(engine.shared().collectable(config, named))
        if not rows:
            host.say_last([said("nothing")])
            return io.NodeOutput(*[host.blocked()] * 4)
        unique: dict[str, OrderRow] = {row.fingerprint: row for row in rows[:MAX_TASKS]}
        tickets = [engine.shared().collect(config, fingerprint) for fingerprint in unique]
        outcomes = await Watch(tickets, timeout_s, lambda count: said("collectAgain", count=count)).outcomes()
        delivered = [
            OutputRow(
                None,
                row.details.get("variation"),
                key,
                outcomes[key],
                {**row.details, "model": row.model, "task_id": row.task_id},
            )
            for key, row in unique.items()
        ]
        more = max(0, len(rows) - MAX_TASKS)
        left = [said("moreLeft", count=more)] if more else []
        return await conclude(delivered, skip_failed=not named, notes=left)


@costs_nothing()
def parse_task_ids(text: str) -> list[str]:
    """The task ids in a text, by white space or commas.

    Raises:
        ValidationError: something in it is not of a task id's form, or there are more than 64.
    """
    from ..rivya.errors import ValidationError

    if not isinstance(text, str) or len(text) > 16_384:
        raise ValidationError("task_ids is not a text of at most 16,384 characters.")
    found = [word for word in dict.fromkeys(re.split(r"[\s,]+", text)) if word]
    for word in found:
        if not re.fullmatch(_TASK_ID, word):
            raise ValidationError(f"{ascii(word)[:60]} is not a task id.")
    if len(found) > MAX_TASKS:
        raise ValidationError(
            f"task_ids names {len(found)} tasks; at most {MAX_TASKS} are collected at once."
        )
    return found
