"""Reads the header of a JPEG file and finds the end of its picture."""

from __future__ import annotations

import re
import struct

import numpy as np

from .formats import damaged, truncated, unusable
from .header import BROKEN_PROFILE, MAX_PARTS, MAX_PROFILE_BYTES, NO_END, Header, Notes, orientation

_MAX_SCANS = 40
_MAX_SCANNED_PIXELS = 2_000_000_000
_EOI = b"\xff\xd9"
_EOI_PAIR = int.from_bytes(_EOI, "little")
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
    notes, at = Notes(), 2
    frame: tuple[int, int, int, int, int] | None = None
    profile: dict[int, bytes] = {}
    restarts = False
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
        (length,) = struct.unpack_from(">H", data, at + 2)
        body = data[at + 4 : at + 2 + length]
        if length < 2 or len(body) != length - 2:
            raise truncated()
        if marker in _FRAMES:
            if frame is not None:
                raise damaged("it has two headers")
            frame = (marker, *struct.unpack_from(">BHHB", body))
        elif marker == 0xE1 and notes.exif is None and body.startswith(b"Exif\0\0"):
            notes.exif = body
        elif marker == 0xE1 and body.startswith(_XMP):
            notes.xmp = body[len(_XMP) :]
        elif marker == 0xE2 and body.startswith(b"ICC_PROFILE\0") and len(body) > 14:
            profile.setdefault(body[12], body[14:])
        elif marker == 0xDD:
            restarts = any(body)
        at += 2 + length
        if marker == 0xDA:
            in_scan = body[0]
            break
    else:
        raise damaged("it has too many parts")
    if frame is None:
        raise damaged("its header is missing")
    notes.icc = _jpeg_profile(profile, notes)
    return _jpeg_header(data, frame, notes, at, in_scan, restarts)


def _jpeg_header(
    data: bytes, frame: tuple[int, int, int, int, int], notes: Notes, at: int, in_scan: int, restarts: bool
) -> Header:
    marker, depth, height, width, components = frame
    if depth != 8 or marker not in (0xC0, 0xC1, 0xC2, 0xC9, 0xCA):
        raise unusable(
            f"JPEG of this kind ({depth} bit, SOF{marker - 0xC0}) is not taken.", "image_unsupported"
        )
    if components not in (1, 3, 4):
        raise damaged(f"it says that it has {components} channels")
    plain = marker in (0xC0, 0xC1) and in_scan == components
    end, complete, scans = _jpeg_end(data, at, plain)
    if scans > _MAX_SCANS and scans * width * height > _MAX_SCANNED_PIXELS:
        raise unusable(f"The JPEG goes over its picture {scans} times.", "image_too_large")
    if not complete:
        # The decoder can prove only one plain scan complete.
        if not plain or scans != 1 or restarts:
            raise truncated()
        notes.warnings.append(NO_END)
    return Header(
        format="JPEG",
        stored_width=width,
        stored_height=height,
        orientation=orientation(notes.exif, notes.xmp),
        channels=components,
        depth=8,
        alpha=False,
        icc=notes.icc,
        exif=notes.exif,
        end=end,
        complete=complete,
        warnings=tuple(notes.warnings),
    )


def bare(data: bytes, end: int) -> bytes | None:
    """Return the JPEG with only what its pixels need: no EXIF, comment, profile, preview or second picture.

    Args:
        data: a JPEG accepted by `read_jpeg`.
        end: `Header.end`.

    Returns:
        None for an unusual structure, or a coding that many decoders refuse, such as arithmetic. The caller checks
        that the picture is sRGB without its profile and upright without its EXIF block.
    """
    parts, at = [data[:2]], 2
    while True:
        if data[at] != 0xFF:
            return None
        marker, (length,) = data[at + 1], struct.unpack_from(">H", data, at + 2)
        part = data[at : at + 2 + length]
        if marker == 0xDA:
            break
        if marker in _NEEDED or part.startswith((_JFIF, _ADOBE)):
            parts.append(part)
        elif part[4:9] == b"JFIF\0" or not (0xE0 <= marker <= 0xEF or marker == 0xFE):
            return None
        at += 2 + length
    scans = data[at:end]
    if any(found[0] not in _BETWEEN_SCANS for found in re.findall(_MARKER, scans[:-2])):
        return None
    return b"".join((*parts, scans))


def _jpeg_end(data: bytes, at: int, plain: bool) -> tuple[int, bool, int]:
    """The end of the picture, whether its end marker exists, and the number of scans.

    Args:
        at: start of the first scan's samples.
        plain: the first scan is the whole picture; the decoder reads no other.
    """
    if data.endswith(_EOI, at) and _end_markers(data, at) == 1:
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


def _end_markers(data: bytes, at: int) -> int:
    """Number of end markers from ``at``: `bytes.count`, a dozen times as fast."""
    pairs = (np.frombuffer(data, "<u2", (len(data) - start) // 2, start) for start in (at, at + 1))
    return sum(int(np.count_nonzero(words == _EOI_PAIR)) for words in pairs)


def _jpeg_profile(parts: dict[int, bytes], notes: Notes) -> bytes | None:
    """Join the profile's numbered segments (from 1)."""
    if not parts:
        return None
    if sorted(parts) == list(range(1, len(parts) + 1)):
        profile = b"".join(parts[number] for number in sorted(parts))
        if len(profile) <= MAX_PROFILE_BYTES:
            return profile
    notes.warnings.append(BROKEN_PROFILE)
    return None
