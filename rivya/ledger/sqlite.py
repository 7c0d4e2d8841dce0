"""The ledger's SQLite file: opened safely, written durably, moved aside when damaged.

One connection behind a lock, for several threads. It uses a write-ahead log, or a rollback journal where the file
system cannot share memory (network mounts), with full synchronisation: a returned write survives a killed process and
a power cut. Every failure is a `LedgerError`, which says nothing about credits.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from shutil import disk_usage
from sqlite3 import Connection, DatabaseError, Row, connect
from sqlite3 import Error as SqliteError
from typing import TypeVar

from ..errors import LedgerError
from ..files import (
    check_private,
    guard,
    on_network,
    open_private,
    patiently,
    private_folder,
    remove,
    shares_memory,
    short,
    sweep,
    sync_folder,
)
from ..refusals import FREE_SPACE, advice, refuses
from . import database, schema

logger = logging.getLogger("rivya")
T = TypeVar("T")

_SIDE_FILES = ("-wal", "-shm", "-journal")
_DAMAGED = ("malformed", "not a database", "encrypted", "no such table", "no such column", "not authorized")
_LOCKED = ("locked", "busy")
_FULL = ("disk is full", "no space left", "quota")
_NO_SHARED_MEMORY = ("i/o error", "unable to open", "locking protocol")
_LOOKED_AGAIN_S = 0.01
"""Pause while another process converts a new file."""

_fallen_back: set[Path] = set()
_warned: set[Path] = set()


class SqliteDatabase:
    """One SQLite file over one connection; see `database.Database`."""

    shared = False

    def __init__(self, path: Path, *, busy_s: float) -> None:
        """The file is opened on first use."""
        self.path = path
        self.notice: str | None = None
        self._busy_s = busy_s
        self._lock = threading.Lock()
        self._connection: Connection | None = None
        self._identity: tuple[int, int] | None = None
        self._process = 0
        self._synchronous = ""

    def read(self, sql: str, parameters: tuple[object, ...] = ()) -> list[Row]:
        return self._run(lambda connection: connection.execute(sql, parameters).fetchall())

    def write(self, work: Callable[[Connection], T], *, durable: bool = True) -> T:
        """See `Database.write`. ``work`` runs twice if a damaged file was replaced.

        Without ``durable``, other processes see the commit at once and it survives this one, but not surely a power
        cut.
        """

        def transaction(connection: Connection) -> T:
            self._set_synchronous("FULL" if durable else "NORMAL")
            connection.execute("BEGIN IMMEDIATE")
            try:
                result = work(connection)
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise
            return result

        return self._run(transaction)

    def has_table(self, connection: database.Connection, name: str) -> bool:
        return (
            connection.execute("SELECT 1 FROM sqlite_master WHERE name = ?", (name,)).fetchone() is not None
        )

    def make_table(self, connection: database.Connection, name: str) -> None:
        connection.execute(schema.LATER[name])

    def truncate_log(self) -> None:
        """Empty the write-ahead log, so that no file holds deleted text; a failure is left to a later call."""

        def checkpoint(connection: Connection) -> None:
            connection.execute("PRAGMA busy_timeout = 0")
            try:
                connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
            finally:
                connection.execute(f"PRAGMA busy_timeout = {int(self._busy_s * 1000)}")

        try:
            self._run(checkpoint)
        except LedgerError:
            logger.debug("Rivya: the log of the ledger was not emptied", exc_info=True)

    def close(self) -> None:
        with self._lock:
            self._drop()

    def _run(self, work: Callable[[Connection], T]) -> T:
        if not self._lock.acquire(timeout=self._busy_s + 1):
            raise self._locked()
        try:
            try:
                return work(self._opened())
            except (SqliteError, OSError) as error:
                if not _says(error, _DAMAGED):
                    raise
                logger.warning("Rivya: the ledger %s is damaged (%s).", short(self.path), error)
            self._drop()
            self._repair()
            return work(self._opened())
        except (SqliteError, OSError) as error:
            if not _says(error, _LOCKED):
                self._drop()
            raise self._explained(error) from error
        finally:
            self._lock.release()

    def _opened(self) -> Connection:
        """The connection; a new one if the file was replaced, or in a forked child."""
        if self._connection is not None and self._process != os.getpid():
            # SQLite forbids to use or close a connection inherited by a fork.
            _abandoned.append(self._connection)
            self._connection = None
        if self._connection is not None and self._identity != _identity(self.path):
            self._drop()
        if self._connection is None:
            self._connection = self._open()
        return self._connection

    def _open(self) -> Connection:
        private_folder(self.path.parent)
        if check_private(self.path) is None:
            self._begin_new()
        for suffix in _SIDE_FILES:
            check_private(Path(f"{self.path}{suffix}"))
        if on_network(self.path):
            self._warn_of_other_computers()
            connection = self._connected("delete")
        elif self.path not in _fallen_back and shares_memory(self.path.parent):
            try:
                connection = self._connected("wal")
            except SqliteError as error:
                if not _says(error, _NO_SHARED_MEMORY) or self._refusing():
                    raise
                connection = self._without_shared_memory()
        else:
            connection = self._without_shared_memory()
        self._synchronous = "FULL"
        self._identity, self._process = _identity(self.path), os.getpid()
        return connection

    def _connected(self, journal: str) -> Connection:
        """A connection with this journal that has proved it can write."""
        connection = connect(
            str(self.path), timeout=self._busy_s, isolation_level=None, check_same_thread=False
        )
        try:
            connection.row_factory = Row
            # The cache is a quarter of SQLite's usual 2 MB: the system caches the file as well.
            for pragma in (
                "secure_delete = ON",
                "trusted_schema = OFF",
                "fullfsync = ON",
                "cache_size = -500",
            ):
                connection.execute(f"PRAGMA {pragma}")
            schema.migrate(connection, self.path)  # first: a foreign or newer file is left as it is
            answer = self._journal_set(connection, journal)
            if answer not in ("wal", "delete"):
                connection.execute("PRAGMA journal_mode = DELETE")
            connection.execute("PRAGMA synchronous = FULL")
            if journal == "wal":
                # SQLite may answer "wal" and fail at first use.
                connection.execute("SELECT 1 FROM orders LIMIT 1")
        except BaseException:
            connection.close()
            raise
        return connection

    def _journal_set(self, connection: Connection, journal: str) -> str:
        """Set the journal; returns the one that is in use.

        SQLite's busy timeout does not cover this: while another process converts a new file, it fails at once.
        """
        end = time.monotonic() + self._busy_s
        while True:
            try:
                return str(connection.execute(f"PRAGMA journal_mode = {journal}").fetchone()[0])
            except SqliteError as error:
                if not _says(error, _LOCKED) or time.monotonic() > end:
                    raise
            time.sleep(_LOOKED_AGAIN_S)

    def _without_shared_memory(self) -> Connection:
        """A connection with a rollback journal, for file systems that refuse a write-ahead log.

        A file with a write-ahead log is converted in exclusive mode, which needs no shared memory.
        """
        if _has_log(self.path):
            connection = connect(str(self.path), timeout=self._busy_s, isolation_level=None)
            try:
                connection.execute("PRAGMA locking_mode = EXCLUSIVE")
                connection.execute("PRAGMA journal_mode = DELETE").fetchall()
            finally:
                connection.close()
        connection = self._connected("delete")
        if self.path not in _fallen_back:
            _fallen_back.add(self.path)
            logger.warning(
                "Rivya: the disk of %s cannot share memory between programs, so the ledger uses a rollback journal: "
                "as safe, a little slower.",
                short(self.path),
            )
        return connection

    def _warn_of_other_computers(self) -> None:
        if self.path not in _warned:
            _warned.add(self.path)
            logger.warning(
                "Rivya: the ledger %s lies on a network mount, which is safe for one computer alone: for several set "
                "RIVYA_LEDGER to a PostgreSQL database.",
                short(self.path),
            )

    def _refusing(self) -> bool:
        return any(refuses(Path(f"{self.path}{suffix}")) for suffix in ("", *_SIDE_FILES))

    def _begin_new(self) -> None:
        """Create the empty file with our mode, which SQLite copies to its side files."""
        with self._guard():
            if check_private(self.path) is not None:
                return
            for suffix in _SIDE_FILES:  # left by a removed file: they do not belong to the new one
                remove(Path(f"{self.path}{suffix}"))
            os.close(open_private(self.path, os.O_CREAT | os.O_EXCL | os.O_RDWR))
            sync_folder(self.path.parent)
            sweep(self.path.parent)

    def _repair(self) -> None:
        """Move a damaged file aside, unless another process has."""
        with self._guard():
            if check_private(self.path) is None or self._sound():
                return
            aside = self._free_name()
            for suffix in (*_SIDE_FILES, ""):  # the file last: until then the next try starts over
                source = Path(f"{self.path}{suffix}")
                if source.exists():
                    patiently(partial(os.replace, source, f"{aside}{suffix}"), source)
            sync_folder(self.path.parent)
        self.notice = (
            f"The ledger was damaged. It was moved aside as {aside.name} and a new one begun; "
            "pictures that are stored are still found."
        )
        logger.warning("Rivya: %s", self.notice)

    def _sound(self) -> bool:
        try:
            connection = self._open()
        except DatabaseError as error:
            if _says(error, _DAMAGED):
                return False
            raise
        try:
            connection.execute("SELECT 1 FROM orders, scopes, uploads LIMIT 1")
            return [row[0] for row in connection.execute("PRAGMA quick_check(1)")] == ["ok"]
        except DatabaseError:
            return False
        finally:
            connection.close()

    def _free_name(self) -> Path:
        stamp = time.strftime("%Y%m%d-%H%M%S")
        for number in range(1000):
            name = f"{self.path.stem}-damaged-{stamp}{f'-{number}' if number else ''}{self.path.suffix}"
            if check_private(self.path.with_name(name)) is None:
                break
        return self.path.with_name(name)

    def _guard(self) -> AbstractContextManager[None]:
        return guard(self.path.with_suffix(".lock"), wait_s=self._busy_s)

    def _set_synchronous(self, level: str) -> None:
        if self._synchronous != level and self._connection is not None:
            self._connection.execute(f"PRAGMA synchronous = {level}")
            self._synchronous = level

    def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None and self._process == os.getpid():
            try:
                connection.close()
            except SqliteError:
                logger.debug("Rivya: closing the ledger failed", exc_info=True)

    def _locked(self) -> LedgerError:
        return LedgerError(
            f"Another program has kept the ledger {short(self.path)} locked for more than {self._busy_s:g} seconds.",
            hint="Close other programs that use it, then run again.",
        )

    def _explained(self, error: Exception) -> LedgerError:
        where, reason = short(self.path), _reason(error)
        if _says(error, _LOCKED):
            return self._locked()
        if _says(error, _FULL) or (_says(error, ("i/o error",)) and _space_left(self.path) < 1 << 20):
            return LedgerError(f"The disk of the ledger {where} is full.", hint=FREE_SPACE)
        if _says(error, _DAMAGED):
            return LedgerError(
                f"The ledger {where} is damaged and could not be replaced: {reason}.",
                hint="Move it away by hand, then run again.",
            )
        places = [Path(f"{self.path}{suffix}") for suffix in ("", *_SIDE_FILES)]
        hint = advice(self.path.parent, error, *places)
        return LedgerError(f"The ledger {where} cannot be used: {reason}.", hint=hint)


_abandoned: list[Connection] = []


def _says(error: Exception, words: tuple[str, ...]) -> bool:
    """Match the message: Python 3.10 has no SQLite error codes, and the texts are stable for decades."""
    text = _reason(error).lower()
    return any(word in text for word in words)


def _reason(error: Exception) -> str:
    """The error's text, without the path of an OSError."""
    return (error.strerror if isinstance(error, OSError) else None) or str(error)


def _has_log(path: Path) -> bool:
    """Whether the header names a write-ahead log (SQLite's file format, 1.3.3)."""
    with open(path, "rb") as file:
        return file.read(20)[18:20] == b"\2\2"


def _space_left(path: Path) -> int:
    try:
        return disk_usage(path.parent).free
    except OSError:
        return 0


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino
