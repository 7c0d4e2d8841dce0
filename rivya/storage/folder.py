"""The result store of a folder, capped in size.

Each picture is written under a temporary name, synced and renamed. Above the cap, eviction removes the least recently
delivered results, never an undelivered one. A marker file records the delivery.
"""

from __future__ import annotations

import errno
import logging
import os
import re
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from ..errors import LedgerError
from ..files import can_lock, guard, open_private, private_folder, read_private, short, sweep, write_atomic
from ..refusals import advice, refuses
from .results import (
    IDENTITY,
    MANIFEST,
    MAX_IDENTITY,
    MAX_MANIFEST,
    OURS,
    ResultGone,
    StoredPicture,
    StoredResult,
    decoded,
    described,
    encoded,
    identity_file,
    identity_in,
    name_of,
)

logger = logging.getLogger("rivya")

DEFAULT_CAP_BYTES = 2 << 30
NAME = "results"
"""The folder's name in the state folder, if no setting names another place."""

_MARKER = ".delivered"
_NEVER = float("inf")
_LOCK_WAIT_S = 30.0


@dataclass(frozen=True)
class FolderResult(StoredResult):
    """One order's pictures on disk.

    Attributes:
        folder: of the store.
        delivered: whether they were delivered before.
    """

    folder: Path
    delivered: bool

    @property
    def paths(self) -> tuple[Path, ...]:
        """The files, in the service's order."""
        return tuple(self.folder / each.name for each in self.pictures)

    @property
    def locations(self) -> tuple[str, ...]:
        return tuple(map(str, self.paths))

    def check(self) -> None:
        """Read and compare every byte."""
        self.read()

    def _fetch(self, number: int, picture: StoredPicture) -> bytes | None:
        path = self.folder / picture.name
        try:
            return read_private(path, picture.size)
        except OSError as error:
            raise ResultGone(short(path)) from error


