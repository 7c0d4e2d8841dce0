"""What one prompt may order: a graph cannot spend more than it shows, nor more than its owner allows.

ComfyUI calls a node once for each item of a list input, all in one prompt; those calls are counted together here. The
counts of a prompt live as long as one of its nodes uses them.
"""

from __future__ import annotations

import asyncio
from weakref import WeakValueDictionary

from ..rivya.errors import ConfigurationError, ValidationError, costs_nothing
from ..rivya.kontext import MAX_ORDERS


class _Counts:
    """What the nodes of one prompt have asked for so far."""

    def __init__(self) -> None:
        self.orders: dict[str, int] = {}
        self.credits: dict[str, int] = {}
        self.bought: dict[str, int] = {}


_prompts: WeakValueDictionary[str, _Counts] = WeakValueDictionary()
_recent: list[_Counts] = []
_KEPT = 4
"""Counts of so many prompts are kept alive: a node that ends before the next one begins must not reset them."""


def _counts(prompt_id: str) -> _Counts:
    counts = _prompts.get(prompt_id)
    if counts is None:
        counts = _prompts[prompt_id] = _Counts()
        _recent.append(counts)
        del _recent[:-_KEPT]
    return counts


@costs_nothing()
async def count_orders(prompt_id: str, node_id: str, orders: int, credits: int) -> None:
    """Count what one call of a node is about to order, together with the other calls for its list input.

    Call it before the first ``await`` of the node: ComfyUI starts the calls for a list one after the other, one in each
    turn of its event loop, so that all are counted before any of them goes on.

    Raises:
        ValidationError: over 64 orders; it names the count and the price.
    """
    counts = _counts(prompt_id)
    counts.orders[node_id] = counts.orders.get(node_id, 0) + orders
    counts.credits[node_id] = counts.credits.get(node_id, 0) + credits
    before, quiet_turns = -1, 0
    while quiet_turns < 3:
        quiet_turns = quiet_turns + 1 if counts.orders[node_id] == before else 0
        before = counts.orders[node_id]
        await asyncio.sleep(0)
    if counts.orders[node_id] > MAX_ORDERS:
        raise ValidationError(
            f"This node would order {counts.orders[node_id]} pictures for {counts.credits[node_id]} credits; "
            f"at most {MAX_ORDERS} are allowed in one run.",
            hint="Use fewer references or variations, or split the batch.",
            code="too_many_orders",
        )


def counted(prompt_id: str, node_id: str) -> tuple[int, int]:
    """Orders and their credits of all calls of a node in this prompt; see `count_orders`."""
    counts = _counts(prompt_id)
    return counts.orders.get(node_id, 0), counts.credits.get(node_id, 0)


@costs_nothing()
def reserve_credits(prompt_id: str, cap: int | None, prices: dict[str, int]) -> None:
    """Count the credits of new orders (price by fingerprint) against ``max_credits_per_run``; all of them, or none.

    Raises:
        ConfigurationError: all nodes of this prompt together would spend more.
    """
    counts = _counts(prompt_id)
    wanted = {**counts.bought, **prices}
    if cap is not None and sum(wanted.values()) > cap:
        raise ConfigurationError(
            f"This run would spend {sum(wanted.values())} credits; max_credits_per_run in config.json allows {cap}.",
            hint="Order less at once, or raise the cap.",
            code="over_credit_cap",
        )
    counts.bought = wanted
