"""Watching orders from a node: status text, progress bar, previews, time limit, cancel."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ..rivya import plan
from ..rivya.engine import engine
from ..rivya.engine.jobs import Job, Ticket
from ..rivya.errors import Charged, RivyaError
from ..rivya.images import encode
from ..rivya.orders.order import Finished
from . import host, waiting
from .notes import said

STATUS_S = 1.0
PREVIEW_PX = 512

_STATES = ("waiting", "sending", "running", "downloading", "done")


class Watch:
    """The tickets of one run of a node, from handing over until all have ended."""

    def __init__(
        self, tickets: Sequence[Ticket], timeout_s: float, remedy: Callable[[int], str], most: int = 0
    ) -> None:
        """
        Args:
            remedy: for the message after a cancel: how to get that many pictures later.
            most: the price of all orders in credits if none was bought before.
        """
        self._tickets = list(tickets)
        self._timeout_s = timeout_s
        self._remedy = remedy
        self._most = most
        self._began = time.monotonic()
        self._said_at = float("-inf")
        self._late: dict[str, RivyaError] = {}
        self._previewed: set[str] = set()
        self._previews: list[Job[Any]] = []

    async def outcomes(self) -> dict[str, Finished | RivyaError]:
        """The outcome of each order by fingerprint, once all have ended or timed out.

        Raises:
            InterruptProcessingException: cancelled; the orders are left to the engine.
        """
        try:
            await waiting.until_done(self._tickets, self._look)
        except BaseException:
            self._say_left()
            raise
        finally:
            for ticket in self._tickets:
                ticket.leave()
        return {
            ticket.fingerprint: self._late.get(ticket.fingerprint) or plan.outcome(ticket)
            for ticket in self._tickets
        }

    async def _look(self) -> None:
        """Checks time limits at every call, updates texts and bar every second."""
        now = time.monotonic()
        self._check_time(now)
        preview = self._next_preview()
        ended = all(ticket.done.done() for ticket in self._tickets)
        if preview is None and not ended and now - self._said_at < STATUS_S:
            return
        self._said_at = now
        fractions = [1.0 if t.done.done() else t.progress.fraction(now) for t in self._tickets]
        await host.progress(sum(fractions) / max(1, len(fractions)), preview)
        if not ended:
            host.say(self.text(now))

    def text(self, now: float) -> str:
        counts = Counter(_state(ticket) for ticket in self._tickets)
        shown = [f"{counts[state]} {state}" for state in (*_STATES, "failed") if counts[state]]
        line = " · ".join(shown) if len(self._tickets) > 1 else next(iter(counts), "")
        sources = Counter(t.progress.source for t in self._tickets if t.progress.source)
        credits = sum(t.progress.credits or 0 for t in self._tickets if t.progress.source == "new")
        elapsed = f"{now - self._began:.0f} s"
        expected = [
            t.progress.schedule.expected_s()
            for t in self._tickets
            if t.progress.schedule and not t.done.done()
        ]
        if expected:
            elapsed += f" (usually about {max(expected):.0f} s)"
        parts = [line, elapsed, self._price(credits)]
        if len(sources) > 1 or "new" not in sources:
            parts.append(", ".join(f"{count} {name}" for name, count in sources.items()))
        troubles = dict.fromkeys(t.progress.trouble for t in self._tickets if t.progress.trouble)
        parts += [f"{trouble} Trying again." for trouble in list(troubles)[:1]]
        return "\n".join(part for part in parts if part)

    def _price(self, credits: int) -> str:
        """Credits spent, and at most, until each order is paid or known from before."""
        told = [t.progress for t in self._tickets if not t.done.done()]
        if self._most and any(p.source in (None, "new") and p.credits is None for p in told):
            return (
                f"{credits} of at most {self._most} credits" if credits else f"at most {self._most} credits"
            )
        return f"{credits} credits" if credits else ""

    def _check_time(self, now: float) -> None:
        for ticket in self._tickets:
            late = plan.is_late(ticket, self._timeout_s, began=self._began, now=now)
            if late and ticket.fingerprint not in self._late:
                self._late[ticket.fingerprint] = plan.out_of_time(ticket, self._timeout_s)
                ticket.leave()

    def _next_preview(self) -> Any:
        """A small picture of an order that just ended, made in a codec thread, or None."""
        for ticket in self._tickets:
            if (
                ticket.done.done()
                and ticket.done.exception() is None
                and ticket.fingerprint not in self._previewed
            ):
                self._previewed.add(ticket.fingerprint)
                finished = ticket.done.result()
                # A stored picture is there at once; a preview would only delay it.
                if finished.source != "stored":
                    self._previews.append(engine.shared().codec(_preview, finished.result))
        ready = [job for job in self._previews if job.done.done()]
        self._previews = [job for job in self._previews if not job.done.done()]
        shown = [job.done.result() for job in ready if job.done.exception() is None]
        return shown[-1] if shown else None

    def _say_left(self) -> None:
        going_on = sum(t.progress.task_id is not None and not t.done.done() for t in self._tickets)
        sending = sum(_state(t) == "sending" for t in self._tickets)
        kept = sum(t.done.done() and t.done.exception() is None for t in self._tickets)
        lines: list[str] = [said("cancelled")]
        if going_on or sending:
            lines.append(said("goesOn", count=going_on + sending))
        if kept:
            lines.append(said("stored", count=kept))
        if len(lines) > 1:
            lines.append(self._remedy(going_on + sending + kept))
        host.say_last(lines, "warn" if len(lines) > 1 else "info")


def _preview(stored: Any) -> Any:
    return encode.thumbnail_for_preview(stored.read()[0], PREVIEW_PX)


def _state(ticket: Ticket) -> str:
    if not ticket.done.done():
        return ticket.progress.state
    return "done" if ticket.done.exception() is None else "failed"


def summary(failures: Mapping[str, RivyaError], total: int, kept: int) -> RivyaError:
    """One error for a run with failed orders; that of a single order is returned unchanged."""
    errors = list(failures.values())
    if total == 1:
        return errors[0]
    charges = {error.charged for error in errors}
    worst = next(each for each in (Charged.UNKNOWN, Charged.YES, None, Charged.NO) if each in charges)
    # The worst charge decides the class of the summary.
    first = next((error for error in errors if error.charged is worst), errors[0])
    others = f" {kept} others are stored, and running again delivers them for no credits." if kept else ""
    text = dict.fromkeys(error.message for error in errors)
    task_ids = ", ".join(error.task_id for error in errors if error.task_id)
    order_keys = ", ".join(error.order_key for error in errors if error.order_key)
    return type(first)(
        f"{len(errors)} of {total} pictures failed: {' / '.join(list(text)[:3])}{others}",
        hint=first.hint,
        code=first.code,
        status=first.status,
        request_id=first.request_id,
        task_id=task_ids or None,
        order_key=order_keys or None,
        charged=worst,
    )
