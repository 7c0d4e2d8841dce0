"""Tables of rows: CSV, JSON lines and Parquet, read a few rows at a time."""

from __future__ import annotations

import csv
import difflib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import Any

from .. import commands
from ..bucket_urls import BucketUrl, is_bucket
from ..errors import ConfigurationError, ValidationError
from .rows import COLUMNS

SUFFIXES = {
    ".csv": "csv",
    ".tsv": "csv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".parquet": "parquet",
    ".pq": "parquet",
}
_DELIMITERS = ",;\t|"
_PARQUET_ROWS = 16
"""Rows of a Parquet file in memory at once: a row may hold a photo."""


@dataclass(frozen=True)
class BadRow:
    """A row that cannot be read; it fails alone."""

    error: ValidationError = field(repr=False)


@dataclass(frozen=True)
class Table:
    """A table whose columns are known and suffice.

    Attributes:
        path: the file.
        columns: the table's column for each name of `rows.COLUMNS` that is read.
        unused: its other columns.
        base: what relative paths in it are relative to.
    """

    path: Path
    columns: Mapping[str, str]
    unused: tuple[str, ...]
    base: Path | BucketUrl

    def rows(self) -> Iterator[Mapping[str, Any] | BadRow]:
        """The rows, with keys of `rows.COLUMNS`; empty cells may be None, blank or NaN."""
        for row in _read(self.path, list(self.columns.values())):
            if isinstance(row, BadRow):
                yield row
                continue
            try:
                yield self._wanted(row)
            except ValidationError as error:
                yield BadRow(error)

    def _wanted(self, row: Mapping[str, Any]) -> Mapping[str, Any]:
        wanted = {name: row.get(column) for name, column in self.columns.items()}
        _check_spelling(self.path, set(row) - set(self.columns.values()), row)
        if "image" in self.columns:
            wanted["image"] = _image(wanted["image"], self.base)
        return wanted

    def __len__(self) -> int:
        """The number of rows. Reads the whole table, except Parquet."""
        if SUFFIXES[self.path.suffix.lower()] == "parquet":
            with _parquet(self.path) as file:
                return int(file.metadata.num_rows)
        return sum(1 for _ in _read(self.path, []))


def is_table(path: PurePath) -> bool:
    return path.suffix.lower() in SUFFIXES


def look_into(
    path: Path,
    *,
    image_column: str | None = None,
    prompt_column: str | None = None,
    text: bool = False,
    base: BucketUrl | None = None,
) -> Table:
    """Open a table and check its columns.

    Args:
        image_column, prompt_column: names other than ``image`` and ``prompt``.
        text: the rows have no picture.
        base: what relative paths are relative to, if not the file's folder.

    Raises:
        ValidationError: it cannot be read, or a column is missing or misspelt.
        ConfigurationError: Parquet without pyarrow.
    """
    found = _columns(path)
    columns = {name: name for name in COLUMNS if name in found}
    for name, named in (("image", image_column), ("prompt", prompt_column)):
        if named is not None:
            if named not in found:
                raise _no_column(path, named, found)
            columns[name] = named
    if text:
        columns.pop("image", None)
    elif "image" not in columns:
        raise _no_column(path, "image", found, "Name the column of the pictures with --image-column.")
    unused = tuple(each for each in found if each not in columns.values())
    _check_spelling(path, unused, columns)
    if SUFFIXES[path.suffix.lower()] == "jsonl":
        # Each row has its own keys; the first row only decides the named columns.
        columns = {name: name for name in COLUMNS if name != "image" or not text} | columns
    return Table(path, columns, unused, base or path.parent)


def _check_spelling(path: Path, unused: Iterable[str], columns: Mapping[str, str]) -> None:
    """Refuse a column whose name nearly matches one that the table lacks."""
    for each in unused:
        near = difflib.get_close_matches(_plain(each), COLUMNS, 1, 0.8)
        if near and near[0] not in columns:
            raise ValidationError(
                f"{path.name} has a column {_shown(each)}; is {near[0]} meant?",
                hint="Rename the column.",
                code="unknown_column",
            )


def _no_column(path: Path, name: str, found: Sequence[str], hint: str = "") -> ValidationError:
    names = ", ".join(_shown(each) for each in found[:20]) or "none"
    return ValidationError(
        f"{path.name} has no column {_shown(name)}; it has {names}.", hint=hint, code="no_such_column"
    )


