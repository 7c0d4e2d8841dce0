"""Encodes pixels for upload: small, fast, as exact as the service's limit allows.

An order's identity is the hash of its pixels, and a change of size if one was needed, never the encoding: other
versions of Pillow produce other bytes.

Synchronous and thread-safe; PNG and WebP encoders release the GIL.
"""

from __future__ import annotations

import hashlib
import sys
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO
from itertools import chain
from typing import Any

import numpy as np
from PIL import Image, JpegImagePlugin, PngImagePlugin, WebPImagePlugin

from ..errors import ValidationError
from . import decode
from .pixels import as_image, eight_bits

LIMIT_BYTES = 10_000_000
"""The service takes "10 MB" a picture: the smaller reading."""

_SIDES = {"png": 2**31 - 1, "webp": 16_383, "jpeg": 65_500}
_MODES = {1: "L", 3: "RGB", 4: "RGBA"}
_BEST, _FLOOR = 95, 85

# Factor 23/25 a side. Sizes are computed from the sides in integers: a few bytes more or less (another Pillow) must not
# change the picture.
_STEP = 23, 25

# Importing registers the codecs; this keeps the imports.
_CODECS = PngImagePlugin, JpegImagePlugin, WebPImagePlugin


@dataclass(frozen=True)
class Encoded:
    """A picture for upload.

    Attributes:
        data: the file.
        encoding: ``png``, ``webp`` (lossless) or ``jpeg``.
        width, height: in pixels, as uploaded.
        transformation: "" or "resize:WxH", part of the picture's identity.
        notes: changes made to fit, as sentences for node and report.
    """

    data: bytes
    encoding: str
    width: int
    height: int
    transformation: str = ""
    notes: tuple[str, ...] = ()

    @property
    def mime(self) -> str:
        return f"image/{self.encoding}"

    @property
    def extension(self) -> str:
        """``png``, ``webp`` or ``jpg``."""
        return "jpg" if self.encoding == "jpeg" else self.encoding


def pixel_hash(pixels: np.ndarray[Any, Any]) -> str:
    """SHA-256 (hex) over size, mode and 8-bit pixels; arguments and errors as for `encode`."""
    mode = _mode(pixels)
    height, width = pixels.shape[:2]
    digest = hashlib.sha256(f"{width}x{height} {mode}\n".encode())
    digest.update(np.ascontiguousarray(pixels).data)
    return digest.hexdigest()


def encode(pixels: np.ndarray[Any, Any], encoding: str = "auto", limit: int = LIMIT_BYTES) -> Encoded:
    """Encode a picture for upload.

    ``auto`` is PNG; if too large, lossless WebP; then JPEG of quality 95 down to 85 with full colour resolution;
    last a smaller picture.

    Args:
        pixels: uint8 (height, width, 1 grey, 3 RGB or 4 RGBA).
        encoding: ``auto``, ``png``, ``webp`` or ``jpeg``.
        limit: bytes.

    Raises:
        ValidationError: invalid pixels (``validation_failed``), or a named encoding that does not fit
            (``image_too_large``; the hint names one that fits).
    """
    image = as_image(pixels, _mode(pixels))
    if encoding == "auto":
        return _fitted(image, limit)
    if encoding not in _SIDES:
        raise ValidationError(f"There is no encoding {encoding[:40]!r}: auto, png, webp or jpeg.")
    packed = _packed(image, encoding, limit)
    if packed is None:
        raise _does_not_fit(image, encoding, limit)
    return _encoded(image, image, encoding, *packed)


def thumbnail_for_preview(data: bytes, max_side: int = 512) -> Image.Image:
    """Return a small RGB picture for previews. Raises `ImageError` as `decode.verify`."""
    image = as_image(eight_bits(decode.decode(data).pixels[..., :3]))
    image.thumbnail((max_side, max_side), Image.Resampling.LANCZOS, reducing_gap=2.0)
    return image


def _mode(pixels: np.ndarray[Any, Any]) -> str:
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] not in _MODES or 0 in pixels.shape:
        raise ValidationError(
            f"A picture is 8-bit (height, width, 1, 3 or 4 channels), not {pixels.dtype} {pixels.shape}."
        )
    return _MODES[pixels.shape[2]]


def _fitted(image: Image.Image, limit: int) -> Encoded:
    """The least lossy encoding that fits."""
    full_size = ((image, encoding) for encoding in _SIDES)
    smaller = ((scaled, "jpeg") for scaled in _smaller(image, limit))
    for candidate, encoding in chain(full_size, smaller):
        packed = _packed(candidate, encoding, limit)
        if packed is not None:
            return _encoded(image, candidate, encoding, *packed, chosen=True)
    raise ValidationError(f"The picture cannot be packed into {limit:,} bytes.", code="image_too_large")


