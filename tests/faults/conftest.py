"""Workers, and a service of each kind."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from faults.zygote import Worker, Zygote


@pytest.fixture(scope="session")
def zygote() -> Iterator[Zygote]:
    with Zygote() as running:
        yield running


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
