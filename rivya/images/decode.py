"""From the bytes of a picture to its pixels: exact, in bands, with bounded memory.

Pixels go straight to where they are wanted, a band of rows at a time, turned as EXIF says and converted to sRGB. Beside
them lies one picture as stored at most; of WebP three, since its decoder keeps more. Pillow's codecs are called on what
the header readers found, so that neither its global settings (which other packs change) nor its guesses play a part,
and a file that ends early is an error.

Everything here is synchronous and thread-safe; the codecs run without Python's lock.
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
        pixels: (height, width, 3 RGB or 4 RGBA), uint8, or uint16 where the file has 16 bits a channel; sRGB.
        warnings: sentences for the report.
        jpeg: a JPEG file of just these pixels, without metadata, where there is one.
    """

    pixels: Array
    warnings: tuple[str, ...]
    jpeg: bytes | None = None


def inspect(data: bytes, limits: Limits = STRANGERS) -> Header:
    """Read the header of a PNG, JPEG or WebP file. No pixel is decoded.

    Raises:
        ImageError: the code tells why: ``image_empty``, ``not_a_picture``, ``image_too_large``,
            ``image_truncated``, ``image_damaged``, ``image_unsupported`` or ``image_polyglot``.
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
    """The extension (``png``, ``jpg``, ``webp``) of a picture, every pixel of which can be decoded.

    Raises:
        ImageError: as `inspect`, or because its samples are cut off or damaged.
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
        header: what `inspect` found in ``data``, if that is known.
        shrink: 1, 2, 4 or 8: one pixel comes for so many squared, as uint8.
        convert_colours: to sRGB; else the samples stay in the colour space of the file, which must not be CMYK.
    """
    header = header or inspect(data)
    convert, warnings = _colour(header) if convert_colours else (None, header.warnings)
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
    """Decode a picture into places of a batch.

    Args:
        data: the file.
        out: float32 (height, width, 3); gets RGB, exactly value/255, or value/65535 of 16 bits.
        mask: float32 (height, width) of zeros, or None; gets 1 - alpha where the file has transparency.
        header: what `inspect` found in ``data``, if that is known.

    Returns:
        Warnings, for the report.

    Raises:
        ImageError: as `verify`. What ``out`` and ``mask`` hold then is not defined.
    """
    header = header or inspect(data)
    convert, warnings = _colour(header)
    target = turned(out, header.orientation)
    shade = None if mask is None else turned(mask, header.orientation)
    for top, colour, alpha in _srgb_bands(data, header, convert):
        np.divide(colour, _full(colour), out=target[top : top + len(colour)], dtype=np.float32)
        if alpha is not None and shade is not None:
            place = shade[top : top + len(alpha)]
            np.divide(alpha, _full(alpha), out=place, dtype=np.float32)
            np.subtract(np.float32(1), place, out=place)
    return warnings


def turned(shown: Array, orientation: int) -> Array:
    """A view of a picture as shown, laid out as it is stored: what is written as stored comes out upright.

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
    """How the colours of a picture become sRGB, and all warnings about it."""
    convert, warnings = to_srgb(header.icc, 3 if header.palette is not None else header.channels)
    if convert is not None and header.depth == 16:
        warnings = (*warnings, NARROWED)
    return convert, (*header.warnings, *warnings)


def _srgb_bands(
    data: bytes, header: Header, convert: Convert | None, shrink: int = 1
) -> Iterator[tuple[int, Array, Array | None]]:
    """Bands as stored: first row, grey or RGB of (rows, columns, 1 or 3), alpha of (rows, columns) or None."""
    for top, samples in bands(data, header, shrink):
        if convert is not None:
            samples = eight_bits(samples)
        alpha = None
        if header.alpha and samples.shape[2] in (2, 4):
            samples, alpha = samples[..., :-1], samples[..., -1]
        yield top, samples if convert is None else convert(samples), alpha


def _full(samples: Array) -> Array:
    """The value that means 1."""
    return np.array(np.iinfo(samples.dtype).max, np.float32)
