"""Arbitrary histories of orders: answers, faults, cancels, crashes, restarts, losses; held against a model.

The model knows what the user knows: which orders were wanted, which pictures came, what errors said. Whatever happens,
an order is charged at most once, what came stays the same, no error lies about the cost, and when the trouble is over
every order comes to an end.
"""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from faults.zygote import Worker, Zygote
from support.cases import slow_but

ORDERS: tuple[dict[str, Any], ...] = (
    {"prompt": "first wish", "seed": 1},
    {"prompt": "second wish", "seed": 1},
    {"prompt": "third wish", "seed": 1, "picture": 1},
    {"prompt": "fourth wish", "seed": 1, "picture": 1},
    {"prompt": "fifth wish", "seed": 1, "picture": 2},
)
STEPS = ("upload", "file", "create", "status", "result")
FAULTS: tuple[dict[str, Any], ...] = (
    {"action": "cut_before"},
    {"action": "cut_after"},
    {"action": "cut_after", "at_byte": 25},
    {"action": "status", "status": 500},
    {"action": "status", "status": 500, "when": "after"},
    {"action": "status", "status": 429},
    {"action": "status", "status": 503, "code": "public_api_disabled"},
    {"action": "status", "status": 402},
    {"action": "status", "status": 401},
    {"action": "body", "sample": "half"},
    {"action": "body", "sample": "empty_object"},
    {"action": "truncate"},
)
MOMENTS = [
    (place, when)
    for place in (
        "Ledger.prepare",
        "Ledger.take",
        "Ledger.submitted",
        "Ledger.succeeded",
        "Ledger.unknown",
        "Ledger.discard",
        "Ledger.failed",
        "Uploads.save",
        "FolderStore.put",
        "os.replace",
        "Ledger.stored",
        "Ledger.release",
        "Engine.delivered",
        "FolderStore.mark_delivered",
    )
    for when in ("before", "after")
]
some_orders = st.lists(st.sampled_from(range(len(ORDERS))), min_size=1, max_size=4, unique=True)
some_faults = st.lists(
    st.tuples(st.sampled_from(STEPS), st.sampled_from(FAULTS), st.sampled_from([1, 1, 2, 30])), max_size=3
)