class FolderStore:
    """The results of one ledger in a folder; see `results.ResultStore`."""

    remote = False

    def __init__(
        self, home: Path | str, cap_bytes: int = DEFAULT_CAP_BYTES, *, chosen: Path | None = None
    ) -> None:
        """Touches no disk.

        Args:
            home: the state folder.
            chosen: the folder that RIVYA_RESULTS names; None: ``results`` in the state folder.
        """
        self._home = Path(home)
        self._chosen = chosen is not None
        # A named link means the folder behind it.
        self._folder = Path(os.path.realpath(chosen)) if chosen is not None else self._home / NAME
        self.place = str(self._folder)
        self._cap = cap_bytes
        self._used: int | None = None  # this process's count; `evict` recounts
        self._counting = threading.Lock()
        self._is_ready = False
        self._locks = True
        self._warned = False

    def put(
        self, scope: str, fingerprint: str, pictures: Sequence[tuple[bytes, str]], about: Mapping[str, Any]
    ) -> FolderResult:
        name = name_of(scope, fingerprint)
        described_pictures = described(name, pictures)
        manifest = encoded(described_pictures, about)
        with self._explaining():
            self._ready()
            # Shared with other writers; only eviction takes the lock alone.
            with self._guard(shared=True):
                for (data, _), picture in zip(pictures, described_pictures, strict=True):
                    write_atomic(self._folder / picture.name, data, sync_parent=False)
                write_atomic(self._folder / f"{name}{MANIFEST}", manifest)
        self._grow(len(manifest) + sum(len(data) for data, _ in pictures))
        stored = self.get(scope, fingerprint)
        if stored is None:
            raise LedgerError(
                "The picture was stored, but is not there any more.", charged=None, hint="Run again."
            )
        return stored

    def get(self, scope: str, fingerprint: str) -> FolderResult | None:
        name = name_of(scope, fingerprint)
        try:
            found = decoded(read_private(self._folder / f"{name}{MANIFEST}", MAX_MANIFEST))
            if found is None or any(
                os.lstat(self._folder / each.name).st_size != each.size for each in found[0]
            ):
                return None
        except (OSError, ValueError):
            return None
        return FolderResult(*found, self._folder, os.path.lexists(self._marker(name)))

    def mark_delivered(self, scope: str, fingerprint: str) -> None:
        """The pictures may be evicted from now on."""
        marker = self._marker(name_of(scope, fingerprint))
        with self._explaining():
            self._ready()
            os.close(open_private(marker, os.O_CREAT | os.O_WRONLY))
            os.utime(marker)

    def evict(self) -> int:
        """Bring the store under its cap and remove crashed writers' leftovers; returns the number of results removed.

        Does nothing while others write: the next put over the cap tries again.
        """
        with self._explaining():
            self._ready()
            if not self._locks:
                return 0
            try:
                with guard(self._folder / ".lock", wait_s=0.0):
                    return self._evict()
            except LedgerError:
                return 0

    def _evict(self) -> int:
        held = self._survey()
        gone = {name for name, each in held.items() if not each.is_whole}
        used = sum(each.size for each in held.values() if each.is_whole)
        removed = 0
        for name in sorted(held.keys() - gone, key=lambda name: held[name].delivered_at):
            if used <= self._cap or held[name].delivered_at == _NEVER:
                break
            # The manifest first: without it there is no result.
            _let_go(self._folder / f"{name}{MANIFEST}")
            gone.add(name)
            used -= held[name].size
            removed += 1
        files = [path for name, _, path in self._ours() if name in gone] if gone else []
        for path in files:
            _let_go(path)
        if used > self._cap and not self._warned:
            self._warned = True
            logger.warning(
                "Rivya: %d MB of pictures wait to be delivered, more than the store's cap.", used >> 20
            )
        self._used = used
        return removed

    def _survey(self) -> dict[str, _Held]:
        """What the folder has of each result, by name. A store may hold many thousands."""
        held: dict[str, _Held] = {}
        for name, ending, path in self._ours():
            if (found := _stat(path)) is not None:
                before = held.get(name, _NOTHING)
                held[name] = _Held(
                    before.size + found.st_size,
                    found.st_mtime if ending == _MARKER else before.delivered_at,
                    before.is_whole or ending == MANIFEST,
                )
        return held

    def _ours(self) -> Iterator[tuple[str, str, Path]]:
        """The files of results: name of the result, the rest of the file's name, and path."""
        with os.scandir(self._folder) as entries:
            for entry in entries:
                match = re.fullmatch(OURS, entry.name)
                if match and entry.is_file(follow_symlinks=False):
                    yield match[1], match[2], Path(entry.path)

    def _grow(self, size: int) -> None:
        """Add to the used bytes; above the cap evict."""
        with self._counting:
            if self._used is not None:
                self._used += size
            if self._used is None or self._used > self._cap:
                self.evict()

    def check_writable(self) -> None:
        try:
            self._ready()
            if refuses(self._folder):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(self._folder))
        except OSError as error:
            raise LedgerError(
                f"The result store {self._shown()} cannot be written: {error.strerror or error}.",
                hint=self._advice(error),
                code="store_unusable",
            ) from error

    def identity(self, known: str = "") -> str | None:
        """See `ResultStore.identity`: kept in a file of the folder."""
        if not self._chosen:
            return None
        with self._explaining():
            self._ready()
            path = self._folder / IDENTITY
            if read_private(path, MAX_IDENTITY) is None:
                with self._guard(shared=False):
                    if read_private(path, MAX_IDENTITY) is None:
                        write_atomic(path, identity_file(known))
            return identity_in(read_private(path, MAX_IDENTITY))

    def _shown(self) -> str:
        """The folder for a message: in full if a setting names it, else without the user's home."""
        return f"{self._folder} (RIVYA_RESULTS)" if self._chosen else short(self._folder)

    def _advice(self, error: OSError) -> str:
        if not self._chosen:
            return advice(self._home, error, self._folder)
        text = advice(self._folder, error, self._folder)
        for old, new in (("state folder", "folder"), ("RIVYA_HOME", "RIVYA_RESULTS")):
            text = text.replace(old, new)
        return text

    def _ready(self) -> None:
        if self._is_ready and self._folder.is_dir():
            return
        if not self._chosen:
            private_folder(self._home)
        private_folder(self._folder)
        sweep(self._folder)
        if self._chosen and not can_lock(self._folder):
            self._locks = False
            logger.warning(
                "Rivya: files in %s (RIVYA_RESULTS) cannot be locked, so old pictures are not removed there.",
                self._folder,
            )
        self._is_ready = True

    def _guard(self, *, shared: bool) -> AbstractContextManager[None]:
        """Lock out eviction (shared) or all others. Without locks nothing is evicted."""
        if not self._locks:
            return nullcontext()
        return guard(self._folder / ".lock", shared=shared, wait_s=_LOCK_WAIT_S)

    def _marker(self, name: str) -> Path:
        return self._folder / f"{name}{_MARKER}"

    @contextmanager
    def _explaining(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise LedgerError(
                f"The result store {self._shown()} cannot be written: {error.strerror or error}.",
                hint="Free space or make the folder writable, then run again: the picture is fetched again "
                "and costs nothing more.",
                code="store_unusable",
                charged=None,
            ) from error


class _Held(NamedTuple):
    """What a store holds of one result.

    Attributes:
        is_whole: the manifest is there.
    """

    size: int
    delivered_at: float
    is_whole: bool


_NOTHING = _Held(0, _NEVER, is_whole=False)


def _let_go(path: Path) -> None:
    """Remove a file; one that another program holds open is left to a later eviction."""
    try:
        path.unlink(missing_ok=True)
    except PermissionError as error:
        logger.debug("Rivya: %s stays for now: %s", short(path), error.strerror)


def _stat(path: Path) -> os.stat_result | None:
    try:
        return os.lstat(path)
    except FileNotFoundError:
        return None
