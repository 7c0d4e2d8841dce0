"""One row of a batch that the command line edits, here or on a Ray cluster."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import Any

from ..plan import Wanted
from . import rows, tables


@dataclass(frozen=True)
class Piece:
    """One row of the batch.

    Attributes:
        number: from 0.
        values: its settings, by `rows.COLUMNS`; or why it cannot be read.
        source: name for people.
        path: file of its picture, if any.
        folder, stem: of its edits: folder relative to the target, beginning of file names.
        state: changes with the bytes of its picture; empty if unknown.
    """

    number: int
    values: Mapping[str, Any] | tables.BadRow = field(repr=False)
    source: str
    path: Path | None
    folder: PurePath
    stem: str
    state: str = ""


def read(piece: Piece, default: Wanted) -> Wanted:
    if isinstance(piece.values, tables.BadRow):
        raise piece.values.error
    return rows.read(piece.values, default)
