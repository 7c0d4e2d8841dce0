"""Rivya Collect Tasks: fetches pictures that were paid for and not delivered. Never spends."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from ..rivya import kontext
from ..rivya.errors import costs_nothing
from . import host, limits, users, waiting
from .notes import said
from .submit_and_wait import outputs
from .v3 import advanced, io, schema

if TYPE_CHECKING:
    from ..rivya.ledger.ledger import OrderRow

_TASK_ID = r"[A-Za-z0-9_-]{1,128}"


class RivyaCollectTasks(io.ComfyNode):
    """Collects the named tasks, or every accepted task that was not delivered."""

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
                        min=kontext.MIN_TIMEOUT_S,
                        max=kontext.MAX_TIMEOUT_S,
                        optional=True,
                        tooltip="Seconds to wait for each picture that is not ready yet.",
                    )
                ),
            ],
            outputs=outputs(),
        )

    @classmethod
    def fingerprint_inputs(cls, **_: object) -> float:
        """NaN: what can be collected changes without the inputs, so the node always runs."""
        return float("nan")

    @classmethod
    async def execute(cls, task_ids: str, timeout_s: int = 900) -> io.NodeOutput:
        from ..rivya.engine import engine
        from .outputs import ExpectedRow, finish

        timeout_s = kontext.validate_timeout(timeout_s)
        config = await waiting.result(engine.shared().codec(host.load_config))
        most = min(config.max_orders_per_node, limits.MOST_IN_A_BATCH)
        named = parse_task_ids(task_ids, most)
        config.require_key()
        rows = await waiting.result(engine.shared().collectable(config, named))
        user = users.current()
        if user is not None and not named:
            rows = [row for row in rows if row.details.get("user", "") == user]
        if not rows:
            host.say_last([said("nothing")])
            return io.NodeOutput(*[host.blocked()] * 4)
        unique: dict[str, OrderRow] = {row.fingerprint: row for row in rows[:most]}
        more = max(0, len(rows) - most)
        return await finish(
            config,
            [
                ExpectedRow(
                    None,
                    row.details.get("variation"),
                    key,
                    {**row.details, "model": row.model, "task_id": row.task_id},
                )
                for key, row in unique.items()
            ],
            [engine.shared().collect(config, fingerprint) for fingerprint in unique],
            timeout_s,
            remedy=lambda count: said("collectAgain", count=count),
            skip_failed=not named,
            notes=[said("moreLeft", count=more)] if more else [],
        )


@costs_nothing()
def parse_task_ids(text: str, most: int = kontext.MAX_ORDERS) -> list[str]:
    """The distinct task IDs in a text, separated by white space or commas.

    Raises:
        ValidationError: too long a text, no task ID, or more than ``most``.
    """
    from ..rivya.errors import ValidationError

    longest = max(64, most) * 256
    if not isinstance(text, str) or len(text) > longest:
        raise ValidationError(f"task_ids is not a text of at most {longest:,} characters.")
    found = [word for word in dict.fromkeys(re.split(r"[\s,]+", text)) if word]
    for word in found:
        if not re.fullmatch(_TASK_ID, word):
            raise ValidationError(f"{ascii(word)[:60]} is not a task id.")
    if len(found) > most:
        raise ValidationError(f"task_ids names {len(found)} tasks; at most {most} are collected at once.")
    return found
