"""The fault matrix: every step of an order, every way in which it can go wrong, on both kinds of service.

In each cell a first run meets the fault, once or as long as it lasts, and its process is killed; a second run meets
none. Either run delivers the picture or tells truly whether it was charged; nothing is ever charged twice.
"""

from __future__ import annotations

import hashlib
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import sandbox
from faults.zygote import Zygote

EDIT: dict[str, Any] = {"prompt": "make it night", "seed": 3, "picture": 1}
STEPS = {"upload": "upload", "submit": "create", "poll": "status", "download": "result"}
FAULTS: dict[str, dict[str, Any]] = {
    "refused": {"action": "close_listener", "seconds": 0.4},
    "cut before": {"action": "cut_before", "reset": True},
    "cut after the work": {"action": "cut_after"},
    "stalled": {"action": "stall", "when": "after", "seconds": 2.5},
    "429 with seconds": {"action": "status", "status": 429, "retry_after": 1},
    "429 with a date": {"action": "status", "status": 429, "retry_after": 1, "retry_after_form": "date"},
    "429 without": {"action": "status", "status": 429},
    "500": {"action": "status", "status": 500},
    "500 after the work": {"action": "status", "status": 500, "when": "after"},
    "502 with HTML": {"action": "body", "status": 502, "sample": "html", "when": "before"},
    "503": {"action": "status", "status": 503},
    "truncated JSON": {"action": "body", "sample": "half"},
    "JSON of another shape": {"action": "body", "sample": "shape"},
    "text": {"action": "body", "sample": "text"},
}
DONE_BUT_NOT_TOLD = (
    "cut after the work",
    "stalled",
    "500 after the work",
    "truncated JSON",
    "JSON of another shape",
    "text",
)
"""On a service that rejects repeats the task id of such a submit cannot be had: one charge, and *unknown*."""

KINDS = ("refused", "cut after the work", "429 without", "500", "truncated JSON")
"""One fault of each kind: what is tried for as long as a first run lasts in the short form of the test."""


@dataclass(frozen=True)
class Cell:
    """One fault at one step, on one kind of service, once or for the whole first run."""

    step: str
    fault: str
    rejects: bool
    lasts: bool

    @property
    def may_stay_unknown(self) -> bool:
        return self.rejects and self.step == "submit" and self.fault in DONE_BUT_NOT_TOLD


CELLS = [
    Cell(step, fault, rejects, lasts)
    for lasts in (False, True)
    for rejects in (False, True)
    for step in STEPS
    for fault in FAULTS
]


class Desk:
    """Services to run cells at, several cells at once."""

    def __init__(self, zygote: Zygote, folder: Path) -> None:
        self._zygote = zygote
        self._folder = folder
        self._free: dict[bool, list[Any]] = {False: [], True: []}
        self._opened: list[Any] = []
        self._lock = threading.Lock()

    def close(self) -> None:
        for manager in self._opened:
            manager.__exit__(None, None, None)

    def run(self, cell: Cell) -> str:
        """Live a cell through: what the two runs told, or why that must not be."""
        service = self._take(cell.rejects)
        service.reset()
        try:
            return self._live(cell, service, self._folder / str(CELLS.index(cell)))
        except AssertionError as error:
            return f"WRONG: {error}".partition("\n")[0]
        finally:
            service.clear_faults()
            with self._lock:
                self._free[cell.rejects].append(service)

    def _take(self, rejects: bool) -> Any:
        with self._lock:
            if self._free[rejects]:
                return self._free[rejects].pop()
            manager = sandbox.running(megapixels=0.004, reject_repeats=rejects)
            self._opened.append(manager)
            return manager.__enter__()

    def _live(self, cell: Cell, service: Any, home: Path) -> str:
        if cell.step != "submit":  # the order takes a moment, so that there is something to poll
            service.fault("create", "latency", seconds=0.2, times=None)
        arm(cell, service)
        # No answer is late but the one that is stalled.
        read_s = 1.5 if cell.fault == "stalled" else 20.0
        first = self._run(service, home, timeout_s=2.5 if cell.lasts else 20.0, read_s=read_s)
        assert cell.fault == "refused" or service.faults()[-1]["hits"], "the fault did not strike"
        told = [judge(service, first)]
        service.clear_faults()
        until_both_listen(service)
        service.finish_tasks()
        second = self._run(service, home, timeout_s=30.0, read_s=20.0)
        told.append(judge(service, second))
        if told[-1] != "picture":
            assert cell.may_stay_unknown, f"no picture: {second}"
            assert told[-1] == "unknown"
        assert len(service.charges()) == 1, f"{len(service.charges())} charges"
        assert service.book()["violations"] == []
        return " > ".join(dict.fromkeys(told))

    def _run(self, service: Any, home: Path, timeout_s: float, read_s: float) -> dict[str, Any]:
        worker = self._zygote.worker(home, service.url, service.key, read_s=read_s)
        (told,) = worker.run(EDIT, timeout_s=timeout_s)
        worker.kill()
        return told


