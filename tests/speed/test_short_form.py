"""The bench in a short form: that it measures what it says, not how fast the machine is at this moment.

Figures are shown by ``python dev.py bench``; here the work behind them is small, and only what does not depend on the
machine is judged.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import edits, load, report
from benchmarks.run import Bench
from support.comfy import comfyui_folder

pytestmark = [pytest.mark.long, pytest.mark.xdist_group("bench")]


@pytest.mark.comfy
@pytest.mark.timeout(300)
def test_both_sides_edit_and_the_second_run_costs_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COMFYUI_DIR", str(comfyui_folder()))
    monkeypatch.setattr(edits, "MEAN_S", 1.5)
    monkeypatch.setattr(edits, "DEVIATION_S", 0.3)
    bench = Bench(quick=True, work=tmp_path, out=tmp_path)
    bench.edits()
    ours, core = bench.found["ours"], bench.found["core"]
    assert ours["second_run"]["requests"] == 0
    assert ours["many"]["orders"] == 16
    assert ours["noticing"]["lag_s"] > 0
    assert min(core["single"]["each_s"]) > 0
    judged = {row["what"] for row in report.rows(bench.found) if row["target"] is not None}
    assert {
        "one edit: overhead, ours / core's node",
        "noticing the end, mean",
        "questions an order",
        "eight edits, one batch: wall / longest service time",
        "second identical run of 8: time",
        "second identical run of 8: requests",
    } <= judged
    assert "second identical run" in report.table(report.rows(bench.found))


def test_all_orders_in_flight_are_open_at_once() -> None:
    found = load.in_flight(20)
    assert found["orders"] == 20
    assert found["all_open_at_once"]


def test_the_ledgers_that_are_compared_have_the_sizes_that_they_say() -> None:
    found = load.ledger_growth((10, 300), 4)
    assert list(found["sizes"]) == ["10", "300"]
    assert all(cost["order_ms"] > 0 and cost["lookup_ms"] > 0 for cost in found["sizes"].values())
