"""Target folder and name of a saved picture. The ending matches the content."""

from __future__ import annotations

import hashlib
import os
import re
from dataclasses import dataclass
from pathlib import Path

from ..errors import SavingError

ENDINGS = {".png": "png", ".jpg": "jpg", ".jpeg": "jpg", ".jpe": "jpg", ".jfif": "jpg", ".webp": "webp"}
"""File endings, and the extension of their format."""

FORMATS = {"png": "PNG", "jpg": "JPEG", "webp": "WebP"}
"""Extensions, and names of formats."""

_FOREIGN = re.compile(
    r"\.(apng|avif|bmp|dng|eps|exr|gif|hdr|hei[cf]|ico|jp2|jxl|mp4|pdf|psd|svg|tga|tiff?)", re.IGNORECASE
)
RESERVED = re.compile(r"(con|prn|aux|nul|conin\$|conout\$|com[0-9¹²³]|lpt[0-9¹²³])\s*(\.|$)", re.IGNORECASE)
_NAME_BYTES = 255
_SHORT = 80
"""Bytes of a stem that every file system takes, with anything added to it."""
_WINDOWS_PATH = 259
_TAIL = 48
"""Most bytes added to a stem: seed, variation, picture number, ending."""


@dataclass(frozen=True)
class Place:
    """Target of one picture.

    Attributes:
        folder: created on writing if missing.
        stem: the name without an ending.
        ending: the user's ending, with its dot; empty: the picture's own.
        chosen: the user named this file, so that an existing one is replaced.
    """

    folder: Path
    stem: str
    ending: str = ""
    chosen: bool = False

    @property
    def name(self) -> str:
        return f"{self.stem}{self.ending}"


def named(path: str | Path) -> Place:
    """The place of a file that the user names; an ending of no picture format is part of the stem."""
    target = Path(path)
    if target.name in ("", ".."):
        raise refused(f"{shown(target)} is a folder.")
    known = target.suffix.lower() in ENDINGS or _FOREIGN.fullmatch(target.suffix)
    ending = target.suffix if known else ""
    stem = target.name[: len(target.name) - len(ending)]
    return Place(target.parent, stem if ending else stem.rstrip(".") or stem, ending, chosen=True)


def derived(folder: Path, stem: str, tail: str = "") -> Place:
    """A place in a folder, named after another file.

    Args:
        stem: of the other file; shortened to the file system's limit, and kept apart from Windows device names.
        tail: added whole; has no influence on the stem.
    """
    if RESERVED.match(stem):
        stem = f"_{stem}"
    size = len(os.fsencode(stem))
    room = _name_room(folder) - _TAIL if size > _SHORT or os.name == "nt" else size
    if size > room:
        digest = hashlib.sha256(os.fsencode(stem)).hexdigest()[:8]
        stem = f"{_cut(stem, room - len(digest) - 1)}-{digest}"
    return Place(folder, stem + tail)


def _cut(text: str, size: int) -> str:
    """The first characters that fit into ``size`` bytes of a file name."""
    kept = ""
    for character in text:
        if len(os.fsencode(kept + character)) > size:
            break
        kept += character
    return kept


def _name_room(folder: Path) -> int:
    """Most bytes of a name here."""
    if os.name == "nt":
        return min(_NAME_BYTES, max(_TAIL * 2, _WINDOWS_PATH - len(os.path.abspath(folder)) - 1))
    try:
        return os.pathconf(folder, "PC_NAME_MAX")
    except (OSError, ValueError):
        return _NAME_BYTES


def extension_asked(path: str | Path) -> str:
    """``png``, ``jpg`` or ``webp`` by a name's ending; else empty."""
    return ENDINGS.get(Path(path).suffix.lower(), "")


def refused(message: str, hint: str = "Name another place with -o.") -> SavingError:
    """The error for a place that was refused before anything was sent."""
    return SavingError(message, hint=hint, code="cannot_save")


def reason(error: Exception) -> str:
    return (isinstance(error, OSError) and error.strerror) or str(error) or type(error).__name__


def shown(path: Path | str) -> str:
    """A path in printable characters; others are escaped."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in str(path))


def shown_lines(text: object) -> str:
    """As `shown`, for a text of several lines, such as an error."""
    return "\n".join(map(shown, str(text).splitlines()))


def corrected(place: Place, saved: Path) -> str:
    """A sentence if the picture's ending differs from the user's; else empty."""
    if not place.ending or saved.suffix == place.ending:
        return ""
    kind = FORMATS.get(ENDINGS.get(saved.suffix, ""), "of another format")
    return f"The picture is {kind}, so it is not named {shown(place.name)} but {shown(saved.name)}."
