"""The ledger: every order, written before money can be spent and read before it is spent again.

A row goes *prepared* (with idempotency key and exact body) -> *submitted* -> *succeeded* -> *stored*, or ends as
*failed*, *unknown* or *forgotten*. Each state is committed with full synchronisation before the step it protects. A
row names its holder: only that process may send, discard or give up the order. What the service said may be recorded
by any process that sent the order: a holder wrongly taken for dead still knows the truth. Changes are idempotent.

Methods block (a few milliseconds, at most the timeout of the database), are thread-safe, and raise `LedgerError`.
Times are UTC epoch seconds.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..errors import LedgerError
from . import runs
from .beats import LIVING, SILENCE_S
from .database import Connection, Database, Row
from .holders import Holder
from .lookups import BY_TASK, FILE_NAME, Lookups
from .places import SharedPlaces
from .rows import COLUMNS, FURTHER_ON, MAY_BECOME, OrderRow, OrderState, from_row
from .uploads import UploadRow

__all__ = ["FILE_NAME", "Ledger", "OrderRow", "OrderState", "UploadRow"]


class Ledger(Lookups):
    """The orders and uploads of one database, and the only way to change them."""

    def __init__(
        self,
        place: Path | str | Database,
        holder: Holder,
        *,
        busy_s: float = 10.0,
        clock: Callable[[], float] = time.time,
    ) -> None:
        super().__init__(place, busy_s=busy_s, clock=clock)
        self._holder = holder
        self.places = SharedPlaces(self._database, holder.id) if self.shared else None
        """The fleet's places; None if the ledger serves one host."""

    def check_writable(self) -> None:
        """Check that the ledger can be written; writes nothing. Raises `LedgerError`."""
        self._database.write(lambda connection: None, durable=False)

    def at_work(self) -> int:
        """The number of other living processes on a shared ledger; 0 for a file."""
        found = self._database.read(LIVING, (SILENCE_S,)) if self.shared else []
        return len([row for row in found if row["id"] != self._holder.id])

    # Starting an order.

    def prepare(
        self,
        *,
        scope: str,
        fingerprint: str,
        attempt: int,
        key: str,
        body: bytes,
        model: str,
        mode: str,
        details: Mapping[str, Any],
        spending: runs.Spending | None = None,
    ) -> tuple[OrderRow, bool]:
        """Insert an order before its first byte is sent; this process holds it.

        Returns the row, and whether this call made it; if not, it is unchanged and another's: `take` it.

        Args:
            spending: the run and budget that the order counts against.

        Raises:
            ConfigurationError: ``over_credit_cap``: the run's budget is spent; nothing was written.
        """
        values = {
            "scope": scope,
            "fingerprint": fingerprint,
            "attempt": attempt,
            "key": key,
            "model": model,
            "mode": mode,
            "state": OrderState.PREPARED.value,
            "body": body,
            "details": json.dumps(dict(details), ensure_ascii=False),
        }
        known = "scope = ? AND fingerprint = ? AND attempt = ?"
        return self._insert(values, spending, known, scope, fingerprint, attempt)

    def adopt(
        self,
        scope: str,
        task_id: str,
        *,
        model: str = "",
        mode: str = "",
        details: Mapping[str, Any] | None = None,
    ) -> OrderRow:
        """The row of this task; inserted in *submitted* if missing."""
        values = {
            "scope": scope,
            "fingerprint": f"task:{task_id}",
            "attempt": 1,
            "key": "",
            "model": model,
            "mode": mode,
            "state": OrderState.SUBMITTED.value,
            "task_id": task_id,
            "submitted_at": self._clock(),
            "details": json.dumps(dict(details or {}), ensure_ascii=False),
        }
        return self._insert(values, None, BY_TASK, task_id, scope)[0]

    def _insert(
        self, values: dict[str, object], spending: runs.Spending | None, known: str, *parameters: object
    ) -> tuple[OrderRow, bool]:
        values |= {"charged": "no" if "body" in values else "unknown", "holder": self._own_id()}
        values["created_at"] = self._clock()
        columns, places = ", ".join(values), ", ".join("?" * len(values))

        def work(connection: Connection) -> tuple[Row, bool]:
            select = f"SELECT {COLUMNS} FROM orders WHERE {known}"  # noqa: S608 - constants of this module
            row = connection.execute(select, parameters).fetchone()
            if row is not None:
                # Made by this call, if the response to its commit was lost.
                own = all(row[name] == values[name] for name in ("holder", "created_at", "key", "state"))
                return row, own
            connection.execute(
                f"INSERT INTO orders ({columns}) VALUES ({places})",  # noqa: S608 - names from this module
                tuple(values.values()),
            )
            row = connection.execute(select, parameters).fetchone()
            if spending is not None:
                runs.reserve(self._database, connection, row["id"], spending)
            return row, True

        row, created = self._database.write(work)
        return from_row(row), created

    # Holders.

    def take(self, order_id: int) -> bool:
        """See `Holder.take`."""
        self._own_id()
        return self._database.write(lambda connection: self._holder.take(connection, order_id), durable=False)

    def uncollected(self, scope: str) -> list[OrderRow]:
        """As in `Lookups`, without orders that another living process holds."""
        rows = super().uncollected(scope)
        own = self._holder.id
        living = self._holder.living({row.holder for row in rows if row.holder not in (None, own)})
        return [row for row in rows if row.holder not in living]

    def release(self, order_id: int) -> None:
        """Stop holding the order; no effect if another process holds it."""
        self._database.write(
            lambda connection: connection.execute(
                "UPDATE orders SET holder = NULL WHERE id = ? AND holder = ?", (order_id, self._holder.id)
            ),
            durable=False,
        )

    # What the service said: recorded by any process that sent the order.

    def submitted(
        self, order_id: int, *, task_id: str, reserved_credits: int | None, request_id: str | None = None
    ) -> None:
        """Record acceptance, before the first poll. The body stays until the order ends."""
        self._move(
            order_id,
            OrderState.SUBMITTED,
            "task_id = ?, reserved_credits = ?, request_id = ?, error = NULL, charged = 'unknown',"
            " submitted_at = coalesce(submitted_at, ?)",
            (task_id, reserved_credits, request_id, self._clock()),
            by_anyone=True,
        )

    def succeeded(
        self, order_id: int, *, urls: Sequence[str], final_credits: int | None, seconds: float | None
    ) -> None:
        """Record success, before the first download. `seconds` None keeps the value."""
        self._move(
            order_id,
            OrderState.SUCCEEDED,
            "result_urls = ?, final_credits = coalesce(?, final_credits), seconds = coalesce(?, seconds),"
            " charged = 'yes', error = NULL, finished_at = coalesce(finished_at, ?)",
            (json.dumps(list(urls)), final_credits, seconds, self._clock()),
            by_anyone=True,
        )

    def stored(self, order_id: int) -> None:
        """Record that the pictures are stored; erase body and URLs, release the order."""
        self._move(
            order_id,
            OrderState.STORED,
            "body = NULL, result_urls = NULL, stored_at = coalesce(stored_at, ?), holder = NULL",
            (self._clock(),),
            by_anyone=True,
        )
        self._erase()

    # Ends without a picture: recorded by the holder alone.

    def failed(
        self, order_id: int, *, error: Mapping[str, Any], charged: str, final_credits: int | None = None
    ) -> None:
        """Record a refusal or failed task; erase body and URLs, release the order."""
        self._move(
            order_id,
            OrderState.FAILED,
            "body = NULL, result_urls = NULL, error = ?, charged = ?, final_credits = ?, finished_at = ?,"
            " holder = NULL",
            (json.dumps(dict(error)), charged, final_credits, self._clock()),
            gives_back=charged == "no",
        )
        self._erase()

    def unknown(self, order_id: int, *, error: Mapping[str, Any], request_id: str | None = None) -> None:
        """Record that the order may have been accepted. The body stays: only its bytes may be sent again.

        No effect if another process has recorded the outcome.
        """
        self._move(
            order_id,
            OrderState.UNKNOWN,
            "error = ?, request_id = coalesce(?, request_id), charged = 'unknown', finished_at = ?",
            (json.dumps(dict(error)), request_id, self._clock()),
        )

    def discard(self, order_id: int) -> bool:
        """Remove our *prepared* order, which provably never reached the service.

        False if another process took it over: the row stays, and may be sent by that process.
        """
        own = self._own_id()

        def work(connection: Connection) -> bool:
            removed = connection.execute(
                "DELETE FROM orders WHERE id = ? AND state = 'prepared' AND holder = ?", (order_id, own)
            )
            if removed.rowcount == 1:
                runs.give_back(self._database, connection, order_id, remove=True)
                return True
            return connection.execute("SELECT 1 FROM orders WHERE id = ?", (order_id,)).fetchone() is None

        gone = self._database.write(work)
        self._erase()
        return gone

    # Delivery, notes, forgetting.

    def delivered(self, order_ids: Iterable[int]) -> None:
        """Record that these pictures reached the user; the first time counts."""
        now = self._clock()
        noted = list(order_ids)

        def work(connection: Connection) -> None:
            for order_id in noted:
                connection.execute(
                    "UPDATE orders SET delivered_at = coalesce(delivered_at, ?) WHERE id = ?", (now, order_id)
                )

        self._database.write(work, durable=False)

    def note_once(self, name: str, text: str) -> str:
        """Insert a note unless the name exists; the value then stored."""

        def work(connection: Connection) -> str:
            self._database.make_table(connection, "notes")
            connection.execute(
                "INSERT INTO notes (name, value) VALUES (?, ?) ON CONFLICT (name) DO NOTHING", (name, text)
            )
            row = connection.execute("SELECT value FROM notes WHERE name = ?", (name,)).fetchone()
            return str(row["value"])

        return self._database.write(work)

    def forget(self, order_id: int) -> bool:
        """Give up an order: the next run makes a new attempt, which may be charged.

        False if there is no such order or a living process holds it.
        """
        if not self.take(order_id):
            return False
        self._database.write(
            lambda connection: connection.execute(
                "UPDATE orders SET state = ?, body = NULL, result_urls = NULL, holder = NULL WHERE id = ?",
                (OrderState.FORGOTTEN.value, order_id),
            )
        )
        self._erase()
        return True

    def _move(
        self,
        order_id: int,
        state: OrderState,
        changes: str,
        parameters: tuple[object, ...],
        *,
        by_anyone: bool = False,
        gives_back: bool = False,
    ) -> None:
        """Change the state; a row already in it or beyond is left alone.

        Args:
            by_anyone: not by the holder alone.
            gives_back: the order cost nothing, so its run gets the credits back.
        """
        allowed = MAY_BECOME[state]
        places = ", ".join("?" * len(allowed))
        own = "" if by_anyone else "holder = ? AND "
        sql = (
            f"UPDATE orders SET state = ?, {changes}"  # noqa: S608 - `changes` is a constant of this module
            f" WHERE id = ? AND {own}state IN ({places})"
        )
        own_id = self._own_id()
        values = (
            state.value,
            *parameters,
            order_id,
            *(() if by_anyone else (own_id,)),
            *(each.value for each in allowed),
        )

        def work(connection: Connection) -> None:
            if connection.execute(sql, values).rowcount == 1:
                if gives_back:
                    runs.give_back(self._database, connection, order_id)
                return
            row = connection.execute("SELECT state FROM orders WHERE id = ?", (order_id,)).fetchone()
            if row is None or OrderState(row["state"]) not in FURTHER_ON.get(state, ()):
                raise LedgerError(
                    f"Order {order_id} cannot be noted as {state.value}: it is gone from the ledger, or another "
                    "program has it.",
                    hint="Run again: it resumes where it stands.",
                    code="ledger_conflict",
                    charged=None,
                )

        self._database.write(work)

    def _erase(self) -> None:
        """Clear prompts from the write-ahead log once no order is running.

        An *unknown* order, which may stay so, keeps its body but does not prevent this. A shared database's log is
        its server's matter.
        """
        if self._database.shared:
            return
        under_way = "SELECT 1 FROM orders WHERE body IS NOT NULL AND state <> 'unknown' LIMIT 1"
        if not self._database.read(under_way):
            self._database.truncate_log()

    def _own_id(self) -> str:
        if not self._holder.held:
            raise LedgerError(
                "This ledger was closed, or carried over into a forked process.",
                hint="Make a new client in this process.",
            )
        return self._holder.id
