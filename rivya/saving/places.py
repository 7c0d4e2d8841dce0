"""Where one picture goes: a folder, and a name whose ending says what the file holds."""

from __future__ import annotations

import hashlib
import os
import re
from dataclasses import dataclass
from pathlib import Path

from ..errors import SavingError

ENDINGS = {".png": "png", ".jpg": "jpg", ".jpeg": "jpg", ".jpe": "jpg", ".jfif": "jpg", ".webp": "webp"}
"""Endings of names, and the extension of what they stand for."""

FORMATS = {"png": "PNG", "jpg": "JPEG", "webp": "WebP"}
"""Extensions, and what people call them."""

_FOREIGN = re.compile(
    r"\.(apng|avif|bmp|dng|eps|exr|gif|hdr|hei[cf]|ico|jp2|jxl|mp4|pdf|psd|svg|tga|tiff?)", re.IGNORECASE
)
RESERVED = re.compile(r"(con|prn|aux|nul|conin\$|conout\$|com[0-9¹²³]|lpt[0-9¹²³])\s*(\.|$)", re.IGNORECASE)
_NAME_BYTES = 255
_SHORT = 80
"""Bytes of a stem that every file system takes, whatever is added to it."""
_WINDOWS_PATH = 259
_TAIL = 48
"""Most that is added to a stem when it is saved: seed, variation, numbers of further pictures, an ending."""


@dataclass(frozen=True)
class Place:
    """Where one picture goes.

    Attributes:
        folder: made when the picture is written, if it is not there.
        stem: the name without an ending.
        ending: the ending that the user gave, with its dot; empty: that of the picture.
        chosen: the user named this file, so that one of the same name is replaced.
    """

    folder: Path
    stem: str
    ending: str = ""
    chosen: bool = False

    @property
    def name(self) -> str:
        return f"{self.stem}{self.ending}"


def named(path: str | Path) -> Place:
    """The place of a file that the user names; an ending that stands for no picture is part of the name."""
    target = Path(path)
    if target.name in ("", ".."):
        raise refused(f"{shown(target)} is a folder.")
    known = target.suffix.lower() in ENDINGS or _FOREIGN.fullmatch(target.suffix)
    ending = target.suffix if known else ""
    stem = target.name[: len(target.name) - len(ending)]
    return Place(target.parent, stem if ending else stem.rstrip(".") or stem, ending, chosen=True)


def derived(folder: Path, stem: str, tail: str = "") -> Place:
    """A place in a folder under a name made from that of another file.

    Args:
        stem: of the other file; cut where the file system takes no name of its length, and kept clear of the names
            that Windows keeps for devices.
        tail: stands behind it, whole; what a stem becomes does not depend on it.
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
    """The first characters, in at most ``size`` bytes of a file name."""
    kept = ""
    for character in text:
        if len(os.fsencode(kept + character)) > size:
            break
        kept += character
    return kept


def _name_room(folder: Path) -> int:
    """Bytes that a name in this folder may have."""
    if os.name == "nt":
        return min(_NAME_BYTES, max(_TAIL * 2, _WINDOWS_PATH - len(os.path.abspath(folder)) - 1))
    try:
        return os.pathconf(folder, "PC_NAME_MAX")
    except (OSError, ValueError):
        return _NAME_BYTES


def extension_asked(path: str | Path) -> str:
    """What the ending of a name asks for: ``png``, ``jpg`` or ``webp``; empty where it says nothing."""
    return ENDINGS.get(Path(path).suffix.lower(), "")


def refused(message: str, hint: str = "Name another place with -o.") -> SavingError:
    """The error of a place that was refused before anything was sent."""
    return SavingError(message, hint=hint, code="cannot_save")


def reason(error: Exception) -> str:
    """What the system says, without the path."""
    return (isinstance(error, OSError) and error.strerror) or str(error) or type(error).__name__


def shown(path: Path | str) -> str:
    """A path in characters that can be printed; the others by their codes."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in str(path))


def shown_lines(text: object) -> str:
    """The same for a text of several lines, such as an error: names of files in it hold what they like."""
    return "\n".join(map(shown, str(text).splitlines()))


def corrected(place: Place, saved: Path) -> str:
    """A sentence, if the ending that the user gave was not that of the picture; else empty."""
    if not place.ending or saved.suffix == place.ending:
        return ""
    kind = FORMATS.get(ENDINGS.get(saved.suffix, ""), "of another format")
    return f"The picture is {kind}, so it is not named {shown(place.name)} but {shown(saved.name)}."
