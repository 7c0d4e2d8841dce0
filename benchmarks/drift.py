"""Pairs of an original and an edit with a known drift, as image models make it: seeded, from photographs.

An edit shows a little more or less of the scene, shifted, with other content in a part of it, in other tones, softer,
noisier and packed as JPEG.
"""

from __future__ import annotations

from dataclasses import dataclass
from io import BytesIO
from typing import Any

import numpy as np
from PIL import Image, ImageFilter

from rivya.stitching import Box

Array = np.ndarray[Any, Any]

SIZES = ((1568, 672), (1392, 752), (1184, 880), (1024, 1024), (880, 1184), (752, 1392))
AMOUNTS = {"none": (0.0, 0.0), "small": (0.02, 0.012), "mid": (0.085, 0.05)}
"""Largest change of the scales, largest shift in shares of the side."""
_SCENE = 1.2
"""The scene is so many times as large as the original: a model that zooms out shows what the original does not."""


@dataclass(frozen=True)
class Pair:
    """An original, an edit of it, and the truth about them.

    Attributes:
        original, edited: uint8 (height, width, 3).
        place: the whole original.
        frame: where the edit lies, in pixels of the original.
        changed: boolean, in the pixels of the edit: what was replaced.
    """

    original: Array
    edited: Array
    place: Box
    frame: Box
    changed: Array


def make(
    scene: Image.Image,
    other: Image.Image,
    size: tuple[int, int],
    *,
    seed: int,
    amount: str = "mid",
    tone: str = "mild",
    share: float = 0.2,
) -> Pair:
    """A pair from the middle of ``scene``.

    Args:
        scene: an RGB photograph.
        other: where the replaced part comes from.
        size: (width, height) of the edit.
        amount: of drift, a key of `AMOUNTS`.
        tone: "mild", "night" or "sepia".
        share: of the picture that is replaced, 0 to 1.
    """
    rng = np.random.default_rng(seed)
    ratio = size[0] / size[1]
    width = round(min(scene.width / _SCENE, scene.height / _SCENE * ratio))
    height = round(width / ratio)
    left, top = (scene.width - width) // 2, (scene.height - height) // 2
    shown = _shown(rng, Box(left, top, left + width, top + height), AMOUNTS[amount], scene.size)
    edit = _values(scene.resize(size, Image.Resampling.BICUBIC, box=shown.edges()))
    changed = blob(rng, size, share)
    if share:
        soft = Image.fromarray(changed.astype(np.uint8) * 255).filter(ImageFilter.GaussianBlur(1.5))
        weight = np.asarray(soft, np.float32)[..., None] / 255
        edit += weight * (_values(other.resize(size, Image.Resampling.BICUBIC)) - edit)
    edited = as_answered(toned(rng, edit, tone), rng)
    original = np.asarray(scene.crop((left, top, left + width, top + height)))
    return Pair(original, edited, Box.of_size(width, height), shown.moved(-left, -top), changed)


def _shown(rng: np.random.Generator, place: Box, amount: tuple[float, float], scene: tuple[int, int]) -> Box:
    scale, shift = amount
    x, y = place.centre
    scale_x, scale_y, shift_x, shift_y = (
        rng.uniform(-scale, scale),
        rng.uniform(-scale, scale),
        rng.uniform(-shift, shift),
        rng.uniform(-shift, shift),
    )
    box = Box.around(
        x + shift_x * place.width,
        y + shift_y * place.height,
        place.width * (1 + scale_x),
        place.height * (1 + scale_y),
    )
    inside = box.cut(Box.of_size(*scene))
    assert inside is not None
    return inside


def blob(rng: np.random.Generator, size: tuple[int, int], share: float) -> Array:
    """A ragged region of about ``share`` of the picture."""
    width, height = size
    if not share:
        return np.zeros((height, width), bool)
    rough = Image.fromarray(rng.normal(size=(24, 24)).astype(np.float32))
    hills = np.asarray(rough.resize(size, Image.Resampling.BICUBIC))
    y, x = np.mgrid[0:height, 0:width]
    at_x, at_y = rng.uniform(0.25, 0.75, 2)
    hills = 0.35 * hills - 2.2 * np.hypot(x / width - at_x, y / height - at_y)
    return hills > np.quantile(hills, 1 - share)


def toned(rng: np.random.Generator, values: Array, tone: str) -> Array:
    """Other tones: a mild drift of each channel, a night, or sepia."""
    values = np.clip(values, 0, 1)
    if tone == "night":
        return values**1.6 * np.array([0.35, 0.42, 0.7]) + np.array([0.0, 0.01, 0.04])
    if tone == "sepia":
        return (values @ np.array([0.299, 0.587, 0.114]))[..., None] * np.array([1.05, 0.9, 0.68]) + 0.03
    gamma, gain, offset = rng.uniform(0.92, 1.08, 3), rng.uniform(0.93, 1.07, 3), rng.uniform(-0.03, 0.03, 3)
    return values**gamma * gain + offset


def as_answered(values: Array, rng: np.random.Generator) -> Array:
    """Softer, noisier, and once through a JPEG: uint8."""
    soft = Image.fromarray(_bytes(values * 255)).filter(ImageFilter.GaussianBlur(0.6))
    noisy = np.asarray(soft, np.float32) + rng.normal(0, 1.5, values.shape)
    file = BytesIO()
    Image.fromarray(_bytes(noisy)).save(file, "JPEG", quality=88)
    return np.asarray(Image.open(file))


def corner_error(found: Box, true: Box, place: Box) -> float:
    """How far the worst corner is off, in pixels of a picture whose longer side has 1024."""
    worst = max(abs(a - b) for a, b in zip(found.edges(), true.edges(), strict=True))
    return worst * 1024 / max(place.width, place.height)


def _values(image: Image.Image) -> Array:
    return np.asarray(image, np.float32) / 255


def _bytes(values: Array) -> Array:
    return np.rint(np.clip(values, 0, 255)).astype(np.uint8)
