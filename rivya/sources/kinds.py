"""Whether a file is a picture to edit, by its content."""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path

from ..images import foreign, formats

_PICTURE = re.compile(
    r"\.(a?png|jpe?g|jpe|jfif|jif|pjpe?g|pjp|webp|hei[cf]|hif|avif|tiff?|bmp|dib|gif)", re.IGNORECASE
)
"""Endings of pictures. A file with one was meant: if it is no picture, it is taken and fails alone."""

_RAW = re.compile(
    r"\.(3fr|ari|arw|cr[23w]|dcr|dng|erf|fff|gpr|iiq|k25|kdc|mef|mos|mrw|nef|nrw|orf|pef|raf|raw|rw[2l]|sr[2fw]|x3f)",
    re.IGNORECASE,
)
_BESIDE = re.compile(r"\.(thm|ithmb|tnl)", re.IGNORECASE)
"""Thumbnails that cameras and phones keep beside photos."""

_APPLE_DOUBLE = (b"\x00\x05\x16\x07", b"\x00\x05\x16\x00")
_HEAD_BYTES = 4096
_NO_RAW = "RAW photos are not taken; save it as JPEG"


def look_at(path: Path) -> tuple[str, bool] | None:
    """Why a file is no picture to edit, and whether the user may have meant it; None if it is one, or fails when read.

    The reason is a phrase to follow the file's name.
    """
    named = _PICTURE.fullmatch(path.suffix) is not None
    if _BESIDE.fullmatch(path.suffix):
        return "a thumbnail", False
    if _RAW.fullmatch(path.suffix):
        return _NO_RAW, True
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            return "no ordinary file", named
        with path.open("rb") as file:
            head = file.read(_HEAD_BYTES)
    except OSError as error:
        return None if named else (f"cannot be read: {error.strerror}", True)
    if head.startswith(_APPLE_DOUBLE):
        return "a sidecar of macOS", False
    if formats.signature(head):
        return None
    kind = formats.other_format(head)
    if kind:
        missing = foreign.why_not(kind)
        return (missing, True) if missing else None
    return None if named else (f"no picture ({path.suffix.lower() or 'no ending'})", False)


def by_name(name: str) -> tuple[str, bool] | None:
    """Why an object is no picture by its name, and whether the user may have meant it; None if it is one."""
    suffix = os.path.splitext(name)[1]
    if name.startswith("."):
        return "hidden", False
    if _BESIDE.fullmatch(suffix):
        return "a thumbnail", False
    if _RAW.fullmatch(suffix):
        return _NO_RAW, True
    if _PICTURE.fullmatch(suffix):
        return None
    return f"no picture by its name ({suffix.lower() or 'no ending'})", False


def is_hidden(entry: os.DirEntry[str]) -> bool:
    """Whether a file manager hides it: by a leading dot or a file attribute."""
    if entry.name.startswith("."):
        return True
    try:
        found = entry.stat(follow_symlinks=False)
    except OSError:
        return False
    marks = getattr(found, "st_file_attributes", 0) & getattr(stat, "FILE_ATTRIBUTE_HIDDEN", 2)
    return bool(marks or getattr(found, "st_flags", 0) & getattr(stat, "UF_HIDDEN", 0x8000))
