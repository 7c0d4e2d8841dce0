"""Values of arguments: paths, numbers, and whether ``-o`` names a file."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from ..bucket_urls import is_bucket
from ..errors import costs_nothing
from ..saving import places


def as_number(text: str) -> int | float:
    """A type of argparse; programs that write scripts may put a whole number as 7.0."""
    return int(text) if text.strip().isdecimal() else float(text)


as_number.__name__ = "number"  # argparse names the type in its error


def as_path_text(text: str) -> str:
    """A path argument. Empty (an unset variable of a script) is an error, never the current folder."""
    if not text.strip():
        raise argparse.ArgumentTypeError("the path is empty")
    return os.path.expanduser(text)


def as_text(text: str) -> str:
    if not text.strip():
        raise argparse.ArgumentTypeError("it is empty")
    return text.strip()


def as_path(text: str) -> Path:
    return Path(as_path_text(text))


def as_source(text: str) -> Path | str:
    return text if is_bucket(text) else as_path(text)


@costs_nothing()
def is_one_file(output: str | None, pictures: int, batch: bool) -> bool:
    """Whether ``-o`` names a file, not a folder."""
    if is_bucket(output) and not batch:
        raise places.refused("A bucket takes the pictures of edit --batch alone.")
    if not output or is_bucket(output) or os.path.isdir(output) or output.endswith(("/", os.sep)):
        return False
    if pictures == 1 and not batch:
        return True
    if places.named(output).ending:
        raise places.refused(f"There will be several pictures, and {places.shown(output)} names one file.")
    return False
