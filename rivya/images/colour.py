"""Converts embedded ICC profiles to sRGB, and CMYK to RGB."""

from __future__ import annotations

from collections.abc import Callable
from io import BytesIO

import numpy as np

from .pixels import Array, as_image

Convert = Callable[[Array], Array]
"""uint8 (rows, columns, 1 grey or 3 RGB or 4 CMYK) to uint8 RGB (rows, columns, 3)."""

BROKEN_PROFILE = "The colour profile is broken and was ignored."

_SPACES = {1: ("L", "GRAY"), 3: ("RGB", "RGB"), 4: ("CMYK", "CMYK")}
_SAME = 1
"""Rounding difference at which a profile still counts as sRGB, of which many editions exist."""


def to_srgb(icc: bytes | None, channels: int) -> tuple[Convert | None, tuple[str, ...]]:
    """Return the conversion of a picture's colours to sRGB, and warnings.

    Args:
        icc: the embedded profile, empty if broken; None without one.
        channels: 1 grey, 3 RGB, 4 CMYK.

    Returns:
        A converter; None without a profile or with an sRGB one: values stay bit-exact.
    """
    mode, space = _SPACES[channels]
    plain: Convert | None = _plain_cmyk if channels == 4 else None
    if icc is None:
        return plain, ()
    convert = _through_profile(icc, mode, space)
    if convert is None:
        return plain, (BROKEN_PROFILE,)
    return (plain if channels != 4 and _changes_nothing(convert, channels) else convert), ()


def _through_profile(icc: bytes, mode: str, space: str) -> Convert | None:
    """A converter for this profile; None if it is broken or for other channels."""
    try:
        from PIL import ImageCms

        profile = ImageCms.ImageCmsProfile(BytesIO(icc))
        if profile.profile.xcolor_space.strip() != space:
            return None
        transform = ImageCms.buildTransform(profile, ImageCms.createProfile("sRGB"), mode, "RGB")
    except (ImportError, OSError, ValueError, TypeError, ImageCms.PyCMSError):
        return None

    def convert(values: Array) -> Array:
        converted = ImageCms.applyTransform(as_image(values, mode), transform)
        return np.asarray(converted)

    return convert


def _plain_cmyk(values: Array) -> Array:
    """CMYK without a profile: each colour scaled by the remainder of black."""
    return np.asarray(as_image(values, "CMYK").convert("RGB"))


def _changes_nothing(convert: Convert, channels: int) -> bool:
    """Whether a profile acts as sRGB, tested on all greys and a lattice of colours."""
    greys = np.arange(256, dtype=np.uint8)
    if channels == 1:
        probe = greys.reshape(1, 256, 1)
    else:
        steps = greys[::17]
        lattice = np.stack(np.meshgrid(steps, steps, steps), axis=-1).reshape(-1, 3)
        probe = np.concatenate([lattice, np.repeat(greys[:, None], 3, axis=1)])[None]
    moved = np.abs(convert(probe).astype(np.int16) - probe)
    return int(moved.max()) <= _SAME
