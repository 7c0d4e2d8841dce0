"""The ledger: every order, written before money can be spent and read before it is spent again.

A row goes *prepared* (with its idempotency key and exact body) -> *submitted* -> *succeeded* -> *stored*, or ends as
*failed*, *unknown* or *forgotten*. Each of these is committed with full synchronisation before the step that it
protects. Several processes share one ledger: a row names its holder, and only its holder moves it on.

All methods block (a few milliseconds, at worst `busy_s`), may be called from any thread, and raise `LedgerError`.
Times are UTC epoch seconds.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from sqlite3 import Connection, Row
from typing import Any

from ..errors import LedgerError
from .holders import Holder
from .lookups import BY_TASK, FILE_NAME, Lookups
from .rows import COLUMNS, MAY_BECOME, OrderRow, OrderState, from_row
from .uploads import UploadRow

__all__ = ["FILE_NAME", "Ledger", "OrderRow", "OrderState", "UploadRow"]


class Ledger(Lookups):
    """The orders and uploads of one state folder, and the only way to change them."""

    def __init__(
        self,
        folder: Path | str,
        holder: Holder,
        *,
        busy_s: float = 10.0,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """``folder`` is the state folder; the file in it is opened, or made, at first use."""
        super().__init__(folder, busy_s=busy_s, clock=clock)
        self._holder = holder

    def check_writable(self) -> None:
        """Make sure that something can be written down; nothing is. Raises `LedgerError`."""
        self._database.write(lambda connection: None, durable=False)

    # Beginning an order.

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
    ) -> tuple[OrderRow, bool]:
        """Write an order down before its first byte is sent; this process holds it.

        Returns the row, and whether this call made it. If not, it is somebody else's, unchanged: `take` it.
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
        return self._insert(
            values, "scope = ? AND fingerprint = ? AND attempt = ?", scope, fingerprint, attempt
        )

    def adopt(
        self,
        scope: str,
        task_id: str,
        *,
        model: str = "",
        mode: str = "",
        details: Mapping[str, Any] | None = None,
    ) -> OrderRow:
        """A row in *submitted* for a task that this ledger never saw; the row that has the task, if there is one."""
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
        return self._insert(values, BY_TASK, task_id, scope)[0]

    def _insert(self, values: dict[str, object], known: str, *parameters: object) -> tuple[OrderRow, bool]:
        values |= {"charged": "no" if "body" in values else "unknown", "holder": self._own_id()}
        values["created_at"] = self._clock()
        columns, places = ", ".join(values), ", ".join("?" * len(values))

        def work(connection: Connection) -> tuple[Row, bool]:
            select = f"SELECT {COLUMNS} FROM orders WHERE {known}"  # noqa: S608 - constants of this module
            row = connection.execute(select, parameters).fetchone()
            if row is not None:
                return row, False
            connection.execute(
                f"INSERT INTO orders ({columns}) VALUES ({places})",  # noqa: S608 - names from this module
                tuple(values.values()),
            )
            return connection.execute(select, parameters).fetchone(), True

        row, created = self._database.write(work)
        return from_row(row), created

    # Who moves an order on.

    def take(self, order_id: int) -> bool:
        """Become the order's holder if it has none, is ours, or its holder is dead; False if a living one has it."""
        own = self._own_id()

        def work(connection: Connection) -> bool:
            row = connection.execute("SELECT holder FROM orders WHERE id = ?", (order_id,)).fetchone()
            if row is None:
                return False
            holder = row["holder"]
            if holder == own:
                return True
            if holder is not None and self._holder.alive(holder):
                return False
            connection.execute("UPDATE orders SET holder = ? WHERE id = ?", (own, order_id))
            return True

        return self._database.write(work, durable=False)

    def release(self, order_id: int) -> None:
        """Let others take the order; nothing happens if it is not ours."""
        self._database.write(
            lambda connection: connection.execute(
                "UPDATE orders SET holder = NULL WHERE id = ? AND holder = ?", (order_id, self._holder.id)
            ),
            durable=False,
        )

    # Moving an order on: only its holder may.

    def submitted(
        self, order_id: int, *, task_id: str, reserved_credits: int | None, request_id: str | None = None
    ) -> None:
        """The service accepted it: before the first poll. The body stays until the order ends."""
        self._move(
            order_id,
            OrderState.SUBMITTED,
            "task_id = ?, reserved_credits = ?, request_id = ?, error = NULL, charged = 'unknown',"
            " submitted_at = coalesce(submitted_at, ?)",
            (task_id, reserved_credits, request_id, self._clock()),
        )

    def succeeded(
        self, order_id: int, *, urls: Sequence[str], final_credits: int | None, seconds: float | None
    ) -> None:
        """The task succeeded: before the first download. `seconds` None keeps what was noted before."""
        self._move(
            order_id,
            OrderState.SUCCEEDED,
            "result_urls = ?, final_credits = coalesce(?, final_credits), seconds = coalesce(?, seconds),"
            " charged = 'yes', error = NULL, finished_at = coalesce(finished_at, ?)",
            (json.dumps(list(urls)), final_credits, seconds, self._clock()),
        )

    def stored(self, order_id: int) -> None:
        """The pictures are in the result store. Body and URLs are erased, and nobody holds the order.

        Whoever sees the files may note it, not the holder alone: they prove it, and saying it twice does no harm.
        """
        self._move(
            order_id,
            OrderState.STORED,
            "body = NULL, result_urls = NULL, stored_at = coalesce(stored_at, ?), holder = NULL",
            (self._clock(),),
            by_anyone=True,
        )
        self._erase()

    def failed(
        self, order_id: int, *, error: Mapping[str, Any], charged: str, final_credits: int | None = None
    ) -> None:
        """The service said no, or the task failed. Body and URLs are erased, and nobody holds the order."""
        self._move(
            order_id,
            OrderState.FAILED,
            "body = NULL, result_urls = NULL, error = ?, charged = ?, final_credits = ?, finished_at = ?,"
            " holder = NULL",
            (json.dumps(dict(error)), charged, final_credits, self._clock()),
        )
        self._erase()

    def unknown(self, order_id: int, *, error: Mapping[str, Any], request_id: str | None = None) -> None:
        """It may have been accepted, and may not. The body stays: only the same bytes may be sent again."""
        self._move(
            order_id,
            OrderState.UNKNOWN,
            "error = ?, request_id = coalesce(?, request_id), charged = 'unknown', finished_at = ?",
            (json.dumps(dict(error)), request_id, self._clock()),
        )

    def discard(self, order_id: int) -> None:
        """Remove a *prepared* order of ours that provably never reached the service; others stay."""
        self._database.write(
            lambda connection: connection.execute(
                "DELETE FROM orders WHERE id = ? AND state = 'prepared' AND holder = ?",
                (order_id, self._own_id()),
            )
        )
        self._erase()

    def delivered(self, order_ids: Iterable[int]) -> None:
        """These pictures reached the user; only the first time counts."""
        now = self._clock()
        noted = [(now, order_id) for order_id in order_ids]

        def work(connection: Connection) -> None:
            connection.executemany(
                "UPDATE orders SET delivered_at = coalesce(delivered_at, ?) WHERE id = ?", noted
            )

        self._database.write(work, durable=False)

    def forget(self, order_id: int) -> bool:
        """Give an order up: the next run of its graph is a new attempt, and may be charged anew.

        False if there is no such order or a living process is at work on it.
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
    ) -> None:
        allowed = MAY_BECOME[state]
        places = ", ".join("?" * len(allowed))
        sql = (
            f"UPDATE orders SET state = ?, {changes}"  # noqa: S608 - `changes` is a constant of this module
            f" WHERE id = ? AND (holder = ? OR ?) AND state IN ({places})"
        )
        values = (
            state.value,
            *parameters,
            order_id,
            self._own_id(),
            by_anyone,
            *(each.value for each in allowed),
        )

        def work(connection: Connection) -> None:
            if connection.execute(sql, values).rowcount != 1:
                raise LedgerError(
                    f"Order {order_id} cannot be noted as {state.value}: it is gone from the ledger, or another "
                    "program has it.",
                    hint="Run again: it resumes where it stands.",
                    code="ledger_conflict",
                    charged=None,
                )

        self._database.write(work)

    def _erase(self) -> None:
        """Once no order is under way, no prompt may linger in the write-ahead log either.

        One of unknown outcome may stay so for good; it keeps its own body, not those of others.
        """
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
