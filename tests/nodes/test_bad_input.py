"""Values outside the table are refused by name before anything is sent; one of each kind runs in a real ComfyUI."""

from __future__ import annotations

from typing import Any

import pytest

from library.pack import submit_and_wait
from rivya.errors import Charged, ValidationError
from rivya.kontext import KontextParams

GOOD: dict[str, Any] = {
    "prompt": "Make it winter",
    "seed": 0,
    "variations": 1,
    "params": None,
    "reference": None,
    "on_failure": "raise",
    "timeout_s": 900,
    "client_request_id": "",
}


def refusal(name: str, value: Any) -> ValidationError:
    with pytest.raises(ValidationError) as caught:
        submit_and_wait.plan(**{**GOOD, name: value})
    assert caught.value.charged is Charged.NO
    return caught.value


def test_good_values_give_one_order_for_each_variation() -> None:
    orders = submit_and_wait.plan(**{**GOOD, "variations": 16})
    assert [order.identity.variation for order in orders] == list(range(16))


@pytest.mark.parametrize("prompt", ["", "   ", " \n\t "])
def test_a_blank_prompt_is_refused_when_queued_and_again_when_run(prompt: str) -> None:
    node = submit_and_wait.RivyaSubmitAndWait
    assert "blank" in str(node.validate_inputs(prompt=prompt))
    assert "blank" in str(refusal("prompt", prompt))


def test_a_prompt_that_comes_over_a_link_is_not_judged_when_queued() -> None:
    assert submit_and_wait.RivyaSubmitAndWait.validate_inputs() is True


@pytest.mark.parametrize(
    "name, value",
    [
        ("model", "flux-2-pro"),
        ("aspect_ratio", "2:1"),
        ("output_format", "webp"),
        ("watermark", "\ud800"),
        ("safety_tolerance", 7),
        ("safety_tolerance", -1),
        ("safety_tolerance", "high"),
    ],
)
def test_a_parameter_outside_the_table_is_named(name: str, value: Any) -> None:
    assert name in str(refusal("params", KontextParams(**{name: value})))


@pytest.mark.parametrize(
    "name, value",
    [
        ("seed", -1),
        ("seed", 2**64),
        ("seed", True),
        ("variations", 0),
        ("variations", 17),
        ("timeout_s", 29),
        ("timeout_s", "long"),
        ("on_failure", 7),
        ("client_request_id", "x" * 129),
        ("params", "abc"),
        ("params", {}),
        ("reference", [{"url": "https://evil.example/a.png"}]),
        ("reference", 5),
    ],
)
def test_a_setting_out_of_range_is_named(name: str, value: Any) -> None:
    assert name in str(refusal(name, value))
