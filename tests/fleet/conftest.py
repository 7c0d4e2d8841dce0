"""Processes on several hosts, as far as that matters: a state folder each, one ledger, one place for pictures."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

import sandbox
from rivya.secret import Secret
from support.sources import ROOT

Start = Callable[..., list["Worker"]]


def wait_for_tasks(service: Any, count: int) -> None:
    """Wait until the service has accepted so many orders."""
    until = time.monotonic() + 60
    while len(service.tasks()) < count:
        assert time.monotonic() < until
        time.sleep(0.05)


class Worker:
    """One process, started and told to go apart, so that all begin together."""

    def __init__(self, env: dict[str, str], enter: Sequence[str] = (), **options: Any) -> None:
        self.process = subprocess.Popen(
            [*enter, sys.executable, str(Path(__file__).with_name("worker.py")), json.dumps(options)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=env,
        )
        self._lines: list[dict[str, Any]] = []
        self._said = ""
        self._ready = threading.Event()
        self._threads = [threading.Thread(target=each) for each in (self._listen, self._drain)]
        for thread in self._threads:
            thread.start()

    def ready(self) -> None:
        assert self._ready.wait(90), self._said

    def go(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()

    def holds(self, count: int, ledger: Secret) -> None:
        """Wait until so many orders that the service has accepted stand under this process's name in the ledger."""
        import psycopg

        until, under_way = time.monotonic() + 60, 0
        while under_way < count:
            assert time.monotonic() < until, f"{under_way} orders under way\n{self._said[-3000:]}"
            time.sleep(0.05)
            with suppress(psycopg.errors.UndefinedTable), psycopg.connect(ledger.reveal()) as connection:
                under_way = connection.execute(
                    "SELECT FROM rivya.orders WHERE state = 'submitted' AND split_part(holder, '-', 1) = %s",
                    (str(self.process.pid),),
                ).rowcount

    def kill(self) -> None:
        self.process.kill()
        self._joined()

    def ended(self) -> list[dict[str, Any]]:
        """What came of its orders, when it is done."""
        assert self.process.wait(240) == 0, self._said[-3000:]
        self._joined()
        return list(self._lines)

    def _joined(self) -> None:
        self.process.wait()
        for thread in self._threads:
            thread.join()
        for pipe in (self.process.stdin, self.process.stdout, self.process.stderr):
            if pipe is not None:
                pipe.close()

    def _listen(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            told = json.loads(line)
            if told["event"] == "ready":
                self._ready.set()
            else:
                self._lines.append(told)

    def _drain(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self._said += line


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts processes that share a ledger: ``start(4, service, url, orders=50, env={...})``.

    ``enter``: words before their command.
    """
    started: list[Worker] = []

    def starter(
        number: int,
        service: Any,
        ledger: Secret | None,
        env: dict[str, str] | None = None,
        **options: Any,
    ) -> list[Worker]:
        kept = {name: value for name, value in os.environ.items() if "proxy" not in name.lower()}
        common = {
            **kept,
            "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")]),
            "RIVYA_API_KEY": service.key,
            "RIVYA_BASE_URL": service.url,
            "RIVYA_RESULTS": str(tmp_path / "results"),
            **({"RIVYA_LEDGER": ledger.reveal()} if ledger else {}),
            **(env or {}),
        }
        new = []
        for _ in range(number):
            home = tmp_path / (f"host{len(started)}" if ledger else "host")
            new.append(Worker({**common, "RIVYA_HOME": str(home)}, **options))
            started.append(new[-1])
        for worker in new:
            worker.ready()
        for worker in new:
            worker.go()
        return new

    yield starter
    for worker in started:
        if worker.process.poll() is None:
            worker.kill()


@pytest.fixture
def serve() -> Iterator[Callable[..., Any]]:
    """Starts services: ``serve(latency=1.0)``."""
    opened: list[Any] = []

    def starter(**settings: Any) -> Any:
        running = sandbox.running(megapixels=0.004, credits=100_000, **settings)
        opened.append(running)
        return running.__enter__()

    yield starter
    for running in opened:
        running.__exit__(None, None, None)
