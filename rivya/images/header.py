"""The header of a picture file: shape and EXIF.

The format readers (`png`, `jpeg`, `webp`) produce it. They check lengths, the checksums of used parts and counts.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass, field
from functools import cached_property

from .formats import EXTENSIONS, Format

MAX_PROFILE_BYTES = 4 * 1024 * 1024
MAX_PARTS = 100_000

NO_END = "The end marker of the file is missing."
ANIMATED = "The file is animated; its first frame was taken."

_ORIENTATION = 0x0112
_MAX_EXIF_FIELDS = 1000


@dataclass
class Header:
    """The header of a picture file, filled in by the reader of its format.

    Attributes:
        stored_width, stored_height: in pixels, without the orientation.
        channels: PNG and WebP: stored colour channels (1 grey or palette, 3 RGB); JPEG: 1, 3 or 4 (CMYK).
        depth: bits per sample: 1, 2, 4, 8 or 16.
        alpha: whether there is transparency.
        icc, exif, xmp: raw colour profile (empty: broken), EXIF block and XMP packet.
        end: of the picture in the file.
        complete: whether the end marker exists.
        warnings: sentences for the report.
        palette: PNG: three bytes per colour; None without a palette.
        transparency: PNG: the tRNS chunk.
        interlaced: PNG: by Adam7.
        payload: PNG: (start, end) pairs of the compressed samples.
    """

    format: Format
    stored_width: int = 0
    stored_height: int = 0
    channels: int = 3
    depth: int = 8
    alpha: bool = False
    icc: bytes | None = None
    exif: bytes | None = None
    xmp: bytes | None = None
    end: int = 0
    complete: bool = True
    warnings: list[str] = field(default_factory=list)
    palette: bytes | None = None
    transparency: bytes | None = None
    interlaced: bool = False
    payload: list[tuple[int, int]] = field(default_factory=list)

    @cached_property
    def orientation(self) -> int:
        """1 to 8: of the EXIF block, else of the XMP packet, as in Pillow."""
        named = _exif_orientation(self.exif)
        if named is None:
            found = re.search(rb'tiff:Orientation(?:="|>)([0-9])', self.xmp or b"")
            named = int(found[1]) if found else 1
        return named if 1 <= named <= 8 else 1

    @property
    def width(self) -> int:
        """In pixels, with the orientation applied, as `height`."""
        return self.stored_height if self.orientation >= 5 else self.stored_width

    @property
    def height(self) -> int:
        return self.stored_width if self.orientation >= 5 else self.stored_height

    @property
    def stored_channels(self) -> int:
        """PNG: samples per pixel in the file; a palette index is one."""
        return self.channels + (self.alpha and self.transparency is None)

    @property
    def extension(self) -> str:
        """``png``, ``jpg`` or ``webp``."""
        return EXTENSIONS[self.format]


def _exif_orientation(exif: bytes | None) -> int | None:
    """The unchecked orientation of an EXIF block; None if missing or broken."""
    if not exif:
        return None
    tiff = exif[6:] if exif.startswith(b"Exif\0\0") else exif
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(tiff[:4])
    if order is None:
        return None
    try:
        (at,) = struct.unpack_from(f"{order}I", tiff, 4)
        (fields,) = struct.unpack_from(f"{order}H", tiff, at)
        for number in range(min(fields, _MAX_EXIF_FIELDS)):
            tag, form = struct.unpack_from(f"{order}HH", tiff, at + 2 + 12 * number)
            if tag == _ORIENTATION:
                value: int = struct.unpack_from(
                    f"{order}{'I' if form == 4 else 'H'}", tiff, at + 10 + 12 * number
                )[0]
                return value
    except struct.error:
        pass
    return None
