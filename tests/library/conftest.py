"""What the tests of the library stand on: services of each kind, and engines with short waits."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import sandbox
from library.client import Client
from rivya.engine import engine
from rivya.orders import run, submit
from support.quick import QuickAccount


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    monkeypatch.setattr(engine, "Account", QuickAccount)
    monkeypatch.setattr(submit, "_CONFLICT_PAUSE_S", 0.05)
    monkeypatch.setattr(run, "_OTHERS_CHECK_S", 0.02)


@pytest.fixture(scope="session")
def _replaying() -> Iterator[Any]:
    with sandbox.running(megapixels=0.004, credits=100_000) as running:
        yield running


@pytest.fixture(scope="session")
def _rejecting() -> Iterator[Any]:
    with sandbox.running(megapixels=0.004, credits=100_000, reject_repeats=True) as running:
        yield running


@pytest.fixture
def service(_replaying: Any) -> Iterator[Any]:
    """A service that answers a repeat with the first task; nothing has happened there yet."""
    _replaying.reset()
    yield _replaying
    _replaying.clear_faults()
    book = _replaying.book()
    assert not book["violations"]
    assert not book["errors"]


@pytest.fixture
def rejecting(_rejecting: Any) -> Any:
    """A service that answers every repeat with 409."""
    _rejecting.reset()
    return _rejecting


@pytest.fixture
def make(service: Any, tmp_path: Path) -> Callable[..., Client]:
    """Makes clients, by default of one service, one account and one state folder."""

    def make(used: Any = None, home: Path | None = None, **settings: Any) -> Client:
        chosen = used or service
        key = settings.pop("key", chosen.key)
        return Client(home or tmp_path / "state", chosen.url, key, **settings)

    return make


@pytest.fixture
def client(make: Callable[..., Client]) -> Client:
    return make()
