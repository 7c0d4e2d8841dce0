"""Limits on what one prompt may order: never more than the graph shows or the owner allows.

ComfyUI calls a node once per item of a list input; the calls of one prompt are counted together.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from weakref import WeakValueDictionary

from ..rivya.errors import ValidationError, costs_nothing
from ..rivya.kontext import MAX_ORDERS


class _Counts:
    def __init__(self) -> None:
        self.orders: dict[str, int] = {}
        self.credits: dict[str, int] = {}
        self.bought: dict[str, int] = {}


_prompts: WeakValueDictionary[str, _Counts] = WeakValueDictionary()
_recent: list[_Counts] = []
MOST_IN_A_BATCH = 480
"""Pictures of a megapixel, as the service makes them, that fit into ``tensors.MAX_PIXELS_TOGETHER``."""

_KEPT = 4
"""Prompts whose counts are kept alive, also between the end of one node and the start of the next."""


async def _default() -> int:
    return MAX_ORDERS


def _counts(prompt_id: str) -> _Counts:
    counts = _prompts.get(prompt_id)
    if counts is None:
        counts = _prompts[prompt_id] = _Counts()
        _recent.append(counts)
        del _recent[:-_KEPT]
    return counts


@costs_nothing()
async def count_orders(
    prompt_id: str, node_id: str, orders: int, credits: int, most: Callable[[], Awaitable[int]] = _default
) -> None:
    """Count the orders of all calls of a node in this prompt.

    Call it before the node's first ``await``: ComfyUI starts the calls for a list one per turn of its event loop, and
    all must be counted before one goes on.

    Args:
        most: returns the limit; awaited after counting.

    Raises:
        ValidationError: more orders than the limit; names count and price.
    """
    counts = _counts(prompt_id)
    counts.orders[node_id] = counts.orders.get(node_id, 0) + orders
    counts.credits[node_id] = counts.credits.get(node_id, 0) + credits
    before, quiet_turns = -1, 0
    while quiet_turns < 3:
        quiet_turns = quiet_turns + 1 if counts.orders[node_id] == before else 0
        before = counts.orders[node_id]
        await asyncio.sleep(0)
    allowed = await most()
    if counts.orders[node_id] > allowed:
        raise ValidationError(
            f"This node would order {counts.orders[node_id]} pictures for {counts.credits[node_id]} credits; "
            f"at most {allowed} are allowed in one run.",
            hint=in_parts(allowed),
            code="too_many_orders",
        )


def in_parts(most: int) -> str:
    """A hint on ordering more pictures. Other nodes that split a batch make lists, whose calls run in one prompt."""
    return (
        "Use fewer prompts or variations, or order a batch in parts, a run for each: ImageFromBatch before Rivya "
        f"Upload Reference, with length {most} and batch_index 0, then {most}, and so on. Or raise max_orders_per_node "
        "in config.json: max_credits_per_run there caps what a run may spend."
    )


@costs_nothing()
def refuse_beyond_memory(pictures: int) -> None:
    """Refuse more pictures than fit into the one batch of a call.

    Raises:
        ValidationError: more than `MOST_IN_A_BATCH`.
    """
    if pictures > MOST_IN_A_BATCH:
        raise ValidationError(
            f"{pictures} pictures are too many for memory as one batch; {MOST_IN_A_BATCH} are the most.",
            hint=in_parts(MOST_IN_A_BATCH),
            code="too_many_orders",
        )


def counted(prompt_id: str, node_id: str) -> tuple[int, int]:
    """Orders and credits so far; see `count_orders`."""
    counts = _counts(prompt_id)
    return counts.orders.get(node_id, 0), counts.credits.get(node_id, 0)


def reserve_credits(prompt_id: str, cap: int | None, prices: dict[str, int]) -> None:
    """Count the price of each new order, by fingerprint, against ``max_credits_per_run``: all or none.

    Raises:
        ConfigurationError: all nodes of this prompt together would spend more.
    """
    from ..rivya import plan

    counts = _counts(prompt_id)
    wanted = {**counts.bought, **prices}
    plan.stay_under_the_cap(wanted, cap)
    counts.bought = wanted
