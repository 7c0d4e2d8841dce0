"""``python -m rivya ledger init | check | copy FROM TO``. Nothing here spends."""

from __future__ import annotations

import argparse
from collections import Counter

from .. import config as configuration
from .. import files, ledger_url
from ..errors import costs_nothing
from ..ledger import copying
from ..ledger.lookups import FILE_NAME
from ..ledger.opening import open_ledger


def add(parser: argparse.ArgumentParser) -> None:
    known = parser.add_subparsers(required=True, metavar="what")
    init = known.add_parser("init", help="make the tables, or bring them to the newest form")
    init.set_defaults(run=_init)
    known.add_parser("check", help="say whether the ledger can be used, and what it holds").set_defaults(
        run=_check
    )
    copied = known.add_parser(
        "copy", help="merge one ledger into another: state folders, or postgresql:// URLs"
    )
    copied.add_argument("source", metavar="FROM", help="a state folder, its ledger file, or a URL")
    copied.add_argument("target", metavar="TO", help="the same")
    copied.set_defaults(run=_copy)


@costs_nothing()
def _init(arguments: argparse.Namespace) -> int:
    config = configuration.load()
    holder, ledger = open_ledger(config)
    ledger.check_writable()
    holder.close()
    ledger.close()
    print(f"The ledger {_shown(config)} is ready.")
    return 0


@costs_nothing()
def _check(arguments: argparse.Namespace) -> int:
    config = configuration.load()
    holder, ledger = open_ledger(config)
    ledger.check_writable()
    states = Counter(row.state.value for row in ledger.orders(1_000_000))
    print(f"The ledger {_shown(config)} can be read and written.")
    print(f"orders: {', '.join(f'{number} {state}' for state, number in sorted(states.items())) or 'none'}")
    if ledger.shared:
        print(f"processes at work on it: {ledger.at_work()}")
    elif files.on_network(config.home / FILE_NAME):
        print(
            "It is a file on a network mount, which is safe for one computer alone: "
            f"for several set {configuration.ENV_LEDGER} to a PostgreSQL database."
        )
    holder.close()
    ledger.close()
    return 0


@costs_nothing()
def _copy(arguments: argparse.Namespace) -> int:
    copied = copying.copy(arguments.source, arguments.target)
    print(
        f"{copied.new} orders are new there, {copied.improved} were brought further on "
        f"({copied.rescued} of them got the task that brings their picture), {copied.known} were known."
    )
    if copied.kept_as:
        print(f"The old file is kept as {copied.kept_as}, so that nobody goes on with it.")
    return 0


def _shown(config: configuration.Config) -> str:
    return (
        ledger_url.shown(config.ledger) if config.ledger is not None else files.short(config.home / FILE_NAME)
    )
