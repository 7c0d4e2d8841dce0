"""Private folders and files: owner only, no symbolic links, atomic writes.

Creates the state folder (key, ledger, pictures, locks): folders with mode 0700, files with 0600, whatever the umask.
Looser modes and other owners get one warning: containers' bind mounts look like that. A symbolic link is refused: it
would let another user choose what is read or overwritten.

Locks are the operating system's (`flock`, on Windows `msvcrt`) and end with their process. So acquiring a lock
proves that its owner is dead, which no clock or process id can prove.

Functions block and raise `OSError`; its subclass `UnsafePathError` for a link or the wrong kind of file.
"""

from __future__ import annotations

import logging
import mmap
import os
import stat
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from secrets import token_hex
from typing import TypeVar

from .errors import LedgerError
from .refusals import FULL, refuses

logger = logging.getLogger("rivya")
T = TypeVar("T")

TEMPORARY = ".tmp"
_NO_FOLLOW = getattr(os, "O_NOFOLLOW", 0)
_FLAGS = _NO_FOLLOW | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0) | getattr(os, "O_NONBLOCK", 0)
_PLAIN_NETWORK = "9p afs ceph cifs davfs gfs2 glusterfs lustre nfs nfs4 ocfs2 smb3 smbfs vboxsf"
_FUSE_NETWORK = "fuse.ceph fuse.davfs2 fuse.glusterfs fuse.rclone fuse.s3fs fuse.sshfs"
_NETWORK_TYPES = frozenset(f"{_PLAIN_NETWORK} {_FUSE_NETWORK}".split())
_warned: set[str] = set()

PATIENCE_S = 2.0
"""How long to retry a file that a virus scanner or indexer holds open; they open each new file briefly."""
_HELD = (5, 32, 33)
"""Windows error codes: access denied (also for a file being deleted), sharing violation, lock violation."""


class UnsafePathError(OSError):
    """A symbolic link, or no ordinary file or folder, at a private path."""


def short(path: Path | str) -> str:
    """The last two parts of a path: recognisable, without the user's home."""
    parts = Path(path).parts
    return str(Path(*parts[-2:])) if len(parts) > 1 else str(path)


def patiently(work: Callable[[], T], path: Path) -> T:
    """Run ``work`` on ``path``, retrying for two seconds while another program holds the file.

    Raises:
        OSError: as ``work``; at once if this process lacks the right to the file or its folder.
    """
    deadline = time.monotonic() + PATIENCE_S
    pause_s = 0.01
    while True:
        try:
            return work()
        except PermissionError as error:
            if not _may_pass(error, path) or time.monotonic() + pause_s > deadline:
                raise
        time.sleep(pause_s)
        pause_s = min(2 * pause_s, 0.1)


def _may_pass(error: PermissionError, path: Path) -> bool:
    """Whether another program may hold the file. Mounted Windows shares refuse like Windows."""
    if os.name == "nt" or getattr(error, "winerror", None) in _HELD:
        return not path.is_dir()
    return not refuses(path) and not refuses(path.parent)


def remove(path: Path) -> None:
    """Remove the file if it exists. Raises OSError if another program holds it for two seconds."""
    patiently(lambda: path.unlink(missing_ok=True), path)


def check_private(path: Path, *, folder: bool = False) -> os.stat_result | None:
    """Stat `path` without following links; None if missing.

    Raises:
        UnsafePathError: a symbolic link, or the wrong kind.
    """
    try:
        found = os.lstat(path)
    except FileNotFoundError:
        return None
    if stat.S_ISLNK(found.st_mode):
        raise UnsafePathError(f"{short(path)} is a symbolic link; put the real one there")
    if not (stat.S_ISDIR if folder else stat.S_ISREG)(found.st_mode):
        raise UnsafePathError(f"{short(path)} is not an ordinary {'folder' if folder else 'file'}")
    _warn_if_open_to_others(path, found)
    return found


