"""What the client itself costs: the engine's loop under codecs, many orders in flight, a ledger that grows.

Run as a module it is the child process of `in_flight` or `lock_holding`, with nothing else in it to be measured.
"""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from typing import Any

import sandbox

from . import comfy
from .edits import finish_order, history, service_times

ROOT = Path(__file__).resolve().parent.parent


def loop_stall(folder: Path, work: Path, batches: int = 2) -> dict[str, Any]:
    """How late the engine's loop wakes up while eight 4 MP pictures are encoded, uploaded, brought and decoded.

    In a real ComfyUI; beside it a plain thread of the same process, which shows what the interpreter lock and the
    machine alone do. The longest is usually ComfyUI's own ``gc.collect()`` after the prompt.
    """
    late: dict[str, list[float]] = {"loop": [], "thread": []}
    with sandbox.running(credits=10**7, latency=2.0, megapixels=4.0) as service:
        comfyui = comfy.start_ours(
            folder, work / "stall", probe=True, api_key=service.key, base_url=service.url
        )
        try:
            comfyui.run(comfy.text_graph())
            for _ in range(batches):
                graph = comfy.batch_graph(comfy.photographs(comfyui.base / "input", 8, 2048))
                comfyui.call("/bench/watch", {})
                finished = comfyui.run(graph, timeout_s=300)
                for name, found in comfyui.call("/bench/late").items():
                    late[name] += found
                if not finished.succeeded:
                    raise AssertionError(f"the prompt failed: {finished.entry['status']}")
        finally:
            comfyui.stop()
    return {name: _spread(found) for name, found in late.items()}


def _spread(found: Sequence[float]) -> dict[str, float]:
    ordered = sorted(found)
    return {
        "median_ms": 1000 * median(ordered),
        "p99_ms": 1000 * ordered[int(0.99 * len(ordered))],
        "longest_ms": 1000 * ordered[-1],
        "wake_ups": len(ordered),
    }


def in_flight(orders: int) -> dict[str, Any]:
    """So many orders open at once in one process: CPU an order, and memory an open order."""
    with (
        sandbox.spawned(credits=10**7, latency=2.0, megapixels=0.004) as service,
        tempfile.TemporaryDirectory() as home,
    ):
        return _child("in_flight", service.url, service.key, home, str(orders))


def lock_holding() -> dict[str, Any]:
    """The longest time for which each codec keeps another thread of the process from running, ms."""
    return _child("lock_holding")


def _child(*arguments: str) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.load", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=600,
    )
    if done.returncode:
        raise AssertionError(done.stderr[-4000:])
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def ledger_growth(sizes: Sequence[int], samples: int = 60) -> dict[str, Any]:
    """What one more order costs in ledgers of these sizes, ms: written through all states, and looked up.

    Each ledger is filled with copies of one finished order; the orders that are measured go the ordinary way. They take
    turns, so that other work on the machine hits all sizes alike, and the lower quartile is taken.
    """
    from rivya.ledger.holders import FileHolder
    from rivya.ledger.ledger import Ledger

    written: dict[int, list[float]] = {size: [] for size in sizes}
    read: dict[int, list[float]] = {size: [] for size in sizes}
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        ledgers = {}
        for size in sizes:
            home = Path(folder) / str(size)
            history(home, "http://127.0.0.1:1", "bench", service_times(1, seed=1))
            _fill(home, size)
            holder = FileHolder(home)
            ledgers[size] = Ledger(home, holder)
            stack.callback(holder.close)
            stack.callback(ledgers[size].close)
        for number, (size, ledger) in itertools.product(range(samples), ledgers.items()):
            scope = ledger.orders(1)[0].scope
            started = time.perf_counter()
            finish_order(ledger, scope, f"one-more-{number}", 8.0)
            written[size].append(time.perf_counter() - started)
            started = time.perf_counter()
            ledger.newest(scope, "nobody")
            ledger.uncollected(scope)
            read[size].append(time.perf_counter() - started)
    costs = {
        str(size): {"order_ms": _quartile_ms(written[size]), "lookup_ms": _quartile_ms(read[size])}
        for size in sizes
    }
    spread = {}
    for kind in ("order_ms", "lookup_ms"):
        found = [cost[kind] for cost in costs.values()]
        spread[kind] = max(found) / min(found) - 1
    return {"sizes": costs, "spread": spread}


