"""The tables of the ledger, and how an older file becomes a newer one.

``PRAGMA user_version`` counts the steps that a file has been through. A step, once published, is never edited:
a change of the tables is a new step at the end.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from sqlite3 import Connection, DatabaseError

from ..errors import LedgerError
from ..files import short

_FIRST = """
CREATE TABLE orders (
    id INTEGER PRIMARY KEY,
    scope TEXT NOT NULL,
    fingerprint TEXT NOT NULL,
    attempt INTEGER NOT NULL,
    key TEXT NOT NULL,
    model TEXT NOT NULL,
    mode TEXT NOT NULL,
    state TEXT NOT NULL,
    body BLOB,
    task_id TEXT,
    result_urls TEXT,
    reserved_credits INTEGER,
    final_credits INTEGER,
    charged TEXT NOT NULL,
    error TEXT,
    request_id TEXT,
    created_at REAL NOT NULL,
    submitted_at REAL,
    finished_at REAL,
    stored_at REAL,
    delivered_at REAL,
    seconds REAL,
    details TEXT NOT NULL,
    holder TEXT,
    UNIQUE (scope, fingerprint, attempt)
);
CREATE INDEX orders_by_task ON orders (task_id) WHERE task_id IS NOT NULL;
CREATE INDEX orders_uncollected ON orders (id)
    WHERE delivered_at IS NULL AND state IN ('submitted', 'succeeded', 'stored');
CREATE INDEX orders_timed ON orders (model, mode, id) WHERE seconds IS NOT NULL;
CREATE INDEX orders_with_body ON orders (id) WHERE body IS NOT NULL;
CREATE TABLE scopes (
    origin TEXT NOT NULL,
    key_hash TEXT NOT NULL,
    scope TEXT NOT NULL,
    joined_at REAL NOT NULL,
    PRIMARY KEY (origin, key_hash)
) WITHOUT ROWID;
CREATE TABLE uploads (
    scope TEXT NOT NULL,
    content_hash TEXT NOT NULL,
    file_id TEXT,
    url TEXT NOT NULL,
    duration_token TEXT,
    mime TEXT NOT NULL,
    name TEXT NOT NULL,
    created_at REAL NOT NULL,
    confirmed_at REAL NOT NULL,
    PRIMARY KEY (scope, content_hash)
) WITHOUT ROWID;
"""

LATER = {
    "notes": "CREATE TABLE IF NOT EXISTS notes (name TEXT PRIMARY KEY, value TEXT NOT NULL)",
    "runs": "CREATE TABLE IF NOT EXISTS runs (run TEXT PRIMARY KEY, spent INTEGER NOT NULL)",
    "spendings": "CREATE TABLE IF NOT EXISTS spendings"
    " (order_id INTEGER PRIMARY KEY, run TEXT NOT NULL, credits INTEGER NOT NULL)",
}
"""Made in a file when they are first used, and no step: the files of those who never do stay as older versions know
them."""

STEPS: tuple[str, ...] = (_FIRST,)


def migrate(connection: Connection, path: Path, steps: Sequence[str] = STEPS) -> None:
    """Bring the file to the newest form; every step is one transaction, and two processes may race for it.

    Raises:
        LedgerError: the file was made by a newer version; it is left as it is.
        DatabaseError: it is no ledger.
    """
    while (version := _version(connection)) != len(steps):
        if version > len(steps):
            raise LedgerError(
                f"The ledger {short(path)} was written by a newer version of this pack.",
                hint="Update the pack, or choose another state folder with RIVYA_HOME.",
                code="ledger_too_new",
            )
        connection.execute("BEGIN IMMEDIATE")
        try:
            if _version(connection) == version:
                if version == 0 and connection.execute("SELECT 1 FROM sqlite_master").fetchone():
                    raise DatabaseError("file is not a database of this pack")
                for statement in steps[version].split(";\n"):
                    if statement.strip():
                        connection.execute(statement)
                connection.execute(f"PRAGMA user_version = {version + 1}")
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise


def _version(connection: Connection) -> int:
    return int(connection.execute("PRAGMA user_version").fetchone()[0])
