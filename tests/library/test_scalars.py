"""Numbers and booleans as other programs make them: taken in Python's own types, or refused by name."""

from __future__ import annotations

import asyncio
import json
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch

import rivya
from library.client import Client
from library.pack import collect_tasks, submit_and_wait
from rivya.errors import ValidationError
from rivya.kontext import MAX_SEED, Identity, KontextParams
from rivya.stitching import Options, placement
from support.quick import picture

SEVEN: list[Any] = [
    7.0,
    *(kind(7) for kind in (np.uint8, np.int16, np.uint64, np.float16, np.float64, np.longdouble)),
    np.array(7),
    np.array([[7.0]]),
    *(torch.tensor(7, dtype=kind) for kind in (torch.uint8, torch.int64, torch.float16, torch.bfloat16)),
    torch.tensor([7.0], requires_grad=True),
    Fraction(14, 2),
]
FRACTIONS: list[Any] = [7.5, np.float32(7.5), torch.tensor(7.25), Fraction(15, 2)]
NO_NUMBERS: list[Any] = [
    float("nan"),
    np.float32("nan"),
    torch.tensor(float("nan")),
    float("inf"),
    np.float64("-inf"),
    True,
    np.bool_(True),
    torch.tensor(True),
    np.array([1, 2]),
    torch.tensor([1, 2]),
    torch.empty(0),
    torch.empty(1, device="meta"),
    np.datetime64("2026-01-01"),
    7 + 0j,
    np.complex64(7),
    "7",
    b"7",
    [7],
    {"item": 7},
    None,
]
KINDS_OF_TRUTH: list[Any] = [bool, np.bool_, np.array, lambda value: np.array([value]), torch.tensor]
NO_TRUTH: list[Any] = [
    "false",
    0,
    1.0,
    np.int64(1),
    torch.tensor(0),
    np.array([True, False]),
    None,
    float("nan"),
]


def shown(value: object) -> str:
    return f"{type(value).__name__} {value!r}"


def seed_of(value: Any) -> int:
    good = {"params": None, "reference": None, "on_failure": "raise", "client_request_id": ""}
    (order,) = submit_and_wait.plan(prompt="x", seed=value, variations=1, timeout_s=900, **good)
    assert type(order.identity.seed) is int
    return order.identity.seed


@pytest.mark.parametrize("value", SEVEN, ids=shown)
def test_a_seven_of_any_kind_is_seven_everywhere(value: Any) -> None:
    assert seed_of(value) == 7
    assert len(submit_and_wait.plan("x", 0, value, None, None, "raise", 900, "")) == 7
    six = KontextParams(safety_tolerance=value - 1).validate()
    assert json.dumps(six.request_params(None)) == json.dumps(
        KontextParams(safety_tolerance=6).request_params(None)
    )
    assert type(Options(feather=value).validate().feather) is float
    assert placement.choose((300, 200), [None], value) == placement.choose((300, 200), [None], 7)


@pytest.mark.parametrize("value", FRACTIONS + NO_NUMBERS, ids=shown)
def test_what_is_no_whole_number_is_refused_by_name(value: Any) -> None:
    for name, check in {
        "seed": lambda: seed_of(value),
        "variations": lambda: submit_and_wait.plan("x", 0, value, None, None, "raise", 900, ""),
        "timeout_s": lambda: submit_and_wait.plan("x", 0, 1, None, None, "raise", value, ""),
        "safety_tolerance": lambda: KontextParams(safety_tolerance=value).validate(),
    }.items():
        with pytest.raises(ValidationError, match=f"^{name} is .*; it must be a whole number from"):
            check()


@pytest.mark.parametrize("value", NO_NUMBERS, ids=shown)
def test_what_is_no_number_is_refused_where_fractions_are_taken(value: Any) -> None:
    with pytest.raises(ValidationError, match="^feather is .*; it must be a number from 0 to 10"):
        Options(feather=value).validate()
    with pytest.raises(ValidationError, match="^context is .*; it must be a number from 1 to 8"):
        placement.choose((300, 200), [None], value)


