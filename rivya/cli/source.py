"""The input of ``edit --batch``: pictures of a folder or bucket, or rows of a table."""

from __future__ import annotations

import argparse
import atexit
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

from ..bucket_urls import BucketUrl, is_bucket
from ..bulk import tables
from ..bulk.pieces import Piece
from ..errors import Charged, ValidationError, costs_nothing
from ..objects import Bucket, BucketError
from ..saving.origins import Origins
from ..saving.places import shown
from ..sources.bucket import BucketPictures
from ..sources.find import Sources, find


@dataclass(frozen=True)
class Pieces:
    """What ``--batch`` names: a folder's pictures (``found``), a ``bucket`` or a ``table``. Iterable repeatedly."""

    found: Sources | None = None
    bucket: BucketPictures | None = None
    table: tables.Table | None = None

    def __iter__(self) -> Iterator[Piece]:
        for number, each in enumerate(self.found or ()):
            yield Piece(number, {"image": each.path}, shown(each.path), each.path, each.folder, each.stem)
        for number, one in enumerate(self.bucket or ()):
            yield Piece(number, {"image": one.url}, shown(one.url), None, one.folder, one.stem, one.state)
        if self.table is not None:
            for number, values in enumerate(self.table.rows()):
                yield _piece(self.table.path.name, number, values)

    def __len__(self) -> int:
        return len(self.table) if self.table is not None else len(self.found or self.bucket or ())

    def folders(self) -> Sequence[PurePath]:
        """Return the output folders known before the run, relative to the target."""
        return self.found.folders if self.found else [PurePath()]


def _piece(table: str, number: int, values: Mapping[str, Any] | tables.BadRow) -> Piece:
    image = None if isinstance(values, tables.BadRow) else values.get("image")
    path = image if isinstance(image, Path) else None
    named = path if path is not None else image if is_bucket(image) else None
    if named is None:
        source, stem = f"{shown(table)}, row {number + 1}", f"row-{number + 1:05}"
    else:
        source, stem = shown(named), PurePath(str(named).rpartition("/")[2] or "row").stem
    return Piece(number, values, source, path, PurePath(), path.stem if path is not None else stem)


@costs_nothing()
def look(arguments: argparse.Namespace, origins: Origins) -> Pieces:
    """Find the input that ``--batch`` names.

    Raises:
        ValidationError: no pictures, or an unusable table; see `tables.look_into`.
    """
    source: Path | str = arguments.batch
    base: BucketUrl | None = None
    of_a_table = arguments.text or arguments.image_column or arguments.prompt_column
    if isinstance(source, str):
        url = _bucket_url(source)
        if not tables.is_table(PurePath(url.prefix)):
            if of_a_table:
                raise _not_a_table(source)
            return _of_bucket(url, arguments)
        source, base = _fetched(url)
    elif source.is_dir():
        if of_a_table:
            raise _not_a_table(source)
        found = find(
            source,
            recursive=arguments.recursive,
            target=None if is_bucket(arguments.output) else Path(arguments.output or "."),
            origins=origins,
            edits_too=arguments.edits_too,
        )
        for line in found.told:
            print(line, file=sys.stderr)
        return Pieces(found=found.sources)
    elif not tables.is_table(source):
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
        base=base,
    )
    if table.unused:
        names = ", ".join(shown(each) for each in table.unused[:20])
        print(f"{shown(table.path.name)}: not used: {names}", file=sys.stderr)
    return Pieces(table=table)


@costs_nothing()
def _bucket_url(source: str) -> BucketUrl:
    try:
        return BucketUrl.read(source)
    except ValueError as error:
        raise ValidationError(f"What --batch names {error}.", hint="Correct it.", code="usage") from None


@costs_nothing()
def _fetched(url: BucketUrl) -> tuple[Path, BucketUrl]:
    """Download a table from a bucket; return its file, deleted at exit, and the base of relative paths."""
    folder, _, name = url.prefix.rpartition("/")
    base = BucketUrl(url.scheme, url.bucket, folder)
    path = Path(_temporary_folder()) / name
    try:
        if Bucket(base, "--batch").save(name, path):
            return path, base
    except BucketError as error:
        raise ValidationError(error.message, hint=error.hint, code="bucket_unusable") from None
    raise ValidationError(f"There is no table {url}.", hint="Look at its name.", code="no_picture")


def _temporary_folder() -> str:
    folder = tempfile.mkdtemp(prefix="rivya-table-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def _not_a_table(source: Path | str) -> ValidationError:
    return ValidationError(
        f"{shown(source)} is a folder; columns and --text are for a table.", code="usage", charged=Charged.NO
    )


def _of_bucket(url: BucketUrl, arguments: argparse.Namespace) -> Pieces:
    target = _bucket_url(arguments.output) if is_bucket(arguments.output) else None
    pictures = BucketPictures(
        url,
        "--batch",
        recursive=arguments.recursive,
        target=target,
        edits_too=arguments.edits_too,
    )
    for line in pictures.told():
        print(line, file=sys.stderr)
    return Pieces(bucket=pictures)
