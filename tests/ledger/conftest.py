"""A state folder, a holder and a ledger for every test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from rivya.ledger.beats import BeatHolder
from rivya.ledger.database import Database
from rivya.ledger.holders import FileHolder, Holder
from rivya.ledger.ledger import FILE_NAME, Ledger, OrderRow
from rivya.ledger.postgres import PostgresDatabase


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "state"


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run the tests of a module that says ``BOTH`` over both databases."""
    if getattr(metafunc.module, "BOTH", False) and "open_ledger" in metafunc.fixturenames:
        metafunc.parametrize(
            "kind", ["file", pytest.param("postgres", marks=pytest.mark.heavy)], indirect=True
        )


@pytest.fixture
def kind(request: pytest.FixtureRequest) -> str:
    """Where ledgers lie: "file" or "postgres"."""
    return str(getattr(request, "param", "file"))


@pytest.fixture
def open_ledger(kind: str, folder: Path, request: pytest.FixtureRequest) -> Iterator[Callable[..., Ledger]]:
    """Opens ledgers, each with a holder of its own, and closes them at the end."""
    opened: list[tuple[Ledger, Holder]] = []
    url = request.getfixturevalue("database_url") if kind == "postgres" else None

    def opener(
        where: Path | None = None, kept_by: Callable[..., Database] | None = None, **options: Any
    ) -> Ledger:
        if url is not None:
            database = (kept_by or PostgresDatabase)(url, patience_s=10.0)
            holder: Holder = BeatHolder(database, PostgresDatabase(url, patience_s=0.0))
            book = Ledger(database, holder, **options)
        else:
            holder = FileHolder(where or folder)
            place = kept_by(folder / FILE_NAME, busy_s=10.0) if kept_by else where or folder
            book = Ledger(place, holder, **options)
        opened.append((book, holder))
        return book

    yield opener
    for book, holder in opened:
        holder.close()
        book.close()


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
