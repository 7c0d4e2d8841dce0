"""Picture files of a user beyond PNG, JPEG and WebP, as far as the installed Pillow reads them: made PNG files of.

That is HEIC (with pillow-heif), AVIF (Pillow 11.3 and later), TIFF, BMP and GIF. Only a user's own files come here:
what the service and its hosts send is never one of these.
"""

from __future__ import annotations

import logging
import warnings
from importlib import import_module
from importlib.util import find_spec
from io import BytesIO
from typing import Any

import numpy as np
from PIL import Image, ImageOps, features

from .. import commands
from ..errors import ImageError
from .colour import to_srgb
from .formats import OWN, check_size, signature

logger = logging.getLogger("rivya")

HEAD_BYTES = 64
"""What `kind` needs of a file."""

_HEIC_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"mif1", b"msf1")
_AVIF_BRANDS = (b"avif", b"avis")
_SIGNATURES = (
    (b"II*\0", "TIFF"),
    (b"MM\0*", "TIFF"),
    (b"II+\0", "TIFF"),
    (b"MM\0+", "TIFF"),
    (b"GIF8", "GIF"),
)
_DNG_VERSION = 50706
_COMPRESS_LEVEL = 1
_KEPT_TAGS = (270, 271, 272, 306, 315, 33432)
"""Description, camera, date, artist and copyright: TIFF keeps them among tags that describe its layout."""


def kind(head: bytes) -> str:
    """``HEIC``, ``AVIF``, ``TIFF``, ``BMP`` or ``GIF`` by the first `HEAD_BYTES` of a file; else empty."""
    if head[4:8] == b"ftyp":
        size = min(int.from_bytes(head[:4], "big"), HEAD_BYTES)
        brands = {head[8:12], *(head[at : at + 4] for at in range(16, size - 3, 4))}
        if brands & set(_AVIF_BRANDS):
            return "AVIF"
        return "HEIC" if head[8:12] in _HEIC_BRANDS else ""
    if head[:2] == b"BM" and int.from_bytes(head[14:18], "little") in (12, 16, 40, 52, 56, 64, 108, 124):
        return "BMP"
    return next((name for signature, name in _SIGNATURES if head.startswith(signature)), "")


def why_not(name: str) -> str:
    """What is missing here to read pictures of this kind, a sentence; empty if nothing is."""
    if name == "HEIC" and find_spec("pillow_heif") is None:
        return f"HEIC is not taken without pillow-heif; run {commands.pip_install('pillow-heif')}, or save it as JPEG"
    if name == "AVIF" and not features.check("avif"):
        return "AVIF is not taken; Pillow 11.3 or newer reads it, or save it as JPEG or PNG"
    return ""


def taken(data: bytes, file_name: str = "") -> bytes:
    """A user's picture file as it is where it is PNG, JPEG, WebP or unknown; else an upright PNG file made of it.

    Its colour profile, EXIF block and transparency are kept. A file of several pictures gives the first, and a warning
    is logged under ``file_name``.

    Raises:
        ImageError: ``image_unsupported``, ``image_damaged`` or ``image_too_large``.
    """
    name = "" if signature(data) else kind(data[:HEAD_BYTES])
    return _as_png(data, name, file_name) if name else data


def _as_png(data: bytes, name: str, file_name: str) -> bytes:
    if reason := why_not(name):
        raise _refused(f"{reason}.", "image_unsupported")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter(
                "ignore"
            )  # of damaged metadata, and of sizes that a user's own picture may have
            opened = _open(data, name)
            frames = getattr(opened, "n_frames", 1)
            opened.load()
            upright = ImageOps.exif_transpose(opened)
            exif = _exif(upright, name)
            picture, profile = _plain(upright)
    except MemoryError:
        raise
    except ImageError:
        raise
    except Exception as error:  # Pillow's readers raise what damaged bytes lead them to
        raise _refused(f"The {name} picture cannot be read: {_short(error)}.", "image_damaged") from None
    if frames > 1:
        logger.warning("%s holds %d pictures; the first was taken.", file_name or f"A {name} file", frames)
    file = BytesIO()
    about: dict[str, Any] = {"exif": exif} if exif else {}
    picture.save(file, "PNG", compress_level=_COMPRESS_LEVEL, icc_profile=profile, **about)
    return file.getvalue()


def _refused(message: str, code: str) -> ImageError:
    return ImageError(message, hint="", code=code, charged=None)


def _short(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:120].rstrip(".")


def _open(data: bytes, name: str) -> Image.Image:
    if name == "HEIC":
        # Registered nowhere: Pillow's list of formats belongs to the whole process.
        heif: Any = import_module("pillow_heif")
        opened: Image.Image = heif.open_heif(BytesIO(data)).to_pillow()
        return opened
    Image.init()
    picture: Image.Image = Image.OPEN[name][0](
        BytesIO(data), ""
    )  # Image.open has a cap that other packs change
    check_size(*picture.size, OWN)
    if name == "TIFF" and _DNG_VERSION in picture.getexif():
        raise _refused("RAW photos of cameras are not taken; save the photo as JPEG.", "image_unsupported")
    return picture


def _exif(picture: Image.Image, name: str) -> bytes:
    """The EXIF block to keep; empty: none."""
    try:
        found = picture.getexif()
        if name != "TIFF":
            return found.tobytes() if found else b""
        kept = Image.Exif()
        for tag in _KEPT_TAGS:
            if tag in found:
                kept[tag] = found[tag]
        return kept.tobytes() if kept else b""
    except Exception:  # a broken block is no reason to refuse the picture
        return b""


def _plain(picture: Image.Image) -> tuple[Image.Image, bytes | None]:
    """The picture in a mode that PNG has and keeps exactly, and the profile that its values are in."""
    profile = picture.info.get("icc_profile") or None
    mode = picture.mode
    if mode == "CMYK":
        convert, _ = to_srgb(profile, 4)
        return (Image.fromarray(convert(np.asarray(picture))) if convert else picture.convert("RGB")), None
    if mode in ("I;16B", "I;16L", "I;16N", "I"):
        values = np.asarray(picture)
        return Image.fromarray(np.clip(values, 0, 65_535).astype(np.uint16)), profile
    if mode == "F":
        raise _refused(
            "A picture of floating-point values is not taken; save it with 8 or 16 bits a channel.",
            "image_unsupported",
        )
    if picture.has_transparency_data:
        return picture.convert("LA" if mode == "LA" else "RGBA"), profile
    if mode in ("1", "L", "I;16", "RGB"):
        return (picture.convert("L") if mode == "1" else picture), profile
    return picture.convert("RGB"), profile
