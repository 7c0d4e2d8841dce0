"""``python sandbox`` or ``python -m sandbox``: serve until Ctrl-C."""

from __future__ import annotations

import argparse
import json
import logging
import sys
from pathlib import Path
from typing import Any

if not __package__:
    # Run as a folder: an embedded Python does not find the module.
    sys.path[0] = str(Path(__file__).resolve().parent.parent)
    __package__ = "sandbox"

from .server import Sandbox
from .settings import DEFAULT_KEY, NOTICE, Settings


def _seconds(text: str) -> tuple[float, ...]:
    return tuple(float(each) for each in text.split(",") if each)


_OPTIONS: dict[str, tuple[Any, Any, str]] = {
    "port": (int, 8999, "port of the API origin; 0 takes a free one"),
    "results-port": (int, 0, "port of the origin of uploads and results; 0 takes a free one"),
    "key": (str, DEFAULT_KEY, "the API key that it takes"),
    "credits": (int, 1000, "what the account starts with"),
    "accounts": (json.loads, None, 'JSON in place of --key: {"name": {"keys": [...], "credits": n}}'),
    "latency": (float, 2.0, "seconds until an order is done (the mean, with --latency-sd)"),
    "latency-sd": (float, 0.0, "standard deviation of a normal draw per order, in seconds"),
    "latencies": (_seconds, (), "seconds per order, separated by commas, over and over"),
    "seed": (int, 0, "for drawn latencies"),
    "megapixels": (float, 1.0, "size of the pictures"),
    "drift": (int, None, "seed of a drift of size, place and tone in the answers, as image models have it"),
    "max-open": (int, None, "orders that may run at a time; more get 429"),
    "upload-lifetime": (float, None, "seconds until an upload is gone"),
    "result-lifetime": (float, 3600.0, "seconds that a result URL works"),
    "expired-status": (int, 403, "what an expired result URL answers"),
    "settings": (json.loads, {}, "JSON with any of these by name, over the others"),
}


def _arguments() -> dict[str, Any]:
    parser = argparse.ArgumentParser(
        prog="python sandbox",
        description="A local stand-in for the Rivya service. No real service is involved.",
    )
    for name, (kind, default, text) in _OPTIONS.items():
        parser.add_argument(f"--{name}", type=kind, default=default, help=f"{text} (default: {default})")
    parser.add_argument("--reject-repeats", action="store_true", help="answer every repeat of a key with 409")
    parser.add_argument("--json", action="store_true", help="print the addresses as JSON, and no log")
    options = vars(parser.parse_args())
    chosen = options.pop("settings")
    return {**options, **chosen}


def main() -> int:
    """Serve; SIGINT and SIGTERM end it at once."""
    options = _arguments()
    as_json = options.pop("json")
    try:
        server = Sandbox(Settings(**options))
    except OSError as error:
        print(f"{NOTICE}: cannot listen on port {options['port']}: {error}. Try --port 0.", file=sys.stderr)
        return 1
    service = server.service
    key = next(iter(service.accounts.keys))
    if as_json:
        print(json.dumps({"url": service.url, "results_url": service.results_url, "key": key}), flush=True)
    else:
        logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", stream=sys.stdout)
        print(f"{NOTICE}: API on {service.url}, results on {service.results_url}", flush=True)
        print(
            f"{NOTICE}: key {key}; the page {service.url}/ shows what is going on. Ctrl-C ends it.",
            flush=True,
        )
    try:
        server.run(server.sockets)
    except KeyboardInterrupt:
        pass
    return 0


if __name__ == "__main__":
    sys.exit(main())