@pytest.mark.parametrize("kind", KINDS_OF_TRUTH)
@pytest.mark.parametrize("value", [True, False])
def test_true_and_false_of_any_kind_are_taken(kind: Any, value: bool) -> None:
    chosen = KontextParams(enable_translation=kind(value), prompt_upsampling=kind(value)).validate()
    assert (chosen.enable_translation, chosen.prompt_upsampling) == (value, value)
    assert Options(align=kind(value), match_color=kind(value)).validate() == Options("auto", value, value)


@pytest.mark.parametrize("value", NO_TRUTH, ids=shown)
def test_what_is_neither_true_nor_false_is_refused_by_name(value: Any) -> None:
    for name in ("enable_translation", "prompt_upsampling"):
        with pytest.raises(ValidationError, match=f"^{name} is .*; it must be true or false"):
            KontextParams(**{name: value}).validate()
    for name in ("align", "match_color"):
        with pytest.raises(ValidationError, match=f"^{name} is .*; it must be true or false"):
            Options(**{name: value}).validate()


@pytest.mark.parametrize("value", [np.array(["jpeg", "png"]), torch.tensor([1, 2]), ["jpeg"]], ids=shown)
def test_a_choice_that_is_no_text_is_refused_by_name(value: Any) -> None:
    for name in ("model", "aspect_ratio", "output_format"):
        with pytest.raises(ValidationError, match=f"^{name} is "):
            KontextParams(**{name: value}).validate()
    with pytest.raises(ValidationError, match="^keep is "):
        Options(keep=value).validate()
    with pytest.raises(ValidationError, match="^shape is "):
        placement.choose((300, 200), [None], shape=value)
    with pytest.raises(ValidationError, match="^fit is "):
        placement.choose((300, 200), [None], fit=value)
    with pytest.raises(ValidationError, match="^on_failure is "):
        submit_and_wait.plan("x", 0, 1, None, None, value, 900, "")


def test_seeds_reach_as_far_as_every_seed_in_comfyui() -> None:
    assert MAX_SEED == 0xFFFF_FFFF_FFFF_FFFF
    last = [seed_of(value) for value in (MAX_SEED, np.uint64(MAX_SEED))]
    assert last == [2**64 - 1] * 2
    for beyond in (MAX_SEED + 1, float(MAX_SEED), -1, np.int8(-1)):
        with pytest.raises(ValidationError, match="^seed is .* from 0 to 18446744073709551615"):
            seed_of(beyond)


def test_neighbours_at_the_end_of_the_range_are_different_orders() -> None:
    one, other = (Identity("x", KontextParams(), seed, 0) for seed in (MAX_SEED, MAX_SEED - 1))
    assert one.fingerprint() != other.fingerprint()


def test_the_library_takes_them_and_buys_once(client: Client, service: Any) -> None:
    call: dict[str, Any] = {"image": picture(1), "config": client.config}
    first = rivya.edit("x", seed=MAX_SEED, **call)
    same = rivya.edit(
        "x",
        seed=np.uint64(MAX_SEED),
        variations=torch.tensor(1),
        timeout_s=np.float32(60),
        safety_tolerance=2.0,
        prompt_upsampling=np.bool_(False),
        **call,
    )
    assert (first.source, same.source) == ("new", "stored")
    assert [charge["credits"] for charge in service.charges()] == [4]


@pytest.mark.parametrize("name", ["seed", "variations", "timeout_s", "safety_tolerance", "prompt_upsampling"])
def test_the_library_refuses_by_name_before_anything_is_sent(client: Client, service: Any, name: str) -> None:
    with pytest.raises(ValidationError, match=f"^{name} is "):
        rivya.edit("x", picture(1), config=client.config, **{name: np.float64("nan")})
    with pytest.raises(ValidationError, match="^timeout_s is "):
        rivya.collect(config=client.config, timeout_s=float("nan"))
    assert not service.requests()


def test_collect_tasks_names_a_time_that_is_none() -> None:
    with pytest.raises(ValidationError, match="^timeout_s is "):
        asyncio.run(collect_tasks.RivyaCollectTasks.execute("task_1", float("nan")))
