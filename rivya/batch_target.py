"""Where the pictures of a batch go, and the list beside them: a folder with ``results.jsonl``, or a bucket.

A bucket cannot append to an object. There each run writes lists of its own, ``results-TIME-RANDOM-NUMBER.jsonl``: one
is written anew, whole, now and then, and after `_LINES` lines the next begins. So several runs at once lose no line of
each other, and no list is ever large. After a kill the last lines may be missing; their pictures are there, and the
same command tells them again.
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

from .bucket_urls import BucketUrl, is_bucket
from .edited import Edited
from .errors import costs_nothing
from .objects import Bucket, BucketError, Listed
from .printing import saved, saved_as
from .saving import places, settle
from .saving.places import shown
from .saving.write import names

RESULTS = "results.jsonl"
_TRIED_FOR_S = 10.0
"""A picture that cannot be saved stays in the result store, so that nothing has to wait long for a bucket."""
_LINES, _LINES_AT_ONCE, _WRITTEN_EVERY_S = 1000, 100, 30.0


class ResultsList(Protocol):
    """The list of what came out, to which a line is added as each picture ends. What cannot be written is said once."""

    def __enter__(self) -> ResultsList:
        """Open it. Raises `SavingError` where it cannot be written."""
        ...

    def __exit__(self, *_: object) -> None: ...

    def add(self, record: Mapping[str, Any]) -> None: ...


class Target(Protocol):
    """Where the pictures of a batch go."""

    def settle(self, folders: Iterable[PurePath], room: int, wanted: int) -> None:
        """Make sure that pictures can be saved, before anything is sent.

        Args:
            folders: where they go, relative to the target.
            room: bytes that each will need, about.
            wanted: how many there will be.

        Raises:
            SavingError: they cannot.
        """
        ...

    def undo(self) -> None:
        """Take away what `settle` has made, as far as nothing was saved in it."""
        ...

    def results(self) -> ResultsList: ...

    def save(
        self, folder: PurePath, stem: str, tail: str, edited: Edited, made: str
    ) -> tuple[tuple[str, ...], list[str]]:
        """Save the pictures of one task; their names relative to the target, and lines for a person.

        Args:
            made: what was asked for, see `there`; empty: nobody can say.

        Raises:
            SavingError: they cannot be written.
        """
        ...

    def there(
        self, folder: PurePath, stem: str, tail: str, made: str, extensions: Sequence[str]
    ) -> Found | None:
        """What a run before has saved for the same wish, without its bytes; None where that is not known."""
        ...


class Found(tuple[str, str]):
    """The name of a picture that is there, relative to the target, and its task."""


def target_of(output: str | None) -> Target:
    """The target that ``-o`` names.

    Raises:
        SavingError: it is no URL of a bucket.
        ConfigurationError: obstore is not installed.
    """
    if not is_bucket(output):
        return FolderTarget(Path(output or "."))
    try:
        return BucketTarget(BucketUrl.read(str(output)))
    except ValueError as error:
        raise places.refused(f"What -o names {error}.") from None


class FolderTarget:
    """A folder; see `Target`."""

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
        """None: the bytes of a file are compared when it would be written."""
        return None


class BucketTarget:
    """A bucket; see `Target`. No object is ever replaced."""

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
        """Under the first of its names that is free, or that holds the same already."""
        attributes = {**given, "sha256": hashlib.sha256(data).hexdigest()}
        for each in names(stem, ending):
            name = _name(folder, each)
            if self._bucket.put(name, data, create=True, attributes=attributes):
                return name
            if self._holds(self._bucket.look(name), name, data, attributes["sha256"]):
                return name
        raise AssertionError  # there is no end of names

    def _holds(self, there: Listed | None, name: str, data: bytes, sha256: str) -> bool:
        """Whether an object holds these bytes: by what was noted with it, else by a look at them."""
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
    from .images.formats import extension_of

    return extension_of(data) or edited.extension


def _name(folder: PurePath, name: str) -> str:
    return "/".join((*folder.parts, name))


class ResultsFile:
    """The file ``results.jsonl`` of a folder; see `ResultsList`."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._refused = False

    def __enter__(self) -> ResultsFile:
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
        """End what a run that was killed, or a full disk, has left."""
        self._file.seek(max(0, os.fstat(self._file.fileno()).st_size - 1))
        if self._file.read(1) not in (b"", b"\n"):
            self._file.write(b"\n")


class ResultsObjects:
    """The lists of one run in a bucket; see `ResultsList`."""

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
        """Write an empty list: rights and bucket show themselves in no other way. Raises `SavingError`."""
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
        """Add a line; see `ResultsList`."""
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
