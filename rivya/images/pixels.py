"""The stored samples of a picture, a band of rows at a time, before colour and orientation.

A PNG is inflated here, in steps, and unfiltered by Pillow, in bands: the next band is inflated while this one is
unfiltered, and the whole picture never lies in memory beside its destination. JPEG and WebP are decoded whole by
Pillow and handed on in bands.
"""

from __future__ import annotations

import struct
import threading
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from io import BytesIO
from typing import Any
from zlib import compressobj, decompressobj
from zlib import error as zlib_error

import numpy as np
from PIL import Image, WebPImagePlugin

from ..errors import ImageError
from .formats import damaged, truncated, unusable
from .header import Header

Array = np.ndarray[Any, Any]
Band = tuple[slice, slice, Array]
"""Rows and columns as stored, and samples of (rows, columns, channels): 1 grey, 2 grey and alpha, 3 RGB,
4 RGB and alpha, or 4 CMYK (JPEG); uint8 or, of a PNG of 16 bits, uint16."""

_BAND_BYTES = 1 << 19
_BAND_PIXELS = 1 << 17
_SMALL_PIXELS = 1 << 20
_INFLATE_STEP = 1 << 16
_OVERLAP_FROM_BYTES = 1 << 20


def bands(data: bytes, header: Header) -> Iterator[Band]:
    """Decode ``data``; every pixel comes exactly once.

    Raises:
        ImageError: ``image_truncated``, ``image_damaged`` or ``image_unsupported``.
    """
    return {"PNG": _png, "JPEG": _jpeg, "WEBP": _webp}[header.format](data, header)


# --- PNG ---------------------------------------------------------------------------------------------

_ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
_WHOLE = ((0, 0, 1, 1),)
_MODES = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA", 6: "RGB", 8: "RGBA"}


