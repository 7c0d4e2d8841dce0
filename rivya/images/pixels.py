"""Decodes stored samples in bands of rows, before colour conversion and rotation.

Pillow's codecs are called by name: they ignore its global switches, which other packs change, and report truncated
streams. Pictures are decoded whole and split into bands, except large PNGs of 8 and 16 bits without interlacing.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from io import BytesIO
from typing import Any
from zlib import compressobj, decompressobj
from zlib import error as zlib_error

import numpy as np
from PIL import Image, WebPImagePlugin

from .formats import damaged, truncated
from .header import Header

Array = np.ndarray[Any, Any]
Band = tuple[int, Array]
"""Number of the first stored row, and samples (rows, width, channels): 1 grey, 2 grey and alpha, 3 RGB, 4 RGB and
alpha, or 4 CMYK (JPEG); uint8, or uint16 for 16-bit PNG.
"""

_BAND_PIXELS = 1 << 17
_WHOLE_PIXELS = 1 << 24
_INFLATE_STEP = 1 << 16
_SHRINKS = 8
_MODES = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}


def eight_bits(values: Array) -> Array:
    """Round pixels to uint8: uint8 unchanged, uint16, bool, or floats of 0 to 1 (clipped)."""
    if values.dtype == np.uint16:
        values = (values.astype(np.uint32) + 128) // 257
    elif values.dtype == np.bool_:
        values = values * np.uint8(255)
    elif values.dtype.kind == "f":
        values = np.clip(values, 0, 1)
        values *= values.dtype.type(255)
        np.rint(values, out=values)
    return values.astype(np.uint8, copy=False)


def as_image(samples: Array, mode: str = "") -> Image.Image:
    """A Pillow picture of uint8 (height, width, channels); ``mode`` if channels are ambiguous."""
    height, width, channels = samples.shape
    return Image.frombytes(mode or _MODES[channels], (width, height), np.ascontiguousarray(samples).data)


def bands(data: bytes, header: Header, shrink: int = 1) -> Iterator[Band]:
    """Decode ``data``; yields every pixel once.

    Args:
        shrink: 1, 2, 4 or 8: reduction per side; more than 1 gives uint8.

    Raises:
        ImageError: ``image_truncated`` or ``image_damaged``.
    """
    if header.format == "JPEG":
        yield from _bands_of([_jpeg(data, header, shrink)])
        return
    for top, samples in _png(data, header) if header.format == "PNG" else _bands_of([_webp(data, header)]):
        if shrink > 1:
            reduced = as_image(eight_bits(samples)).reduce(shrink)
            samples = np.asarray(reduced).reshape(reduced.height, reduced.width, -1)
        yield top // shrink, samples


def _rows(width: int) -> int:
    return _SHRINKS * max(1, _BAND_PIXELS // (_SHRINKS * width))


def _bands_of(images: Sequence[Image.Image]) -> Iterator[Band]:
    width, height = images[0].size
    rows = _rows(width)
    for top in range(0, height, rows):
        yield top, _samples(images, top, min(rows, height - top))


def _samples(images: Sequence[Image.Image], top: int, count: int) -> Array:
    """Rows of an image; of two images with high and low bytes, both as two samples."""
    width = images[0].width
    parts = [np.asarray(each.crop((0, top, width, top + count))).reshape(count, width, -1) for each in images]
    return parts[0] if len(parts) == 1 else np.stack(parts, axis=-1).reshape(count, width, -1)


def _decoded(mode: str, size: tuple[int, int], data: bytes, codec: str, *args: Any) -> Image.Image:
    """By one of Pillow's codecs."""
    try:
        return Image.frombytes(mode, size, data, codec, args)
    except (ValueError, OSError) as error:
        if str(error) == "not enough image data":
            raise truncated() from error
        what = "samples" if codec == "jpeg" else "compressed samples"
        raise damaged(f"its {what} cannot be read") from error


# --- PNG ---------------------------------------------------------------------------------------------

# (bits per sample, samples per pixel): Pillow's modes and raw modes. Two bytes of a sample are read as two samples, or,
# where no mode allows that, high bytes and low bytes in two passes.
_PNG_MODES = {
    (1, 1): [("P", "P;1")],
    (2, 1): [("P", "P;2")],
    (4, 1): [("P", "P;4")],
    **{(8, channels): [(mode, mode)] for channels, mode in _MODES.items()},
    (16, 1): [("LA", "LA")],
    (16, 2): [("RGBA", "RGBA")],
    (16, 3): [("RGB", "RGB;16B"), ("RGB", "RGB;16L")],
    (16, 4): [("RGBA", "RGBA;16B"), ("RGBA", "RGBA;16L")],
}


def _png(data: bytes, header: Header) -> Iterator[Band]:
    size = header.stored_width, header.stored_height
    if header.interlaced or header.depth < 8 or size[0] * size[1] <= _WHOLE_PIXELS:
        whole = _png_images(b"".join(data[start:end] for start, end in header.payload), size, header)
        raw = _bands_of(whole)
    else:
        raw = _large_png(data, size, header)
    for top, rows in raw:
        yield top, _meaning(rows.view(">u2").astype(np.uint16) if header.depth == 16 else rows, header)


