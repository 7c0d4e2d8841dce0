"""Console output: lines for saved pictures, progress of a batch."""

from __future__ import annotations

import json
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..edited import Edited
from ..saving import places
from ..saving.places import shown

_PLAIN_EVERY_S = 10.0
"""Interval of progress lines without a terminal."""


def saved(result: Edited, place: places.Place, files: Sequence[Path]) -> list[str]:
    """Return the lines for a saved picture: path, cost, changes."""
    first, *more = files
    lines = [f"{shown(first)}  {_cost(result)}", *(shown(path) for path in more)]
    if note := places.corrected(place, first):
        lines.append(f"  {note}")
    return lines + _done_to(result)


def saved_as(result: Edited, names: Sequence[str]) -> list[str]:
    first, *more = map(shown, names)
    return [f"{first}  {_cost(result)}", *more, *_done_to(result)]


def _done_to(result: Edited) -> list[str]:
    """The changes to the picture, and its fit into the photo, or why that failed."""
    said = [f"  {note}" for note in result.about.get("notes") or []]
    report = result.about.get("stitch")
    if report is None:
        return said
    if "error" in report:
        return [*said, f"  Saved as it came, since it could not be put back: {report['error']['message']}"]
    aligned = "aligned" if report["aligned"] else "not aligned"
    line = f"  {report['width']}x{report['height']}, {aligned}, {report['share']:.1%} of the picture replaced"
    return [*said, line, *(f"  {note}" for note in report["notes"])]


def _cost(result: Edited) -> str:
    credits = result.credits if result.source == "new" else 0
    return f"({result.source}, {credits} credits, task {result.task_id})"


@contextmanager
def bar(pictures: int) -> Iterator[Callable[[int, int], None] | None]:
    """Show a progress bar; gives its callback with (ended, all), or None."""
    shown_bar = terminal_bar(total=pictures, unit="picture")
    if shown_bar is None:
        yield None
        return
    with shown_bar:
        yield lambda ended, wanted: shown_bar.update(ended - shown_bar.n)


def terminal_bar(**options: Any) -> Any:
    """A tqdm bar (ComfyUI brings tqdm); None without tqdm or a terminal."""
    if not sys.stderr.isatty():
        return None
    try:
        from tqdm import tqdm
    except ImportError:
        return None
    return tqdm(file=sys.stderr, **options)


class Tally:
    """Progress of a batch: a bar on a terminal, else a line from time to time; a summary at the end.

    Args:
        pictures: expected number.
        as_json: print records to stdout instead of lines for people.
    """

    def __init__(self, pictures: int, *, as_json: bool) -> None:
        self._pictures, self._as_json = pictures, as_json
        self._counts: Counter[str] = Counter()
        self._credits = 0
        self._began = self._told = time.monotonic()
        self._bar: Any = None

    @property
    def status(self) -> int:
        """0 if no picture failed, else 1."""
        return 1 if self._counts["failed"] else 0

    def __enter__(self) -> Tally:
        self._bar = terminal_bar(total=self._pictures, unit="picture")
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        if self._bar is not None:
            self._bar.close()
        ended = "Stopped" if kind is not None else "Done"
        if self._as_json:
            print(
                json.dumps({"pictures": sum(self._counts.values()), **self._counts, "credits": self._credits})
            )
        else:
            print(f"{ended}: {self._so_far()}.", file=sys.stderr)

    def ended(self, record: Mapping[str, Any], lines: Sequence[str]) -> None:
        """Count and print a picture that ended.

        Args:
            record: its line of ``results.jsonl``.
            lines: the same for people.
        """
        self._counts[record["status"]] += 1
        self._credits += record["credits"]
        failed = record["status"] == "failed"
        if self._as_json:
            self._print(json.dumps(record), sys.stdout)
        else:
            for line in lines:
                self._print(line, sys.stderr if failed else sys.stdout)
        if self._bar is not None:
            self._bar.update()
            self._bar.set_postfix(credits=self._credits, failed=self._counts["failed"])
        elif time.monotonic() - self._told >= _PLAIN_EVERY_S:
            self._told = time.monotonic()
            print(self._plain(), file=sys.stderr)

    def _print(self, line: str, file: Any) -> None:
        if self._bar is not None:
            self._bar.write(line, file=file)
        else:
            print(line, file=file)

    def _plain(self) -> str:
        ended = sum(self._counts.values())
        rate = ended / (time.monotonic() - self._began)
        left_s = max(0, self._pictures - ended) / rate
        left = (
            f"{left_s / 3600:.1f} h"
            if left_s >= 5400
            else f"{left_s / 60:.0f} min"
            if left_s >= 90
            else f"{left_s:.0f} s"
        )
        return f"{ended:,} of {self._pictures:,}, {rate:.1f} a second, about {left} left; {self._so_far()}"

    def _so_far(self) -> str:
        counts = self._counts
        there = ", ".join(f"{counts[each]:,} {each}" for each in ("new", "resumed", "stored") if counts[each])
        return f"{there or 'no picture'}, {self._credits:,} credits, {counts['failed']:,} failed"