def _shown(name: str) -> str:
    return "".join(c if c.isprintable() else "?" for c in name[:40])


def _plain(name: str) -> str:
    return name.strip().lower().replace("-", "_").replace(" ", "_")


def _image(value: Any, base: Path | BucketUrl) -> Any:
    """The picture of a cell: a path, an object URL, or bytes. Data sets may have bytes and path in one cell."""
    if isinstance(value, Mapping):
        value = value.get("bytes") or value.get("path")
    if isinstance(value, (bytes, bytearray, memoryview)):
        return bytes(value)
    if value is None or (isinstance(value, str) and not value.strip()):
        raise ValidationError("The row names no picture.", hint="", code="no_picture")
    if is_bucket(value):
        return value
    if isinstance(value, str):
        named = value.strip()
        return base.of(named) if isinstance(base, BucketUrl) else base / Path(named).expanduser()
    raise ValidationError(f"The row's picture is a {type(value).__name__}; it must be a path.", hint="")


def _columns(path: Path) -> list[str]:
    """The column names; for JSON lines, those of the first row."""
    kind = SUFFIXES[path.suffix.lower()]
    try:
        if kind == "parquet":
            with _parquet(path) as file:
                return list(file.schema_arrow.names)
        with path.open(encoding="utf-8-sig", newline="") as lines:
            if kind == "csv":
                return list(csv.DictReader(lines, delimiter=_delimiter(lines)).fieldnames or [])
            first = next((line for line in lines if line.strip()), "{}")
    except UnicodeDecodeError:
        raise _not_utf_8(path) from None
    except OSError as error:
        raise ValidationError(f"{path.name} cannot be read: {error.strerror}.", hint="") from None
    row = _json(first, 1)
    if isinstance(row, BadRow):
        raise row.error
    return list(row)


def _not_utf_8(path: Path) -> ValidationError:
    return ValidationError(f"{path.name} is not in UTF-8.", hint="Save it again as UTF-8.")


def _delimiter(lines: Any) -> str:
    """By the first line: some locales' spreadsheets write semicolons."""
    first = lines.readline()
    lines.seek(0)
    return max(_DELIMITERS, key=first.count) if any(map(first.count, _DELIMITERS)) else ","


def _read(path: Path, columns: Sequence[str]) -> Iterator[Mapping[str, Any] | BadRow]:
    kind = SUFFIXES[path.suffix.lower()]
    if kind == "parquet":
        with _parquet(path) as file:
            for batch in file.iter_batches(_PARQUET_ROWS, columns=list(columns) or None):
                yield from batch.to_pylist()
        return
    try:
        with path.open(encoding="utf-8-sig", newline="") as lines:
            yield from _csv(lines) if kind == "csv" else _json_lines(lines)
    except UnicodeDecodeError:
        raise _not_utf_8(path) from None


def _csv(lines: Any) -> Iterator[Mapping[str, Any] | BadRow]:
    reader = csv.DictReader(lines, delimiter=_delimiter(lines))
    while True:
        try:
            row = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            yield BadRow(ValidationError(f"Line {reader.line_num} cannot be read: {error}.", hint=""))
            continue
        if None in row:
            yield BadRow(ValidationError(f"Line {reader.line_num} has more cells than columns.", hint=""))
        else:
            yield row


def _json_lines(lines: Iterable[str]) -> Iterator[Mapping[str, Any] | BadRow]:
    for number, line in enumerate(lines, 1):
        if line.strip():
            yield _json(line, number)


def _json(line: str, number: int) -> Mapping[str, Any] | BadRow:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        row = None
    if isinstance(row, dict):
        return row
    return BadRow(ValidationError(f"Line {number} is no JSON object.", hint=""))


def _parquet(path: Path) -> Any:
    try:
        from pyarrow import ArrowException, parquet
    except ImportError:
        raise ConfigurationError(
            f"Reading {path.name} takes pyarrow, which is not installed.",
            hint=f"Install it: {commands.pip_install('pyarrow')}",
            code="pyarrow_missing",
        ) from None
    try:
        return parquet.ParquetFile(path)
    except (ArrowException, OSError) as error:
        raise ValidationError(
            f"{path.name} cannot be read as Parquet: {str(error).splitlines()[0][:200]}", hint=""
        ) from None
