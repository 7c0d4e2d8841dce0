"""Liveness for a ledger file: each engine holds a lock on a file of its own.

A holder whose lock is free is dead, and its orders may be taken over at once: no clocks, heartbeats or reused process
numbers. `beats` does the same for a shared ledger.
"""

from __future__ import annotations

import os
from collections.abc import Collection
from pathlib import Path
from secrets import token_hex
from typing import Protocol
from weakref import WeakSet

from ..errors import LedgerError
from ..files import open_private, private_folder, short, try_lock
from ..refusals import advice
from .database import Connection

SUFFIX = ".lock"
_holders: WeakSet[FileHolder] = WeakSet()
_fork_hook_set = False


class Holder(Protocol):
    """One engine's identity and liveness, under which it holds orders."""

    id: str

    @property
    def held(self) -> bool:
        """Whether the identity is valid: not after `close`, nor in a forked child."""
        ...

    def take(self, connection: Connection, order_id: int) -> bool:
        """Become the order's holder if it has none, is held by us, or its holder is dead; False if a living one has
        it.
        """
        ...

    def living(self, others: Collection[str]) -> set[str]:
        """The living ones of these holders. In doubt, a holder counts as alive."""
        ...

    def close(self) -> None:
        """Give up the identity; its orders may be taken over."""
        ...


class FileHolder:
    """An identity by a locked file in ``<state folder>/locks``. Two in one process see each other as alive.

    Attributes:
        id: ``<process number>-<random>``.
    """

    def __init__(self, folder: Path | str) -> None:
        """Lock a new identity's file; remove those of dead holders.

        Raises:
            LedgerError: the folder cannot be written, or its file system cannot lock.
        """
        _watch_forks()
        try:
            self._folder = private_folder(private_folder(folder) / "locks")
            self.id, self._descriptor = self._claim()
        except OSError as error:
            raise LedgerError(
                f"The lock folder {short(Path(folder) / 'locks')} cannot be used: {error.strerror or error}.",
                hint=advice(Path(folder), error, Path(folder) / "locks"),
            ) from error
        _holders.add(self)
        self._sweep()

    def _claim(self) -> tuple[str, int]:
        for _ in range(20):
            identity = f"{os.getpid()}-{token_hex(8)}"
            path = self._path(identity)
            descriptor = open_private(path, os.O_CREAT | os.O_EXCL | os.O_RDWR)
            # A process that saw the file before it was locked may have removed it as a dead holder's.
            if try_lock(descriptor) and _same_file(descriptor, path):
                return identity, descriptor
            os.close(descriptor)
            path.unlink(missing_ok=True)
        raise OSError("this file system gives no file locks")

    def alive(self, other_id: str) -> bool:
        """Whether that holder lives; True in doubt. The lock file of a dead one is removed."""
        if any(holder.id == other_id and holder.held for holder in list(_holders)):
            return True
        path = self._path(other_id)
        try:
            descriptor = open_private(path, os.O_RDWR)
        except FileNotFoundError:
            return False
        except OSError:
            return True
        try:
            # A shared lock, so that two processes checking at once do not take each other for the owner.
            if not try_lock(descriptor, shared=True):
                return True
            if os.name == "posix" and _same_file(descriptor, path):
                path.unlink(missing_ok=True)
        finally:
            os.close(descriptor)
        _remove_closed(path)
        return False

    def living(self, others: Collection[str]) -> set[str]:
        return {other for other in others if self.alive(other)}

    def take(self, connection: Connection, order_id: int) -> bool:
        row = connection.execute("SELECT holder FROM orders WHERE id = ?", (order_id,)).fetchone()
        if row is None:
            return False
        holder = row["holder"]
        if holder == self.id:
            return True
        if holder is not None and self.alive(holder):
            return False
        connection.execute("UPDATE orders SET holder = ? WHERE id = ?", (self.id, order_id))
        return True

    @property
    def held(self) -> bool:
        return self._descriptor >= 0

    def close(self) -> None:
        if self.held:
            if os.name == "posix":
                self._path(self.id).unlink(missing_ok=True)
            self._let_go()
            _remove_closed(self._path(self.id))

    def _let_go(self) -> None:
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)

    def _path(self, identity: str) -> Path:
        return self._folder / f"{Path(identity).name}{SUFFIX}"

    def _sweep(self) -> None:
        for entry in os.scandir(self._folder):
            if entry.name.endswith(SUFFIX):
                self.alive(entry.name[: -len(SUFFIX)])


def _remove_closed(path: Path) -> None:
    """Windows cannot remove an open file, so it is removed after the check, unless another process checks too."""
    if os.name != "posix":
        try:
            path.unlink(missing_ok=True)
        except OSError:
            return


def _same_file(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), os.lstat(path))
    except FileNotFoundError:
        return False


def _watch_forks() -> None:
    """Have a forked child close inherited descriptors, which would keep a dead parent's lock."""
    global _fork_hook_set
    if not _fork_hook_set and hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=_close_inherited)
        _fork_hook_set = True


def _close_inherited() -> None:
    for holder in list(_holders):
        holder._let_go()
