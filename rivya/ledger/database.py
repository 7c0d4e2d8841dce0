"""The database interface of the ledger; `sqlite` and `postgres` implement it.

Statements are written once, in SQL that both know, with ``?`` for parameters.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol, TypeVar

T = TypeVar("T")


class Row(Protocol):
    """One result row, by column name."""

    def __getitem__(self, name: str, /) -> Any: ...

    def keys(self) -> Iterable[str]:
        """The column names."""
        ...


class Cursor(Protocol):
    """The result of a statement."""

    @property
    def rowcount(self) -> int:
        """Rows changed by an UPDATE or DELETE."""
        ...

    def fetchone(self) -> Any:
        """The next `Row`, or None."""
        ...

    def fetchall(self) -> list[Any]:
        """The remaining rows."""
        ...


class Connection(Protocol):
    """One open transaction."""

    def execute(self, sql: str, parameters: Sequence[Any] = ..., /) -> Cursor: ...


class Database(Protocol):
    """The database of a ledger. Methods block, are thread-safe, and raise `LedgerError`.

    Attributes:
        notice: a sentence for the user after a damaged file was moved aside, else None.
        shared: whether other hosts may use this ledger; then each access is a network request.
    """

    notice: str | None
    shared: bool

    def read(self, sql: str, parameters: tuple[object, ...] = ()) -> Sequence[Row]:
        """The rows of one SELECT."""
        ...

    def write(self, work: Callable[[Connection], T], *, durable: bool = True) -> T:
        """Run ``work`` in a transaction and commit; any exception rolls it back.

        ``work`` may run twice, even after a commit whose response was lost: it must find what it wrote. Without
        ``durable`` a power cut may undo the change.
        """
        ...

    def has_table(self, connection: Connection, name: str) -> bool:
        """Whether a table of `schema.LATER` exists."""
        ...

    def make_table(self, connection: Connection, name: str) -> None:
        """Create a table of `schema.LATER` if missing."""
        ...

    def truncate_log(self) -> None:
        """Erase deleted text from the database's log, if possible."""
        ...

    def close(self) -> None:
        """Close the connection; the next use reopens it."""
        ...
