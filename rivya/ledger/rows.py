"""One attempt at one order as a row of the ledger, and which state may follow which."""

from __future__ import annotations

import json
from dataclasses import dataclass, fields
from enum import Enum
from typing import Any

from .database import Row


class OrderState(str, Enum):
    """Where an order stands."""

    PREPARED = "prepared"
    SUBMITTED = "submitted"
    SUCCEEDED = "succeeded"
    STORED = "stored"
    FAILED = "failed"
    UNKNOWN = "unknown"
    FORGOTTEN = "forgotten"


MAY_BECOME: dict[OrderState, tuple[OrderState, ...]] = {
    OrderState.SUBMITTED: (OrderState.PREPARED, OrderState.UNKNOWN, OrderState.SUBMITTED),
    # A stored order becomes succeeded again when its evicted picture is fetched anew.
    OrderState.SUCCEEDED: (OrderState.SUBMITTED, OrderState.SUCCEEDED, OrderState.STORED),
    # Killed between the file and the row, an order is found one or two steps behind its picture.
    OrderState.STORED: (OrderState.SUBMITTED, OrderState.SUCCEEDED, OrderState.STORED),
    OrderState.FAILED: (OrderState.PREPARED, OrderState.UNKNOWN, OrderState.SUBMITTED, OrderState.SUCCEEDED),
    OrderState.UNKNOWN: (OrderState.PREPARED, OrderState.UNKNOWN),
}

FURTHER_ON: dict[OrderState, tuple[OrderState, ...]] = {
    OrderState.SUBMITTED: (OrderState.SUCCEEDED, OrderState.STORED, OrderState.FAILED),
    OrderState.FAILED: (OrderState.FAILED,),
    OrderState.UNKNOWN: (OrderState.SUBMITTED, OrderState.SUCCEEDED, OrderState.STORED, OrderState.FAILED),
}
"""Where a row may have got to by the time that a state is noted, so that nothing is left to note: another process has
followed the same order, or this note was committed once and its answer lost."""


@dataclass(frozen=True)
class OrderRow:
    """One attempt at one order, as the ledger has it.

    `body` is there only while the order is open, `result_urls` only between *succeeded* and *stored*.
    `seconds` is the service's time from acceptance to the success that was noticed. `details` holds what a
    report needs (seed, variation, aspect ratio ...), never the prompt.
    """

    id: int
    scope: str
    fingerprint: str
    attempt: int
    key: str
    model: str
    mode: str
    state: OrderState
    body: bytes | None
    task_id: str | None
    result_urls: tuple[str, ...]
    reserved_credits: int | None
    final_credits: int | None
    charged: str
    error: dict[str, Any] | None
    request_id: str | None
    created_at: float
    submitted_at: float | None
    finished_at: float | None
    stored_at: float | None
    delivered_at: float | None
    seconds: float | None
    details: dict[str, Any]
    holder: str | None


COLUMNS = ", ".join(field.name for field in fields(OrderRow))


def from_row(row: Row) -> OrderRow:
    """The order that a row of the table, with all its columns, describes."""
    values = {name: row[name] for name in row.keys()}  # noqa: SIM118 - one of SQLite iterates over its values
    values["state"] = OrderState(row["state"])
    values["result_urls"] = tuple(str(url) for url in _json(row["result_urls"], list))
    values["details"] = _json(row["details"], dict)
    values["error"] = _json(row["error"], dict) or None
    return OrderRow(**values)


def _json(text: str | None, kind: type[list[Any]] | type[dict[str, Any]]) -> Any:
    """The value of a JSON column; empty where there is none, or where damaged bytes are no JSON any more."""
    try:
        value = json.loads(text) if text else None
    except ValueError:
        value = None
    return value if isinstance(value, kind) else kind()