def _quartile_ms(found: Sequence[float]) -> float:
    return 1000 * sorted(found)[len(found) // 4]


def _fill(home: Path, size: int) -> None:
    """Copy the first order until the ledger has ``size`` of them."""
    from sqlite3 import connect

    from rivya.ledger.ledger import FILE_NAME

    connection = connect(home / FILE_NAME)
    columns = [row[1] for row in connection.execute("PRAGMA table_info(orders)")]
    kept = [name for name in columns if name not in ("id", "fingerprint", "task_id")]
    have = connection.execute("SELECT count(*) FROM orders").fetchone()[0]
    connection.execute(
        f"WITH RECURSIVE n(i) AS (SELECT ? UNION ALL SELECT i + 1 FROM n WHERE i < ?) INSERT INTO orders "
        f"(fingerprint, task_id, {', '.join(kept)}) SELECT hex(randomblob(32)), 'task_' || hex(randomblob(12)), "
        f"{', '.join('o.' + name for name in kept)} FROM n, (SELECT * FROM orders ORDER BY id LIMIT 1) o",
        (have + 1, max(size, have + 1)),
    )
    connection.commit()
    connection.close()


def _run_in_flight(url: str, key: str, home: str, orders: str) -> dict[str, Any]:
    import psutil

    from rivya.config import Config
    from rivya.engine import engine
    from rivya.kontext import Identity, KontextParams
    from rivya.orders.order import Order
    from rivya.secret import Secret

    config = Config(home=Path(home), base_url=url, key=Secret(key), max_concurrency=1024)
    process, running = psutil.Process(), engine.shared()

    def order(seed: int) -> Order:
        params = KontextParams(output_format="png")
        return Order(
            Identity(prompt="a lighthouse", params=params, seed=seed, variation=0, reference=None, size=None)
        )

    def walk(seeds: range) -> tuple[float, float, int]:
        cpu, memory = sum(process.cpu_times()[:2]), process.memory_info().rss
        tickets = running.order(config, [order(seed) for seed in seeds])
        highest = 0
        while not all(ticket.done.done() for ticket in tickets):
            highest = max(highest, process.memory_info().rss - memory)
            time.sleep(0.05)
        for ticket in tickets:
            ticket.result(1)
        most = max((ticket.progress.started or 0) for ticket in tickets)
        first_end = min((ticket.progress.started or 0) for ticket in tickets) + 2.0
        return sum(process.cpu_times()[:2]) - cpu, float(highest), int(most < first_end)

    walk(range(20))
    began = time.perf_counter()
    cpu_s, memory, all_open = walk(range(1000, 1000 + int(orders)))
    return {
        "orders": int(orders),
        "wall_s": time.perf_counter() - began,
        "cpu_ms_per_order": 1000 * cpu_s / int(orders),
        "memory_kb_per_order": memory / 1024 / int(orders),
        "all_open_at_once": bool(all_open),
    }


def _run_lock_holding() -> dict[str, Any]:
    import numpy as np

    from rivya.images import decode, encode

    draw = np.random.default_rng(1)
    smooth = np.add.outer(np.arange(2048), np.arange(2048))[:, :, None] / 17 + np.array([0, 40, 80])
    pixels = (smooth + draw.normal(0, 1.2, (2048, 2048, 3))).astype(np.uint8)
    files = {name: encode.encode(pixels, name).data for name in ("png", "webp", "jpeg")}
    work: dict[str, Callable[[], Any]] = {"pixel hash": lambda: encode.pixel_hash(pixels)}
    work |= {f"encode {name}": lambda name=name: encode.encode(pixels, name) for name in files}
    work |= {f"decode {name}": lambda data=data: decode.decode(data) for name, data in files.items()}
    return {name: _held_ms(each) for name, each in work.items()}


def _held_ms(work: Callable[[], Any]) -> float:
    """The longest that this thread was late, ms, while another one did the work (median of three times)."""
    found = []
    for _ in range(3):
        thread = threading.Thread(target=work)
        thread.start()
        longest = 0.0
        while thread.is_alive():
            due = time.perf_counter() + 0.0005
            time.sleep(0.0005)
            longest = max(longest, time.perf_counter() - due)
        found.append(1000 * longest)
    return median(found)


if __name__ == "__main__":
    print(
        json.dumps(
            {"in_flight": _run_in_flight, "lock_holding": _run_lock_holding}[sys.argv[1]](*sys.argv[2:])
        )
    )
