"""What an order costs in the ledger: the same among ten thousand as among ten."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from sqlite3 import Connection

import pytest

from ledger.processes import PRELUDE, ROOT
from rivya.ledger.ledger import FILE_NAME, Ledger, OrderRow

pytestmark = pytest.mark.heavy

LIFE = """
def life(book, number):
    row, _ = prepared(book, f"{number:064x}", body=b'{"prompt": "' + b"x" * 400 + b'"}', scope="c" * 64)
    book.submitted(row.id, task_id=f"task_{number:024x}", reserved_credits=4, request_id="req_0123456789")
    book.succeeded(row.id, urls=["https://m.example/" + "u" * 300], final_credits=4, seconds=8.25)
    book.stored(row.id)
    book.delivered([row.id])
"""


def life_of(ledger: Ledger, prepare: Callable[..., OrderRow], number: int) -> OrderRow:
    row = prepare(ledger, f"{number:064x}")
    ledger.submitted(row.id, task_id=f"task_{number}", reserved_credits=4)
    ledger.succeeded(row.id, urls=["https://m.example/a"], final_credits=4, seconds=8.0)
    ledger.stored(row.id)
    ledger.delivered([row.id])
    return row


def multiply(ledger: Ledger, times: int) -> None:
    """Copies of one finished order, without living each of them through."""

    def work(connection: Connection) -> None:
        columns = [row[1] for row in connection.execute("PRAGMA table_info(orders)") if row[1] != "id"]
        copied = ", ".join(
            {"fingerprint": "fingerprint || n", "task_id": "task_id || n"}.get(column, column)
            for column in columns
        )
        connection.execute(
            f"WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c WHERE n < {times})"
            f" INSERT INTO orders ({', '.join(columns)})"
            f" SELECT {copied} FROM orders, c WHERE orders.id = 1"
        )

    ledger._database.write(work)


def test_no_statement_reads_a_whole_table(ledger: Ledger, prepare: Callable[..., OrderRow]) -> None:
    life_of(ledger, prepare, 1)
    multiply(ledger, 200)
    connection = ledger._database._connection
    assert connection is not None
    connection.execute("ANALYZE")
    statements: list[str] = []
    connection.set_trace_callback(statements.append)
    row = life_of(ledger, prepare, 2)
    ledger.newest("s", row.fingerprint)
    ledger.by_task("s", "task_2")
    ledger.uncollected("s")
    ledger.durations("s", "flux-kontext-pro", "text")
    ledger.orders(10)
    ledger.adopt("s", "task_3")
    ledger.find_scope("o", "k")
    ledger.open_elsewhere("o", "s", "f")
    ledger.find_upload("s", "h")
    ledger.forget(row.id)
    connection.set_trace_callback(None)
    asked = {text for text in statements if text.startswith(("SELECT", "UPDATE", "DELETE"))}
    assert len(asked) > 12
    for statement in asked:
        plan = [step[3] for step in connection.execute(f"EXPLAIN QUERY PLAN {statement}")]
        walks = [step for step in plan if step.startswith("SCAN") and "INDEX" not in step]
        assert not walks or "ORDER BY id DESC LIMIT" in statement, (statement, plan)
        assert not any("TEMP B-TREE" in step for step in plan if "by_task" not in str(plan)), (
            statement,
            plan,
        )


def test_an_order_costs_the_same_among_ten_thousand_others(
    ledger: Ledger, prepare: Callable[..., OrderRow]
) -> None:
    def median_ms(first: int) -> float:
        times = []
        for number in range(first, first + 15):
            begun = time.perf_counter()
            life_of(ledger, prepare, number)
            times.append((time.perf_counter() - begun) * 1000)
        return sorted(times)[7]

    few = median_ms(0)
    multiply(ledger, 10_000)
    many = median_ms(100)
    assert many < 4 * few + 10, f"{few:.2f} ms among ten, {many:.2f} ms among ten thousand"


@pytest.mark.skipif(shutil.which("strace") is None, reason="needs strace, which counts the synchronisations")
def test_an_order_is_synchronised_once_for_each_step_that_it_protects(tmp_path: Path) -> None:
    counts = {}
    for orders in (1, 21):
        code = (
            f"{PRELUDE}{LIFE}\nbook = ledger.Ledger(folder, holders.FileHolder(folder))\n"
            f"for number in range({orders}): life(book, number)\nos._exit(0)"
        )
        log = tmp_path / f"{orders}.log"
        subprocess.run(
            [
                "strace",
                "-f",
                "-e",
                "trace=fsync,fdatasync",
                "-o",
                log,
                sys.executable,
                "-c",
                code,
                tmp_path / str(orders),
            ],
            check=True,
            cwd=ROOT,
            capture_output=True,
        )
        counts[orders] = log.read_text().count("sync(")
    each = (counts[21] - counts[1]) / 20
    assert 4 <= each <= 8, f"{each} synchronisations an order"


def test_a_thousand_orders_take_less_than_two_megabytes(
    ledger: Ledger, prepare: Callable[..., OrderRow], folder: Path
) -> None:
    prepare_row = life_of(ledger, prepare, 1)
    assert prepare_row.id == 1
    multiply(ledger, 1000)
    ledger.close()
    assert (folder / FILE_NAME).stat().st_size < 2_000_000
