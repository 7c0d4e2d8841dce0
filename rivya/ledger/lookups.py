"""Ledger queries: the keys of an account, the state of orders."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from . import runs
from .database import Connection, Database
from .rows import COLUMNS, OrderRow, from_row
from .sqlite import SqliteDatabase
from .uploads import Uploads

FILE_NAME = "ledger.sqlite3"
_UNCOLLECTED = "delivered_at IS NULL AND state IN ('submitted', 'succeeded', 'stored')"
BY_TASK = "task_id = ? AND scope = ? ORDER BY state = 'stored' DESC, id DESC LIMIT 1"


class Lookups:
    """The part of the ledger that changes no order. Methods block and raise `LedgerError`."""

    def __init__(
        self, place: Path | str | Database, *, busy_s: float = 10.0, clock: Callable[[], float] = time.time
    ) -> None:
        """``place``: a database, or a state folder, whose file is opened or created on first use."""
        self._database = (
            SqliteDatabase(Path(place) / FILE_NAME, busy_s=busy_s)
            if isinstance(place, (str, Path))
            else place
        )
        self._clock = clock
        uploads = Uploads(self._database, clock)
        self.find_upload, self.save_upload = uploads.find, uploads.save
        self.confirm_upload, self.drop_upload = uploads.confirm, uploads.drop

    @property
    def shared(self) -> bool:
        """Whether other hosts may use this ledger; a file serves the processes of one host."""
        return self._database.shared

    @property
    def notice(self) -> str | None:
        """See `Database.notice`."""
        return self._database.notice

    def close(self) -> None:
        """Close the database; the next use reopens it."""
        self._database.close()

    # Scopes: which keys of one origin are the same account.

    def find_scope(self, origin: str, key_hash: str) -> str | None:
        """The scope that this key has joined, if any."""
        rows = self._database.read(
            "SELECT scope FROM scopes WHERE origin = ? AND key_hash = ?", (origin, key_hash)
        )
        return rows[0]["scope"] if rows else None

    def is_empty(self, scope: str) -> bool:
        """Whether the scope has no orders."""
        return not self._database.read("SELECT 1 FROM orders WHERE scope = ? LIMIT 1", (scope,))

    def scopes(self, origin: str) -> list[tuple[str, str | None]]:
        """Scopes of this origin, latest joined first, each with its newest task ID."""
        rows = self._database.read(
            "SELECT scope, (SELECT task_id FROM orders WHERE scope = s.scope AND task_id IS NOT NULL"
            " ORDER BY id DESC LIMIT 1) AS task_id"
            " FROM scopes AS s WHERE origin = ? GROUP BY scope ORDER BY max(joined_at) DESC",
            (origin,),
        )
        return [(row["scope"], row["task_id"]) for row in rows]

    def join_scope(self, origin: str, key_hash: str, scope: str) -> None:
        """Record that this key (its SHA-256) belongs to `scope`."""
        self._database.write(
            lambda connection: connection.execute(
                "INSERT INTO scopes (origin, key_hash, scope, joined_at) VALUES (?, ?, ?, ?)"
                " ON CONFLICT (origin, key_hash) DO UPDATE SET scope = excluded.scope, joined_at = excluded.joined_at",
                (origin, key_hash, scope, self._clock()),
            )
        )

    # Notes beside the orders.

    def note(self, name: str) -> str | None:
        """The note of this name, if any."""

        def work(connection: Connection) -> str | None:
            if not self._database.has_table(connection, "notes"):
                return None
            row = connection.execute("SELECT value FROM notes WHERE name = ?", (name,)).fetchone()
            return None if row is None else str(row["value"])

        return self._database.write(work, durable=False)

    def run_report(self, run: str) -> runs.RunReport:
        """See `runs.RunReport`."""
        return runs.report(self._database, run)

    # Finding orders.

    def get(self, order_id: int) -> OrderRow | None:
        return self._one("id = ?", order_id)

    def newest(self, scope: str, fingerprint: str) -> OrderRow | None:
        return self._one("scope = ? AND fingerprint = ? ORDER BY attempt DESC LIMIT 1", scope, fingerprint)

    def by_task(self, scope: str, task_id: str) -> OrderRow | None:
        """The order of this task ID: the stored row if several have it, else the newest."""
        return self._one(BY_TASK, task_id, scope)

    def open_elsewhere(self, origin: str, scope: str, fingerprint: str) -> OrderRow | None:
        """An order with this fingerprint and an unknown outcome, made with another key that may be of the same account.

        Scopes with a task ID are skipped: reading that task has told whose they are. A scope without one holds only
        orders that the service never acknowledged.
        """
        return self._one(
            "fingerprint = ? AND scope <> ? AND state IN ('prepared', 'unknown')"
            " AND scope IN (SELECT scope FROM scopes WHERE origin = ?)"
            " AND NOT EXISTS (SELECT 1 FROM orders AS o WHERE o.scope = orders.scope AND o.task_id IS NOT NULL)"
            " ORDER BY id DESC LIMIT 1",
            fingerprint,
            scope,
            origin,
        )

    def uncollected(self, scope: str) -> list[OrderRow]:
        """Orders accepted and never delivered, oldest first, running ones included."""
        return self._many(f"{_UNCOLLECTED} AND scope || '' = ? ORDER BY id", scope)

    def orders(self, limit: int = 100) -> list[OrderRow]:
        """The newest orders of all scopes, newest first."""
        return self._many("1 = 1 ORDER BY id DESC LIMIT ?", limit)

    def durations(self, scope: str, model: str, mode: str, limit: int = 64) -> list[float]:
        """Service times of the newest finished orders of this model and mode, seconds, newest first."""
        rows = self._database.read(
            "SELECT seconds FROM orders WHERE seconds IS NOT NULL AND model = ? AND mode = ? AND scope = ?"
            " ORDER BY id DESC LIMIT ?",
            (model, mode, scope, limit),
        )
        return [row["seconds"] for row in rows]

    def _one(self, where: str, *parameters: object) -> OrderRow | None:
        rows = self._many(where, *parameters)
        return rows[0] if rows else None

    def _many(self, where: str, *parameters: object) -> list[OrderRow]:
        sql = f"SELECT {COLUMNS} FROM orders WHERE {where}"  # noqa: S608 - `where` is a constant of this module
        return [from_row(row) for row in self._database.read(sql, parameters)]