def _png(data: bytes, header: Header) -> Iterator[Band]:
    stored = _stored_channels(header)
    step = max(1, stored * header.depth // 8)
    inflater = _Inflater(data, header.payload)
    jobs: list[tuple[slice, slice, int, int, bool]] = []
    for x, y, across, down in _ADAM7 if header.interlaced else _WHOLE:
        width = -(-(header.stored_width - x) // across)
        height = -(-(header.stored_height - y) // down)
        row = -(-width * stored * header.depth // 8)
        rows = max(1, _BAND_BYTES // (1 + row))
        if width > 0:
            for top in range(0, height, rows):
                count = min(rows, height - top)
                first = y + top * down
                place = slice(first, first + (count - 1) * down + 1, down), slice(x, None, across)
                jobs.append((*place, count, row, top == 0))
    samples = header.stored_width * header.stored_height * step
    filtered = _ahead(
        [partial(inflater.take, count * (1 + row)) for _, _, count, row, _ in jobs],
        overlap=samples >= _OVERLAP_FROM_BYTES,
    )
    above = b""
    for (rows_at, columns_at, _, row, first_of_pass), part in zip(jobs, filtered, strict=True):
        raw = _unfilter(part, bytes(row) if first_of_pass else above, step)
        above = raw[-1].tobytes()
        width = len(range(header.stored_width)[columns_at])
        yield rows_at, columns_at, _meaning(_samples(raw, width, stored, header.depth), header)


def _stored_channels(header: Header) -> int:
    """Samples a pixel in a PNG's rows; a palette index is one sample."""
    return header.channels + (header.alpha and header.transparency is None)


def _unfilter(filtered: bytes, above: bytes, step: int) -> Array:
    """Undo the filters of PNG rows.

    Pillow's own PNG decoder does it, on a stream of stored (not compressed) blocks. The row above comes first,
    unfiltered, since filters refer to it.

    Args:
        filtered: rows, each behind the byte that names its filter.
        above: the row above, as bytes; zeros at the top.
        step: bytes a pixel, at least 1.

    Returns:
        uint8 (rows, bytes a row).
    """
    packer = compressobj(0)
    stream = packer.compress(b"\0" + above) + packer.compress(filtered) + packer.flush()
    size = len(above) // step, 1 + len(filtered) // (1 + len(above))
    mode = _MODES[step]
    try:
        if step <= 4:
            pixels = np.asarray(Image.frombytes(mode, size, stream, "zip", (mode, 0)))
        else:
            # Pillow keeps 8 of 16 bits: the high byte if told that it comes first, else the low one.
            high, low = (
                np.asarray(Image.frombytes(mode, size, stream, "zip", (f"{mode};16{order}", 0)))
                for order in "BL"
            )
            pixels = np.stack([high, low], axis=-1)
    except ValueError as error:
        raise damaged("its samples cannot be read") from error
    return pixels.reshape(size[1], len(above))[1:]


def _samples(raw: Array, width: int, channels: int, depth: int) -> Array:
    """Rows of bytes as samples: (rows, width, channels), uint8 of 0 to 2**depth - 1, or uint16."""
    if depth == 16:
        raw = raw.reshape(len(raw), -1, 2)
        samples = raw[..., 0].astype(np.uint16) << 8 | raw[..., 1]
    elif depth == 8:
        samples = raw
    else:
        shifts = np.arange(8 - depth, -1, -depth, dtype=np.uint8)
        samples = (raw[..., None] >> shifts & (2**depth - 1)).reshape(len(raw), -1)[:, :width]
    return samples.reshape(len(raw), width, channels)


def _meaning(samples: Array, header: Header) -> Array:
    """Samples as grey or colour over the whole range of their type, with alpha where there is any."""
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


class _Inflater:
    """Inflates a PNG's samples in steps. Not for use by two threads at once.

    Args:
        data: the file.
        payload: where the compressed stream lies in it, as (start, end) pairs.
    """

    def __init__(self, data: bytes, payload: Sequence[tuple[int, int]]) -> None:
        self._input = self._pieces(memoryview(data), payload)
        self._stream = decompressobj()

    @staticmethod
    def _pieces(view: memoryview, payload: Sequence[tuple[int, int]]) -> Iterator[memoryview]:
        for start, end in payload:
            for at in range(start, end, _INFLATE_STEP):
                yield view[at : min(end, at + _INFLATE_STEP)]

    def take(self, size: int) -> bytes:
        """The next ``size`` bytes, never more, whatever the stream would hold.

        Raises:
            ImageError: ``image_truncated`` if the stream ends before, ``image_damaged`` if it cannot be read.
        """
        parts: list[bytes] = []
        while size:
            piece: bytes | memoryview | None = self._stream.unconsumed_tail or next(self._input, None)
            if piece is None or self._stream.eof:
                raise truncated()
            try:
                part = self._stream.decompress(piece, size)
            except zlib_error as error:
                raise damaged("its compressed samples cannot be read") from error
            parts.append(part)
            size -= len(part)
        return b"".join(parts)


def _ahead(jobs: Sequence[Callable[[], bytes]], *, overlap: bool) -> Iterator[bytes]:
    """The results of ``jobs`` in order; with ``overlap``, the next is worked out while one is used."""
    if not overlap:
        yield from (job() for job in jobs)
        return
    coming = _Beside(jobs[0])
    for job in (*jobs[1:], None):
        part = coming.result()
        if job is not None:
            coming = _Beside(job)
        yield part


class _Beside:
    """One call in a daemon thread of its own: nothing waits for it when the process ends."""

    def __init__(self, job: Callable[[], bytes]) -> None:
        self._job = job
        self._value = b""
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="rivya-inflate", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._value = self._job()
        except BaseException as error:
            self._error = error

    def result(self) -> bytes:
        self._thread.join()
        if self._error is not None:
            raise self._error
        return self._value


# --- JPEG --------------------------------------------------------------------------------------------

_EOI = b"\xff\xd9"
# They begin with a one: where samples are missing, the decoder goes on with zeros.
_FILLINGS = b"\xaa" * 64, b"\xfe" * 64


def _jpeg(data: bytes, header: Header) -> Iterator[Band]:
    image = _jpeg_image(data if header.complete else data[: header.end] + _EOI, header)
    if not header.complete or _ends_grey(image):
        # Missing samples come out grey and without an error.
        scans = data[: header.end - len(_EOI)] if header.complete else data[: header.end]
        if not _is_whole(scans.rstrip(b"\xff"), image, header):
            raise truncated()
    yield from _bands_of(image)


def _jpeg_image(data: bytes, header: Header) -> Image.Image:
    """The picture as stored: L, RGB or CMYK (turned the right way: Adobe stores it inverted, and so do all)."""
    mode, raw = {1: ("L", "L"), 3: ("RGB", "RGB"), 4: ("CMYK", "CMYK;I")}[header.channels]
    try:
        return Image.frombytes(mode, (header.stored_width, header.stored_height), data, "jpeg", (raw, ""))
    except (ValueError, OSError) as error:
        if str(error) == "not enough image data":
            raise truncated() from error
        raise damaged("its samples cannot be read") from error


def _ends_grey(image: Image.Image) -> bool:
    """Whether the last pixel is the grey that the decoder puts where samples are missing."""
    width, height = image.size
    last = np.asarray(image.crop((width - 1, height - 1, width, height)))
    return bool(((last == 127) | (last == 128)).all())


def _is_whole(scans: bytes, image: Image.Image, header: Header) -> bool:
    """Whether all samples are there: if some are missing, what is put behind them is read as samples."""
    for filling in _FILLINGS:
        try:
            other = _jpeg_image(scans + filling + _EOI, header)
        except ImageError:
            return False
        if not np.array_equal(np.asarray(image), np.asarray(other)):
            return False
    return True


# --- WebP --------------------------------------------------------------------------------------------


def _webp(data: bytes, header: Header) -> Iterator[Band]:
    try:
        image = WebPImagePlugin.WebPImageFile(BytesIO(data[: header.end]))
        image.load()
    except (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError) as error:
        raise damaged("its samples cannot be read") from error
    if image.size != (header.stored_width, header.stored_height):
        raise damaged("its parts are of different sizes")
    if image.mode not in ("RGB", "RGBA"):
        raise unusable(f"WebP of mode {image.mode} is not taken.", "image_unsupported")
    yield from _bands_of(image if header.alpha or image.mode == "RGB" else image.convert("RGB"))


def _bands_of(image: Image.Image) -> Iterator[Band]:
    """A decoded picture in bands of rows."""
    width, height = image.size
    if width * height <= _SMALL_PIXELS:
        # Cropping copies: what that saves in memory is not worth it here.
        yield slice(None), slice(None), np.asarray(image).reshape(height, width, -1)
        return
    rows = max(1, _BAND_PIXELS // width)
    for top in range(0, height, rows):
        bottom = min(height, top + rows)
        band = np.asarray(image.crop((0, top, width, bottom)))
        yield slice(top, bottom), slice(None), band.reshape(bottom - top, width, -1)
