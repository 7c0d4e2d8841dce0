"""What dev.py says to a person: steps by name, and for a failed one which it was and what to do."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class StepFailed(Exception):
    """A step could not be done.

    Attributes:
        reason: what happened.
        advice: what to do about it.
    """

    def __init__(self, reason: str, advice: str) -> None:
        super().__init__(reason)
        self.reason = reason
        self.advice = advice
        self.title = ""

    def text(self) -> str:
        lines = [f"This step failed: {self.title}" if self.title else "This failed."]
        lines += [f"  {line}" for line in self.reason.splitlines()]
        lines += ["What to do:", *(f"  {line}" for line in self.advice.splitlines())]
        return "\n".join(lines)


def say(text: str = "") -> None:
    """Print a line; a terminal that cannot show a character gets a question mark for it."""
    encoding = sys.stdout.encoding or "utf-8"
    print(text.encode(encoding, "replace").decode(encoding), flush=True)


@contextmanager
def step(title: str) -> Iterator[Callable[[str], None]]:
    """Announce a step; what goes wrong in it becomes a `StepFailed` that carries its name.

    Yields a function that takes one word on how it ended ("already there"), in place of "done".
    """
    say(f"- {title}")
    started = time.monotonic()
    ending = ["done"]
    try:
        yield lambda word: ending.__setitem__(0, word)
    except StepFailed as failed:
        failed.title = failed.title or title
        raise
    except subprocess.CalledProcessError as error:
        raise _named(title, f"{error}", "Read what it printed above, then run again.") from error
    except OSError as error:
        raise _named(
            title, f"{error}", "Check the path, its rights and the free disk space, then run again."
        ) from error
    seconds = time.monotonic() - started
    say(f"    {ending[0]}" + (f" ({seconds:.1f} s)" if seconds >= 0.5 else ""))


def _named(title: str, reason: str, advice: str) -> StepFailed:
    failed = StepFailed(reason, advice)
    failed.title = title
    return failed
