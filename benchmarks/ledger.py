"""``python dev.py bench --ledger``: what the notes of one order cost, on a file and in PostgreSQL over TCP.

Both take turns in one run, since the disk of a computer is now quick and now slow: only their ratio means something.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

TURNS, ORDERS = 8, 40


def main(arguments: list[str]) -> int:
    """Measure and print."""
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))
    from rivya.ledger.beats import BeatHolder
    from rivya.ledger.holders import FileHolder
    from rivya.ledger.ledger import Ledger
    from rivya.ledger.postgres import PostgresDatabase
    from rivya.secret import Secret
    from support.postgres import Postgres

    server = Postgres()
    try:
        with tempfile.TemporaryDirectory() as folder:
            url = Secret(server.url(server.make_database()))
            database = PostgresDatabase(url, patience_s=10.0)
            ledgers = {
                "a file (SQLite)": Ledger(folder, FileHolder(folder)),
                "PostgreSQL over TCP": Ledger(
                    database, BeatHolder(database, PostgresDatabase(url, patience_s=0.0))
                ),
            }
            times: dict[str, list[float]] = {name: [] for name in ledgers}
            for turn in range(TURNS):
                for name, ledger in ledgers.items():
                    found = [_timed(_life, ledger, turn * ORDERS + number) for number in range(ORDERS)]
                    times[name] += found if turn else []  # the first turn opens files and fills caches
    finally:
        server.remove()
    medians = {name: statistics.median(found) for name, found in times.items()}
    for name, found in times.items():
        p99 = statistics.quantiles(found, n=100)[98]
        print(f"{name}: p50 {medians[name] * 1000:.2f} ms an order, p99 {p99 * 1000:.1f} ms")
    one, other = medians.values()
    print(f"ratio of the medians: {other / one:.2f}")
    return 0


def _timed(work: Callable[..., None], *arguments: object) -> float:
    started = time.perf_counter()
    work(*arguments)
    return time.perf_counter() - started


def _life(ledger: object, number: int) -> None:
    """All notes of one order, as its run makes them."""
    from rivya.ledger.ledger import Ledger

    assert isinstance(ledger, Ledger)
    name = f"{number:064x}"
    ledger.newest("c" * 64, name)
    ledger.open_elsewhere("https://rivya.example", "c" * 64, name)
    row, _ = ledger.prepare(
        scope="c" * 64,
        fingerprint=name,
        attempt=1,
        key=name,
        body=b'{"prompt": "' + b"x" * 400 + b'"}',
        model="flux-kontext-pro",
        mode="text",
        details={"seed": number},
    )
    ledger.submitted(row.id, task_id=f"task_{number:024x}", reserved_credits=4)
    ledger.succeeded(row.id, urls=["https://m.example/" + "u" * 300], final_credits=4, seconds=8.25)
    ledger.stored(row.id)
    ledger.release(row.id)
    ledger.delivered([row.id])
