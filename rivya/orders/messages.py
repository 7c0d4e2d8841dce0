"""Errors of orders without a picture: what is certain, what is not, what to do.

"Not charged" is said only where proved. The hints name only ways that never buy twice.
"""

from __future__ import annotations

import time
from pathlib import Path

from .. import commands
from ..errors import (
    Charged,
    ConflictError,
    NotFoundError,
    RivyaError,
    Sent,
    TaskFailedError,
    UnknownOutcomeError,
)
from ..ledger.ledger import OrderRow


def unknown_outcome(row: OrderRow, error: RivyaError, window_s: float, home: Path) -> RivyaError:
    """The error of an order that may have been accepted. ``home``: the state folder."""
    hours = window_s / 3600
    over = time.time() - row.created_at > window_s
    again = (
        f"It is over {hours:g} h old and is not repeated any more."
        if over
        else f"Run again within {hours:g} h: the same request is repeated, and Rivya does not charge it twice."
    )
    kind = UnknownOutcomeError if isinstance(error, (ConflictError, NotFoundError)) else type(error)
    message = error.message
    if isinstance(error, ConflictError) and error.status == 409:
        message = "Rivya already has an order with this key and does not tell its task id."
    return kind(
        message,
        hint=f"{again} Otherwise {_look_and_forget(row, home)}",
        code=error.code,
        status=error.status,
        request_id=error.request_id or row.request_id,
        order_key=row.key,
        charged=Charged.UNKNOWN,
        sent=Sent.MAYBE,
    )


def ordered_with_another_key(row: OrderRow, home: Path) -> RivyaError:
    """The error of an order of unknown outcome, sent with another key that may be of the same account."""
    return UnknownOutcomeError(
        "This order was sent before with another API key, and whether Rivya took it is not known.",
        hint="Set the earlier key and run again: that repeats the same request, which Rivya does not charge twice. "
        f"Otherwise {_look_and_forget(row, home)}",
        request_id=row.request_id,
        order_key=row.key,
        charged=Charged.UNKNOWN,
        sent=Sent.MAYBE,
    )


def _look_and_forget(row: OrderRow, home: Path) -> str:
    return (
        "look at your history at rivya.ai, and take another seed or forget the order "
        f"({commands.own('forget', row.key[:12], home=home)}) to buy the picture anew."
    )


CHARGED_FAILURE_HINT = (
    "Running again does not order it again, because the failed task was charged or may have been; "
    "take another seed for a new attempt, and ask Rivya support for the credits."
)


def failure_of(row: OrderRow) -> RivyaError:
    """The error of a failed attempt, from its row."""
    kept = row.error or {}
    return TaskFailedError(
        str(kept.get("message") or "The task failed at Rivya."),
        hint=None if row.charged == Charged.NO.value else CHARGED_FAILURE_HINT,
        code=kept.get("code"),
        task_id=row.task_id,
        request_id=row.request_id,
        charged=Charged(row.charged),
    )
