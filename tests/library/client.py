"""The library as these tests use it: a real engine on real sockets and files, only its waits are short.

Its waits are those of `support.quick`.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from rivya.config import Config
from rivya.engine import engine
from rivya.engine.jobs import Ticket
from rivya.errors import RivyaError
from rivya.ledger.holders import FileHolder, Holder
from rivya.ledger.ledger import Ledger, OrderRow
from rivya.ledger.opening import open_ledger
from rivya.orders.account import Account
from rivya.orders.order import Finished, Order, Reference, Workspace
from rivya.secret import Secret
from rivya.storage.opening import open_store
from support.quick import order_of, picture
from support.sources import ROOT

PATIENCE_S = 20.0
SOON_S = 3.0
"""What takes no time, on a machine that does much else."""


class Client:
    """One engine on one state folder; several of them are what several processes would be."""

    def __init__(self, home: Path, url: str, key: str, **settings: Any) -> None:
        quick = {"retry_budget_s": 1.0, "conflict_wait_s": 0.3, **settings}
        self.config = Config(home=home, base_url=url, key=Secret(key), **quick)
        self.engine = engine.Engine()
        # The ledger waits for a lock for ten seconds; these tests make it wait on purpose.
        holder: Holder = FileHolder(home)
        ledger = Ledger(home, holder, busy_s=0.3)
        if self.config.ledger is not None:
            holder, ledger = open_ledger(self.config)
        self.state = Workspace(holder, ledger, open_store(self.config), home)
        self.engine._states[self.config.place] = self.state

    @property
    def ledger(self) -> Ledger:
        return self.state.ledger

    def order(
        self, prompt: str = "a quiet harbour", reference: Reference | None = None, **more: Any
    ) -> Order:
        """An order; ``seed`` and ``variation`` as they are, everything else a parameter."""
        return order_of(reference, prompt=prompt, **more)

    def reference(self, number: int = 1, encoding: str = "auto") -> Reference:
        return self.engine.reference(self.config, lambda: picture(number), encoding).result(PATIENCE_S)

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


Run = Callable[..., "subprocess.CompletedProcess[str]"]
"""Runs the command line with these arguments; named ones change the environment."""


def environment(client: Client) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if "proxy" not in name.lower()}
    return {
        **kept,
        "PYTHONPATH": str(ROOT),
        "RIVYA_HOME": str(client.config.home),
        "RIVYA_API_KEY": client.config.require_key().reveal(),
        "RIVYA_BASE_URL": client.config.base_url,
    }


def png(number: int, size: tuple[int, int] = (24, 16)) -> bytes:
    """The same as a file."""
    file = BytesIO()
    Image.fromarray(picture(number, size)).save(file, "PNG")
    return file.getvalue()


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def until(condition: Callable[[], bool]) -> None:
    """Wait until it is true."""
    end = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def in_thread(work: Any, *arguments: Any) -> threading.Thread:
    thread = threading.Thread(target=work, args=arguments, daemon=True)
    thread.start()
    return thread


def sources(finished: Sequence[Finished]) -> list[str]:
    return [each.source for each in finished]
