"""One attempt at an order as a ledger row, and its state transitions."""

from __future__ import annotations

import json
from dataclasses import dataclass, fields
from enum import Enum
from typing import Any

from .database import Row


class OrderState(str, Enum):
    PREPARED = "prepared"
    SUBMITTED = "submitted"
    SUCCEEDED = "succeeded"
    STORED = "stored"
    FAILED = "failed"
    UNKNOWN = "unknown"
    FORGOTTEN = "forgotten"


MAY_BECOME: dict[OrderState, tuple[OrderState, ...]] = {
    OrderState.SUBMITTED: (OrderState.PREPARED, OrderState.UNKNOWN, OrderState.SUBMITTED),
    # A stored order whose picture was evicted and is fetched again.
    OrderState.SUCCEEDED: (OrderState.SUBMITTED, OrderState.SUCCEEDED, OrderState.STORED),
    # After a kill between file and row, the row is one or two steps behind.
    OrderState.STORED: (OrderState.SUBMITTED, OrderState.SUCCEEDED, OrderState.STORED),
    OrderState.FAILED: (OrderState.PREPARED, OrderState.UNKNOWN, OrderState.SUBMITTED, OrderState.SUCCEEDED),
    OrderState.UNKNOWN: (OrderState.PREPARED, OrderState.UNKNOWN),
}

FURTHER_ON: dict[OrderState, tuple[OrderState, ...]] = {
    OrderState.SUBMITTED: (OrderState.SUCCEEDED, OrderState.STORED, OrderState.FAILED),
    OrderState.FAILED: (OrderState.FAILED,),
    OrderState.UNKNOWN: (OrderState.SUBMITTED, OrderState.SUCCEEDED, OrderState.STORED, OrderState.FAILED),
}
"""States in which a row needs no change to the key state: another process has recorded more, or this change was
committed and its response lost.
"""


@dataclass(frozen=True)
class OrderRow:
    """One attempt at one order.

    `body` exists while the order is open, `result_urls` from *succeeded* to *stored*. `seconds` is the service's time
    from acceptance to success. `details` holds what a report needs (seed, variation, aspect ratio ...), never the
    prompt.
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
    """The order of a row with all columns."""
    values = {name: row[name] for name in row.keys()}  # noqa: SIM118 - one of SQLite iterates over its values
    values["state"] = OrderState(row["state"])
    values["result_urls"] = tuple(str(url) for url in _json(row["result_urls"], list))
    values["details"] = _json(row["details"], dict)
    values["error"] = _json(row["error"], dict) or None
    return OrderRow(**values)


def _json(text: str | None, kind: type[list[Any]] | type[dict[str, Any]]) -> Any:
    """The value of a JSON column; empty if missing or damaged."""
    try:
        value = json.loads(text) if text else None
    except ValueError:
        value = None
    return value if isinstance(value, kind) else kind()