def belongs_to_others(path: Path) -> bool:
    """Whether `path` exists and its owner is neither this user nor root. Always False on Windows."""
    if os.name != "posix":
        return False
    try:
        return os.lstat(path).st_uid not in (0, os.geteuid())
    except OSError:
        return False


def private_folder(path: Path | str) -> Path:
    """Make the folder and its parents if missing; mode 0700 whatever the umask.

    Raises:
        UnsafePathError: a symbolic link or file is there.
        OSError: it cannot be made.
    """
    path = Path(path)
    if check_private(path, folder=True) is None:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            path.mkdir(mode=0o700)
        except FileExistsError:
            check_private(path, folder=True)
        else:
            path.chmod(0o700)
    return path


def open_private(path: Path, flags: int) -> int:
    """Return an ordinary file's descriptor. O_CREAT gives mode 0600 whatever the umask."""
    check_private(path)
    descriptor = patiently(lambda: os.open(path, flags | _FLAGS, 0o600), path)
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise UnsafePathError(f"{short(path)} is not an ordinary file")
        if flags & os.O_CREAT and found.st_size == 0 and os.name == "posix":
            os.fchmod(descriptor, 0o600)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def read_private(path: Path | str, max_bytes: int) -> bytes | None:
    """Return the file's bytes; None if missing.

    Raises:
        UnsafePathError: a symbolic link, or no ordinary file.
        OSError: unreadable, or larger than `max_bytes`.
    """
    path = Path(path)
    try:
        descriptor = open_private(path, os.O_RDONLY)
    except FileNotFoundError:
        return None
    with os.fdopen(descriptor, "rb") as file:
        data = file.read(max_bytes + 1)
    if len(data) > max_bytes:
        raise OSError(f"{short(path)} is larger than {max_bytes} bytes")
    return data


def write_atomic(path: Path | str, data: bytes, *, sync_parent: bool = True) -> None:
    """Write the file whole or not at all: temporary name, fsync, rename, fsync of the folder.

    Of several files in a folder, only the last needs `sync_parent`.

    Raises:
        UnsafePathError: a symbolic link is at `path`.
        OSError: not written; previous content stays.
    """
    path = Path(path)
    check_private(path)
    while not _write_once(path, data):
        pass
    if sync_parent:
        sync_folder(path.parent)


def _write_once(path: Path, data: bytes) -> bool:
    """Write once; False if `sweep` removed the temporary file before its lock."""
    temporary = path.with_name(f".{path.name}.{token_hex(6)}{TEMPORARY}")
    descriptor = open_private(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY)
    try:
        # The lock marks a living writer; it ends with the process.
        try_lock(descriptor)
        with os.fdopen(os.dup(descriptor), "wb") as file:
            file.write(data)
        os.fsync(descriptor)
        if os.name != "posix":  # Windows cannot rename or delete an open file
            os.close(descriptor)
            descriptor = -1
        try:
            patiently(lambda: os.replace(temporary, path), path)
        except FileNotFoundError:
            return False
    except BaseException:
        remove(temporary)
        raise
    finally:
        if descriptor >= 0:
            os.close(descriptor)
    return True


def sweep(folder: Path) -> int:
    """Remove temporary files of dead processes from `folder`; return their number."""
    removed = 0
    for entry in os.scandir(folder):
        if entry.name.startswith(".") and entry.name.endswith(TEMPORARY):
            removed += _remove_if_abandoned(Path(entry.path))
    return removed


def _remove_if_abandoned(path: Path) -> bool:
    try:
        descriptor = open_private(path, os.O_RDWR)
    except OSError:
        return False
    try:
        if not try_lock(descriptor, shared=True):
            return False
        if os.name == "posix":
            path.unlink(missing_ok=True)
            return True
    finally:
        os.close(descriptor)
    try:
        path.unlink(missing_ok=True)
    except OSError:  # Windows: still open in a living process
        return False
    return True


