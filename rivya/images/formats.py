"""Identifies files by content alone, never by name or declared type.

Only PNG, JPEG and WebP are pictures. Others are refused by name ("an HTML page", not "cannot identify image file"),
as are files that are a picture and something else.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from ..errors import ImageError

Format = Literal["PNG", "JPEG", "WEBP"]

EXTENSIONS: dict[Format, str] = {"PNG": "png", "JPEG": "jpg", "WEBP": "webp"}


@dataclass(frozen=True)
class Limits:
    """Largest picture: bytes of its file, pixels of a side and in all."""

    bytes: int
    side: int
    pixels: int


STRANGERS = Limits(64 * 1024**2, 65_535, 100_000_000)
"""For files from the service and its hosts."""

OWN = Limits(1024**3, 1_000_000, 400_000_000)
"""For a user's own files."""

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"

_OTHER_PICTURES = {b"GIF8": "GIF", b"II*\0": "TIFF", b"MM\0*": "TIFF", b"II+\0": "TIFF", b"MM\0+": "TIFF"}
_BMP_HEADERS = (12, 16, 40, 52, 56, 64, 108, 124)
_AVIF_BRANDS = {b"avif", b"avis"}
_HEIC_BRANDS = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"mif1", b"msf1"}
_BRANDS_END = 64

_OTHER_KINDS: tuple[tuple[bytes, str], ...] = (
    (b"\0\0\1\0", "a Windows icon"),
    (b"%PDF-", "a PDF"),
    (b"PK\3\4", "a ZIP archive"),
    (b"\x1f\x8b", "gzip data"),
    (b"\0\0\0\x0cJXL ", "a JPEG XL"),
    (b"\xff\x0a", "a JPEG XL"),
    (b"\0\0\0\x0cjP  ", "a JPEG 2000"),
    (b"MZ", "a program"),
    (b"\x7fELF", "a program"),
)
_SPACE = b"\xef\xbb\xbf \t\r\n\f"
_HTML = rb"(?i)<(!doctype html|html|head|body|script|title)\b"
_SVG = rb"(?i)<svg[\s>]"

# Signs of a second kind of file. Words in metadata are none: web and SVG readers refuse a file with a picture's
# signature, and ComfyUI writes whole prompts there.
_FOREIGN_TEXT = rb"(?i)\s*(?:%PDF-|<!doctype html|<html[\s>]|<script[\s>]|<svg\s|<\?php\s)"
_PDF_HEADER = rb"%PDF-\d\.\d"
_PDF_OBJECT = rb"\b\d+\s+\d+\s+obj\b"
_FOREIGN_START = rb"\s*(?:PK\x03\x04|Rar!\x1a\x07|7z\xbc\xaf\x27\x1c|\x1f\x8b\x08|\x7fELF|MZ)"
_FOREIGN_REACH = 1024
_ZIP_END, _ZIP_ENTRY = b"PK\5\6", b"PK\1\2"
_ZIP_END_REACH = 22 + 65_535


def unusable(message: str, code: str) -> ImageError:
    """Return an `ImageError` of unknown charge: only the caller knows whether the picture was paid for."""
    return ImageError(message, code=code, charged=None)


def truncated() -> ImageError:
    """The error of a file that ends before its picture."""
    return unusable("The picture is cut off: the file ends before its last row.", "image_truncated")


def damaged(what: str) -> ImageError:
    """The error of a file that contradicts itself."""
    return unusable(f"The picture is damaged: {what}.", "image_damaged")


def signature(data: bytes) -> Format | None:
    """The format by a file's first bytes, or None."""
    if data.startswith(PNG_SIGNATURE):
        return "PNG"
    if data.startswith(b"\xff\xd8\xff"):
        return "JPEG"
    return "WEBP" if data[:4] == b"RIFF" and data[8:12] == b"WEBP" else None


