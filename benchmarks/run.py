"""``python dev.py bench``: the pack in a real ComfyUI, beside ComfyUI's own Kontext node in a real ComfyUI.

    python dev.py bench            everything; about twenty minutes; writes docs/bench.json and docs/images/
    python dev.py bench --quick    the same with fewer orders, under three minutes; writes to .dev/bench/
    python dev.py bench --only cancel,ledger

Both sides edit the same kind of pictures (photo-like, 1 MP, never the same twice) and wait for the same service times,
drawn from N(8 s, 2 s). Nothing leaves this machine.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from . import cancel, edits, load, pace, report

ROOT = Path(__file__).resolve().parent.parent
SLOW_BITS_PER_S = 20e6


class Bench:
    """One run: its size, its folder, and what it has found."""

    def __init__(self, quick: bool, work: Path, out: Path) -> None:
        self.quick, self.work, self.out = quick, work, out
        self.comfyui = Path(os.environ["COMFYUI_DIR"])
        self.found: dict[str, Any] = {}

    def edits(self) -> None:
        """One edit, eight, many, and again: ours beside core's, on an unthrottled and on a slow link."""
        picture = edits.a_result(self.work)
        with (
            edits.ours(self.comfyui, self.work) as side,
            edits.core(self.comfyui, self.work, picture) as other,
        ):
            # Both sides mostly wait, so in the quick form they do it together; else one after the other.
            with ThreadPoolExecutor(2 if self.quick else 1) as workers:
                ours, core = workers.submit(self._ours, side), workers.submit(self._core, other)
            self.found["ours"], self.found["core"] = ours.result(), core.result()
        if self.quick:
            return
        with edits.ours(self.comfyui, self.work, SLOW_BITS_PER_S) as side:
            self.found["ours"]["single_slow"] = edits.single_edits(side, 6, seed=12)
        with edits.core(self.comfyui, self.work, picture, SLOW_BITS_PER_S) as other:
            self.found["core"]["single_slow"] = edits.single_edits(other, 6, seed=12)

    def _ours(self, side: edits.Ours) -> dict[str, Any]:
        found = {
            "single": edits.single_edits(side, 2 if self.quick else 20, seed=11),
            "eight": edits.eight_edits(side, 21, "batch"),
            "many": edits.many_edits(side, 2 if self.quick else 8, 8, concurrency=8, seed=31),
            "second_run": edits.second_run(side),
        }
        if not self.quick:
            found["eight_chains"] = edits.eight_edits(side, 21, "chains")
        return {**found, "noticing": edits.noticing(side)}

    def _core(self, side: edits.Core) -> dict[str, Any]:
        found = {"single": edits.single_edits(side, 2 if self.quick else 20, seed=11)}
        noticing = edits.noticing(side)
        return {**found, "eight": edits.eight_edits(side, 21), "noticing": noticing}

    def cancel(self) -> None:
        """Cancel at random moments."""
        self.found["cancel"] = cancel.cancels(self.comfyui, self.work, 8 if self.quick else 50)

    def loop(self) -> None:
        """The engine's event loop under codecs."""
        self.found["loop"] = load.loop_stall(self.comfyui, self.work, 1 if self.quick else 4)
        self.found["lock"] = load.lock_holding()

    def flight(self) -> None:
        """Many orders open at once in one process."""
        self.found["flight"] = load.in_flight(500)

    def ledger(self) -> None:
        """One more order, in ledgers of growing size."""
        sizes = (10, 100, 1000) if self.quick else (10, 100, 1000, 10_000)
        self.found["ledger"] = load.ledger_growth(sizes, 60 if self.quick else 200)

    def pace(self) -> None:
        """The learned pace of polling in simulation."""
        results = pace.simulate(300 if self.quick else 5000, self.out / "images" / "pace.png")
        self.found["pace"] = pace.verdict(results)


PARTS: dict[str, Callable[[Bench], None]] = {
    "pace": Bench.pace,
    "ledger": Bench.ledger,
    "flight": Bench.flight,
    "loop": Bench.loop,
    "cancel": Bench.cancel,
    "edits": Bench.edits,
}


def main(argv: list[str]) -> int:
    """Run the parts that were asked for, print the table, write JSON and plots."""
    parser = argparse.ArgumentParser(prog="dev.py bench", description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="fewer orders, under three minutes")
    parser.add_argument("--only", default="", help=f"some of {','.join(PARTS)}")
    options = parser.parse_args(argv)
    chosen = options.only.split(",") if options.only else list(PARTS)
    if unknown := set(chosen) - set(PARTS):
        parser.error(f"there is no part {', '.join(sorted(unknown))}")
    whole = not options.quick and not options.only
    out = ROOT / "docs" if whole else ROOT / ".dev" / "bench"
    out.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix="rivya-bench-"))
    bench = Bench(options.quick, work, out)
    try:
        for name in chosen:
            began = time.perf_counter()
            print(f"... {name}", flush=True)
            PARTS[name](bench)
            print(f"    {time.perf_counter() - began:.0f} s", flush=True)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    rows = report.rows(bench.found)
    print("\n" + report.table(rows))
    machine = {
        "python": platform.python_version(),
        "system": platform.system(),
        "cpus": os.cpu_count(),
        "load_at_end": os.getloadavg() if hasattr(os, "getloadavg") else None,
    }
    record = {"quick": options.quick, "machine": machine, "rows": rows, "found": bench.found}
    (out / "bench.json").write_text(json.dumps(record, indent=1) + "\n", "utf-8")
    if "ours" in bench.found:
        report.plot(bench.found, out / "images" / "bench.png")
    print(f"\nWritten to {out}")
    return 0 if all(row["met"] is not False for row in rows) else 1
