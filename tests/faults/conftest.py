"""Workers, and a service of each kind."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import sandbox
from faults.zygote import Worker, Zygote


@pytest.fixture(scope="session")
def zygote() -> Iterator[Zygote]:
    with Zygote() as running:
        yield running


@pytest.fixture(scope="session")
def _replaying() -> Iterator[Any]:
    with sandbox.running(megapixels=0.004, credits=100_000) as running:
        yield running


@pytest.fixture
def replaying(_replaying: Any) -> Any:
    """A service that answers a repeat with the first task; nothing has happened there yet."""
    _replaying.reset()
    return _replaying


@pytest.fixture(scope="session")
def _rejecting() -> Iterator[Any]:
    with sandbox.running(megapixels=0.004, credits=100_000, reject_repeats=True) as running:
        yield running


@pytest.fixture
def rejecting(_rejecting: Any) -> Any:
    """A service that answers every repeat with 409."""
    _rejecting.reset()
    return _rejecting


@pytest.fixture
def start(zygote: Zygote, replaying: Any, tmp_path: Path) -> Iterator[Callable[..., Worker]]:
    """Starts workers, by default for the replaying service and one state folder; kills those that are left."""
    started: list[Worker] = []

    def starter(service: Any = None, home: Path | None = None, **settings: Any) -> Worker:
        used = service or replaying
        key = settings.pop("key", used.key)
        worker = zygote.worker(home or tmp_path / "state", used.url, key, **settings)
        started.append(worker)
        return worker

    yield starter
    for worker in started:
        worker.kill()
