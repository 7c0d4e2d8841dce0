"""The result store: the service's original bytes by order, on disk, whole or not there at all.

Pictures are written first, each under a temporary name, synchronised and renamed; the manifest comes last and makes
the result whole. A result is found by scope and fingerprint alone, so that it answers although the ledger was lost.
Above the cap the least recently delivered go first, and never one that was not delivered: a marker beside the
manifest says which were.

All methods block, may be called from any thread and by several processes at once. What the disk refuses is a
`LedgerError` with `charged` None: the store does not know what its pictures cost.
"""

from __future__ import annotations

import errno
import hashlib
import json
import logging
import os
import re
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import LedgerError
from ..files import guard, open_private, private_folder, read_private, short, sweep, write_atomic
from ..refusals import advice, refuses

logger = logging.getLogger("rivya")

DEFAULT_CAP_BYTES = 2 << 30
_MANIFEST, _MARKER = ".json", ".delivered"
_MAX_MANIFEST = 1 << 20
_EXTENSION = r"[a-z0-9]{1,8}"
_OURS = r"([0-9a-f]{40})(\.[0-9]+\.[a-z0-9]{1,8}|\.json|\.delivered)"
_NEVER = float("inf")
_LOCK_WAIT_S = 30.0


class ResultGone(Exception):
    """A stored picture has vanished or changed since the result was found: fetch it again by its task id."""


@dataclass(frozen=True)
class StoredResult:
    """One order's pictures on disk.

    Attributes:
        paths: the files, in the service's order.
        about: what was put with them (task id, credits ...).
        delivered: whether they were delivered before.
    """

    paths: tuple[Path, ...]
    about: dict[str, Any]
    delivered: bool
    _hashes: tuple[str, ...]
    _sizes: tuple[int, ...]

    def read(self) -> list[bytes]:
        """The bytes of every picture, proved to be those that were stored.

        Raises:
            ResultGone: a file is missing or damaged.
        """
        pictures = []
        for path, size, digest in zip(self.paths, self._sizes, self._hashes, strict=True):
            try:
                data = read_private(path, size)
            except OSError as error:
                raise ResultGone(short(path)) from error
            if data is None or hashlib.sha256(data).hexdigest() != digest:
                raise ResultGone(short(path))
            pictures.append(data)
        return pictures


