"""Whole edits in a real ComfyUI: ours beside core's own Kontext node, same pictures, same service times."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from statistics import fmean, median
from typing import Any

import psutil

import sandbox
from devtools.comfyui import ComfyUI, Finished
from rivya.ledger.holders import FileHolder
from rivya.ledger.ledger import Ledger
from sandbox.pictures import PictureOrder, render

from . import comfy, core_service
from .links import link
from .pace import DOCUMENTED, FIXED, follow

MEAN_S, DEVIATION_S = 8.0, 2.0
SIDE = 1024
EARLIER_ORDERS = 64
_names = count()


def service_times(number: int, seed: int) -> list[float]:
    """Service times of that many orders, seconds: N(8, 2), the same for the same seed."""
    draw = random.Random(seed)
    return [max(1.0, draw.gauss(MEAN_S, DEVIATION_S)) for _ in range(number)]


@dataclass
class Ours:
    """ComfyUI with the pack, and the sandbox that it talks to."""

    comfyui: ComfyUI
    service: sandbox.LocalHandle

    def expect(self, times: Sequence[float]) -> None:
        """Set the service times of the orders to come."""
        self.service.clear_faults()
        for seconds in times:
            self.service.fault("create", "latency", seconds=seconds)

    def run(self, graph: comfy.Graph) -> Finished:
        return _succeeded(self.comfyui.run(graph, timeout_s=600))


@dataclass
class Core:
    """ComfyUI with its own nodes, and the stand-in that they talk to."""

    comfyui: ComfyUI
    service: core_service.CoreService

    def run(self, graph: comfy.Graph) -> Finished:
        return _succeeded(self.comfyui.run(graph, timeout_s=600))


def _succeeded(finished: Finished) -> Finished:
    if not finished.succeeded:
        raise AssertionError(f"the prompt failed: {finished.entry['status']}")
    return finished


@contextmanager
def ours(
    folder: Path, work: Path, bits_per_s: float | None = None, earlier: int = EARLIER_ORDERS
) -> Iterator[Ours]:
    """The pack's side; ``earlier`` orders of the account lie in its ledger already."""
    with ExitStack() as stack:
        service = stack.enter_context(sandbox.running(credits=10**7))
        url = service.url
        if bits_per_s is not None:
            slow = stack.enter_context(link(bits_per_s))
            url = slow.through(service.url)
            service.advertise(slow.through(service.results_url))
        base = work / f"ours-{next(_names)}"
        history(base / "state", url, service.key, service_times(earlier, seed=1))
        comfyui = comfy.start_ours(folder, base, api_key=service.key, base_url=url)
        stack.callback(comfyui.stop)
        yield Ours(comfyui, service)


@contextmanager
def core(folder: Path, work: Path, picture: bytes, bits_per_s: float | None = None) -> Iterator[Core]:
    """The side of core's node; every result is ``picture``."""
    with ExitStack() as stack:
        service = stack.enter_context(core_service.running(picture))
        url = service.url
        if bits_per_s is not None:
            url = service.results_url = stack.enter_context(link(bits_per_s)).through(service.url)
        comfyui = comfy.start_core(folder, work / f"core-{next(_names)}", url)
        stack.callback(comfyui.stop)
        yield Core(comfyui, service)


def history(home: Path, url: str, key: str, times: Sequence[float]) -> None:
    """Write finished orders of these durations into a ledger, as an account has them that was used before."""
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    holder = FileHolder(home)
    ledger = Ledger(home, holder)
    key_hash = hashlib.sha256(key.encode()).hexdigest()
    scope = hashlib.sha256(f"{url}\n{key_hash}".encode()).hexdigest()
    ledger.join_scope(url, key_hash, scope)
    for number, seconds in enumerate(times):
        finish_order(ledger, scope, f"earlier-{number}", seconds)
    ledger.close()
    holder.close()


def finish_order(ledger: Ledger, scope: str, name: str, seconds: float) -> int:
    """Take one order through all its states; gives its id."""
    row, _ = ledger.prepare(
        scope=scope,
        fingerprint=hashlib.sha256(name.encode()).hexdigest(),
        attempt=1,
        key=name,
        body=b"{}" * 300,
        model="flux-kontext-pro",
        mode="edit",
        details={"seed": 0, "variation": 0},
    )
    ledger.submitted(row.id, task_id=f"task_{name}", reserved_credits=4)
    ledger.succeeded(row.id, urls=["http://127.0.0.1/gone.png"], final_credits=4, seconds=seconds)
    ledger.stored(row.id)
    ledger.delivered([row.id])
    return row.id