def _large_png(data: bytes, size: tuple[int, int], header: Header) -> Iterator[Band]:
    """Inflate and decode in bands, each preceded by the row above, which PNG filters need."""
    width, height = size
    rows = _rows(width)
    above = bytes(width * header.stored_channels * header.depth // 8)
    counts = [min(rows, height - top) for top in range(0, height, rows)]
    filtered = _inflated(data, header, [count * (1 + len(above)) for count in counts])
    for number, (count, part) in enumerate(zip(counts, filtered, strict=True)):
        packer = compressobj(0)
        stream = packer.compress(b"\0" + above) + packer.compress(part) + packer.flush()
        samples = _samples(_png_images(stream, (width, 1 + count), header), 1, count)
        above = samples[-1].tobytes()
        yield number * rows, samples


def _inflated(data: bytes, header: Header, sizes: Sequence[int]) -> Iterator[bytes]:
    """Inflate a PNG's samples in pieces of these sizes."""
    view, stream = memoryview(data), decompressobj()
    pieces = (
        view[at : min(end, at + _INFLATE_STEP)]
        for start, end in header.payload
        for at in range(start, end, _INFLATE_STEP)
    )
    for size in sizes:
        parts: list[bytes] = []
        while size:
            piece: bytes | memoryview | None = stream.unconsumed_tail or next(pieces, None)
            if piece is None or stream.eof:
                raise truncated()
            try:
                parts.append(stream.decompress(piece, size))
            except zlib_error as error:
                raise damaged("its compressed samples cannot be read") from error
            size -= len(parts[-1])
        yield b"".join(parts)


def _png_images(stream: bytes, size: tuple[int, int], header: Header) -> list[Image.Image]:
    modes = _PNG_MODES[header.depth, header.stored_channels]
    return [_decoded(mode, size, stream, "zip", raw, header.interlaced) for mode, raw in modes]


def _meaning(samples: Array, header: Header) -> Array:
    """Convert samples to the full range of grey or colour, with alpha."""
    key = header.transparency
    if header.palette is not None:
        table = np.zeros((256, 4 if key else 3), np.uint8)
        table[: len(header.palette) // 3, :3] = np.frombuffer(header.palette, np.uint8).reshape(-1, 3)
        if key:
            table[:, 3] = 255
            table[: len(key), 3] = np.frombuffer(key[:256], np.uint8)
        return table[samples[..., 0]]
    colour = samples * np.uint8(255 // (2**header.depth - 1)) if header.depth < 8 else samples
    if key is None:
        return colour
    clear = np.array(struct.unpack(f">{len(key) // 2}H", key), np.uint16) & np.uint16(2**header.depth - 1)
    opaque = (samples != clear).any(axis=-1, keepdims=True)
    return np.concatenate([colour, opaque * np.array(np.iinfo(colour.dtype).max, colour.dtype)], axis=-1)


# --- JPEG --------------------------------------------------------------------------------------------

_EOI = b"\xff\xd9"
_GREYS = 127, 128
"""The decoder's values for missing samples."""
# Begin with a one: the decoder continues missing samples with zeros.
_FILLINGS = b"\xaa" * 64, b"\xfe" * 64


def _jpeg(data: bytes, header: Header, shrink: int) -> Image.Image:
    """L, RGB or CMYK (inverted back: files store it inverted, like Adobe). Raises if samples are missing."""
    mode, raw = {1: ("L", "L"), 3: ("RGB", "RGB"), 4: ("CMYK", "CMYK;I")}[header.channels]
    size = -(-header.stored_width // shrink), -(-header.stored_height // shrink)

    def decoded(file: bytes) -> Image.Image:
        return _decoded(mode, size, file, "jpeg", raw, "", shrink, 0)

    image = decoded(data if header.complete else data[: header.end] + _EOI)
    last = _samples([image], image.height - 1, 1)[0, -1]
    if header.complete and not np.isin(last, _GREYS).all():
        return image
    # Missing samples decode to grey without an error. The decoder takes appended bytes for them: then pixels change.
    samples = data[: header.end - len(_EOI) if header.complete else header.end].rstrip(b"\xff")
    for filling in _FILLINGS:
        if not np.array_equal(np.asarray(image), np.asarray(decoded(samples + filling + _EOI))):
            raise truncated()
    return image


# --- WebP --------------------------------------------------------------------------------------------


def _webp(data: bytes, header: Header) -> Image.Image:
    try:
        image: Image.Image = WebPImagePlugin.WebPImageFile(BytesIO(data[: header.end]))
        image.load()
    except (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError) as error:
        raise damaged("its samples cannot be read") from error
    if image.size != (header.stored_width, header.stored_height):
        raise damaged("its parts are of different sizes")
    return image.convert("RGB") if image.mode == "RGBA" and not header.alpha else image
