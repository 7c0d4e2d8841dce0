"""A ledger as other programs hold it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from sqlite3 import connect

from rivya.ledger.ledger import FILE_NAME


@contextmanager
def locked(home: Path) -> Iterator[None]:
    """Another program keeps the ledger of this state folder locked for writing."""
    connection = connect(home / FILE_NAME, isolation_level=None, check_same_thread=False)
    try:
        connection.execute("BEGIN IMMEDIATE")
        yield
        connection.execute("ROLLBACK")
    finally:
        connection.close()
