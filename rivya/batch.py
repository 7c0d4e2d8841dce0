"""The command ``edit --batch``: the pictures of a folder or of a table, each saved when it is there.

Beside the pictures lies ``results.jsonl``, one line for each picture as it ends. The same command again goes on where
it was stopped: what was bought costs nothing more, and what is saved is not saved twice.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from . import client, kontext
from .bulk import rows, tables
from .bulk.row_run import Priced
from .config import Config
from .edited import Edited, Row
from .errors import RivyaError, ValidationError, costs_nothing
from .plan import Wanted
from .printing import Tally, saved
from .saving import places, settle
from .saving.origins import Origins
from .saving.places import shown
from .sources.find import Source, find

FREE_ORDERS = kontext.MAX_ORDERS
"""New orders that need no ``--max-credits``: as many as one node may place."""

RESULTS = "results.jsonl"


@dataclass(frozen=True)
class Piece:
    """One row of the batch.

    Attributes:
        values: what it asks for, by the names of `rows.COLUMNS`; or why it cannot be read.
        source: what a person calls it.
        path: the file of its picture, if it has one.
        folder, stem: where its edits go, relative to the target, and what their names begin with.
    """

    values: Mapping[str, Any] | tables.BadRow = field(repr=False)
    source: str
    path: Path | None
    folder: Path
    stem: str


def read(piece: Piece, default: Wanted) -> Wanted:
    """What a piece asks for; raises as `rows.read`."""
    if isinstance(piece.values, tables.BadRow):
        raise piece.values.error
    return rows.read(piece.values, default)


@dataclass(frozen=True)
class Pieces:
    """What ``--batch`` names, to be read any number of times.

    Attributes:
        found: the pictures of a folder; None for a table.
        table: the table; None for a folder.
    """

    found: Sequence[Source] | None = None
    table: tables.Table | None = None

    def __iter__(self) -> Iterator[Piece]:
        """All of them, one at a time."""
        for each in self.found or ():
            yield Piece({"image": each.path}, shown(each.path), each.path, each.folder, each.stem)
        if self.table is not None:
            for number, values in enumerate(self.table.rows(), 1):
                yield _piece(self.table.path.name, number, values)

    def __len__(self) -> int:
        """How many there are."""
        return len(self.found or ()) if self.table is None else len(self.table)

    def folders(self) -> list[Path]:
        """Where their edits go, relative to the target."""
        return list(dict.fromkeys(each.folder for each in self.found or ())) or [Path()]


def _piece(table: str, number: int, values: Mapping[str, Any] | tables.BadRow) -> Piece:
    image = None if isinstance(values, tables.BadRow) else values.get("image")
    path = image if isinstance(image, Path) else None
    source = shown(path) if path is not None else f"{shown(table)}, row {number}"
    return Piece(values, source, path, Path(), path.stem if path is not None else f"row-{number:05}")


@costs_nothing()
def look(arguments: argparse.Namespace, origins: Origins) -> Pieces:
    """The pictures that ``--batch`` names.

    Raises:
        ValidationError: there are none, or a table that cannot be used; see `tables.look_into`.
    """
    source: Path = arguments.batch
    if source.is_dir():
        if arguments.text or arguments.image_column or arguments.prompt_column:
            raise ValidationError(
                f"{shown(source)} is a folder; columns and --text are for a table.", code="usage"
            )
        found = find(
            source,
            recursive=arguments.recursive,
            target=Path(arguments.output or "."),
            origins=origins,
            edits_too=arguments.edits_too,
        )
        for line in found.told():
            print(line, file=sys.stderr)
        return Pieces(found=found.sources)
    if not tables.is_table(source):
        raise ValidationError(
            f"{shown(source)} is neither a folder nor a table ({', '.join(sorted(tables.SUFFIXES))}).",
            hint="Give a picture without --batch." if source.is_file() else "Look at its name.",
            code="no_picture",
        )
    table = tables.look_into(
        source,
        image_column=arguments.image_column,
        prompt_column=arguments.prompt_column,
        text=arguments.text,
    )
    if table.unused:
        names = ", ".join(shown(each) for each in table.unused[:20])
        print(f"{shown(source.name)}: not used: {names}", file=sys.stderr)
    return Pieces(table=table)


class Batch:
    """One run of the command.

    Args:
        prompt: for the pieces that have none.
        options: of `client.bulk_job`, for the pieces that say nothing else.
    """

    def __init__(
        self, arguments: argparse.Namespace, config: Config, prompt: str, options: Mapping[str, Any]
    ) -> None:
        self._arguments = arguments
        self._origins = Origins(config.home)
        self._pieces = look(arguments, self._origins)
        if not prompt.strip() and not (self._pieces.table and "prompt" in self._pieces.table.columns):
            kontext.validate_prompt(prompt)
        self._job = client.bulk_job(config, prompt, max_credits=arguments.max_credits, read=read, **options)
        self._root = Path(arguments.output or ".")

    def run(self, extensions: tuple[str, ...], *, keeps_size: bool) -> int:
        """Order, wait and save. The status of the command: 0 only if every picture is there.

        Args:
            extensions: what the pictures may be, as far as that is known.
            keeps_size: they will be as large as their photos.

        Raises:
            RivyaError: something that keeps all pictures from being ordered; nothing was sent.
        """
        if self._arguments.dry_run:
            return self._count()
        photos = [each.path for each in self._pieces.found or ()] if keeps_size else []
        room = settle.room(extensions, photos)
        wanted = len(self._pieces) * self._job.default.variations
        settled = settle.Settled()
        try:
            settled.folder(self._root, room * wanted)
            for folder in self._pieces.folders():
                settled.folder(self._root / folder, room)
            self._ask_for_a_limit(wanted)
            with Results(self._root / RESULTS) as results:
                return self._edit(results, wanted)
        finally:
            settled.undo()

    def _edit(self, results: Results, wanted: int) -> int:
        """Order, wait and save. ``wanted``: how many pictures there will be, unless rows name variations."""
        files: dict[tuple[int, int], tuple[Path, ...]] = {}
        lines: dict[tuple[int, int], list[str]] = {}

        def save(row: Row, edited: Edited) -> None:
            piece: Piece = row.given
            if edited.about.get("encoding"):  # what is made from text alone is no edit
                self._origins.note((edited.data, *edited.more), piece.path)
            place, key = self._place(row), (row.number, row.variation)
            files[key] = edited.save_at(place)
            lines[key] = saved(edited, place, files[key])

        with Tally(wanted, as_json=self._arguments.json) as tally:
            for row, result in self._job.run(self._pieces, save):
                key = row.number, row.variation
                record = self._record(row, result, files.pop(key, ()))
                results.add(record)
                failure = [places.shown_lines(f"{row.given.source}: {result}")]
                tally.ended(record, lines.pop(key, failure))
        return tally.status

    def _place(self, row: Row) -> places.Place:
        piece: Piece = row.given
        seed = read(piece, self._job.default).seed
        return places.derived(self._root / piece.folder, piece.stem, f"-{seed}-{row.variation}")

    def _record(self, row: Row, result: Edited | RivyaError, files: Sequence[Path]) -> dict[str, Any]:
        """The line of ``results.jsonl``: JSON values."""
        piece: Piece = row.given
        record: dict[str, Any] = {"row": row.number, "source": piece.source, "variation": row.variation}
        if isinstance(result, RivyaError):
            error = result.as_dict()
            known = {"task_id": result.task_id, "credits": result.credits or 0, "status": "failed"}
            return {**record, "file": None, **known, "seconds": None, "error": error}
        return {
            **record,
            "file": str(files[0].relative_to(self._root)) if files else None,
            "task_id": result.task_id,
            "credits": result.credits if result.source == "new" else 0,
            "status": result.source,
            "seconds": result.about.get("seconds"),
            "error": None,
        }

    # -- before anything is sent ------------------------------------------------------------------------------------

    @costs_nothing()
    def _ask_for_a_limit(self, most: int) -> None:
        """Refuse to buy more than a few pictures without a word on how much may be spent."""
        table = self._pieces.table
        at_least = table is not None and "variations" in table.columns
        if self._job.max_credits is not None or (most <= FREE_ORDERS and not at_least):
            return
        new: dict[str, int] = {}
        for _, priced in self._job.prices(self._pieces):
            if isinstance(priced, Priced) and priced.credits:
                new[priced.fingerprint] = priced.credits
            if len(new) > FREE_ORDERS:
                price = most * max(new.values())
                raise ValidationError(
                    f"More than {FREE_ORDERS} new pictures would be bought: up to {most:,}, for {price:,} credits.",
                    hint=f"Say how much may be spent: --max-credits {price}. To count exactly: --dry-run.",
                    code="limit_missing",
                )

    def _count(self) -> int:
        """Print what a run would order and cost. Nothing that could cost is sent."""
        prices: dict[str, int] = {}
        pictures, failures = 0, []
        for row, priced in self._job.prices(self._pieces):
            pictures += 1
            if isinstance(priced, RivyaError):
                failures.append(f"{row.given.source}: {priced}")
            else:
                prices[priced.fingerprint] = priced.credits
        new, credits = sum(map(bool, prices.values())), sum(prices.values())
        bought = len(prices) - new
        if self._arguments.json:
            counted = {"pictures": pictures, "new": new, "credits": credits, "bought": bought}
            print(json.dumps({**counted, "failed": len(failures)}))
        else:
            counted_pictures = f"{pictures:,} picture{'s' if pictures != 1 else ''}"
            print(f"{counted_pictures}: {new:,} to buy for {credits:,} credits, {bought:,} bought before.")
        for each in failures:
            print(places.shown_lines(each), file=sys.stderr)
        return 1 if failures else 0


class Results:
    """The file ``results.jsonl``, to which a line is added as each picture ends."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._refused = False

    def __enter__(self) -> Results:
        """Open it. Raises `SavingError` where it cannot be written."""
        try:
            self._file = open(self._path, "a+b", buffering=0)
            self._end_half_a_line()
        except OSError as error:
            raise places.refused(f"{shown(self._path)} cannot be written: {places.reason(error)}.") from None
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def add(self, record: Mapping[str, Any]) -> None:
        """Add a line in one write. What the disk refuses is said once: the pictures are not held up by their list."""
        line = json.dumps(record, ensure_ascii=True).encode() + b"\n"
        try:
            if self._refused:
                self._end_half_a_line()
            self._file.write(line)
        except OSError as error:
            if not self._refused:
                print(f"{shown(self._path)} cannot be written: {places.reason(error)}.", file=sys.stderr)
            self._refused = True

    def _end_half_a_line(self) -> None:
        """End what a run that was killed, or a full disk, has left."""
        self._file.seek(max(0, os.fstat(self._file.fileno()).st_size - 1))
        if self._file.read(1) not in (b"", b"\n"):
            self._file.write(b"\n")
