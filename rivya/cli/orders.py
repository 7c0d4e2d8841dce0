"""``python -m rivya orders | collect | credits | forget``: what was bought before. Nothing here spends."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import Any

from .. import commands
from .. import config as configuration
from ..errors import RivyaError, costs_nothing
from ..saving import places, settle
from ..saving.origins import Origins
from .arguments import as_path_text, is_one_file
from .console import tell


def add(known: Any) -> None:
    """Add these commands to the subparsers of the command line."""
    listed = known.add_parser("orders", help="what was ordered, newest first")
    listed.add_argument("--limit", type=int, default=20)
    listed.set_defaults(run=_orders)
    collect = known.add_parser(
        "collect", help="save the pictures that were paid for and never delivered; never spends"
    )
    collect.add_argument("task_ids", nargs="*", help="only these tasks")
    collect.add_argument(
        "-o",
        "--output",
        type=as_path_text,
        default=".",
        help="folder (default: this one); or file, for one task",
    )
    collect.set_defaults(run=_collect)
    known.add_parser("credits", help="what the account has now").set_defaults(run=_credits)
    forget = known.add_parser("forget", help="give up an order, so that the next run may buy it anew")
    forget.add_argument("order", help="the beginning of its order key, or its task id")
    forget.add_argument("--give-up", action="store_true", help="also one that Rivya has accepted")
    forget.set_defaults(run=_forget)


@costs_nothing()
def _orders(arguments: argparse.Namespace) -> int:
    from ..engine import engine

    rows = engine.shared().ledger(configuration.load()).orders(arguments.limit)
    for row in rows:
        when = time.strftime("%Y-%m-%d %H:%M", time.localtime(row.created_at))
        delivered = "delivered" if row.delivered_at else row.state.value
        cost = row.final_credits if row.final_credits is not None else row.reserved_credits or 0
        print(
            f"{when}  {row.key[:12]:12}  {delivered:10} {cost:3} credits  {row.model:17} {row.task_id or '-'}"
        )
    if not rows:
        print("No orders yet.")
    return 0


def _collect(arguments: argparse.Namespace) -> int:
    from .. import client
    from . import printing

    settled = settle.Settled()
    one: places.Place | None = None
    lines: list[str] = []

    origins = Origins(configuration.load().home)

    def save(result: client.Edited) -> None:
        if result.about.get("encoding"):
            origins.note((result.data, *result.more), None)
        name = result.task_id or "picture"
        place = one or places.derived(Path(arguments.output), name)
        lines.extend(printing.saved(result, place, result.save_at(place)))

    try:
        if is_one_file(arguments.output, 1 if len(set(arguments.task_ids)) == 1 else 2, batch=False):
            one = settled.file(arguments.output, (), (), settle.room(()))
        else:
            settled.folder(Path(arguments.output), settle.room(()))
        results = client.collect(arguments.task_ids, save=save)
    finally:
        settled.undo()
    for line in lines:
        print(line)
    failures = [result for result in results if isinstance(result, RivyaError)]
    for failure in failures:
        tell(failure)
    if not results:
        print("Nothing to collect: every picture that was paid for has been delivered.")
    return 1 if failures else 0


def _credits(arguments: argparse.Namespace) -> int:
    from .. import client

    print(f"{client.credits()} credits")
    return 0


@costs_nothing()
def _forget(arguments: argparse.Namespace) -> int:
    from ..engine import engine
    from ..ledger.ledger import OrderState

    settings = configuration.load()
    ledger = engine.shared().ledger(settings)
    named = arguments.order
    found = [
        r
        for r in ledger.orders(10_000)
        if r.task_id == named or (len(named) >= 8 and r.key.startswith(named))
    ]
    if len(found) != 1:
        print(f"{len(found)} orders match; give more of the order key, or the task id.", file=sys.stderr)
        return 1
    if found[0].state is OrderState.STORED:
        print(
            "This order is finished: its picture is kept, and the same graph brings it again for no credits."
        )
        return 0
    if found[0].task_id and found[0].state is not OrderState.FAILED and not arguments.give_up:
        collect = commands.own("collect", found[0].task_id, home=settings.home)
        give_up = commands.own("forget", "--give-up", named, home=settings.home)
        print(
            f"Rivya has accepted this order: {collect} brings its picture for no more credits. "
            f"{give_up} gives it up all the same.",
            file=sys.stderr,
        )
        return 1
    if not ledger.forget(found[0].id):
        print("Another program is at work on this order; try again when it has ended.", file=sys.stderr)
        return 1
    print("Forgotten. The next run of its graph orders the picture anew and may be charged again.")
    return 0
