"""Writes a picture whole or not at all, and replaces only a file that the user named."""

from __future__ import annotations

import errno
import hashlib
import os
import re
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from secrets import token_hex
from shutil import copymode

from ..files import sync_folder
from .places import ENDINGS, Place

TEMPORARY = ".rivya-{}.tmp"
_TEMPORARY = re.compile(r"\.rivya-[0-9a-f]{12}\.tmp")
_ABANDONED_S = 86_400.0
_ODD_NAME = (errno.EINVAL, errno.EILSEQ, errno.ENAMETOOLONG, errno.ENOENT)
_NO_LINKS = (
    errno.EPERM,
    errno.EACCES,
    errno.ENOSYS,
    errno.EOPNOTSUPP,
    errno.EMLINK,
    errno.EINVAL,
    errno.EXDEV,
)


def write(
    place: Place,
    data: bytes,
    number: int = 1,
    *,
    otherwise: str = "jpg",
) -> Path:
    """Write a picture whole and sync it; returns its path.

    A file of this name with the same bytes is kept. A name that the disk refuses is replaced by a plain one, unless
    the user chose that very name.

    Args:
        number: of the picture in its task, from 1.
        otherwise: extension for bytes that are no picture.

    Raises:
        OSError: it cannot be written; nothing of it is left.
    """
    # Imported late: the command line first reports a missing Pillow.
    from ..images.formats import extension_of

    extension = extension_of(data) or otherwise
    ending = place.ending if ENDINGS.get(place.ending.lower()) == extension else f".{extension}"
    stem = place.stem if number == 1 else f"{place.stem}-{number}"
    place.folder.mkdir(parents=True, exist_ok=True)
    if place.chosen and number == 1 and ending == place.ending:
        _replace(Path(os.path.realpath(place.folder / place.name)), data)
        return place.folder / place.name
    try:
        return _add(place.folder, stem, ending, data)
    except (OSError, ValueError) as error:
        if getattr(error, "errno", errno.EINVAL) not in _ODD_NAME:
            raise
    plain = re.sub(r"[^A-Za-z0-9_-]", "_", stem)[-60:]
    digest = hashlib.sha256(os.fsencode(stem)).hexdigest()[:8]
    return _add(place.folder, f"picture-{digest}-{plain}", ending, data)


def _replace(target: Path, data: bytes) -> None:
    if _holds(target, data):
        return
    written = _Written(target.parent, data)
    try:
        with suppress(OSError):
            copymode(target, written.path)
        os.replace(written.path, target)
    finally:
        written.close()


def _add(folder: Path, stem: str, ending: str, data: bytes) -> Path:
    """Write under the first name that is free or already holds these bytes."""
    written: _Written | None = None
    try:
        for name in names(stem, ending):
            target = folder / name
            if os.path.lexists(target):
                if _holds(target, data):
                    return target
                continue
            written = written or _Written(folder, data)
            if _put(written.path, target):
                return target
    finally:
        if written is not None:
            written.close()
    raise AssertionError  # names never end


def names(stem: str, ending: str) -> Iterator[str]:
    yield f"{stem}{ending}"
    number = 2
    while True:
        yield f"{stem}_{number}{ending}"
        number += 1


def _put(temporary: Path, target: Path) -> bool:
    """Name the file; False if the name was taken meanwhile."""
    try:
        os.link(temporary, target)
        return True
    except FileExistsError:
        return False
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
    # Without hard links, a file that appears between check and rename is lost.
    if os.path.lexists(target):
        return False
    os.rename(temporary, target)
    return True


def _holds(path: Path, data: bytes) -> bool:
    try:
        return path.stat().st_size == len(data) and path.is_file() and path.read_bytes() == data
    except OSError:
        return False


class _Written:
    """A synced temporary file; `close` removes it, unless it was renamed."""

    def __init__(self, folder: Path, data: bytes) -> None:
        self.path = folder / TEMPORARY.format(token_hex(6))
        self._folder = folder
        descriptor = create(self.path)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
                file.flush()
                sync(file.fileno())
        except BaseException:
            self.path.unlink(missing_ok=True)
            raise

    def close(self) -> None:
        self.path.unlink(missing_ok=True)
        with suppress(OSError):  # some file systems cannot sync folders
            sync_folder(self._folder)


def sweep(folder: Path) -> None:
    """Remove temporary files of killed programs, older than a day."""
    for entry in os.scandir(folder):
        if _TEMPORARY.fullmatch(entry.name):
            with suppress(OSError):
                if time.time() - entry.stat(follow_symlinks=False).st_mtime > _ABANDONED_S:
                    os.unlink(entry.path)


def create(path: Path) -> int:
    """Create a file with a user's usual permissions; returns its descriptor."""
    flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)
    return os.open(path, flags, 0o666)


def sync(descriptor: int) -> None:
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP):
            raise
