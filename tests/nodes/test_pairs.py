"""Which edit belongs to which original, from counts or from the report of Rivya Submit and Wait."""

from __future__ import annotations

import json
from importlib import import_module
from typing import Any

import pytest
import torch

from library.pack import PACK

stitching = import_module(f"{PACK}.nodes.stitching")
Refused = import_module(f"{PACK}.rivya.errors").ValidationError
EDITS = [torch.full((2, 4, 6, 3), 0.1), torch.full((1, 8, 4, 3), 0.2)]


def order(reference: Any, batch: Any, position: Any = 0) -> dict[str, Any]:
    return {"reference": reference, "batch": batch, "position": position}


def report(*orders: dict[str, Any]) -> list[str]:
    return [json.dumps({"orders": orders})]


def test_a_report_names_the_original_of_each_edit() -> None:
    said = report(order(0, 0, 1), order(1, 1), order(2, None, None), order(None, 0))
    found = stitching.pairs(3, EDITS, said)
    assert [number for number, _ in found] == [0, 1, 0]
    assert [tuple(edit.shape) for _, edit in found] == [(4, 6, 3), (8, 4, 3), (4, 6, 3)]


@pytest.mark.parametrize(
    "said",
    [
        ["no JSON"],
        ["[" * 100_000],
        ["[]"],
        ['{"orders": "none"}'],
        ['{"orders": [1]}'],
        report(order(0, -1)),
        report(order(0, 0, -1)),
        report(order(0, 0, "0")),
        report(order("0", 0)),
        report(order(0, True)),
        report({"reference": 0, "batch": 0}),
    ],
    ids=lambda said: said[0][:40],
)
def test_what_is_no_report_is_refused_by_name(said: list[str]) -> None:
    with pytest.raises(Refused, match="report is not the report") as caught:
        stitching.pairs(1, EDITS, said)
    assert caught.value.code == "not_a_report"


@pytest.mark.parametrize(
    ("originals", "edits", "said", "names"),
    [
        (2, EDITS, None, "2 originals and 3 edits"),
        (2, [], None, "2 originals and 0 edits"),
        (0, EDITS, None, "0 originals and 3 edits"),
        (1, EDITS, report(order(1, 0)), "1 originals"),
        (1, EDITS, report(order(0, 2)), "2 batches"),
        (1, EDITS, report(), "no picture"),
    ],
)
def test_counts_that_do_not_fit_are_named(
    originals: int, edits: list[torch.Tensor], said: list[str] | None, names: str
) -> None:
    with pytest.raises(Refused, match=names) as caught:
        stitching.pairs(originals, edits, said)
    assert caught.value.code == "counts_do_not_fit"
