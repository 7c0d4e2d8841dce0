"""The library as a worker uses it: everything real, only the waits are short.

Its waits are those of `support.quick`.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Sequence
from concurrent.futures import wait
from functools import partial
from pathlib import Path
from typing import Any

from rivya.config import Config
from rivya.engine import engine
from rivya.engine.jobs import JobCancelled, Ticket
from rivya.errors import Charged, RivyaError, RivyaTimeoutError
from rivya.ledger import opening
from rivya.ledger.ledger import Ledger
from rivya.orders.order import Finished, Order
from rivya.secret import Secret
from support.quick import QuickAccount, order_of, picture

READ_S = 0.6


class FaultsAccount(QuickAccount):
    """Patient enough for processes that are many at once."""

    read_s = READ_S
    total_s = 60.0
    retry_cap_s = 0.2
    poll_s = 0.05


class Client:
    """One engine on one state folder."""

    def __init__(self, home: str | Path, url: str, key: str, **settings: Any) -> None:
        quick = {"retry_budget_s": 1.5, "conflict_wait_s": 0.4, "max_concurrency": 64}
        FaultsAccount.read_s = settings.pop("read_s", READ_S)
        if "busy_s" in settings:
            # To mypy a class may not be replaced by a function that makes it.
            opening.Ledger = partial(Ledger, busy_s=settings.pop("busy_s"))  # type: ignore[misc, assignment]
        self.config = Config(home=Path(home), base_url=url, key=Secret(key), **{**quick, **settings})
        self.engine = engine.Engine()

    def orders(self, wanted: Sequence[dict[str, Any]]) -> list[Order]:
        """The orders, their references uploaded: ``prompt``, ``picture`` (a number), ``seed`` ... each."""
        jobs: dict[tuple[int, str], Any] = {}
        for each in wanted:
            if each.get("picture") is not None:
                place = (each["picture"], each.get("encoding", "auto"))
                if place not in jobs:
                    jobs[place] = self.engine.reference(self.config, _loader(place[0]), place[1])
        uploaded = {place: job.result(60) for place, job in jobs.items()}
        made = []
        for each in wanted:
            reference = uploaded.get((each.get("picture"), each.get("encoding", "auto")))
            words = {name: each[name] for name in each if name not in ("picture", "encoding", "params")}
            made.append(order_of(reference, **words, **each.get("params", {})))
        return made

    def run(
        self,
        wanted: Sequence[dict[str, Any]],
        *,
        timeout_s: float = 30.0,
        leave_after_s: Sequence[float | None] = (),
    ) -> list[dict[str, Any]]:
        """Order, wait, deliver; one plain value for each: what was delivered, or the error.

        ``leave_after_s``: when to stop waiting for each, as a cancelled prompt does.
        """
        try:
            orders = self.orders(wanted)
        except RivyaError as error:  # as a graph whose node for uploads fails: no order was looked at
            return [{"error": error.as_dict(), "uploading": True} for _ in wanted]
        return self._deliver(self.engine.order(self.config, orders), timeout_s, leave_after_s)

    def forget(self, order_key: str) -> bool:
        """As ``python -m rivya forget``."""
        book = self.engine.ledger(self.config)
        (row,) = (row for row in book.orders(1000) if row.key == order_key)
        return book.forget(row.id)

    def collect(self, task_ids: Sequence[str] = (), timeout_s: float = 30.0) -> list[dict[str, Any]]:
        """As RivyaCollectTasks."""
        try:
            rows = self.engine.collectable(self.config, task_ids).result(60)
        except RivyaError as error:
            return [{"error": error.as_dict()}]
        names = dict.fromkeys(row.fingerprint for row in rows)
        return self._deliver([self.engine.collect(self.config, name) for name in names], timeout_s)

    def _deliver(
        self, tickets: Sequence[Ticket], timeout_s: float, leave_after_s: Sequence[float | None] = ()
    ) -> list[dict[str, Any]]:
        begun = time.monotonic()
        leaving = [
            (after, ticket)
            for after, ticket in zip(leave_after_s, tickets, strict=False)
            if after is not None
        ]
        for after, ticket in sorted(leaving, key=lambda each: each[0]):
            time.sleep(max(0.0, after - (time.monotonic() - begun)))
            ticket.leave()
        wait([ticket.done for ticket in tickets], timeout=max(0.0, timeout_s - (time.monotonic() - begun)))
        outcomes = [_outcome(ticket) for ticket in tickets]
        finished = [each for each in outcomes if isinstance(each, Finished)]
        told = [_told(each) for each in outcomes]
        self.engine.delivered(finished).result(30)
        return told


def _loader(number: int) -> Callable[[], Any]:
    return lambda: picture(number)


def _outcome(ticket: Ticket) -> Finished | RivyaError | None:
    """None: whoever waited has left."""
    if not ticket.done.done():
        progress = ticket.progress
        ticket.leave()
        known = Charged.YES if progress.since is not None else Charged.UNKNOWN
        return RivyaTimeoutError("The picture was not ready.", task_id=progress.task_id, charged=known)
    error = ticket.done.exception()
    if isinstance(error, JobCancelled):
        return None
    if error is not None and not isinstance(error, RivyaError):
        raise error
    return error or ticket.done.result()


def _told(outcome: Finished | RivyaError | None) -> dict[str, Any]:
    if outcome is None:
        return {"left": True}
    if isinstance(outcome, RivyaError):
        return {"error": outcome.as_dict()}
    hashes = [hashlib.sha256(data).hexdigest() for data in outcome.result.read()]
    return {"pictures": hashes, "source": outcome.source, **outcome.about}
