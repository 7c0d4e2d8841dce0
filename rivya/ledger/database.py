"""What the ledger needs of a database: rows, statements, transactions. `sqlite` and `postgres` have it.

The statements of the ledger are written once, with ``?`` for parameters, in what both databases know.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol, TypeVar

T = TypeVar("T")


class Row(Protocol):
    """One row of an answer, by the names of its columns."""

    def __getitem__(self, name: str, /) -> Any:
        """The value of a column."""
        ...

    def keys(self) -> Iterable[str]:
        """The names of the columns."""
        ...


class Cursor(Protocol):
    """What a statement answered."""

    @property
    def rowcount(self) -> int:
        """How many rows an UPDATE or DELETE changed."""
        ...

    def fetchone(self) -> Any:
        """The next `Row`, or None."""
        ...

    def fetchall(self) -> list[Any]:
        """All rows that are left."""
        ...


class Connection(Protocol):
    """One open transaction."""

    def execute(self, sql: str, parameters: Sequence[Any] = ..., /) -> Cursor:
        """Run one statement."""
        ...


class Database(Protocol):
    """Where a ledger lies. Methods block, may be called from any thread, and raise `LedgerError`.

    Attributes:
        notice: a sentence for the user after a damaged file was moved aside, else None.
        shared: whether other hosts may use the same ledger, which makes a look at it a request over a network.
    """

    notice: str | None
    shared: bool

    def read(self, sql: str, parameters: tuple[object, ...] = ()) -> Sequence[Row]:
        """The rows of one SELECT."""
        ...

    def write(self, work: Callable[[Connection], T], *, durable: bool = True) -> T:
        """Run ``work`` in one transaction and commit it; any exception rolls it back.

        ``work`` may run twice, the second time also after a commit whose answer was lost: it must find what it wrote.
        Without ``durable`` a power cut may take the change back.
        """
        ...

    def has_table(self, connection: Connection, name: str) -> bool:
        """Whether a table of `schema.LATER` is there."""
        ...

    def make_table(self, connection: Connection, name: str) -> None:
        """Make a table of `schema.LATER`, unless it is there."""
        ...

    def truncate_log(self) -> None:
        """Leave no deleted text in the database's log, where that can be done."""
        ...

    def close(self) -> None:
        """Close the connection; the next use opens it again."""
        ...
