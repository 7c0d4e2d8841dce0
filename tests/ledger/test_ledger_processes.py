"""Several processes, and several threads, on one ledger."""

from __future__ import annotations

import multiprocessing
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest

from ledger.processes import Program
from rivya.errors import LedgerError
from rivya.ledger.ledger import Ledger, OrderRow, OrderState
from support.sources import ROOT

pytestmark = pytest.mark.heavy

# Opens a new ledger in ten processes at one moment, a hundred times; prints what failed. They are forked: to start a
# thousand programs of `Program` would take minutes.
OPEN_TOGETHER = """
import multiprocessing, sys
from pathlib import Path
from rivya.ledger.sqlite import SqliteDatabase

def opened(barrier, path, failures):
    barrier.wait()
    try:
        SqliteDatabase(path, busy_s=10).read("SELECT count(*) FROM orders")
    except Exception as error:
        failures.put(repr(error))

fork = multiprocessing.get_context("fork")
failures = fork.SimpleQueue()
for number in range(100):
    path, barrier = Path(sys.argv[1], str(number), "ledger.sqlite3"), fork.Barrier(10)
    processes = [fork.Process(target=opened, args=(barrier, path, failures)) for _ in range(10)]
    for each in processes:
        each.start()
    for each in processes:
        each.join()
while not failures.empty():
    print(failures.get())
"""


def test_a_living_process_keeps_its_orders_and_a_killed_one_loses_them_at_once(
    folder: Path, ledger: Ledger
) -> None:
    code = "say(prepared(book, body=b'exact')[0].id)\nwait()"
    with Program(code, folder, with_ledger=True) as other:
        order_id = int(other.heard())
        assert not ledger.take(order_id)
        other.kill()
        row = ledger.get(order_id)
        assert row is not None
        assert (row.state, row.body) == (OrderState.PREPARED, b"exact"), "committed before prepare returned"
        assert ledger.take(order_id)
    ledger.submitted(order_id, task_id="t", reserved_credits=None)


def test_one_of_many_processes_takes_over_from_a_dead_one(folder: Path, ledger: Ledger) -> None:
    with Program("say(prepared(book)[0].id)\nwait()", folder, with_ledger=True) as dead:
        order_id = dead.heard()
        dead.kill()
    code = "say('ready')\nwait()\nsay(book.take(int(sys.argv[2])))\nwait()"
    with ExitStack() as stack:
        rivals = [stack.enter_context(Program(code, folder, order_id, with_ledger=True)) for _ in range(6)]
        assert [rival.heard() for rival in rivals] == ["ready"] * 6
        for rival in rivals:
            rival.go()
        assert sorted(rival.heard() for rival in rivals) == ["False"] * 5 + ["True"]


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="needs fork")
def test_a_new_ledger_can_be_opened_by_many_processes_at_one_moment(tmp_path: Path) -> None:
    command = [sys.executable, "-c", OPEN_TOGETHER, str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=100)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_processes_that_start_together_make_one_ledger_and_one_row_for_each_order(folder: Path) -> None:
    code = """
    say('ready')
    wait()
    say(json.dumps([prepared(book, str(number))[1] for number in range(25)]))
    """
    with ExitStack() as stack:
        rivals = [stack.enter_context(Program(code, folder, with_ledger=True)) for _ in range(6)]
        assert [rival.heard() for rival in rivals] == ["ready"] * 6
        for rival in rivals:
            rival.go()
        created = [rival.heard() for rival in rivals]
        for rival in rivals:
            rival.end()
    assert sum(answers.count("true") for answers in created) == 25


def test_what_a_killed_process_committed_is_there(folder: Path, ledger: Ledger) -> None:
    code = """
    for number in range(1000):
        row, _ = prepared(book, str(number))
        book.submitted(row.id, task_id=f"task_{number}", reserved_credits=4)
        say(number)
    """
    with Program(code, folder, with_ledger=True) as other:
        for _ in range(50):
            last = int(other.heard())
        other.kill()
    for number in range(last + 1):
        row = ledger.newest("s", str(number))
        assert row is not None
        assert (row.state, row.task_id) == (OrderState.SUBMITTED, f"task_{number}")


def test_threads_share_one_connection(ledger: Ledger, prepare: Callable[..., OrderRow]) -> None:
    def life(number: int) -> None:
        row = prepare(ledger, str(number))
        ledger.submitted(row.id, task_id=f"t{number}", reserved_credits=1)
        ledger.succeeded(row.id, urls=["u"], final_credits=1, seconds=1.0)
        ledger.stored(row.id)
        ledger.delivered([row.id])

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(life, range(100)))
    assert {row.state for row in ledger.orders(200)} == {OrderState.STORED}
    assert len(ledger.orders(200)) == 100


def test_a_forked_child_cannot_use_its_parents_ledger_and_does_it_no_harm(
    folder: Path, ledger: Ledger
) -> None:
    code = """
    prepared(book, "before")
    inherited = book._database._connection
    child = os.fork()
    if child == 0:
        try:
            prepared(book, "child")
        except Exception as error:
            say(type(error).__name__)
        say(book.newest("s", "before").state.value)
        say(book._database._connection is inherited)
        os._exit(0)
    os.waitpid(child, 0)
    say(prepared(book, "after")[1])
    """
    with Program(code, folder, with_ledger=True) as parent:
        assert [parent.heard() for _ in range(4)] == ["LedgerError", "prepared", "False", "True"]
        parent.end()
    assert ledger.newest("s", "child") is None


def test_a_ledger_whose_holder_was_closed_writes_no_orders(
    open_ledger: Callable[..., Ledger], prepare: Callable[..., OrderRow]
) -> None:
    ledger = open_ledger()
    ledger._holder.close()
    with pytest.raises(LedgerError, match="closed"):
        prepare(ledger)
