"""Small Python programs in processes of their own: what one process alone cannot show."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent.parent

PRELUDE = """
import json, os, sys, time
from pathlib import Path
from rivya import files
from rivya.ledger import holders, ledger
from rivya.storage.folder import FolderStore
folder = Path(sys.argv[1])
def say(word):
    print(word, flush=True)
def wait():
    sys.stdin.readline()
def prepared(book, fingerprint="f", attempt=1, body=b"{}", scope="s"):
    return book.prepare(scope=scope, fingerprint=fingerprint, attempt=attempt, key=f"k-{fingerprint}-{attempt}",
                        body=body, model="flux-kontext-pro", mode="text", details={})
"""

OPEN_LEDGER = "book = ledger.Ledger(folder, holders.FileHolder(folder))\n"


class Program:
    """A running program. ``say`` in it is ``heard`` here, ``go`` here ends a ``wait`` there."""

    def __init__(self, code: str, folder: Path, *arguments: str, with_ledger: bool = False) -> None:
        source = PRELUDE + (OPEN_LEDGER if with_ledger else "") + textwrap.dedent(code)
        self.process = subprocess.Popen(
            [sys.executable, "-c", source, str(folder), *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )

    @property
    def pid(self) -> int:
        return self.process.pid

    def heard(self) -> str:
        """The next word that the program says; fails with its traceback if it died instead."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise AssertionError(f"the program ended: {self.process.communicate()[1]}")
        return line.rstrip("\n")

    def go(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def end(self) -> str:
        """Wait for the end; what it said since. Fails unless it ended well."""
        out, err = self.process.communicate(timeout=60)
        assert self.process.returncode == 0, err
        return out.strip()

    def __enter__(self) -> Program:
        return self

    def __exit__(self, *_: Any) -> None:
        if self.process.poll() is None:
            self.kill()
        for pipe in (self.process.stdin, self.process.stdout, self.process.stderr):
            if pipe is not None:
                pipe.close()
