"""Decodes pictures exactly, in bands, with bounded memory.

Pixels are written to their destination band by band, rotated as EXIF says and converted to sRGB. Extra memory is at
most one stored picture; for WebP three, as its decoder keeps more. Pillow's codecs are called directly with values
of the header readers: its global settings, which other packs change, do not apply, and a truncated file is an error.

Synchronous and thread-safe; codecs release the GIL.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from .colour import Convert, to_srgb
from .formats import STRANGERS, Limits, check_size, picture_format, refuse_polyglot, truncated
from .header import Header
from .jpeg import read_jpeg
from .pixels import Array, bands, eight_bits
from .png import read_png
from .webp import read_webp

NARROWED = "The picture has 16 bits a channel; 8 are left of them by the conversion of its colour profile."

_READERS = {"PNG": read_png, "JPEG": read_jpeg, "WEBP": read_webp}


@dataclass(frozen=True)
class Picture:
    """A decoded picture.

    Attributes:
        pixels: (height, width, 3 RGB or 4 RGBA), uint8, or uint16 for 16 bits a channel; sRGB.
        warnings: sentences for the report.
        jpeg: a JPEG file of just these pixels, without metadata, if there is one.
    """

    pixels: Array
    warnings: tuple[str, ...]
    jpeg: bytes | None = None


def inspect(data: bytes, limits: Limits = STRANGERS) -> Header:
    """Read the header of a PNG, JPEG or WebP file, without decoding pixels.

    Raises:
        ImageError: code ``image_empty``, ``not_a_picture``, ``image_too_large``, ``image_truncated``,
            ``image_damaged``, ``image_unsupported`` or ``image_polyglot``.
    """
    kind = picture_format(data, limits)
    try:
        header = _READERS[kind](data)
    except (struct.error, IndexError) as error:
        raise truncated() from error
    check_size(header.stored_width, header.stored_height, limits)
    refuse_polyglot(data, header.end)
    return header


def verify(data: bytes) -> str:
    """Decode every pixel; return the extension (``png``, ``jpg``, ``webp``).

    Raises:
        ImageError: as `inspect`, also for truncated or damaged samples.
    """
    header = inspect(data)
    for _ in bands(data, header):
        pass
    return header.extension


def decode(
    data: bytes, header: Header | None = None, *, shrink: int = 1, convert_colours: bool = True
) -> Picture:
    """Decode a whole picture to integers. Raises `ImageError` as `verify`.

    Args:
        data: the file.
        header: by `inspect`, if known.
        shrink: 1, 2, 4 or 8: reduction per side; more than 1 gives uint8.
        convert_colours: to sRGB; else samples keep the file's colour space, which must not be CMYK.
    """
    header = header or inspect(data)
    convert, warnings = _colour(header) if convert_colours else (None, tuple(header.warnings))
    wide = header.depth == 16 and convert is None and shrink == 1
    height, width = -(-header.height // shrink), -(-header.width // shrink)
    pixels = np.empty((height, width, 4 if header.alpha else 3), np.uint16 if wide else np.uint8)
    if header.alpha:
        pixels[..., 3] = np.iinfo(pixels.dtype).max
    target = turned(pixels, header.orientation)
    for top, colour, alpha in _srgb_bands(data, header, convert, shrink):
        place = target[top : top + len(colour)]
        place[..., :3] = colour
        if alpha is not None:
            place[..., 3] = alpha
    return Picture(pixels, warnings)


def decode_into(
    data: bytes, out: Array, mask: Array | None = None, header: Header | None = None
) -> tuple[str, ...]:
    """Decode a picture into arrays of a batch.

    Args:
        data: the file.
        out: float32 (height, width, 3); gets RGB, exactly value/255, or value/65535 for 16 bits.
        mask: float32 (height, width) of zeros, or None; gets 1 - alpha where the file has transparency.
        header: by `inspect`, if known.

    Returns:
        Warnings for the report.

    Raises:
        ImageError: as `verify`; ``out`` and ``mask`` are then undefined.
    """
    header = header or inspect(data)
    convert, warnings = _colour(header)
    target = turned(out, header.orientation)
    shade = None if mask is None else turned(mask, header.orientation)
    for top, colour, alpha in _srgb_bands(data, header, convert):
        full = np.float32(np.iinfo(colour.dtype).max)
        np.divide(colour, full, out=target[top : top + len(colour)], dtype=np.float32)
        if alpha is not None and shade is not None:
            place = shade[top : top + len(alpha)]
            np.divide(alpha, full, out=place, dtype=np.float32)
            np.subtract(np.float32(1), place, out=place)
    return warnings


def turned(shown: Array, orientation: int) -> Array:
    """A view of an upright picture in stored layout: writing stored rows to it rotates them upright.

    Args:
        shown: (height, width, ...) with the EXIF orientation applied.
        orientation: 1 to 8.
    """
    if orientation >= 5:
        shown = shown.swapaxes(0, 1)
    down = slice(None, None, -1 if orientation in (3, 4, 6, 7) else 1)
    across = slice(None, None, -1 if orientation in (2, 3, 7, 8) else 1)
    return shown[down, across]


def _colour(header: Header) -> tuple[Convert | None, tuple[str, ...]]:
    convert, warnings = to_srgb(header.icc, 3 if header.palette is not None else header.channels)
    if convert is not None and header.depth == 16:
        warnings = (*warnings, NARROWED)
    return convert, (*header.warnings, *warnings)


def _srgb_bands(
    data: bytes, header: Header, convert: Convert | None, shrink: int = 1
) -> Iterator[tuple[int, Array, Array | None]]:
    """Stored bands: first row, grey or RGB (rows, columns, 1 or 3), alpha (rows, columns) or None."""
    for top, samples in bands(data, header, shrink):
        if convert is not None:
            samples = eight_bits(samples)
        alpha = None
        if header.alpha and samples.shape[2] in (2, 4):
            samples, alpha = samples[..., :-1], samples[..., -1]
        yield top, samples if convert is None else convert(samples), alpha
