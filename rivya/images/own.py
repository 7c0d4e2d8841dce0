"""A user's own pictures: larger limits, shrunk while read for upload."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from threading import Lock

from ..bucket_urls import is_bucket
from ..errors import ImageError
from . import decode as _decode
from . import foreign
from .colour import to_srgb
from .formats import OWN, STRANGERS, check_bytes
from .header import Header
from .jpeg import bare
from .pixels import eight_bits

MOST_PIXELS = 32_000_000
"""Shrunk pictures are below this: about what a 10 MB JPEG holds."""

_one_at_a_time = Lock()


@contextmanager
def _advising() -> Iterator[None]:
    """Replace the hint of errors, which is for the service's pictures."""
    try:
        yield
    except ImageError as error:
        hint = "Save a smaller copy of it and use that." if error.code == "image_too_large" else ""
        raise error.about(hint=hint) from None


@_advising()
def read(image: object) -> bytes:
    """Return the bytes of a PNG, JPEG or WebP file; other kinds become PNG.

    Args:
        image: a path, the bytes of a file, or a bucket URL.

    Raises:
        ImageError: unreadable or beyond `OWN`; see also `foreign.taken`.
    """
    if isinstance(image, bytes):
        return foreign.taken(image)
    if is_bucket(image):
        return foreign.taken(_of_bucket(str(image)), str(image).rpartition("/")[2])
    path = Path(str(image))
    try:
        check_bytes(os.path.getsize(path), OWN)
        data = path.read_bytes()
    except OSError as error:
        raise ImageError(f"{path.name} cannot be read: {error.strerror}.") from None
    return foreign.taken(data, path.name)


def _of_bucket(url: str) -> bytes:
    from ..objects import BucketError, fetched

    try:
        data = fetched(url, OWN.bytes, "The source")
    except ValueError as error:
        raise ImageError(f"The name of this picture {error}.") from None
    except BucketError as error:
        raise ImageError(error.message, hint=error.hint) from None
    if data is None:
        raise ImageError(f"{url} is not there, or is larger than {OWN.bytes:,} bytes.")
    return data


@_advising()
def inspect(data: bytes) -> Header:
    """As `decode.inspect`, within `OWN`."""
    return _decode.inspect(data, OWN)


decode = _advising()(_decode.decode)


def for_upload(data: bytes) -> _decode.Picture:
    """Decode a picture to 8 bits; one over `STRANGERS` is shrunk with a warning.

    Sets `Picture.jpeg` for a JPEG that only needs its metadata removed.

    Shrinks one picture at a time. Beside the file, memory holds only the small picture, except for formats decoded
    whole: WebP, progressive JPEG, PNG with interlacing or below 8 bits.
    """
    header = inspect(data)
    shrink, size = 1, header.width * header.height
    while shrink < 8 and size > STRANGERS.pixels and size > MOST_PIXELS * shrink**2:
        shrink *= 2
    with _one_at_a_time if shrink > 1 else nullcontext():
        picture = decode(data, header, shrink=shrink)
    pixels, warnings = eight_bits(picture.pixels), picture.warnings
    if shrink > 1:
        made = f"{pixels.shape[1]}x{pixels.shape[0]}"
        warnings = (
            f"Made smaller while it was read, from {header.width}x{header.height} to {made}.",
            *warnings,
        )
    jpeg = None
    plain = header.format == "JPEG" and header.channels == 3 and header.orientation == 1 and not warnings
    if plain and to_srgb(header.icc, 3)[0] is None:
        jpeg = bare(data, header.end)
    return _decode.Picture(pixels, warnings, jpeg)
