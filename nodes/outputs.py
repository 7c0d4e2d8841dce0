"""From stored results to a node's outputs: batches of pictures, masks, task IDs and the report."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from ..rivya import commands, config
from ..rivya.engine import engine
from ..rivya.errors import Charged, ImageError, RivyaError, UnusableAnswerError
from ..rivya.orders.order import Finished
from ..rivya.storage.results import ResultGone
from . import host, tensors, waiting
from .notes import Line, said
from .progress import Watch, summary
from .v3 import io

if TYPE_CHECKING:
    from ..rivya.config import Config
    from ..rivya.engine.jobs import Ticket


@dataclass(frozen=True)
class OutputRow:
    """One row of the output: reference, variation, and the outcome of its order."""

    reference: int | None
    variation: int | None
    fingerprint: str
    outcome: Finished | RivyaError
    known: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class NodeOutputs:
    images: list[Any]
    masks: list[Any]
    task_ids: str
    report: str
    charged: int
    reused: int

    @property
    def text(self) -> Line:
        count = sum(len(batch) for batch in self.images)
        if self.reused:
            return said("chargedReused", count=count, charged=self.charged, reused=self.reused)
        return said("charged", count=count, charged=self.charged)


class ExpectedRow(NamedTuple):
    """An `OutputRow` before its order has ended."""

    reference: int | None
    variation: int | None
    fingerprint: str
    known: dict[str, Any]


async def finish(
    config: Config,
    expected: Sequence[ExpectedRow],
    tickets: Sequence[Ticket],
    timeout_s: float,
    *,
    remedy: Callable[[int], str],
    most: int = 0,
    skip_failed: bool,
    left_out: Callable[[], object] = lambda: None,
    notes: Sequence[str] = (),
) -> io.NodeOutput:
    """Wait for a run and return the node's outputs; the node shows cost, ``notes`` and the ledger's notice.

    Args:
        remedy, most: see `Watch`.
        left_out: called if an order failed and the others are delivered.

    Raises:
        RivyaError: for all failed orders, unless ``skip_failed`` and there is a picture to deliver.
        InterruptProcessingException: cancelled; the orders are left to the engine.
    """
    outcomes = await Watch(tickets, timeout_s, remedy, most).outcomes()
    rows = [
        OutputRow(each.reference, each.variation, each.fingerprint, outcomes[each.fingerprint], each.known)
        for each in expected
    ]
    failures = {key: outcome for key, outcome in outcomes.items() if isinstance(outcome, RivyaError)}
    if failures and (not skip_failed or len(failures) == len(outcomes)):
        host.say(f"{len(failures)} of {len(outcomes)} failed")
        raise summary(failures, len(outcomes), len(outcomes) - len(failures))
    if failures:
        left_out()
    delivery = await deliver(rows)
    failed = [said("failed", count=len(failures))] if failures else []
    notice = engine.shared().ledger(config).notice
    host.say_last([delivery.text, *failed, *notes, *([notice] if notice else [])])
    return io.NodeOutput(
        delivery.images,
        delivery.masks,
        delivery.task_ids,
        delivery.report,
        ui={"rivya": [{"charged": delivery.charged, "reused": delivery.reused}]},
    )


async def deliver(rows: Sequence[OutputRow]) -> NodeOutputs:
    """Decode every finished picture once per row, in order, and note it as delivered."""
    finished = {place.fingerprint: place.outcome for place in rows if isinstance(place.outcome, Finished)}
    read = await waiting.result(engine.shared().codec(_read, finished))
    pictures = [read.get(place.fingerprint, []) for place in rows]
    batches = await _decoded([data for several in pictures for data in several])
    # A Cancel must not come between handing out the pictures and noting it.
    await waiting.settled(engine.shared().delivered(list(finished.values())))
    entries, charged, reused = _entries(rows, [len(several) for several in pictures], batches)
    return NodeOutputs(
        images=batches.images,
        masks=batches.masks,
        task_ids="\n".join(dict.fromkeys(e["task_id"] for e in entries if e["task_id"])),
        report=json.dumps(
            {"credits_charged": charged, "credits_reused": reused, "orders": entries}, indent=1
        ),
        charged=charged,
        reused=reused,
    )


def _read(finished: dict[str, Finished]) -> dict[str, list[bytes]]:
    try:
        return {key: each.result.read() for key, each in finished.items()}
    except ResultGone:
        raise UnusableAnswerError(
            "A stored picture has vanished in this moment.",
            hint="Run again: it is fetched anew and costs nothing more.",
            code="result_gone",
            charged=Charged.YES,
        ) from None


async def _decoded(files: list[bytes]) -> tensors.Batches:
    running = engine.shared()
    try:
        plan = await waiting.result(running.codec(tensors.Plan, files))
    except ImageError as error:
        if error.code == "images_too_large":
            listed = commands.own("orders", home=config.state_folder(default=host.default_home()))
            raise error.about(hint=f"{error.hint} {listed} lists them.") from None
        raise
    jobs = [running.codec(plan.decode, number) for number in range(len(files))]
    try:
        await waiting.until_done(jobs)
    finally:
        for job in jobs:
            job.cancel()
    for job in jobs:
        job.result()
    return await waiting.result(running.codec(plan.finish, **host.tensor_placement()))


def _entries(
    rows: Sequence[OutputRow], counts: Sequence[int], batches: tensors.Batches
) -> tuple[list[dict[str, Any]], int, int]:
    """The report's entries (one per picture and per failure), and the credits charged and reused."""
    entries: list[dict[str, Any]] = []
    charged = reused = 0
    seen: set[str] = set()
    pictures = iter(zip(batches.places, batches.warnings, strict=True))
    for place, count in zip(rows, counts, strict=True):
        first = place.fingerprint not in seen
        seen.add(place.fingerprint)
        entry = _entry(place)
        cost = entry["credits"] or 0
        if isinstance(place.outcome, Finished) and first:
            charged += cost if place.outcome.source == "new" else 0
            reused += cost if place.outcome.source != "new" else 0
        elif first and isinstance(place.outcome, RivyaError) and place.outcome.charged is Charged.YES:
            charged += cost
        for _ in range(count):
            where, warnings = next(pictures)
            measured = {**where._asdict(), "coarser": _coarser(place.known.get("size"), where)}
            entries.append({**entry, **measured, "notes": [*entry["notes"], *warnings]})
        if not count:
            entries.append(entry)
    return entries, charged, reused