def _smaller(image: Image.Image, limit: int) -> Iterator[Image.Image]:
    """Ever smaller copies, from about the first that may fit as JPEG."""
    width, height = image.size
    size = len(_jpeg(image, _FLOOR)) if max(image.size) <= _SIDES["jpeg"] else 0
    numerator = denominator = 1
    scaled = width, height
    while scaled != (1, 1):
        numerator, denominator = numerator * _STEP[0], denominator * _STEP[1]
        scaled = max(1, width * numerator // denominator), max(1, height * numerator // denominator)
        # Smaller pictures take more bytes per pixel: over the limit here is over the limit in fact.
        if max(scaled) <= _SIDES["jpeg"] and size * scaled[0] * scaled[1] <= limit * width * height:
            yield image.resize(scaled, Image.Resampling.LANCZOS)


def _packed(image: Image.Image, encoding: str, limit: int) -> tuple[bytes, int | None] | None:
    """The file, and its quality if JPEG; None if over the limit or impossible."""
    if max(image.size) > _SIDES[encoding]:
        return None
    if encoding == "jpeg":
        return _best_jpeg(image, limit)
    data = _png(image, limit) if encoding == "png" else _webp(image)
    return None if data is None or len(data) > limit else (data, None)


class _LimitReached(Exception):
    """The output exceeds the limit."""


class _Capped(BytesIO):
    """A memory file that raises `_LimitReached` beyond ``limit`` bytes."""

    def __init__(self, limit: int) -> None:
        super().__init__()
        self._limit = limit

    def write(self, data: Any, /) -> int:
        if self.tell() + len(data) > self._limit:
            raise _LimitReached
        return super().write(data)


def _png(image: Image.Image, limit: int) -> bytes | None:
    """Level 1 with run lengths: the default's size for photos in a fifth of the time."""
    file = _Capped(limit)
    try:
        image.save(file, "PNG", compress_level=1, compress_type=zlib.Z_RLE)
    except _LimitReached:
        return None
    return file.getvalue()


def _webp(image: Image.Image) -> bytes:
    """Lossless by the fastest method, with colours under full transparency."""
    file = BytesIO()
    colour = image.convert("RGB") if image.mode == "L" else image
    colour.save(file, "WEBP", lossless=True, quality=0, method=0, exact=True)
    return file.getvalue()


def _jpeg(image: Image.Image, quality: int) -> bytes:
    """4:4:4: full colour resolution."""
    file = BytesIO()
    opaque = image.convert("RGB") if image.mode == "RGBA" else image
    opaque.save(file, "JPEG", quality=quality, subsampling=0)
    return file.getvalue()


def _best_jpeg(image: Image.Image, limit: int) -> tuple[bytes, int] | None:
    """The highest quality that fits, by bisection; None if none does."""
    data = _jpeg(image, _BEST)
    if len(data) <= limit:
        return data, _BEST
    best, low, high = _jpeg(image, _FLOOR), _FLOOR, _BEST
    if len(best) > limit:
        return None
    while high - low > 1:
        middle = (low + high) // 2
        data = _jpeg(image, middle)
        if len(data) <= limit:
            best, low = data, middle
        else:
            high = middle
    return best, low


def _encoded(
    original: Image.Image,
    image: Image.Image,
    encoding: str,
    data: bytes,
    quality: int | None,
    *,
    chosen: bool = False,
) -> Encoded:
    notes = []
    if chosen and encoding == "webp":
        notes.append("Sent as lossless WebP: as PNG it is over the limit.")
    elif quality is not None and (chosen or quality < _BEST):
        notes.append(f"Sent as JPEG of quality {quality}: no better one fits into the limit.")
    resized = image.size != original.size
    if resized:
        notes.append(
            f"Made smaller, from {original.width}x{original.height} to {image.width}x{image.height} (Lanczos): "
            "in full size it is over the limit in every encoding."
        )
    if encoding == "jpeg" and image.mode == "RGBA" and original.getchannel("A").getextrema() != (255, 255):
        notes.append("Sent without its transparency: JPEG has none.")
    transformation = f"resize:{image.width}x{image.height}" if resized else ""
    return Encoded(data, encoding, image.width, image.height, transformation, tuple(notes))


def _does_not_fit(image: Image.Image, encoding: str, limit: int) -> ValidationError:
    """The error of a named encoding: actual size, and what fits."""
    name, sides = encoding.upper(), _SIDES[encoding]
    if max(image.size) > sides:
        what = f"{name} has up to {sides:,} pixels a side; the picture has {max(image.size):,}."
    else:
        if encoding == "jpeg":
            name, data = f"{name} of quality {_FLOOR}", _jpeg(image, _FLOOR)
        else:
            data, _ = _packed(image, encoding, sys.maxsize) or (b"", None)
        what = f"As {name} the picture takes {len(data) / 1e6:.1f} MB; the service takes {limit / 1e6:g} MB."
    best = _fitted(image, limit)
    would = f"{best.encoding} ({best.width}x{best.height}, {len(best.data) / 1e6:.1f} MB)"
    advice = "auto, which makes it smaller:" if best.transformation else "auto or"
    return ValidationError(what, hint=f"Set encoding to {advice} {would}.", code="image_too_large")
