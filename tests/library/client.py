"""The library as these tests use it: a real engine on real sockets and files, only its waits are short.

Time limits, retry budget and the pace of polling are values that the library takes; these are values of a test.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from sqlite3 import connect
from typing import Any

import numpy as np
import pytest
from PIL import Image

from rivya import engine
from rivya.account import Account
from rivya.api import Api
from rivya.calls import Caller
from rivya.config import Config
from rivya.errors import RivyaError
from rivya.jobs import Ticket
from rivya.kontext import Identity, KontextParams
from rivya.ledger import Ledger, OrderRow
from rivya.locks import Holder
from rivya.order import Finished, Order, State
from rivya.policy import RetryPolicy
from rivya.references import Reference
from rivya.results import ResultStore
from rivya.secret import Secret
from rivya.transport import Timeouts, Transport

READ_S = 0.8
PATIENCE_S = 20.0
SOON_S = 3.0
"""What takes no time, on a machine that does much else."""


class QuickPace:
    """Asks fifty times a second."""

    def next_poll(self, *_: object, **__: object) -> float:
        return 0.02

    def expected_s(self) -> float:
        return 0.02

    def progress(self, elapsed_s: float) -> float:
        return 0.5


class QuickAccount(Account):
    """An account with the waits of a test."""

    def __init__(self, config: Config, *rest: Any) -> None:
        super().__init__(config, *rest)
        self.transport = Transport(
            config.base_url,
            config.require_key(),
            allowed_networks=config.allowed_result_networks,
            timeouts=Timeouts(connect_s=2.0, read_s=READ_S, write_s=2.0, total_s=10.0),
        )
        self.retry = RetryPolicy(base_s=0.02, cap_s=0.1, budget_s=config.retry_budget_s)
        self.api = Api(Caller(self.transport, self.retry, self.bound))

    async def pace(self, model: str, mode: str) -> Any:
        return QuickPace()


class Client:
    """One engine on one state folder; several of them are what several processes would be."""

    def __init__(self, home: Path, url: str, key: str, **settings: Any) -> None:
        quick = {"retry_budget_s": 1.0, "conflict_wait_s": 0.3, **settings}
        self.config = Config(home=home, base_url=url, key=Secret(key), **quick)
        self.engine = engine.Engine()
        # The ledger waits for a lock for ten seconds; these tests make it wait on purpose.
        holder = Holder(home)
        store = ResultStore(home, self.config.result_store_bytes)
        self.state = State(holder, Ledger(home, holder, busy_s=0.3), store)
        self.engine._states[home] = self.state

    @property
    def ledger(self) -> Ledger:
        return self.state.ledger

    def order(
        self, prompt: str = "a quiet harbour", reference: Reference | None = None, **more: Any
    ) -> Order:
        """An order; ``seed`` and ``variation`` as they are, everything else a parameter."""
        identity = Identity(
            prompt=prompt,
            seed=more.pop("seed", 0),
            variation=more.pop("variation", 0),
            reference=reference.identity if reference else None,
            size=reference.size if reference else None,
            params=KontextParams(**more),
        )
        return Order(identity, reference)

    def reference(self, number: int = 1, encoding: str = "auto") -> Reference:
        return self.engine.reference(self.config, lambda: pixels(number), encoding).result(PATIENCE_S)

    def tickets(self, *orders: Order) -> list[Ticket]:
        return self.engine.order(self.config, orders)

    def run(self, *orders: Order) -> list[Finished]:
        """Order and wait; the first failure is raised."""
        return [ticket.result(PATIENCE_S) for ticket in self.tickets(*orders)]

    def failure(self, order: Order) -> RivyaError:
        with pytest.raises(RivyaError) as caught:
            self.run(order)
        return caught.value

    def rows(self) -> list[OrderRow]:
        """All orders of the ledger, oldest first."""
        return self.ledger.orders(100_000)[::-1]

    def loop_call(self, work: Any) -> Any:
        """The result of a plain function that runs in the engine's loop, after all that was handed over before."""

        async def call() -> Any:
            return work()

        return self.engine.start(call).result(PATIENCE_S)

    @property
    def account(self) -> Account:
        return self.engine._accounts[self.config]


@contextmanager
def locked(home: Path) -> Iterator[None]:
    """Somebody else keeps the ledger for writing."""
    connection = connect(home / "ledger.sqlite3", isolation_level=None, check_same_thread=False)
    try:
        connection.execute("BEGIN IMMEDIATE")
        yield
        connection.execute("ROLLBACK")
    finally:
        connection.close()


def pixels(number: int, size: tuple[int, int] = (24, 16)) -> np.ndarray[Any, Any]:
    """A small picture of its own for every number: uint8, (height, width, 3)."""
    return np.random.default_rng(number).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)


def png(number: int, size: tuple[int, int] = (24, 16)) -> bytes:
    """The same as a file."""
    file = BytesIO()
    Image.fromarray(pixels(number, size)).save(file, "PNG")
    return file.getvalue()


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def in_thread(work: Any, *arguments: Any) -> threading.Thread:
    thread = threading.Thread(target=work, args=arguments, daemon=True)
    thread.start()
    return thread


def sources(finished: Sequence[Finished]) -> list[str]:
    return [each.source for each in finished]