def a_result(work: Path) -> bytes:
    """The bytes of one picture as the sandbox draws it from a reference."""
    (name,) = comfy.photographs(work, 1, SIDE)
    order = PictureOrder(
        model="flux-kontext-pro",
        prompt=comfy.PROMPT,
        ratio="1:1",
        format="png",
        watermark="",
        reference=(work / name).read_bytes(),
        take=0,
        index=0,
        megapixels=1.0,
    )
    return render(order)


def single_edits(side: Ours | Core, number: int, seed: int) -> dict[str, Any]:
    """Edits one after the other: what each took beyond the service's own time."""
    times, overheads = service_times(number, seed), []
    _expect(side, times)
    cpu = _cpu_s(side)
    for seconds in times:
        image = comfy.photographs(side.comfyui.base / "input", 1, SIDE)
        graph = comfy.core_graph(image) if isinstance(side, Core) else comfy.batch_graph(image)
        overheads.append(comfy.wall(side.run(graph)) - seconds)
    return {
        "mean_s": fmean(overheads),
        "median_s": median(overheads),
        "worst_s": max(overheads),
        "cpu_s": (_cpu_s(side) - cpu) / number,
        "each_s": overheads,
    }


def eight_edits(side: Ours | Core, seed: int, form: str = "core") -> dict[str, Any]:
    """Eight edits in one graph, against the longest single service time of them."""
    times = service_times(8, seed)
    _expect(side, times)
    images = comfy.photographs(side.comfyui.base / "input", 8, SIDE)
    build = {"core": comfy.core_graph, "chains": comfy.chains_graph, "batch": comfy.batch_graph}[form]
    seconds = comfy.wall(side.run(build(images)))
    return {"wall_s": seconds, "longest_s": max(times), "ratio": seconds / max(times)}


def second_run(side: Ours) -> dict[str, Any]:
    """Eight edits twice: what the second run takes with ComfyUI's own memory emptied, and asks of the service."""
    side.expect([1.0] * 8)
    graph = comfy.batch_graph(comfy.photographs(side.comfyui.base / "input", 8, SIDE))
    side.run(graph)
    side.comfyui.forget_cached()
    before, cpu = len(side.service.requests()), _cpu_s(side)
    again = side.run(graph)
    if (again.message("execution_cached") or {}).get("nodes"):
        raise AssertionError("ComfyUI had not emptied its memory: this would measure nothing")
    return {
        "wall_s": comfy.wall(again),
        "cpu_s": _cpu_s(side) - cpu,
        "requests": len(side.service.requests()) - before,
    }


def many_edits(side: Ours, images: int, variations: int, concurrency: int, seed: int) -> dict[str, Any]:
    """References x variations under the limit, against (orders / concurrency) x mean service time."""
    times = service_times(images * variations, seed)
    side.expect(times)
    names = comfy.photographs(side.comfyui.base / "input", images, SIDE)
    seconds = comfy.wall(side.run(comfy.batch_graph(names, variations)))
    ideal = len(times) / concurrency * fmean(times)
    draw = _greedy(times, concurrency) / ideal
    return {"orders": len(times), "wall_s": seconds, "ratio": seconds / ideal, "draw_alone": draw}


def _greedy(times: Sequence[float], concurrency: int) -> float:
    """How long these jobs take, first come first served, when nothing but the service costs time."""
    free = [0.0] * concurrency
    for seconds in times:
        first = min(range(concurrency), key=free.__getitem__)
        free[first] += seconds
    return max(free)


def noticing(side: Ours | Core) -> dict[str, Any]:
    """Lag between the service's success and our noticing it, and questions an order, over everything so far.

    Beside it the documented schedule on the same service times.
    """
    if isinstance(side, Core):
        seen = [(t.noticed_at - t.ends_at, t.polls) for t in side.service.tasks.values() if t.noticed_at]
        return {"orders": len(seen), "lag_s": fmean(s[0] for s in seen), "polls": fmean(s[1] for s in seen)}
    tasks = [task for task in side.service.tasks() if task["noticed_at"] and task["latency"] > 1]
    lags = [task["noticed_at"] - task["finish_at"] for task in tasks]
    documented = [follow(task["latency"], FIXED[DOCUMENTED], round_trip_s=0.0) for task in tasks]
    return {
        "orders": len(tasks),
        "lag_s": fmean(lags),
        "polls": fmean(task["polls"] for task in tasks),
        "documented_lag_s": fmean(one.lag_s for one in documented),
        "documented_polls": fmean(one.polls for one in documented),
    }


def _cpu_s(side: Ours | Core) -> float:
    """CPU that the ComfyUI process has used, seconds: says what a time is worth on a machine with other work."""
    used = psutil.Process(side.comfyui.child.process.pid).cpu_times()
    return float(used.user + used.system)


def _expect(side: Ours | Core, times: Sequence[float]) -> None:
    if isinstance(side, Core):
        side.service.expect(times)
    else:
        side.expect(times)
