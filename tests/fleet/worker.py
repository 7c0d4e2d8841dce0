"""One process of a fleet: orders pictures as its environment says, and prints a line of JSON for each."""

from __future__ import annotations

import json
import os
import sys
from typing import Any

from rivya import config as configuration
from rivya.engine import engine
from rivya.errors import RivyaError
from rivya.kontext import Identity, KontextParams
from rivya.ledger import beats
from rivya.orders.account import Account
from rivya.orders.order import Order
from support.quick import QuickAccount


class _Account(QuickAccount):
    read_s = 20.0
    total_s = 60.0
    poll_s = 0.2
    _make_retry_policy = Account._make_retry_policy  # as in use: what is refused comes back no sooner


def main(orders: int = 1, beat_s: float = 0.5, silence_s: float = 3.0, seed_of_its_own: bool = False) -> None:
    """Order pictures of the seeds from 0 on, or of seeds that no other process takes, and wait for all of them."""
    beats.BEAT_S, beats.SILENCE_S = beat_s, silence_s
    engine.Account = _Account  # type: ignore[misc]
    config = configuration.load()
    wanted = [
        Order(
            Identity(
                prompt="a quiet harbour",
                seed=seed + (os.getpid() << 16 if seed_of_its_own else 0),
                variation=0,
                reference=None,
                size=None,
                params=KontextParams(),
            )
        )
        for seed in range(orders)
    ]
    print(json.dumps({"event": "ready"}), flush=True)
    sys.stdin.readline()
    for ticket in engine.shared().order(config, wanted):
        told: dict[str, Any] = {"event": "ended"}
        try:
            finished = ticket.result(200)
            told |= {"source": finished.source, "size": len(finished.result.read()[0])}
        except RivyaError as error:
            told |= {
                "error": error.code,
                "charged": error.charged and error.charged.value,
                "says": str(error),
            }
        print(json.dumps(told), flush=True)


if __name__ == "__main__":
    main(**json.loads(sys.argv[1]))
