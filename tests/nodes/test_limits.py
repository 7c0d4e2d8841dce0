"""What one prompt may order, and what it may spend: the calls for a list input are counted together."""

from __future__ import annotations

import asyncio
from itertools import count
from typing import Any

import pytest

from library.pack import limits
from rivya.errors import Charged, ConfigurationError, ValidationError

_prompts = (f"prompt-{number}" for number in count())


@pytest.fixture
def prompt() -> str:
    return next(_prompts)


def ordering(*calls: tuple[str, str, int]) -> list[Any]:
    """Each call (prompt, node, orders) at 4 credits an order, begun one after the other; what came of it."""

    async def main() -> list[Any]:
        tasks = []
        for prompt_id, node_id, orders in calls:
            tasks.append(asyncio.ensure_future(limits.count_orders(prompt_id, node_id, orders, 4 * orders)))
            await asyncio.sleep(0)
        return await asyncio.gather(*tasks, return_exceptions=True)

    return asyncio.run(main())


def test_up_to_64_orders_of_a_node_are_allowed(prompt: str) -> None:
    assert ordering((prompt, "1", 64)) == [None]


def test_more_are_refused_with_their_number_and_price_before_anything_is_sent(prompt: str) -> None:
    (error,) = ordering((prompt, "1", 65))
    assert isinstance(error, ValidationError)
    assert error.code == "too_many_orders"
    assert "65 pictures for 260 credits" in error.message
    assert error.charged is Charged.NO


def test_all_calls_for_a_list_are_counted_before_any_of_them_goes_on(prompt: str) -> None:
    outcomes = ordering(*[(prompt, "1", 1)] * 65)
    assert all(isinstance(outcome, ValidationError) for outcome in outcomes)
    assert "65 pictures" in outcomes[0].message


def test_a_list_within_the_limit_goes_on(prompt: str) -> None:
    assert ordering(*[(prompt, "1", 8)] * 8) == [None] * 8


def test_each_node_and_each_prompt_counts_for_itself(prompt: str) -> None:
    assert ordering((prompt, "1", 64), (prompt, "2", 64), (f"{prompt}-next", "1", 64)) == [None] * 3


def test_what_ran_long_ago_is_forgotten() -> None:
    for _ in range(50):
        ordering((next(_prompts), "1", 1))
    assert len(limits._prompts) <= limits._KEPT + 1


def test_without_a_cap_anything_may_be_spent(prompt: str) -> None:
    limits.reserve_credits(prompt, None, {"a": 10_000})


def test_all_nodes_of_a_prompt_share_the_cap(prompt: str) -> None:
    limits.reserve_credits(prompt, 12, {"a": 4, "b": 4})
    with pytest.raises(ConfigurationError) as caught:
        limits.reserve_credits(prompt, 12, {"c": 4, "d": 4})
    assert caught.value.code == "over_credit_cap"
    assert "16 credits" in caught.value.message
    assert "12" in caught.value.message
    limits.reserve_credits(prompt, 12, {"c": 4})


def test_the_same_order_in_two_nodes_counts_once(prompt: str) -> None:
    limits.reserve_credits(prompt, 4, {"a": 4})
    limits.reserve_credits(prompt, 4, {"a": 4})


def test_what_was_refused_is_not_counted(prompt: str) -> None:
    with pytest.raises(ConfigurationError):
        limits.reserve_credits(prompt, 4, {"a": 4, "b": 4})
    limits.reserve_credits(prompt, 4, {"a": 4})


def test_a_cap_of_nothing_allows_what_costs_nothing(prompt: str) -> None:
    limits.reserve_credits(prompt, 0, {})
    with pytest.raises(ConfigurationError):
        limits.reserve_credits(prompt, 0, {"a": 4})
