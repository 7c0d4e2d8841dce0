"""Reads the header of a JPEG file and finds the end of its picture."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator

from .formats import damaged, truncated, unusable
from .header import MAX_PARTS, MAX_PROFILE_BYTES, NO_END, Header

_MAX_SCANS = 40
_MAX_SCANNED_PIXELS = 2_000_000_000
_EOI = b"\xff\xd9"
_XMP = b"http://ns.adobe.com/xap/1.0/\0"
_SOS = b"\xff\xda"
# A single ff, though more may precede the marker: a pattern for all takes quadratic time on a long run of ff.
_MARKER = rb"\xff([\x01-\xcf\xd8-\xfe])"
_NEEDED = frozenset({0xC0, 0xC1, 0xC2, 0xC4, 0xDB, 0xDD})
"""Common frames, Huffman tables, quantization tables, restart interval."""
_BETWEEN_SCANS = frozenset({0xC4, 0xDA, 0xDB, 0xDD})
_JFIF = b"\xff\xe0\0\x10JFIF\0"
_ADOBE = b"\xff\xee\0\x0eAdobe"
"""Both name the colours of the channels. At these lengths they hold nothing else."""
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}


def read_jpeg(data: bytes) -> Header:
    """Return a JPEG's header. Raises `ImageError` as `decode.inspect`."""
    header = Header("JPEG")
    frame: tuple[int, int, int, int, int] | None = None
    profile: dict[int, bytes] = {}
    restarts = False
    for marker, start, at in _segments(data):
        body = data[start + 4 : at]
        if marker in _FRAMES:
            if frame is not None:
                raise damaged("it has two headers")
            frame = (marker, *struct.unpack_from(">BHHB", body))
        elif marker == 0xE1 and header.exif is None and body.startswith(b"Exif\0\0"):
            header.exif = body
        elif marker == 0xE1 and body.startswith(_XMP):
            header.xmp = body[len(_XMP) :]
        elif marker == 0xE2 and body.startswith(b"ICC_PROFILE\0") and len(body) > 14:
            profile.setdefault(body[12], body[14:])
        elif marker == 0xDD:
            restarts = any(body)
    if frame is None:
        raise damaged("its header is missing")
    kind, depth, header.stored_height, header.stored_width, header.channels = frame
    if depth != 8 or kind not in (0xC0, 0xC1, 0xC2, 0xC9, 0xCA):
        raise unusable(
            f"JPEG of this kind ({depth} bit, SOF{kind - 0xC0}) is not taken.", "image_unsupported"
        )
    if header.channels not in (1, 3, 4):
        raise damaged(f"it says that it has {header.channels} channels")
    header.icc = _joined(profile) if profile else None
    plain = kind in (0xC0, 0xC1) and body[0] == header.channels
    header.end, header.complete, scans = _jpeg_end(data, at, plain)
    if scans > _MAX_SCANS and scans * header.stored_width * header.stored_height > _MAX_SCANNED_PIXELS:
        raise unusable(f"The JPEG goes over its picture {scans} times.", "image_too_large")
    if not header.complete:
        # The decoder can prove only one plain scan complete.
        if not plain or scans != 1 or restarts:
            raise truncated()
        header.warnings.append(NO_END)
    return header


def _segments(data: bytes) -> Iterator[tuple[int, int, int]]:
    """Marker, start and end of each segment; the last is the header of the first scan."""
    at = 2
    for _ in range(MAX_PARTS):
        if at + 2 > len(data):
            raise truncated()
        if data[at] != 0xFF:
            raise damaged("a part begins where none should")
        marker = data[at + 1]
        if marker == 0xFF:
            at += 1
            continue
        if marker in (0xD8, 0xD9):
            raise damaged("it holds no picture")
        start, (length,) = at, struct.unpack_from(">H", data, at + 2)
        at += 2 + length
        if length < 2 or at > len(data):
            raise truncated()
        yield marker, start, at
        if marker == 0xDA:
            return
    raise damaged("it has too many parts")


def bare(data: bytes, end: int) -> bytes | None:
    """Return the JPEG with only what its pixels need: no EXIF, comment, profile, preview or second picture.

    Args:
        data: a JPEG accepted by `read_jpeg`.
        end: `Header.end`.

    Returns:
        None for an unusual structure, or a coding that many decoders refuse, such as arithmetic. The caller checks
        that the picture is sRGB without its profile and upright without its EXIF block.
    """
    parts = [data[:2]]
    for marker, start, at in _segments(data):
        part = data[start:at]
        if marker == 0xDA:
            parts.append(data[start:end])
        elif marker in _NEEDED or part.startswith((_JFIF, _ADOBE)):
            parts.append(part)
        elif part[4:9] == b"JFIF\0" or not (0xE0 <= marker <= 0xEF or marker == 0xFE):
            return None
    if any(found[0] not in _BETWEEN_SCANS for found in re.findall(_MARKER, parts[-1][:-2])):
        return None
    return b"".join(parts)


def _jpeg_end(data: bytes, at: int, plain: bool) -> tuple[int, bool, int]:
    """The end of the picture, whether its end marker exists, and the number of scans.

    Args:
        at: start of the first scan's samples.
        plain: the first scan is the whole picture; the decoder reads no other.
    """
    if data.find(_EOI, at) == len(data) - 2:
        return len(data), True, 1 if plain else 1 + data.count(_SOS, at)
    scans, view = 1, memoryview(data)
    for _ in range(MAX_PARTS):
        found = re.search(_MARKER, view[at:])
        if found is None:
            # Half an end marker is no sample data.
            return len(data.rstrip(b"\xff")), False, scans
        marker = found.group(1)[0]
        if marker == 0xD9:
            return at + found.end(), True, scans
        if marker == 0xD8:
            raise damaged("another picture begins inside it")
        scans += marker == 0xDA
        at += found.end()
        if marker != 0x01:
            at += struct.unpack_from(">H", data, at)[0]
    raise damaged("it has too many parts")


def _joined(profile: dict[int, bytes]) -> bytes:
    """The profile of these segments, numbered from 1; empty if broken."""
    joined = b"".join(profile[number] for number in sorted(profile))
    whole = sorted(profile) == list(range(1, len(profile) + 1))
    return joined if whole and len(joined) <= MAX_PROFILE_BYTES else b""
