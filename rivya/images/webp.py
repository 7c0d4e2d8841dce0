"""Reads the header of a WebP file."""

from __future__ import annotations

import struct

from .formats import damaged, truncated
from .header import ANIMATED, MAX_PARTS, MAX_PROFILE_BYTES, Header


def read_webp(data: bytes) -> Header:
    """Return a WebP's header. Raises `ImageError` as `decode.inspect`."""
    end = 8 + int.from_bytes(data[4:8], "little")
    if end > len(data) or end < 20:
        raise truncated()
    width, height, alpha, animated = _webp_size(data)
    header, at = Header("WEBP", width, height, alpha=alpha, end=end), 12
    if animated:
        header.warnings.append(ANIMATED)
    for _ in range(MAX_PARTS):
        if at + 8 > end:
            break
        kind, length = struct.unpack_from("<4sI", data, at)
        if at + 8 + length > end:
            raise truncated()
        body = slice(at + 8, at + 8 + length)
        if kind == b"EXIF" and header.exif is None:
            header.exif = data[body]
        elif kind == b"XMP " and header.xmp is None:
            header.xmp = data[body]
        elif kind == b"ICCP" and header.icc is None:
            header.icc = data[body] if length <= MAX_PROFILE_BYTES else b""
        at += 8 + length + length % 2
    else:
        raise damaged("it has too many parts")
    return header


def _webp_size(data: bytes) -> tuple[int, int, bool, bool]:
    """Width, height, transparency and animation, from the first chunk."""
    kind = data[12:16]
    if kind == b"VP8X":
        flags = data[20]
        width = 1 + int.from_bytes(data[24:27], "little")
        return width, 1 + int.from_bytes(data[27:30], "little"), bool(flags & 0x10), bool(flags & 0x02)
    if kind == b"VP8L":
        if data[20] != 0x2F:
            raise damaged("its header is missing")
        (bits,) = struct.unpack_from("<I", data, 21)
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF), bool(bits >> 28 & 1), False
    if kind == b"VP8 ":
        if data[23:26] != b"\x9d\x01\x2a":
            raise damaged("its header is missing")
        width, height = struct.unpack_from("<HH", data, 26)
        return width & 0x3FFF, height & 0x3FFF, False, False
    raise damaged("its header is missing")