def arm(cell: Cell, service: Any) -> None:
    fault = dict(FAULTS[cell.fault])
    if cell.fault != "refused":
        if fault["action"] == "stall" and cell.step == "download":
            fault["at_byte"] = 100
        service.fault(STEPS[cell.step], **fault, times=None if cell.lasts else 1)
        return
    # Nothing listens from the answer to the step before on.
    fault["seconds"] = 3.0 if cell.lasts else 0.4
    if cell.step == "upload":
        service.close_listener(fault["seconds"])
    else:
        before = {"submit": "upload", "poll": "create", "download": "status"}[cell.step]
        # One fault strikes a request: this one comes first, so the order's time does not.
        service.clear_faults()
        service.fault(before, **fault, origin="results" if cell.step == "download" else "api")


def until_both_listen(service: Any) -> None:
    for url in (service.url, service.results_url):
        host, port = url.removeprefix("http://").split(":")
        end = time.monotonic() + 10
        while True:
            try:
                socket.create_connection((host, int(port)), 1).close()
                break
            except OSError:
                assert time.monotonic() < end, "the service does not come back"
                time.sleep(0.02)


def judge(service: Any, told: dict[str, Any]) -> str:
    """Hold what a run told against the book: "picture", or the truth about the cost."""
    tasks, charges = service.tasks(), len(service.charges())
    assert len(tasks) <= 1, "ordered twice"
    assert charges <= 1, "charged twice"
    if "pictures" in told:
        assert told["task_id"] == tasks[0]["id"]
        assert told["pictures"] == [hashlib.sha256(service.picture(tasks[0]["id"])).hexdigest()]
        return "picture"
    error = told["error"]
    assert error["message"], "an error says what happened"
    charged = error["charged"]
    assert charged in ("yes", "no", "unknown"), f"charged {charged}: {error}"
    assert charged != "no" or not tasks, f"it says not charged, but it was accepted: {error}"
    assert charged != "yes" or tasks, f"it says charged, but it was never accepted: {error}"
    return str(charged)


@pytest.fixture
def desk(zygote: Zygote, tmp_path: Path) -> Iterator[Desk]:
    opened = Desk(zygote, tmp_path)
    yield opened
    opened.close()


def table(outcomes: dict[Cell, str]) -> str:
    """The matrix as text: one line for a fault, one column for a step and a kind of service."""
    heads = [(step, rejects) for rejects in (False, True) for step in STEPS]
    lines = ["", "what a first run with the fault told > what a second run told", ""]
    for lasts in (False, True):
        lines.append("the fault lasts for the whole first run" if lasts else "the fault strikes once")
        names = [f"{step}{', rejects' if rejects else ''}" for step, rejects in heads]
        lines.append(" " * 24 + "".join(f"{name:20}" for name in names))
        for fault in FAULTS:
            cells = [outcomes.get(Cell(step, fault, rejects, lasts), "-")[:18] for step, rejects in heads]
            lines.append(f"{fault:24}" + "".join(f"{cell:20}" for cell in cells))
        lines.append("")
    passed = sum(not told.startswith("WRONG") for told in outcomes.values())
    return "\n".join([*lines, f"{passed} of {len(outcomes)} cells hold"])


@pytest.mark.timeout(600)
def test_every_fault_at_every_step_ends_in_the_picture_or_the_truth_and_one_charge(
    desk: Desk, request: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str]
) -> None:
    full = request.config.getoption("--full")
    cells = [cell for cell in CELLS if full or not cell.lasts or cell.fault in KINDS]
    with ThreadPoolExecutor(20) as pool:
        outcomes = dict(zip(cells, pool.map(desk.run, cells), strict=True))
    with capsys.disabled():
        print(table(outcomes))
    assert {cell: told for cell, told in outcomes.items() if told.startswith("WRONG")} == {}
