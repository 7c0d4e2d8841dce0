"""``python -m sandbox``: serve until Ctrl-C."""

from __future__ import annotations

import argparse
import json
import logging
import sys

from .serve import Sandbox
from .settings import DEFAULT_KEY, NOTICE, Settings

_NUMBERS = {
    "port": (int, 8999, "port of the API origin; 0 takes a free one"),
    "results-port": (int, 0, "port of the origin of uploads and results; 0 takes a free one"),
    "latency": (float, 2.0, "seconds until an order is done (the mean, with --latency-sd)"),
    "latency-sd": (float, 0.0, "standard deviation of a normal draw per order, in seconds"),
    "credits": (int, 1000, "what the account starts with"),
    "seed": (int, 0, "for drawn latencies"),
    "megapixels": (float, 1.0, "size of the pictures"),
    "drift": (int, None, "seed of a drift of size, place and tone in the answers, as image models have it"),
    "max-open": (int, None, "orders that may run at a time; more get 429"),
    "upload-lifetime": (float, None, "seconds until an upload is gone"),
    "result-lifetime": (float, 3600.0, "seconds that a result URL works"),
    "expired-status": (int, 403, "what an expired result URL answers"),
}


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m sandbox",
        description="A local stand-in for the Rivya service. No real service is involved.",
    )
    for name, (kind, default, text) in _NUMBERS.items():
        parser.add_argument(f"--{name}", type=kind, default=default, help=f"{text} (default: {default})")
    parser.add_argument(
        "--key", default=DEFAULT_KEY, help=f"the API key that it takes (default: {DEFAULT_KEY})"
    )
    parser.add_argument(
        "--latencies", default="", help="seconds per order, separated by commas, over and over"
    )
    parser.add_argument("--accounts", help='JSON in place of --key: {"name": {"keys": [...], "credits": n}}')
    parser.add_argument("--reject-repeats", action="store_true", help="answer every repeat of a key with 409")
    parser.add_argument(
        "--json", action="store_true", help="print the addresses as one line of JSON, and no log"
    )
    return parser.parse_args()


def main() -> int:
    """Serve; SIGINT and SIGTERM end it at once."""
    options = vars(_arguments())
    as_json = options.pop("json")
    options["latencies"] = tuple(float(text) for text in options["latencies"].split(",") if text)
    options["accounts"] = json.loads(options["accounts"]) if options["accounts"] else None
    try:
        server = Sandbox(Settings(**options))
    except OSError as error:
        print(f"{NOTICE}: cannot listen on port {options['port']}: {error}. Try --port 0.", file=sys.stderr)
        return 1
    service = server.service
    key = next(iter(service.book.keys))
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