def sync_folder(path: Path) -> None:
    """Make renames in this folder durable; no effect on Windows."""
    if os.name != "posix":
        return
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_DIRECTORY", 0) | getattr(os, "O_CLOEXEC", 0))
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def shares_memory(folder: Path) -> bool:
    """Whether processes can share memory through a file in `folder`, as SQLite's write-ahead log requires.

    Some FUSE file systems (mergerfs, mounts of virtual machines) refuse it.

    Raises:
        OSError: no file can be made there.
    """
    path = folder / f".{token_hex(6)}{TEMPORARY}"
    descriptor = open_private(path, os.O_CREAT | os.O_EXCL | os.O_RDWR)
    try:
        os.write(descriptor, bytes(mmap.PAGESIZE))
        with mmap.mmap(descriptor, mmap.PAGESIZE):  # shared and writable by default
            return True
    except OSError as error:
        if error.errno in FULL:
            raise
        return False
    finally:
        os.close(descriptor)
        remove(path)


def can_lock(folder: Path) -> bool:
    """Whether files in `folder` can be locked; some network mounts refuse. Raises OSError if no file can be made."""
    path = folder / f".{token_hex(6)}{TEMPORARY}"
    descriptor = open_private(path, os.O_CREAT | os.O_EXCL | os.O_RDWR)
    try:
        return try_lock(descriptor)
    finally:
        os.close(descriptor)
        remove(path)


def on_network(path: Path, mounts: str | None = None) -> bool:
    """Whether the path is on a network file system.

    `mounts`: text of Linux's ``/proc/self/mounts``, read by default; elsewhere only Windows' UNC paths
    (``\\\\server\\share``) are recognised.
    """
    real = os.path.realpath(path)
    if real.startswith("\\\\"):
        return True
    if mounts is None:
        try:
            mounts = Path("/proc/self/mounts").read_text("utf-8", "replace")
        except OSError:
            return False
    best, kind = "", ""
    for line in mounts.splitlines():
        fields = line.split(" ")
        if len(fields) < 3:
            continue
        point = fields[1].replace("\\040", " ").rstrip("/")
        if (real + "/").startswith(point + "/") and len(point) >= len(best):
            best, kind = point, fields[2]
    return kind in _NETWORK_TYPES


def _warn_if_open_to_others(path: Path, found: os.stat_result) -> None:
    if os.name != "posix" or str(path) in _warned:
        return
    if found.st_uid != os.geteuid():
        problem = "belongs to another user of this machine"
    elif found.st_mode & 0o077:
        problem = f"can be read or changed by other users (mode {stat.S_IMODE(found.st_mode):04o})"
    else:
        return
    _warned.add(str(path))
    logger.warning("Rivya: %s %s; it should be for you alone.", short(path), problem)


if sys.platform == "win32":
    import msvcrt

    def try_lock(descriptor: int, *, shared: bool = False) -> bool:
        """Lock the open file if it is free; Windows has only exclusive locks."""
        try:
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True

else:
    import fcntl

    def try_lock(descriptor: int, *, shared: bool = False) -> bool:
        """Lock the open file unless a conflicting lock exists; never waits.

        False also where the file system cannot lock: the safe side for every caller.
        """
        try:
            fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        except OSError:
            return False
        return True


@contextmanager
def guard(path: Path, *, shared: bool = False, wait_s: float) -> Iterator[None]:
    """Hold a lock on `path` (made if missing, never removed) for a short piece of work.

    Raises:
        LedgerError: another process held it longer than `wait_s` seconds.
        OSError: the file cannot be made.
    """
    descriptor = open_private(path, os.O_CREAT | os.O_RDWR)
    try:
        deadline = time.monotonic() + wait_s
        while not try_lock(descriptor, shared=shared):
            if time.monotonic() >= deadline:
                raise LedgerError(
                    f"Another program has kept {short(path)} locked for {wait_s:g} seconds.",
                    hint="Close it, then run again.",
                )
            time.sleep(0.01)
        yield
    finally:
        os.close(descriptor)
