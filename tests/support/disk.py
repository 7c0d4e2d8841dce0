"""A disk that is full."""

from __future__ import annotations

from pathlib import Path


def fill(disk: Path) -> Path:
    """Fill a small disk to the last block; the file that does it."""
    filler = disk / "filler"
    with filler.open("wb", buffering=0) as file:
        try:
            while file.write(b"x" * 4096) == 4096:
                pass
        except OSError:
            pass
    return filler
