"""Converts a user's HEIC, AVIF, TIFF, BMP and GIF files to PNG, where the installed Pillow reads them.

HEIC requires pillow-heif, AVIF Pillow 11.3 or newer. Never used for files from the service or its hosts.
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
from .formats import OWN, check_size, other_format, signature, unusable

logger = logging.getLogger("rivya")

_DNG_VERSION = 50706
_COMPRESS_LEVEL = 1
_KEPT_TAGS = (270, 271, 272, 306, 315, 33432)
"""Description, camera, date, artist and copyright; TIFF mixes them with tags of its layout."""


def why_not(name: str) -> str:
    """Return why this kind cannot be read here, as a sentence; empty if it can."""
    if name == "HEIC" and find_spec("pillow_heif") is None:
        return f"HEIC is not taken without pillow-heif; run {commands.pip_install('pillow-heif')}, or save it as JPEG"
    if name == "AVIF" and not features.check("avif"):
        return "AVIF is not taken; Pillow 11.3 or newer reads it, or save it as JPEG or PNG"
    return ""


def taken(data: bytes, file_name: str = "") -> bytes:
    """Return a PNG, JPEG, WebP or unknown file unchanged, others as an upright PNG file.

    Keeps colour profile, EXIF block and transparency. Of several pictures the first is used, with a warning logged
    for ``file_name``.

    Raises:
        ImageError: ``image_unsupported``, ``image_damaged`` or ``image_too_large``.
    """
    name = "" if signature(data) else other_format(data)
    return _as_png(data, name, file_name) if name else data


def _as_png(data: bytes, name: str, file_name: str) -> bytes:
    if reason := why_not(name):
        raise unusable(f"{reason}.", "image_unsupported")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about damaged metadata, and sizes allowed for a user's picture
            opened = _open(data, name)
            frames = getattr(opened, "n_frames", 1)
            opened.load()
            upright = ImageOps.exif_transpose(opened)
            exif = _exif(upright, name)
            picture, profile = _plain(upright)
    except (MemoryError, ImageError):
        raise
    except Exception as error:  # Pillow raises any exception for damaged bytes
        why = (str(error).splitlines() or [type(error).__name__])[0][:120].rstrip(".")
        raise unusable(f"The {name} picture cannot be read: {why}.", "image_damaged") from None
    if frames > 1:
        logger.warning("%s holds %d pictures; the first was taken.", file_name or f"A {name} file", frames)
    file = BytesIO()
    about: dict[str, Any] = {"exif": exif} if exif else {}
    picture.save(file, "PNG", compress_level=_COMPRESS_LEVEL, icc_profile=profile, **about)
    return file.getvalue()


def _open(data: bytes, name: str) -> Image.Image:
    if name == "HEIC":
        # Not registered: Pillow's list of formats is global to the process.
        heif: Any = import_module("pillow_heif")
        opened: Image.Image = heif.open_heif(BytesIO(data)).to_pillow()
        return opened
    Image.init()
    picture: Image.Image = Image.OPEN[name][0](
        BytesIO(data), ""
    )  # Image.open has a cap that other packs change
    check_size(*picture.size, OWN)
    if name == "TIFF" and _DNG_VERSION in picture.getexif():
        raise unusable("RAW photos of cameras are not taken; save the photo as JPEG.", "image_unsupported")
    return picture


def _exif(picture: Image.Image, name: str) -> bytes:
    """The EXIF block to keep; empty: none."""
    try:
        kept = picture.getexif()
        for tag in set(kept).difference(_KEPT_TAGS) if name == "TIFF" else ():
            del kept[tag]
        return kept.tobytes() if kept else b""
    except Exception:  # never refuse a picture for a broken block
        return b""


def _plain(picture: Image.Image) -> tuple[Image.Image, bytes | None]:
    """The picture in a lossless mode of PNG, and the profile of its values."""
    profile = picture.info.get("icc_profile") or None
    mode = picture.mode
    if mode == "CMYK":
        convert, _ = to_srgb(profile, 4)
        return (Image.fromarray(convert(np.asarray(picture))) if convert else picture.convert("RGB")), None
    if mode in ("I;16B", "I;16L", "I;16N", "I"):
        values = np.asarray(picture)
        return Image.fromarray(np.clip(values, 0, 65_535).astype(np.uint16)), profile
    if mode == "F":
        raise unusable(
            "A picture of floating-point values is not taken; save it with 8 or 16 bits a channel.",
            "image_unsupported",
        )
    if picture.has_transparency_data:
        return picture.convert("LA" if mode == "LA" else "RGBA"), profile
    if mode in ("1", "L", "I;16", "RGB"):
        return (picture.convert("L") if mode == "1" else picture), profile
    return picture.convert("RGB"), profile
