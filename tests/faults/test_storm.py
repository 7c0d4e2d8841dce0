"""Everything at once: faults at a fifth of all requests, cancels, kills; and two processes that want the same."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import pytest

from faults.client import READ_S, Client, FaultsAccount
from faults.zygote import Worker
from rivya.engine import engine
from support.cases import slow_but

STORM: tuple[dict[str, Any], ...] = (
    {"action": "cut_before"},
    {"action": "cut_after"},
    {"action": "cut_after", "at_byte": 30, "reset": True},
    {"action": "status", "status": 500},
    {"action": "status", "status": 500, "when": "after"},
    {"action": "status", "status": 429, "retry_after": 1},
    {"action": "body", "status": 502, "sample": "html"},
    {"action": "truncate"},
    {"action": "body", "sample": "shape"},
    {"action": "stall", "when": "after", "seconds": READ_S + 0.4},
)
SHARE = 0.2


@dataclass(frozen=True)
class Size:
    orders: int
    kills: int


def wanted_orders(count: int) -> list[dict[str, Any]]:
    """Half of them edits of a few pictures, half from text alone; no two alike."""
    return [
        {"prompt": f"wish {number // 4}", "seed": number, "picture": number % 7 if number % 2 else None}
        for number in range(count)
    ]


def arm(service: Any, seed: int) -> None:
    """Every fault with its share, so that together they strike a fifth of all requests."""
    left = 1.0
    for number, fault in enumerate(STORM):
        share = SHARE / len(STORM)
        service.fault(
            ("upload", "file", "create", "status", "result"),
            **fault,
            times=None,
            probability=share / left,
            seed=seed * 100 + number,
        )
        left -= share


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_storm_of_faults_cancels_and_kills_ends_with_one_picture_and_one_charge_for_every_order(
    start: Callable[..., Worker],
    replaying: Any,
    request: pytest.FixtureRequest,
    capsys: pytest.CaptureFixture[str],
) -> None:
    size = Size(200, 3) if request.config.getoption("--full") else Size(40, 1)
    random = Random(size.orders)
    arm(replaying, seed=size.orders)
    wanted = wanted_orders(size.orders)
    kill_at = sorted(random.sample(range(size.orders // 8, size.orders * 3 // 4), size.kills))
    pictures: dict[int, list[str]] = {}
    tasks: dict[int, str] = {}
    kills = cancels = errors = rounds = 0
    worker = start()
    while len(pictures) < size.orders:
        rounds += 1
        assert rounds < 60, "every order comes to its end"
        open_orders = [number for number in range(size.orders) if number not in pictures]
        leaving = [random.uniform(0, 1.5) if random.random() < 0.15 else None for _ in open_orders]
        worker.tell(
            do="run",
            wanted=[wanted[number] for number in open_orders],
            timeout_s=20.0,
            leave_after_s=leaving,
        )
        if kills < size.kills and came_to(replaying, kill_at[kills], worker):
            worker.kill()
            kills += 1
            worker = start()
            continue
        for number, told in zip(open_orders, worker.heard()["result"], strict=True):
            if "pictures" in told:
                pictures[number], tasks[number] = told["pictures"], told["task_id"]
            cancels += "left" in told
            errors += "error" in told
    replaying.clear_faults()
    book = replaying.book()
    struck = sum(entry["fault"] is not None for entry in book["requests"])
    with capsys.disabled():
        print(
            f"\nstorm: {len(pictures)} pictures and {len(replaying.charges())} charges for {size.orders} orders; "
            f"{struck} of {len(book['requests'])} requests struck, {kills} kills, {cancels} cancels, "
            f"{errors} errors on the way, {rounds} runs"
        )
    assert kills == size.kills
    assert len(book["tasks"]) == len(replaying.charges()) == size.orders
    assert len(set(tasks.values())) == size.orders
    for number, task_id in tasks.items():
        assert pictures[number] == [hashlib.sha256(replaying.picture(task_id)).hexdigest()]
    assert book["violations"] == []
    assert start().collect() == [], "everything was delivered"


def came_to(service: Any, orders: int, worker: Worker) -> bool:
    """Wait until the service has taken so many orders; False if the worker has ended its run before."""
    while len(service.tasks()) < orders:
        if worker.has_spoken():
            return False
        time.sleep(0.01)
    return True


def test_two_processes_that_want_the_same_fifty_pictures_pay_for_fifty(
    start: Callable[..., Worker], replaying: Any
) -> None:
    replaying.fault("create", "latency", seconds=0.2, times=None)
    wanted = wanted_orders(50)
    workers = [start(read_s=20.0), start(read_s=20.0)]  # a download that is asked for twice would count twice
    for worker in workers:
        worker.tell(do="run", wanted=wanted, timeout_s=60.0)
    told = [worker.heard()["result"] for worker in workers]
    assert [each.get("error") for each in told[0] + told[1]] == [None] * 100
    assert [each["pictures"] for each in told[0]] == [each["pictures"] for each in told[1]]
    assert len({each["task_id"] for each in told[0]}) == 50
    assert len(replaying.charges()) == len(replaying.tasks()) == 50
    assert len(replaying.requests("result")) == 50, "whoever waited takes what the other has stored"


def test_when_one_of_two_is_killed_the_other_takes_its_orders_over_at_once(
    start: Callable[..., Worker], replaying: Any
) -> None:
    replaying.fault("create", "latency", seconds=60, times=None)
    wanted = wanted_orders(10)
    first, second = start(), start()
    first.tell(do="run", wanted=wanted)
    replaying.wait("create", count=10)
    second.tell(do="run", wanted=wanted, timeout_s=60.0)
    first.kill()
    killed = time.monotonic()
    replaying.finish_tasks()
    told = second.heard()["result"]
    assert time.monotonic() - killed < 15, "no lease has to run out"
    assert [each["source"] for each in told] == ["resumed"] * 10
    assert len(replaying.charges()) == len(replaying.tasks()) == 10


def test_when_the_order_of_one_fails_the_other_hears_the_same_and_orders_nothing(
    replaying: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two engines of one process are two holders, like those of two processes, and can be watched."""
    monkeypatch.setattr(engine, "Account", FaultsAccount)
    replaying.fault("create", "fail_task", times=None)
    replaying.fault("create", "latency", seconds=60, times=None)
    clients = [Client(tmp_path / "state", replaying.url, replaying.key) for _ in range(2)]
    (order,) = clients[0].orders([{"prompt": "a wish"}])
    tickets = []
    for client in clients:
        (ticket,) = client.engine.order(client.config, [order])
        tickets.append(ticket)
        end = time.monotonic() + 30
        while ticket.progress.state != "running":
            assert time.monotonic() < end
            time.sleep(0.01)
    replaying.finish_tasks()
    errors = [ticket.done.exception(30) for ticket in tickets]
    assert [type(error).__name__ for error in errors] == ["TaskFailedError"] * 2
    assert len(replaying.tasks()) == 1


