"""The output of a batch: pictures and the list of results, in a folder (``results.jsonl``) or a bucket.

Objects cannot be appended to. In a bucket each run writes its own lists, ``results-TIME-RANDOM-NUMBER.jsonl``: it
rewrites the current one whole from time to time, and begins the next after `_LINES` lines. Concurrent runs lose no
lines. A killed run may lose its last lines; their pictures are saved, and the same command lists them again.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path, PurePath
from secrets import token_hex
from typing import Any, Protocol

from ..bucket_urls import BucketUrl, is_bucket
from ..edited import Edited
from ..errors import costs_nothing
from ..objects import Bucket, BucketError, Listed
from ..saving import places, settle
from ..saving.places import shown
from ..saving.write import names
from .printing import saved, saved_as

RESULTS = "results.jsonl"
_TRIED_FOR_S = 10.0
"""Short: a picture that cannot be saved stays in the result store."""
_LINES, _LINES_AT_ONCE, _WRITTEN_EVERY_S = 1000, 100, 30.0


class ResultsList(Protocol):
    """The list of results. Reports the first failed write."""

    def __enter__(self) -> ResultsList:
        """Open it. Raises `SavingError` if it is not writable."""
        ...

    def __exit__(self, *_: object) -> None: ...

    def add(self, record: Mapping[str, Any]) -> None: ...


class Target(Protocol):
    def settle(self, folders: Iterable[PurePath], room: int, wanted: int) -> None:
        """Check that pictures can be saved, before any request.

        Args:
            folders: relative to the target.
            room: approximate bytes per picture.
            wanted: number of pictures.

        Raises:
            SavingError: they cannot.
        """
        ...

    def undo(self) -> None:
        """Remove what `settle` made, where nothing was saved in it."""
        ...

    def results(self) -> ResultsList: ...

    def save(
        self, folder: PurePath, stem: str, tail: str, edited: Edited, made: str
    ) -> tuple[tuple[str, ...], list[str]]:
        """Save the pictures of one task; return their names relative to the target, and lines for people.

        Args:
            made: hash of the request, see `there`; empty if unknown.

        Raises:
            SavingError: not writable.
        """
        ...

    def there(
        self, folder: PurePath, stem: str, tail: str, made: str, extensions: Sequence[str]
    ) -> Found | None:
        """Return the picture that an earlier run saved for the same request; None if unknown. Reads no bytes."""
        ...


class Found(tuple[str, str]):
    """The name of a saved picture, relative to the target, and its task."""


def target_of(output: str | None) -> Target:
    """Return the target that ``-o`` names.

    Raises:
        SavingError: a malformed bucket URL.
        ConfigurationError: obstore is not installed.
    """
    if not is_bucket(output):
        return FolderTarget(Path(output or "."))
    try:
        return BucketTarget(BucketUrl.read(str(output)))
    except ValueError as error:
        raise places.refused(f"What -o names {error}.") from None


class FolderTarget:
    def __init__(self, root: Path) -> None:
        self._root = root
        self._settled = settle.Settled()

    def settle(self, folders: Iterable[PurePath], room: int, wanted: int) -> None:
        self._settled.folder(self._root, room * wanted)
        for folder in folders:
            self._settled.folder(self._root / folder, room)

    def undo(self) -> None:
        self._settled.undo()

    def results(self) -> ResultsList:
        return ResultsFile(self._root / RESULTS)

    def save(
        self, folder: PurePath, stem: str, tail: str, edited: Edited, made: str
    ) -> tuple[tuple[str, ...], list[str]]:
        place = places.derived(self._root / folder, stem, tail)
        files = edited.save_at(place)
        return tuple(str(each.relative_to(self._root)) for each in files), saved(edited, place, files)

    def there(
        self, folder: PurePath, stem: str, tail: str, made: str, extensions: Sequence[str]
    ) -> Found | None:
        """None: `save` compares the bytes of existing files."""
        return None


class BucketTarget:
    """Never replaces an object."""

    def __init__(self, url: BucketUrl) -> None:
        self._bucket = Bucket(url, "-o", tried_for_s=_TRIED_FOR_S)
        self._results = ResultsObjects(self._bucket)

    @costs_nothing()
    def settle(self, folders: Iterable[PurePath], room: int, wanted: int) -> None:
        self._results.begin()

    def undo(self) -> None:
        self._results.undo()

    def results(self) -> ResultsList:
        return self._results

    def save(
        self, folder: PurePath, stem: str, tail: str, edited: Edited, made: str
    ) -> tuple[tuple[str, ...], list[str]]:
        given = {"rivyamade": made, "rivyatask": edited.task_id or ""} if made else {}
        kept = []
        for number, data in enumerate((edited.data, *edited.more), 1):
            whole = stem + tail if number == 1 else f"{stem}{tail}-{number}"
            try:
                kept.append(self._add(folder, whole, f".{_extension(data, edited)}", data, given))
            except BucketError as error:
                where = self._bucket.url.of(_name(folder, whole))
                raise edited.not_saved(where, f"{error.message} {error.hint}".rstrip(".")) from None
        return tuple(kept), saved_as(edited, [self._bucket.url.of(each) for each in kept])

    def _add(self, folder: PurePath, stem: str, ending: str, data: bytes, given: Mapping[str, str]) -> str:
        """Write under the first name that is free or already holds these bytes."""
        attributes = {**given, "sha256": hashlib.sha256(data).hexdigest()}
        for each in names(stem, ending):
            name = _name(folder, each)
            if self._bucket.put(name, data, create=True, attributes=attributes):
                return name
            if self._holds(self._bucket.look(name), name, data, attributes["sha256"]):
                return name
        raise AssertionError  # `names` never ends

    def _holds(self, there: Listed | None, name: str, data: bytes, sha256: str) -> bool:
        """Whether an object holds these bytes: by its SHA-256 attribute, else by reading it."""
        if there is None or there.size != len(data):
            return False
        if known := there.attributes.get("sha256"):
            return known == sha256
        return self._bucket.get(name, len(data)) == data

    def there(
        self, folder: PurePath, stem: str, tail: str, made: str, extensions: Sequence[str]
    ) -> Found | None:
        for extension in extensions or ("jpg", "png", "webp"):
            for each in names(stem + tail, f".{extension}"):
                looked = self._bucket.look(_name(folder, each))
                if looked is None:
                    break
                if looked.attributes.get("rivyamade") == made:
                    return Found((_name(folder, each), looked.attributes.get("rivyatask", "")))
        return None


def _extension(data: bytes, edited: Edited) -> str:
    from ..images.formats import extension_of

    return extension_of(data) or edited.extension


def _name(folder: PurePath, name: str) -> str:
    return "/".join((*folder.parts, name))


class ResultsFile:
    def __init__(self, path: Path) -> None:
        self._path = path
        self._refused = False

    def __enter__(self) -> ResultsFile:
        try:
            self._file = open(self._path, "a+b", buffering=0)
            self._end_half_a_line()
        except OSError as error:
            raise places.refused(f"{shown(self._path)} cannot be written: {places.reason(error)}.") from None
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def add(self, record: Mapping[str, Any]) -> None:
        """Add a line in one write. Failures delay no picture."""
        line = _line(record)
        try:
            if self._refused:
                self._end_half_a_line()
            self._file.write(line)
        except OSError as error:
            if not self._refused:
                print(f"{shown(self._path)} cannot be written: {places.reason(error)}.", file=sys.stderr)
            self._refused = True

    def _end_half_a_line(self) -> None:
        """End a line left incomplete by a killed run or a full disk."""
        self._file.seek(max(0, os.fstat(self._file.fileno()).st_size - 1))
        if self._file.read(1) not in (b"", b"\n"):
            self._file.write(b"\n")


class ResultsObjects:
    """The lists of one run in a bucket."""

    def __init__(self, bucket: Bucket) -> None:
        self._bucket = bucket
        self._run = f"results-{time.strftime('%Y%m%dT%H%M%S', time.gmtime())}-{token_hex(3)}"
        self._number, self._written, self._written_at = 1, 0, 0.0
        self._lines: list[bytes] = []
        self._refused = False

    @property
    def _name(self) -> str:
        return f"{self._run}-{self._number:04}.jsonl"

    def begin(self) -> None:
        """Write an empty list to prove bucket and rights. Raises `SavingError`."""
        try:
            self._bucket.put(self._name, b"")
        except BucketError as error:
            raise places.refused(
                f"Nothing can be saved in {self._bucket.url}: {error.message}", error.hint
            ) from None
        self._written_at = time.monotonic()

    def undo(self) -> None:
        """Remove the list if it is empty."""
        if self._number == 1 and not self._lines:
            with suppress(BucketError):
                self._bucket.remove(self._name)

    def __enter__(self) -> ResultsObjects:
        return self

    def __exit__(self, *_: object) -> None:
        self._write()

    def add(self, record: Mapping[str, Any]) -> None:
        self._lines.append(_line(record))
        late = time.monotonic() - self._written_at >= _WRITTEN_EVERY_S
        many = len(self._lines) - self._written >= _LINES_AT_ONCE
        if late or (many and not self._refused):
            self._write()
        if len(self._lines) >= _LINES and self._written == len(self._lines):
            self._number, self._written, self._lines = self._number + 1, 0, []

    def _write(self) -> None:
        if self._written == len(self._lines):
            return
        self._written_at = time.monotonic()
        try:
            self._bucket.put(self._name, b"".join(self._lines))
            self._written, self._refused = len(self._lines), False
        except BucketError as error:
            if not self._refused:
                print(
                    f"{self._bucket.url.of(self._name)} cannot be written: {error.message}", file=sys.stderr
                )
            self._refused = True


def _line(record: Mapping[str, Any]) -> bytes:
    return json.dumps(record, ensure_ascii=True).encode() + b"\n"
