"""Edits as image models return them: most of the picture should be unchanged, but nothing is quite in place.

The result shows a little more or less of the reference, shifted, in other tones, softer, as JPEG; a part is changed.
A tenth is reframed. All is drawn from a seed and the order.
"""

from __future__ import annotations

from dataclasses import dataclass
from io import BytesIO
from random import Random

from PIL import Image, ImageChops, ImageDraw, ImageFilter, ImageOps

_REFRAMED = 0.1
"""Share of results that are reframed."""


@dataclass(frozen=True)
class Drift:
    """The changes to one picture.

    Attributes:
        scale_x, scale_y: share of the reference's width and height that the result shows.
        x, y: its centre, in shares of the reference.
        gamma, gain: tones of red, green and blue.
        blur: radius in pixels.
        quality: of the JPEG.
        change: centre and radii of the changed part, in shares of the result.
    """

    scale_x: float
    scale_y: float
    x: float
    y: float
    gamma: tuple[float, ...]
    gain: tuple[float, ...]
    blur: float
    quality: int
    change: tuple[float, float, float, float]


def drawn(seed: int, words: object) -> Drift:
    """The drift of one order, determined by seed and words."""
    random = Random(repr((seed, words)))
    spread, shift = (0.3, 0.12) if random.random() < _REFRAMED else (0.085, 0.05)
    return Drift(
        scale_x=1 - random.uniform(0, spread),
        scale_y=1 - random.uniform(0, spread),
        x=0.5 + random.uniform(-shift, shift) / 2,
        y=0.5 + random.uniform(-shift, shift) / 2,
        gamma=tuple(random.uniform(0.93, 1.07) for _ in range(3)),
        gain=tuple(random.uniform(0.94, 1.06) for _ in range(3)),
        blur=random.uniform(0.3, 0.8),
        quality=random.randint(85, 93),
        change=(
            random.uniform(0.4, 0.6),
            random.uniform(0.4, 0.6),
            random.uniform(0.1, 0.18),
            random.uniform(0.1, 0.18),
        ),
    )


def drifted(
    picture: Image.Image, size: tuple[int, int], drift: Drift, fill: tuple[int, int, int]
) -> Image.Image:
    """The edit of an RGB picture.

    Args:
        picture: the reference; another shape is squeezed into ``size``.
        size: (width, height) of the result.
        drift: the changes.
        fill: colour of the changed part.
    """
    width, height = picture.size
    shown_x, shown_y = width * drift.scale_x, height * drift.scale_y
    left = min(max(0.0, drift.x * width - shown_x / 2), width - shown_x)
    top = min(max(0.0, drift.y * height - shown_y / 2), height - shown_y)
    answer = picture.resize(size, Image.Resampling.BICUBIC, box=(left, top, left + shown_x, top + shown_y))
    answer = _changed(answer, drift, fill)
    tables = [
        round(min(255.0, 255 * (value / 255) ** gamma * gain))
        for gamma, gain in zip(drift.gamma, drift.gain, strict=True)
        for value in range(256)
    ]
    answer = answer.point(tables).filter(ImageFilter.GaussianBlur(drift.blur))
    file = BytesIO()
    answer.save(file, "JPEG", quality=drift.quality)
    with Image.open(file) as packed:
        return packed.convert("RGB")


def _changed(answer: Image.Image, drift: Drift, fill: tuple[int, int, int]) -> Image.Image:
    width, height = answer.size
    x, y, across, down = drift.change
    place = ((x - across) * width, (y - down) * height, (x + across) * width, (y + down) * height)
    shape = Image.new("L", answer.size)
    ImageDraw.Draw(shape).ellipse(place, fill=255)
    light = ImageOps.invert(Image.radial_gradient("L")).resize(
        (max(1, round(2.4 * across * width)), max(1, round(2.4 * down * height)))
    )
    shade = Image.new("L", answer.size)
    shade.paste(light, (round((x - 1.35 * across) * width), round((y - 1.4 * down) * height)))
    ball = ImageChops.multiply(Image.new("RGB", answer.size, fill), Image.merge("RGB", [shade] * 3))
    return Image.composite(ball, answer, shape.filter(ImageFilter.GaussianBlur(1)))