def _coarser(reference: tuple[int, int] | None, result: tensors.BatchIndex) -> float | None:
    """Pixels of the reference per pixel of the result, along a side; None without a reference."""
    if reference is None:
        return None
    return round(math.sqrt(reference[0] * reference[1] / (result.width * result.height)), 2)


def _entry(place: OutputRow) -> dict[str, Any]:
    """The report's entry of an order; the caller adds where its picture is."""
    outcome = place.outcome
    done = isinstance(outcome, Finished)
    about = {**place.known, **(outcome.about if isinstance(outcome, Finished) else {})}
    error = outcome.as_dict() if isinstance(outcome, RivyaError) else None
    return {
        "reference": place.reference,
        "variation": place.variation,
        "batch": None,
        "position": None,
        "task_id": about.get("task_id") or (error or {}).get("task_id"),
        "status": "delivered" if done else "failed",
        "source": outcome.source if isinstance(outcome, Finished) else None,
        "credits": outcome.credits if isinstance(outcome, RivyaError) else about.get("credits"),
        "seconds": about.get("seconds"),
        "width": None,
        "height": None,
        "coarser": None,
        "model": about.get("model"),
        "aspect_ratio": about.get("aspect_ratio"),
        "encoding": about.get("encoding"),
        "notes": about.get("notes") or [],
        "request_id": about.get("request_id") or (error or {}).get("request_id"),
        "error": error,
    }