@pytest.mark.parametrize("full_speed", slow_but([True, False], True))
def test_two_processes_on_a_service_that_rejects_repeats_order_once(
    full_speed: bool, start: Callable[..., Worker], rejecting: Any, tmp_path: Path
) -> None:
    if not full_speed:
        rejecting.fault("create", "latency", seconds=0.3, times=None)
    wanted = wanted_orders(12)
    # Time enough for each answer: none may have to repeat its order.
    workers = [start(rejecting, read_s=20.0), start(rejecting, read_s=20.0)]
    for worker in workers:
        worker.tell(do="run", wanted=wanted, timeout_s=60.0)
    told = [worker.heard()["result"] for worker in workers]
    assert [each.get("error") for each in told[0] + told[1]] == [None] * 24
    assert len(rejecting.charges()) == len(rejecting.tasks()) == 12


@pytest.mark.long
@pytest.mark.timeout(900)
@pytest.mark.parametrize("kind", ["replaying", "rejecting"])
@pytest.mark.parametrize("seed", range(3))
def test_two_processes_in_one_storm_never_pay_twice(
    kind: str, seed: int, start: Callable[..., Worker], request: pytest.FixtureRequest
) -> None:
    service = request.getfixturevalue(kind)
    arm(service, seed)
    wanted = wanted_orders(40)

    def live(number: int) -> dict[int, Any]:
        """One client: it cancels, is killed and comes back until it has everything, or knows why not."""
        random, told = Random(2 * seed + number), dict[int, Any]()
        worker = start(service)
        for run in range(30):
            left = [order for order in range(len(wanted)) if order not in told]
            if not left:
                break
            random.shuffle(left)
            leaving = [random.uniform(0, 1) if random.random() < 0.1 else None for _ in left]
            worker.tell(
                do="run", wanted=[wanted[each] for each in left], timeout_s=15.0, leave_after_s=leaving
            )
            if run < 4 and random.random() < 0.5:
                time.sleep(random.uniform(0.05, 1.5))
                worker.kill()
                worker = start(service)
                continue
            for order, each in zip(left, worker.heard()["result"], strict=True):
                if "pictures" in each:
                    told[order] = each["pictures"]
                elif run > 8 and each.get("error", {}).get("charged") == "unknown":
                    told[order] = "unknown"
        return told

    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(live, range(2))
    assert len(first) == len(second) == len(wanted)
    both = [order for order in first if "unknown" not in (first[order], second[order])]
    assert all(first[order] == second[order] for order in both)
    assert kind == "rejecting" or len(both) == len(wanted)
    assert len(service.charges()) == len(service.tasks()) == len(wanted)
    assert service.book()["violations"] == []