class Histories(RuleBasedStateMachine):
    """One state folder, one account, one process after the other."""

    zygote: Zygote
    service: Any
    rejects: bool

    def __init__(self) -> None:
        super().__init__()
        self.home = Path(tempfile.mkdtemp(prefix="rivya-history-"))
        self.wanted: set[int] = set()
        self.pictures: dict[int, list[str]] = {}
        self.worker: Worker | None = None
        self.uploads_went = False

    @initialize()
    def begin(self) -> None:
        self.service.reset()
        self.restart()

    def teardown(self) -> None:
        try:
            if self.worker is not None:
                self.end_well()
        finally:
            if self.worker is not None:
                self.worker.kill()
            shutil.rmtree(self.home, ignore_errors=True)

    # What can happen.

    @rule()
    def restart(self) -> None:
        if self.worker is not None:
            self.worker.kill()
        self.worker = self.zygote.worker(
            self.home, self.service.url, self.service.key, retry_budget_s=0.4, conflict_wait_s=0.2
        )

    @rule(numbers=some_orders, faults=some_faults)
    def run(self, numbers: list[int], faults: Any) -> None:
        self.arm(faults)
        self.learn(numbers, self.process().run(*self.orders(numbers), timeout_s=2.5))

    @rule(numbers=some_orders, faults=some_faults, moment=st.sampled_from(MOMENTS))
    def run_and_crash(self, numbers: list[int], faults: Any, moment: tuple[str, str]) -> None:
        self.arm(faults)
        self.process().stop_at(*moment)
        self.process().tell(do="run", wanted=self.orders(numbers), timeout_s=2.5)
        said = self.process().heard()
        if "result" in said:
            self.learn(numbers, said["result"])
        self.restart()

    @rule(numbers=some_orders, faults=some_faults, after_s=st.sampled_from([0.0, 0.01, 0.05, 0.15]))
    def run_and_cancel(self, numbers: list[int], faults: Any, after_s: float) -> None:
        self.arm(faults)
        leaving = [after_s] * len(numbers)
        told = self.process().run(*self.orders(numbers), timeout_s=2.5, leave_after_s=leaving)
        self.learn(numbers, told)

    @rule(numbers=some_orders, charged=st.booleans())
    def run_and_let_the_tasks_fail(self, numbers: list[int], charged: bool) -> None:
        self.service.fault("create", "fail_task", charged=charged, times=None)
        self.learn(numbers, self.process().run(*self.orders(numbers), timeout_s=2.5))
        self.service.clear_faults()

    @rule(numbers=some_orders)
    def run_slowly(self, numbers: list[int]) -> None:
        self.service.fault("create", "latency", seconds=60, times=None)
        self.learn(numbers, self.process().run(*self.orders(numbers), timeout_s=0.3))
        self.service.clear_faults()

    @rule()
    def tasks_end(self) -> None:
        self.service.finish_tasks()

    @rule()
    def uploads_are_gone(self) -> None:
        self.uploads_went = True
        self.service.expire_uploads()

    @rule()
    def result_urls_expire(self) -> None:
        self.service.expire_results()

    @rule()
    def pictures_are_evicted(self) -> None:
        """The cap of the store is a matter of its own; here it is somebody who deletes the delivered ones."""
        for marker in self.home.glob("results/*.delivered"):
            for path in self.home.glob(f"results/{marker.stem}.*"):
                path.unlink()

    @rule()
    def collect(self) -> None:
        for told in self.process().collect(timeout_s=2.5):
            if "pictures" in told:
                prompts = [task["prompt"] for task in self.service.tasks() if task["id"] == told["task_id"]]
                self.learn([self.number_of(prompts[0])], [told])

    # What must hold.

    @invariant()
    def nothing_is_charged_twice(self) -> None:
        tasks: dict[str, list[Any]] = {}
        for task in self.service.tasks():
            tasks.setdefault(task["prompt"], []).append(task)
        for prompt, ordered in tasks.items():
            open_or_charged = [task for task in ordered if task["status"] != "failed" or task["charged"]]
            assert len(open_or_charged) <= 1, f"{prompt}: {ordered}"

    @invariant()
    def the_service_saw_no_violation(self) -> None:
        book = self.service.book()
        assert book["violations"] == []
        bodies: dict[str, set[str]] = {}
        for request in book["requests"]:
            if request["endpoint"] == "create" and request["stage"] in ("worked", "answered"):
                bodies.setdefault(request["idempotency_key"], set()).add(request["body_sha256"])
        assert all(len(each) == 1 for each in bodies.values()), "one key, one body"

    def end_well(self) -> None:
        """The trouble is over: every order that was ever wanted comes to its end, and nothing is left over."""
        self.service.clear_faults()
        self.restart()
        self.service.finish_tasks()
        for number in sorted(self.wanted):
            told = self.run_once(number)
            if told.get("error", {}).get("charged") == "no":
                told = self.run_once(number)  # a task that failed for nothing; this was the next attempt
            if "error" in told and not self.rejects and self.charges(number) == 0:
                # Its reference is gone and its outcome open: the one end that takes a decision of the user.
                assert told["error"]["charged"] == "unknown", told
                assert self.uploads_went, told
                assert "picture" in ORDERS[number], told
                assert self.process().forget(told["error"]["order_key"])
                told = self.run_once(number)
            if "error" in told:
                failed_and_charged = (
                    told["error"]["charged"] == "yes" and "failed" in told["error"]["message"]
                )
                unknown = self.rejects and told["error"]["charged"] == "unknown"
                assert failed_and_charged or unknown, told
            assert self.charges(number) == 1 or (self.rejects and "error" in told), told
        assert self.process().collect() == []
        self.nothing_is_charged_twice()
        self.the_service_saw_no_violation()

    def run_once(self, number: int) -> dict[str, Any]:
        (told,) = self.process().run(ORDERS[number], timeout_s=20.0)
        self.learn([number], [told])
        return told

    def charges(self, number: int) -> int:
        return sum(
            task["charged"] for task in self.service.tasks() if task["prompt"] == ORDERS[number]["prompt"]
        )

    # Helpers.

    def process(self) -> Worker:
        assert self.worker is not None
        return self.worker

    def arm(self, faults: list[tuple[str, dict[str, Any], int]]) -> None:
        self.service.clear_faults()
        for step, fault, times in faults:
            self.service.fault(step, **fault, times=times)

    def orders(self, numbers: list[int]) -> list[dict[str, Any]]:
        self.wanted.update(numbers)
        return [ORDERS[number] for number in numbers]

    def number_of(self, prompt: str) -> int:
        return next(number for number, order in enumerate(ORDERS) if order["prompt"] == prompt)

    def learn(self, numbers: list[int], told: list[dict[str, Any]]) -> None:
        """Hold what a run told against the book and against what was told before."""
        by_prompt: dict[str, list[Any]] = {}
        for task in self.service.tasks():
            by_prompt.setdefault(task["prompt"], []).append(task)
        for number, each in zip(numbers, told, strict=True):
            tasks = by_prompt.get(ORDERS[number]["prompt"], [])
            if "pictures" in each:
                expected = [hashlib.sha256(self.service.picture(each["task_id"])).hexdigest()]
                assert each["pictures"] == expected == self.pictures.setdefault(number, expected)
            elif "error" in each and "uploading" not in each:
                charged = each["error"]["charged"]
                taken = [task for task in tasks if task["status"] != "failed" or task["charged"]]
                assert charged in ("yes", "no", "unknown"), each
                assert charged != "no" or not taken, f"it says not charged: {each}, {tasks}"
                # Credits are taken when the service accepts; a task that fails later may bring them back.
                assert charged != "yes" or tasks, f"it says charged: {each}"


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("kind", slow_but(["replaying", "rejecting"], "replaying"))
def test_no_history_charges_twice_or_loses_what_was_paid(
    kind: str, zygote: Zygote, request: pytest.FixtureRequest
) -> None:
    full = request.config.getoption("--full")

    class Here(Histories):
        pass

    Here.zygote, Here.service, Here.rejects = zygote, request.getfixturevalue(kind), kind == "rejecting"
    run_state_machine_as_test(  # type: ignore[no-untyped-call]  # hypothesis leaves it without types
        Here,
        settings=settings(
            max_examples=60 if full else 5,
            stateful_step_count=14 if full else 8,
            deadline=None,
            database=None,
            derandomize=not full,
            phases=(Phase.generate, Phase.shrink) if full else (Phase.generate,),
            suppress_health_check=list(HealthCheck),
        ),
    )
