"""The console: texts that it can show, errors on standard error."""

from __future__ import annotations

import sys
from io import TextIOWrapper

from ..saving import places


def print_any_name() -> None:
    """Print escapes for characters that the console cannot encode."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def tell(error: object) -> None:
    print(places.shown_lines(error), file=sys.stderr)