def other_format(data: bytes) -> str:
    """``HEIC``, ``AVIF``, ``TIFF``, ``BMP`` or ``GIF`` by a file's first 64 bytes; else empty."""
    if data[4:8] == b"ftyp":
        end = min(int.from_bytes(data[:4], "big"), _BRANDS_END, len(data))
        if not _AVIF_BRANDS.isdisjoint([data[8:12], *(data[at : at + 4] for at in range(16, end - 3, 4))]):
            return "AVIF"
        return "HEIC" if data[8:12] in _HEIC_BRANDS else ""
    if data[:2] == b"BM" and int.from_bytes(data[14:18], "little") in _BMP_HEADERS:
        return "BMP"
    return _OTHER_PICTURES.get(data[:4], "")


def extension_of(data: bytes) -> str:
    """``png``, ``jpg`` or ``webp`` by a file's first bytes; else empty."""
    found = signature(data)
    return EXTENSIONS[found] if found else ""


def picture_format(data: bytes, limits: Limits = STRANGERS) -> Format:
    """The format of ``data`` by its signature.

    Raises:
        ImageError: ``image_empty``, ``image_too_large`` (bytes) or ``not_a_picture``, naming the actual kind.
    """
    if not data:
        raise unusable("The picture is empty: 0 bytes.", "image_empty")
    check_bytes(len(data), limits)
    found = signature(data)
    if found is not None:
        return found
    raise unusable(f"This is {_name_of(data)}, not a PNG, JPEG or WebP picture.", "not_a_picture")


def check_bytes(size: int, limits: Limits) -> None:
    """Refuse too large a file. Raises `ImageError` (``image_too_large``)."""
    if size > limits.bytes:
        raise unusable(f"The picture has {size:,} bytes; {limits.bytes:,} are taken.", "image_too_large")


def check_size(width: int, height: int, limits: Limits) -> None:
    """Refuse sides and pixel counts beyond the limits before decoding.

    Raises:
        ImageError: ``image_damaged`` (a side of 0) or ``image_too_large``.
    """
    if width < 1 or height < 1:
        raise unusable(f"The picture says that it is {width}x{height}.", "image_damaged")
    if max(width, height) > limits.side or width * height > limits.pixels:
        raise unusable(
            f"The picture says that it is {width}x{height}; up to {limits.side:,} a side and "
            f"{limits.pixels // 1_000_000} million pixels are taken.",
            "image_too_large",
        )


def refuse_polyglot(data: bytes, end: int) -> None:
    """Refuse a picture that is also a document, an archive or a program.

    Args:
        data: the file.
        end: of the picture in it; trailing data is mostly harmless (padding, a second view).

    Raises:
        ImageError: ``image_polyglot``.
    """
    tail = data[end : end + _FOREIGN_REACH]
    foreign = (
        (re.search(_PDF_HEADER, data[:_FOREIGN_REACH]) and re.search(_PDF_OBJECT, data))
        or re.match(_FOREIGN_TEXT, tail)
        or re.match(_FOREIGN_START, tail)
        or _holds_zip(data)
    )
    if foreign:
        raise unusable("The file is a picture and another kind of file at once.", "image_polyglot")


def _holds_zip(data: bytes) -> bool:
    """Whether an archive's directory is where ZIP readers look: before the end record."""
    at = data.rfind(_ZIP_END, max(0, len(data) - _ZIP_END_REACH))
    size = int.from_bytes(data[at + 12 : at + 16], "little")
    return at >= size > 0 and data.startswith(_ZIP_ENTRY, at - size)


def _name_of(data: bytes) -> str:
    for signature, name in _OTHER_KINDS:
        if data.startswith(signature):
            return name
    if name := other_format(data):
        return f"an {name}" if name == "AVIF" else f"a {name}"
    head = data[:4096].lstrip(_SPACE)
    if not head:
        return "white space"
    if re.search(_SVG, head):
        return "an SVG"
    if head.startswith(b"<"):
        return "an HTML page" if re.search(_HTML, head) else "an XML document"
    if head[:1] in b"{[":
        return "JSON"
    if PNG_SIGNATURE.startswith(data[:8]) or b"\xff\xd8\xff".startswith(data[:3]):
        return "the first bytes of a picture and no more"
    if all(byte >= 32 or byte in b"\t\r\n\f" for byte in head):
        return "text"
    return "something else"
