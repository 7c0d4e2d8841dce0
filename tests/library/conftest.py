"""What the tests of the library stand on: services of each kind, and engines with short waits."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from library.client import Client, Run, environment
from rivya import cli
from rivya.engine import engine
from support.buckets import SeaweedFS
from support.proxies import forget_proxies
from support.quick import QuickAccount, quicken


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    forget_proxies(monkeypatch)
    quicken(QuickAccount, monkeypatch.setattr)


@pytest.fixture
def service(replaying: Any) -> Iterator[Any]:
    """The service that replays; when the test has ended, nothing forbidden and no fault of its own was seen there."""
    yield replaying
    replaying.clear_faults()
    book = replaying.book()
    assert not book["violations"]
    assert not book["errors"]


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


@pytest.fixture
def work(client: Client, tmp_path: Path) -> Path:
    """An empty folder to work in, for an account whose orders are known to be quick."""
    client.run(*[client.order("what is learned from", seed=seed) for seed in range(6)])
    client.engine.delivered([ticket.result() for ticket in _all(client)]).result(10)
    folder = tmp_path / "work"
    folder.mkdir()
    return folder


@pytest.fixture
def shell(
    client: Client, work: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Run:
    """Runs the command line as a process would: with an engine of its own, which ends with it."""

    def run(*arguments: str, **changes: str) -> subprocess.CompletedProcess[str]:
        with monkeypatch.context() as changed:
            for name, value in {**environment(client), **changes}.items():
                changed.setenv(name, value)
            changed.chdir(work)
            changed.setattr(engine, "_shared", None)
            capsys.readouterr()
            try:
                status = cli.main(arguments)
            except SystemExit as end:
                status = int(end.code or 0)
            for state in engine._shared._states.values() if engine._shared else ():
                state.ledger.close()
                state.holder.close()
            told = capsys.readouterr()
        return subprocess.CompletedProcess(arguments, status, told.out, told.err)

    return run


@pytest.fixture
def process(client: Client, work: Path) -> Run:
    """Runs ``python -m rivya``."""

    def run(*arguments: str, **changes: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "rivya", *arguments],
            env={**environment(client), **changes},
            cwd=work,
            capture_output=True,
            text=True,
            timeout=60,
        )

    return run


def _all(client: Client) -> list[Any]:
    return client.tickets(*[client.order("what is learned from", seed=seed) for seed in range(6)])


@pytest.fixture
def aws(seaweedfs: SeaweedFS, monkeypatch: pytest.MonkeyPatch) -> SeaweedFS:
    """The S3 server, and its credentials in the environment."""
    for name, value in seaweedfs.environment.items():
        monkeypatch.setenv(name, value)
    return seaweedfs
