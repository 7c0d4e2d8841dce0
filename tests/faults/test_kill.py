"""The kill matrix: a real process is killed with SIGKILL at every moment that matters; the same graph runs again.

Moments that the service or the state folder shows are killed from outside, at a stalled request. Those that only the
process itself knows are made to stand still by the test's worker, at a method of the ledger or the store.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from faults.zygote import Worker
from rivya.ledger.holders import FileHolder
from rivya.ledger.ledger import FILE_NAME, Ledger, OrderState

TEXT: dict[str, Any] = {"prompt": "a quiet harbour", "seed": 3}
EDIT: dict[str, Any] = {"prompt": "make it night", "seed": 3, "picture": 1}


@dataclass(frozen=True)
class Moment:
    """When to kill, and in which state the ledger must have the orders then.

    Attributes:
        faults: armed before the run.
        seen: the endpoint and stage at the service that show the moment.
        stop_at: or the method at which the worker stands still, and whether before or after it.
        state: of every order in the ledger after the kill; None: no row.
    """

    wanted: tuple[dict[str, Any], ...] = (EDIT,)
    faults: tuple[dict[str, Any], ...] = ()
    seen: dict[str, Any] = field(default_factory=dict)
    stop_at: tuple[str, str] | None = None
    state: OrderState | None = OrderState.PREPARED


def stalled(endpoint: str, **fields: Any) -> dict[str, Any]:
    return {"endpoint": endpoint, "action": "stall", "seconds": 60, **fields}


SLOW = {"endpoint": "create", "action": "latency", "seconds": 60, "times": None}
EIGHT = tuple({**EDIT, "picture": number // 2, "variation": number % 2} for number in range(8))

MOMENTS = {
    "in the middle of an upload": Moment(
        faults=(stalled("upload", when="before"),),
        seen={"endpoint": "upload", "stage": "received"},
        state=None,
    ),
    "after the upload, before its answer": Moment(
        faults=(stalled("upload", when="after"),), seen={"endpoint": "upload", "stage": "worked"}, state=None
    ),
    "before prepared": Moment(stop_at=("Ledger.prepare", "before"), state=None),
    "after prepared, before anything is sent": Moment(stop_at=("Ledger.prepare", "after")),
    "after the request left, before the work": Moment(
        faults=(stalled("create", when="before"),), seen={"endpoint": "create", "stage": "received"}
    ),
    "in the middle of the work": Moment(
        faults=(stalled("create", when="during"),), seen={"endpoint": "create", "stage": "received"}
    ),
    "after the work, before the answer": Moment(
        faults=(stalled("create", when="after"),), seen={"endpoint": "create", "stage": "worked"}
    ),
    "in the middle of the answer": Moment(
        faults=(stalled("create", when="after", at_byte=40),), seen={"endpoint": "create", "stage": "worked"}
    ),
    "after the answer, before submitted": Moment(stop_at=("Ledger.submitted", "before")),
    "after submitted, before the first poll": Moment(
        faults=(SLOW,), stop_at=("Ledger.submitted", "after"), state=OrderState.SUBMITTED
    ),
    "while polling": Moment(
        faults=(SLOW,),
        seen={"endpoint": "status", "stage": "answered", "count": 3},
        state=OrderState.SUBMITTED,
    ),
    "after the success was seen, before succeeded": Moment(
        stop_at=("Ledger.succeeded", "before"), state=OrderState.SUBMITTED
    ),
    "after succeeded, before the download": Moment(
        stop_at=("Ledger.succeeded", "after"), state=OrderState.SUCCEEDED
    ),
    "in the middle of the download": Moment(
        faults=(stalled("result", at_byte=500),),
        seen={"endpoint": "result", "stage": "worked"},
        state=OrderState.SUCCEEDED,
    ),
    "after the download, before the store": Moment(
        stop_at=("FolderStore.put", "before"), state=OrderState.SUCCEEDED
    ),
    "after the temporary file, before the rename": Moment(
        stop_at=("os.replace", "before"), state=OrderState.SUCCEEDED
    ),
    "after the picture's rename, before the manifest": Moment(
        stop_at=("os.replace", "after"), state=OrderState.SUCCEEDED
    ),
    "after the files, before stored": Moment(
        stop_at=("FolderStore.put", "after"), state=OrderState.SUCCEEDED
    ),
    "after stored, before delivery": Moment(stop_at=("Engine.delivered", "before"), state=OrderState.STORED),
    "with eight orders open at once": Moment(
        wanted=EIGHT,
        faults=(SLOW,),
        seen={"endpoint": "status", "stage": "answered", "count": 16},
        state=OrderState.SUBMITTED,
    ),
    "with eight orders on their way": Moment(
        wanted=EIGHT,
        faults=(stalled("create", when="after", times=4), stalled("create", when="before", times=4)),
        seen={"endpoint": "create", "stage": "received", "count": 8},
    ),
}


def states(home: Path) -> list[OrderState]:
    """What the ledger says, looked at by somebody else."""
    if not (home / FILE_NAME).exists():
        return []
    holder = FileHolder(home)
    book = Ledger(home, holder)
    try:
        return [row.state for row in book.orders()]
    finally:
        book.close()
        holder.close()


def kill_at(moment: Moment, service: Any, worker: Worker) -> None:
    for fault in moment.faults:
        service.fault(**fault)
    if moment.stop_at is not None:
        worker.stop_at(*moment.stop_at)
    earlier = len(service.requests(moment.seen.get("endpoint")))
    worker.tell(do="run", wanted=moment.wanted)
    if moment.stop_at is not None:
        assert worker.heard()["stopped"] == moment.stop_at[0]
    else:
        service.wait(**{**moment.seen, "count": earlier + moment.seen.get("count", 1)})
    worker.kill()


def assert_paid_once_and_delivered(service: Any, told: list[dict[str, Any]], orders: int) -> None:
    book = service.book()
    assert book["violations"] == []
    assert len(service.charges()) == orders
    assert len(book["tasks"]) == orders
    assert [each.get("error") for each in told] == [None] * orders
    for each in told:
        expected = hashlib.sha256(service.picture(each["task_id"])).hexdigest()
        assert each["pictures"] == [expected]
    assert len({each["task_id"] for each in told}) == orders
    bodies = Counter(
        (request["idempotency_key"], request["body_sha256"])
        for request in book["requests"]
        if request["endpoint"] == "create" and request["body_sha256"]
    )
    keys = [key for key, _ in bodies]
    assert len(keys) == len(set(keys)), "one key, one body"


@pytest.mark.parametrize("moment", list(MOMENTS.values()), ids=list(MOMENTS))
def test_a_process_that_is_killed_pays_once_and_delivers_when_its_graph_runs_again(
    moment: Moment,
    start: Callable[..., Worker],
    replaying: Any,
    tmp_path: Path,
    request: pytest.FixtureRequest,
) -> None:
    for number in range(10 if request.config.getoption("--full") else 1):
        home = tmp_path / str(number)
        replaying.reset()
        kill_at(moment, replaying, start(home=home, read_s=60.0))
        expected = [] if moment.state is None else [moment.state] * len(moment.wanted)
        assert states(home) == expected
        replaying.clear_faults()
        replaying.finish_tasks()
        told = start(home=home).run(*moment.wanted)
        assert_paid_once_and_delivered(replaying, told, len(moment.wanted))
        assert states(home) == [OrderState.STORED] * len(moment.wanted)
        assert len(list(home.glob("results/*.delivered"))) == len(moment.wanted), "they may be evicted now"
        assert not list(home.glob("results/.*.tmp")), "no temporary files are left"
        texts = [path.read_bytes() for path in home.rglob("*") if path.is_file()]
        assert not any(EDIT["prompt"].encode() in text for text in texts), "and no prompt"


@pytest.mark.parametrize("moment", list(MOMENTS.values()), ids=list(MOMENTS))
def test_the_same_on_a_service_that_rejects_repeats_is_never_charged_twice(
    moment: Moment, start: Callable[..., Worker], rejecting: Any
) -> None:
    kill_at(moment, rejecting, start(rejecting, read_s=60.0))
    rejecting.clear_faults()
    rejecting.finish_tasks()
    told = start(rejecting).run(*moment.wanted)
    assert len(rejecting.charges()) <= len(moment.wanted)
    if any("error" in each for each in told):
        assert moment.state is OrderState.PREPARED, "only what may have been sent can be unknown"
        errors = [each["error"] for each in told if "error" in each]
        assert {error["charged"] for error in errors} == {"unknown"}
        assert all("seed" in error["hint"] and "forget" in error["hint"] for error in errors)
        assert len(rejecting.charges()) == len(moment.wanted)
    else:
        assert_paid_once_and_delivered(rejecting, told, len(moment.wanted))


def test_killed_again_and_again_in_the_course_of_one_order(
    start: Callable[..., Worker], replaying: Any
) -> None:
    for name in (
        "after the upload, before its answer",
        "after prepared, before anything is sent",
        "after the work, before the answer",
        "after the answer, before submitted",
        "after submitted, before the first poll",
        "after the success was seen, before succeeded",
        "in the middle of the download",
        "after the temporary file, before the rename",
        "after the files, before stored",
    ):
        kill_at(MOMENTS[name], replaying, start(read_s=60.0))
        replaying.clear_faults()
    told = start().run(EDIT)
    assert_paid_once_and_delivered(replaying, told, 1)
    assert told[0]["source"] == "stored"


def test_what_was_paid_by_a_killed_process_is_collected_without_its_graph(
    start: Callable[..., Worker], replaying: Any
) -> None:
    kill_at(MOMENTS["after the success was seen, before succeeded"], replaying, start(read_s=60.0))
    kill_at(replace(MOMENTS["in the middle of the download"], wanted=(TEXT,)), replaying, start(read_s=60.0))
    replaying.clear_faults()
    worker = start()
    told = worker.collect()
    assert_paid_once_and_delivered(replaying, told, 2)
    assert worker.collect() == [], "delivered once"
