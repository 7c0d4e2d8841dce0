"""A state folder, a holder and a ledger for every test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from rivya.ledger.database import Database
from rivya.ledger.holders import FileHolder
from rivya.ledger.ledger import Ledger, OrderRow


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "state"


@pytest.fixture
def open_ledger(folder: Path) -> Iterator[Callable[..., Ledger]]:
    """Opens ledgers, each with a holder of its own, and closes them at the end."""
    opened: list[tuple[Ledger, FileHolder]] = []

    def opener(where: Path | Database | None = None, **options: Any) -> Ledger:
        holder = FileHolder(where if isinstance(where, Path) else folder)
        book = Ledger(where or folder, holder, **options)
        opened.append((book, holder))
        return book

    yield opener
    for book, holder in opened:
        book.close()
        holder.close()


@pytest.fixture
def ledger(open_ledger: Callable[..., Ledger]) -> Ledger:
    return open_ledger()


@pytest.fixture
def prepare() -> Callable[..., OrderRow]:
    """Writes a new order into a ledger, as far as *prepared*."""

    def preparer(book: Ledger, fingerprint: str = "f", **values: Any) -> OrderRow:
        attempt = values.pop("attempt", 1)
        row, created = book.prepare(
            **{
                "scope": "s",
                "fingerprint": fingerprint,
                "attempt": attempt,
                "key": f"key-{fingerprint}-{attempt}",
                "body": b'{"prompt": "a quiet harbour"}',
                "model": "flux-kontext-pro",
                "mode": "text",
                "details": {"seed": 7},
                **values,
            }
        )
        assert created
        return row

    return preparer
