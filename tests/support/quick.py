"""The library with the waits of a test: everything real, only time limits, retries and pace are short.

They are values that the library takes; these are values of a test.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from rivya.api.policy import RetryPolicy
from rivya.engine import engine
from rivya.http.transport import Timeouts, Transport
from rivya.kontext import MODELS, Identity, KontextParams
from rivya.ledger.holders import FileHolder
from rivya.ledger.ledger import Ledger
from rivya.orders import run, submit
from rivya.orders.account import Account
from rivya.orders.order import Order, Reference


class QuickSchedule:
    """Asks every ``poll_s`` seconds."""

    def __init__(self, poll_s: float) -> None:
        self._poll_s = poll_s

    def next_poll(self, *_: object, **__: object) -> float:
        return self._poll_s

    def expected_s(self) -> float:
        return self._poll_s

    def progress(self, elapsed_s: float) -> float:
        return 0.5


class QuickAccount(Account):
    """An account with the waits of a test, in seconds."""

    read_s = 0.8
    total_s = 10.0
    retry_cap_s = 0.1
    poll_s = 0.02

    def _make_transport(self) -> Transport:
        return Transport(
            self.config.base_url,
            self.config.require_key(),
            allowed_networks=self.config.allowed_result_networks,
            timeouts=Timeouts(connect_s=2.0, read_s=self.read_s, write_s=2.0, total_s=self.total_s),
        )

    def _make_retry_policy(self) -> RetryPolicy:
        return RetryPolicy(base_s=0.02, cap_s=self.retry_cap_s, budget_s=self.config.retry_budget_s)

    async def schedule(self, model: str, mode: str) -> Any:
        return QuickSchedule(self.poll_s)


def quicken(account: type[QuickAccount], change: Callable[[Any, str, Any], None] = setattr) -> None:
    """Let the engines of this process use quick accounts; ``change`` sets an attribute of a module."""
    change(engine, "Account", account)
    change(submit, "_CONFLICT_PAUSE_S", 0.05)
    change(run, "_OTHERS_CHECK_S", 0.02)


def order_of(
    reference: Reference | None = None,
    *,
    prompt: str = "a quiet harbour",
    seed: int = 0,
    variation: int = 0,
    client_request_id: str = "",
    **params: Any,
) -> Order:
    """An order of these parameters; what is not named here is a parameter of the model."""
    identity = Identity(
        prompt=prompt,
        params=KontextParams(**params),
        seed=seed,
        variation=variation,
        reference=reference.identity if reference else None,
        size=reference.size if reference else None,
    )
    return Order(identity, reference, client_request_id)


def picture(number: int, size: tuple[int, int] = (24, 16)) -> np.ndarray[Any, Any]:
    """A small picture of its own for every number: uint8, (height, width, 3)."""
    return np.random.default_rng(number).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)


def teach_schedule(home: Path, url: str, key: str, seconds: float = 0.5) -> None:
    """Write finished orders into a state folder, so that this account is asked after a second and not after six."""
    holder = FileHolder(home)
    ledger = Ledger(home, holder)
    key_hash = hashlib.sha256(key.encode()).hexdigest()
    scope = hashlib.sha256(f"{url}\n{key_hash}".encode()).hexdigest()
    ledger.join_scope(url, key_hash, scope)
    for model, mode, number in itertools.product(MODELS, ("text", "edit"), range(3)):
        name = hashlib.sha256(f"{scope} {model} {mode} {number}".encode()).hexdigest()
        row, _ = ledger.prepare(
            scope=scope,
            fingerprint=name,
            attempt=1,
            key=name,
            body=b"{}",
            model=model,
            mode=mode,
            details={},
        )
        ledger.submitted(row.id, task_id=f"task_{name}", reserved_credits=0)
        ledger.succeeded(row.id, urls=["http://127.0.0.1/gone"], final_credits=0, seconds=seconds)
        ledger.stored(row.id)
        ledger.delivered([row.id])
    ledger.close()
    holder.close()
