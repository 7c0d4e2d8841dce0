"""Bulk jobs: when the first order goes out and the first file is there, how long all take, and how much memory.

The real command line in a process of its own, beside a sandbox in another one.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

import sandbox

ROOT = Path(__file__).resolve().parent.parent
PHOTO = ROOT / "web" / "sample.jpg"
BOUND = 32
LATENCY_S = 2.0


def main(argv: Sequence[str]) -> int:
    """Measure all and print a table; with ``--quick`` a tenth of the pictures and no large photos."""
    parser = argparse.ArgumentParser(prog="dev.py bench --bulk")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--out", type=Path, metavar="FOLDER", help="write bulk.json there")
    options = parser.parse_args(argv)
    few = 10 if options.quick else 1
    with tempfile.TemporaryDirectory(prefix="rivya-bulk-") as folder:
        work = Path(folder)
        rows = [_start(work, 400 // few)]
        rows += [_memory(work, count // few, 64) for count in (100 * few, 1000, 10_000)]
        rows.append(_stored(work, 10_000 // few))
        if not options.quick:
            rows.append(_memory(work, 300, 12))
    for row in rows:
        print(json.dumps(row))
    if options.out is not None:
        options.out.mkdir(parents=True, exist_ok=True)
        (options.out / "bulk.json").write_text(json.dumps(rows, indent=1) + "\n", "utf-8")
    return 0


def _start(work: Path, count: int) -> dict[str, Any]:
    """Photos of 1 MP, 32 at once, 2 s each: seconds to the first order and file, time / what 32 at a time can do."""
    photos = pictures(work / "photos-1mp", count, (1024, 1024))
    with _service(latency=LATENCY_S) as service:
        began = time.time()
        peak, _ = _edit(work, service, photos, "first")
        wall = time.time() - began
        first_order = min(task["created_at"] for task in service.tasks()) - began
    files = [path.stat().st_mtime for path in (work / "out" / "first").glob("*.jpg")]
    shutil.rmtree(work / "out")
    return {
        "what": f"{count} photos of 1 MP, {BOUND} at once, {LATENCY_S:g} s each",
        "pictures": len(files),
        "first_order_s": round(first_order, 2),
        "first_file_s": round(min(files) - began, 2),
        "wall_s": round(wall, 1),
        "wall_over_ideal": round(wall / (count / BOUND * LATENCY_S), 2),
        "peak_mb": peak,
    }


def _memory(work: Path, count: int, size: int) -> dict[str, Any]:
    """Peak memory for small pictures (``size`` 64: of 64 pixels a side) or large photos (12: of 12 MP)."""
    shape = (64, 64) if size == 64 else (4032, 3024)
    photos = pictures(work / f"photos-{size}", count, shape)
    with _service(latency=0.0) as service:
        began = time.time()
        peak, _ = _edit(work, service, photos, f"memory-{size}-{count}")
        wall = time.time() - began
    return {
        "what": f"{count} pictures of {shape[0]}x{shape[1]}",
        "wall_s": round(wall, 1),
        "a_second": round(count / wall, 1),
        "peak_mb": peak,
    }


def _stored(work: Path, count: int) -> dict[str, Any]:
    """The same pictures again: nothing is asked."""
    with _service(latency=0.0) as service:
        began = time.time()
        peak, told = _edit(work, service, work / "photos-64", f"memory-64-{count}")
        wall = time.time() - began
        requests = len(service.requests())
    return {
        "what": f"{told['stored']} stored pictures again",
        "requests": requests,
        "a_second": round(count / wall, 1),
        "peak_mb": peak,
    }


@contextmanager
def _service(**options: Any) -> Any:
    with sandbox.spawned(port=8979, credits=10**7, megapixels=0.1, **options) as service:
        yield service


def _edit(work: Path, service: Any, photos: Path, name: str) -> tuple[int, dict[str, Any]]:
    """Run the command; peak memory in MB and its last line."""
    env = {
        **os.environ,
        "RIVYA_HOME": str(work / "state"),
        "RIVYA_API_KEY": service.key,
        "RIVYA_BASE_URL": service.url,
        "RIVYA_MAX_CONCURRENCY": str(BOUND),
    }
    words = ["edit", "--batch", str(photos), "make it night", "-o", str(work / "out" / name), "--json"]
    command = [sys.executable, "-m", "rivya", *words, "--max-credits", "1000000"]
    told = work / "told"
    with told.open("w") as out:
        running = subprocess.Popen(command, cwd=ROOT, env=env, stdout=out, stderr=subprocess.DEVNULL)
        peak = 0
        # The usage that the system tells at the end counts what this process had when it started the other.
        while running.poll() is None:
            peak = max(peak, _peak_mb(running.pid))
            time.sleep(0.1)
    if running.returncode:
        raise AssertionError(told.read_text("utf-8")[-2000:])
    return peak, json.loads(told.read_text("utf-8").splitlines()[-1])


def _peak_mb(pid: int) -> int:
    """The most memory that a process has had, in MB; 0 once it has ended."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text("ascii").splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) // 1000 for line in lines if line.startswith("VmHWM")), 0)


def pictures(folder: Path, count: int, size: tuple[int, int]) -> Path:
    """Different photographs of one size; those that are there already stay."""
    folder.mkdir(parents=True, exist_ok=True)
    pixels = np.asarray(Image.open(PHOTO).convert("RGB").resize(size))
    for number in range(count):
        path = folder / f"p{number:05}.jpg"
        if not path.exists():
            shifted = np.roll(pixels, number * 7, axis=1).copy()
            shifted[number % len(shifted)] = number % 251
            Image.fromarray(shifted).save(path, quality=90)
    return folder
