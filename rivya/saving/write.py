"""Writing a picture: whole or not at all, and never in the place of a file that the user did not name."""

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
    """Write a picture whole, and synchronise it; the path that it has.

    Nothing is written where a file of this name holds the same bytes already. A name that its disk does not take is
    replaced by a plain one, unless it is the very name that the user chose.

    Args:
        number: 1, or which further picture of the same task it is.
        otherwise: the extension of what is no picture.

    Raises:
        OSError: it cannot be written; nothing of it is left.
    """
    # The command line saves nothing before it has said that Pillow is missing.
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
    """Under the first of its names that is free, or that holds the same already."""
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
    raise AssertionError  # there is no end of names


def names(stem: str, ending: str) -> Iterator[str]:
    yield f"{stem}{ending}"
    number = 2
    while True:
        yield f"{stem}_{number}{ending}"
        number += 1


def _put(temporary: Path, target: Path) -> bool:
    """Give the file its name; False if that was taken meanwhile."""
    try:
        os.link(temporary, target)
        return True
    except FileExistsError:
        return False
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
    # A file system without hard links: between look and rename a file of that name may appear, and is lost.
    if os.path.lexists(target):
        return False
    os.rename(temporary, target)
    return True


def _holds(path: Path, data: bytes) -> bool:
    """Whether this file has exactly these bytes."""
    try:
        return path.stat().st_size == len(data) and path.is_file() and path.read_bytes() == data
    except OSError:
        return False


class _Written:
    """A file under a temporary name, complete and synchronised; removed at the end, if it still has that name."""

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
        with suppress(OSError):  # some file systems synchronise no folders
            sync_folder(self._folder)


def sweep(folder: Path) -> None:
    """Remove the temporary files that a killed program left here a day ago or earlier."""
    for entry in os.scandir(folder):
        if _TEMPORARY.fullmatch(entry.name):
            with suppress(OSError):
                if time.time() - entry.stat(follow_symlinks=False).st_mtime > _ABANDONED_S:
                    os.unlink(entry.path)


def create(path: Path) -> int:
    """A new file with the rights that a user's files have here."""
    flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)
    return os.open(path, flags, 0o666)


def sync(descriptor: int) -> None:
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP):
            raise
