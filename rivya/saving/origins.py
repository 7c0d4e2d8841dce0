"""Which saved files are edits, and of which picture: a folder can then be edited again without its edits.

Files may be renamed and moved, so size and a digest of samples identify them. The list is in the state folder; losing
it loses no picture and no credits.
"""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Callable, Iterable
from contextlib import closing
from functools import lru_cache
from pathlib import Path
from sqlite3 import Connection, connect
from sqlite3 import Error as SqliteError

from ..files import open_private

logger = logging.getLogger("rivya")

_FILE = "saved.sqlite3"
_TABLE = (
    "CREATE TABLE IF NOT EXISTS saved (size INTEGER, digest BLOB, from_size INTEGER, from_digest BLOB,"
    " PRIMARY KEY (size, digest, from_size, from_digest)) WITHOUT ROWID"
)
_BUSY_S = 5.0
_ENDS, _SAMPLES, _SAMPLE = 1 << 14, 6, 1 << 13

Digest = tuple[int, bytes]
"""A file's size, and a hash of samples of its bytes."""

_UNKNOWN: Digest = (0, b"")


class Origins:
    """The list of one state folder. Each call opens it, so that threads and processes may share it.

    Disk errors are only logged: pictures are saved anyway.
    """

    def __init__(self, home: Path) -> None:
        self._path = home / _FILE

    def note(self, saved: Iterable[bytes], source: Path | None) -> None:
        """Note edits, before they appear on disk.

        Args:
            saved: the bytes of their files.
            source: the picture that they were made from; None if unknown.
        """
        origin = (digest_of(source) if source else None) or _UNKNOWN
        made = [_digest(len(data), _reader(data)) for data in saved]
        rows = [(*each, *origin) for each in made if each != origin]
        try:
            with closing(self._open()) as connection, connection:
                connection.executemany("INSERT OR IGNORE INTO saved VALUES (?, ?, ?, ?)", rows)
        except (OSError, SqliteError) as error:
            logger.warning("Rivya: it cannot be noted that this picture is an edit: %s", error)

    def results_among(self, paths: Iterable[Path]) -> set[int]:
        """The positions of the edits among these files. ``paths`` may be iterated twice.

        An edit whose known source is not among them is left out. One of unknown source is left out if all files are
        edits.
        """
        if not self._path.exists():
            return set()
        files, made_from = 0, dict[int, list[Digest]]()
        try:
            with closing(self._open()) as connection:
                for files, path in enumerate(paths, 1):
                    if origins := _origins(connection, path):
                        made_from[files - 1] = origins
        except (OSError, SqliteError) as error:
            logger.warning("Rivya: the list of saved edits cannot be read: %s", error)
            return set()
        there = _those_of(paths, {each for origins in made_from.values() for each in origins})
        found = {position for position, origins in made_from.items() if not there.isdisjoint(origins)}
        either = found.union(position for position, origins in made_from.items() if _UNKNOWN in origins)
        return either if len(either) < files else found

    def _open(self) -> Connection:
        os.close(open_private(self._path, os.O_CREAT | os.O_RDWR))
        connection = connect(self._path, timeout=_BUSY_S)
        # Entries lost in a power cut cost nothing; a sync per picture would cost time.
        connection.execute("PRAGMA synchronous = OFF")
        connection.execute(_TABLE)
        return connection


def _origins(connection: Connection, path: Path) -> list[Digest]:
    """What a file was made from; empty if it is no edit. Files of another size than any edit are not read."""
    alike = connection.execute("SELECT 1 FROM saved WHERE size = ? LIMIT 1", (_size(path),)).fetchone()
    digest = digest_of(path) if alike else None
    if digest is None:
        return []
    return list(
        connection.execute("SELECT from_size, from_digest FROM saved WHERE size = ? AND digest = ?", digest)
    )


def _those_of(paths: Iterable[Path], wanted: set[Digest]) -> set[Digest]:
    """The wanted digests that files have."""
    sizes = {size for size, _ in wanted}
    return wanted.intersection(digest_of(path) for path in (paths if wanted else ()) if _size(path) in sizes)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return -1


def digest_of(path: Path) -> Digest | None:
    """None if it cannot be read."""
    try:
        found = path.stat()
        return _digest_of(path, found.st_size, found.st_mtime_ns)
    except OSError:
        return None


@lru_cache(256)
def _digest_of(path: Path, size: int, changed: int) -> Digest:
    with path.open("rb") as file:

        def read(at: int, count: int) -> bytes:
            file.seek(at)
            return file.read(count)

        return _digest(size, read)


def _reader(data: bytes) -> Callable[[int, int], bytes]:
    return lambda at, count: data[at : at + count]


def _digest(size: int, read: Callable[[int, int], bytes]) -> Digest:
    hashed = hashlib.sha256(read(0, _ENDS))
    for number in range(1, _SAMPLES + 1):
        hashed.update(read(size * number // (_SAMPLES + 1), _SAMPLE))
    hashed.update(read(max(0, size - _ENDS), _ENDS))
    return size, hashed.digest()