class ResultStore:
    """The results of one state folder, in its folder ``results``."""

    def __init__(self, folder: Path | str, cap_bytes: int = DEFAULT_CAP_BYTES) -> None:
        """`folder` is the state folder; nothing on disk is touched yet."""
        self._state_folder = Path(folder)
        self._folder = self._state_folder / "results"
        self._cap = cap_bytes
        self._used: int | None = None  # as far as this process knows; `evict` counts anew
        self._counting = threading.Lock()
        self._is_ready = False
        self._warned = False

    def put(
        self,
        scope: str,
        fingerprint: str,
        pictures: Sequence[tuple[bytes, str]],
        about: Mapping[str, Any],
    ) -> StoredResult:
        """Store the pictures, each ``(bytes, extension without dot)``, in place of what was there.

        Raises:
            LedgerError: the disk is full or refuses; nothing was stored.
        """
        name = _name(scope, fingerprint)
        entries = [
            {"name": f"{name}.{number}.{_extension(extension)}", "size": len(data), "sha256": _digest(data)}
            for number, (data, extension) in enumerate(pictures)
        ]
        manifest = {
            "version": 1,
            "stored_at": time.time(),
            "pictures": entries,
            "about": dict(about),
        }
        encoded = json.dumps(manifest, ensure_ascii=False).encode()
        with self._explaining():
            self._ready()
            # Shared with other writers; eviction alone shuts everybody out while it looks for leftovers.
            with guard(self._folder / ".lock", shared=True, wait_s=_LOCK_WAIT_S):
                for (data, _), entry in zip(pictures, entries, strict=True):
                    write_atomic(self._folder / str(entry["name"]), data, sync_parent=False)
                write_atomic(self._folder / f"{name}{_MANIFEST}", encoded)
        self._grow(len(encoded) + sum(len(data) for data, _ in pictures))
        stored = self.get(scope, fingerprint)
        if stored is None:
            raise LedgerError(
                "The picture was stored, but is not there any more.", charged=None, hint="Run again."
            )
        return stored

    def get(self, scope: str, fingerprint: str) -> StoredResult | None:
        """The result of this order, if it is there whole. Looks at names and sizes; `StoredResult.read` at bytes."""
        name = _name(scope, fingerprint)
        manifest = self._manifest(name)
        if manifest is None:
            return None
        try:
            entries = manifest["pictures"]
            paths = tuple(self._folder / _plain(entry["name"]) for entry in entries)
            sizes = tuple(int(entry["size"]) for entry in entries)
            hashes = tuple(str(entry["sha256"]) for entry in entries)
            if not paths or any(
                os.lstat(path).st_size != size for path, size in zip(paths, sizes, strict=True)
            ):
                return None
            about = dict(manifest["about"])
        except (KeyError, TypeError, ValueError, OSError):
            return None
        return StoredResult(paths, about, os.path.lexists(self._marker(name)), hashes, sizes)

    def mark_delivered(self, scope: str, fingerprint: str) -> None:
        """The pictures have just reached the user: from now on they may be evicted, least recent first."""
        marker = self._marker(_name(scope, fingerprint))
        with self._explaining():
            self._ready()
            os.close(open_private(marker, os.O_CREAT | os.O_WRONLY))
            os.utime(marker)

    def evict(self) -> int:
        """Bring the store under its cap, and remove what crashed writers left; the number of results removed.

        Does nothing while others write: the next put over the cap tries again.
        """
        with self._explaining():
            self._ready()
            try:
                with guard(self._folder / ".lock", wait_s=0.0):
                    return self._evict()
            except LedgerError:
                return 0

    def _evict(self) -> int:
        kept, leftovers = self._survey()
        for path in leftovers:
            _let_go(path)
        used = sum(result.size for result in kept)
        removed = 0
        for result in sorted(kept, key=lambda result: result.delivered_at):
            if used <= self._cap or result.delivered_at == _NEVER:
                break
            # The manifest first: without it there is no result, whatever else is still there.
            for path in sorted(result.files, key=lambda path: path.suffix != _MANIFEST):
                _let_go(path)
            used -= result.size
            removed += 1
        if used > self._cap and not self._warned:
            self._warned = True
            logger.warning(
                "Rivya: %d MB of pictures wait to be delivered, more than the store's cap.", used >> 20
            )
        self._used = used
        return removed

    def _survey(self) -> tuple[list[_Held], list[Path]]:
        """Every whole result with its size and time of delivery, and the files that belong to none."""
        by_name: dict[str, list[os.DirEntry[str]]] = {}
        for entry in os.scandir(self._folder):
            match = re.fullmatch(_OURS, entry.name)
            if match and entry.is_file(follow_symlinks=False):
                by_name.setdefault(match[1], []).append(entry)
        kept: list[_Held] = []
        leftovers: list[Path] = []
        for name, entries in by_name.items():
            files = [Path(entry.path) for entry in entries]
            if not any(file.name == f"{name}{_MANIFEST}" for file in files):
                leftovers += files
                continue
            sizes = [(file, found) for file in files if (found := _stat(file)) is not None]
            delivered = [found.st_mtime for file, found in sizes if file.suffix == _MARKER]
            kept.append(
                _Held(files, sum(found.st_size for _, found in sizes), max(delivered, default=_NEVER))
            )
        return kept, leftovers

    def _grow(self, size: int) -> None:
        """Count what was added; above the cap make room, which also corrects the count."""
        with self._counting:
            if self._used is not None:
                self._used += size
            if self._used is None or self._used > self._cap:
                self.evict()

    def check_writable(self) -> None:
        """Make sure that pictures can be stored, before anything is bought.

        Raises:
            LedgerError: the folder refuses; nothing was charged.
        """
        try:
            self._ready()
            if refuses(self._folder):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(self._folder))
        except OSError as error:
            raise LedgerError(
                f"The result store {short(self._folder)} cannot be written: {error.strerror or error}.",
                hint=advice(self._state_folder, error, self._folder),
                code="store_unusable",
            ) from error

    def _ready(self) -> None:
        if self._is_ready and self._folder.is_dir():
            return
        private_folder(self._state_folder)
        private_folder(self._folder)
        sweep(self._folder)
        self._is_ready = True

    def _manifest(self, name: str) -> dict[str, Any] | None:
        try:
            data = read_private(self._folder / f"{name}{_MANIFEST}", _MAX_MANIFEST)
            manifest = json.loads(data) if data is not None else None
        except (OSError, ValueError):
            return None
        return manifest if isinstance(manifest, dict) else None

    def _marker(self, name: str) -> Path:
        return self._folder / f"{name}{_MARKER}"

    @contextmanager
    def _explaining(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise LedgerError(
                f"The result store {short(self._folder)} cannot be written: {error.strerror or error}.",
                hint="Free space or make the folder writable, then run again: the picture is fetched again "
                "and costs nothing more.",
                code="store_unusable",
                charged=None,
            ) from error


@dataclass(frozen=True)
class _Held:
    files: list[Path]
    size: int
    delivered_at: float


def _name(scope: str, fingerprint: str) -> str:
    """The file name of a result: safe whatever a fingerprint holds, different for every scope."""
    return _digest(f"{scope}\n{fingerprint}".encode())[:40]


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _extension(extension: str) -> str:
    return extension if re.fullmatch(_EXTENSION, extension) else "bin"


def _let_go(path: Path) -> None:
    """Remove a file of the store; one that another program holds is left to a later eviction."""
    try:
        path.unlink(missing_ok=True)
    except PermissionError as error:
        logger.debug("Rivya: %s stays for now: %s", short(path), error.strerror)


def _plain(name: object) -> str:
    """A picture's name out of a manifest; anything that could lead elsewhere is refused with ValueError."""
    if not isinstance(name, str) or not re.fullmatch(_OURS, name):
        raise ValueError("not a name of this store")
    return name


def _stat(path: Path) -> os.stat_result | None:
    try:
        return os.lstat(path)
    except FileNotFoundError:
        return None
