"""Chooses which part of a picture to send: box and shape, at the service's real sizes.

Source of the sizes: Runware's model page of FLUX.1 Kontext and users' results on two other hosts (2026). 16:9 is
1392x752, 4 % wider than named.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from .. import scalars
from ..errors import ValidationError
from . import thresholds
from .boxes import Box
from .raster import LANCZOS, Array, resampled

SIZES = {
    "21:9": (1568, 672),
    "16:9": (1392, 752),
    "4:3": (1184, 880),
    "1:1": (1024, 1024),
    "3:4": (880, 1184),
    "9:16": (752, 1392),
}
"""Width and height in pixels of an answer, by requested ratio."""

AUTO = "auto"
FITS = ("pad", "crop")
_SOFT_PX = 24
_MARGIN_PX = 4


@dataclass(frozen=True)
class Placement:
    """Where the sent picture lies in its original.

    Attributes:
        width, height: of the original, in pixels.
        box: the sent part, in its pixels; may exceed it.
        shape: a key of `SIZES`.
        sent: (width, height) sent.
        mask: float32 (height, width), 1 where the edit may show; or None.
    """

    width: int
    height: int
    box: Box
    shape: str
    sent: tuple[int, int]
    mask: Array | None = field(default=None, repr=False, compare=False)

    @property
    def coarser(self) -> float:
        """Pixels of the original per pixel of the answer, along a side."""
        return self.box.width / self.sent[0]

    @property
    def padding(self) -> float:
        """Share (0 to 1) of the sent picture beyond the original."""
        inside = self.box.cut(Box.of_size(self.width, self.height))
        return 1 - (inside.area if inside else 0) / self.box.area


def choose(
    size: tuple[int, int],
    regions: Sequence[Box | None],
    context: float = 2.0,
    shape: str = AUTO,
    fit: str = "pad",
) -> tuple[str, list[Box]]:
    """Choose one shape for all pictures of a size, and a box in each.

    Least padding first, then least context cut off, then most answer pixels per picture pixel.

    Args:
        size: (width, height).
        regions: part to edit in each; None: all.
        context: what the model sees, in widths and heights of the region, 1 to 8.
        shape: ``auto`` or a key of `SIZES`.
        fit: ``pad`` (the box may exceed the picture) or ``crop``.

    Raises:
        ValidationError: a value out of range.
    """
    context = scalars.number("context", context, 1, 8)
    scalars.choice("shape", shape, (AUTO, *SIZES))
    scalars.choice("fit", fit, FITS)
    found = {}
    for name in SIZES if shape == AUTO else (shape,):
        boxes = [box_of(size, region, context, name, fit) for region in regions]
        found[name] = boxes
    best = min(found, key=lambda name: _cost(size, regions, found[name], context, SIZES[name]))
    return best, found[best]


def box_of(size: tuple[int, int], region: Box | None, context: float, shape: str, fit: str) -> Box:
    """The box of one shape: its exact ratio, around the region, inside the picture if possible."""
    whole = Box.of_size(*size)
    ratio = SIZES[shape][0] / SIZES[shape][1]
    wanted = _wanted(whole, region, context)
    around = _grown(wanted, ratio)
    largest = min(whole.width, whole.height * ratio)
    needed = _grown(region or whole, ratio)
    if around.width > largest:
        beyond = fit == "pad" and needed.width > largest * (1 + 1e-9)
        width = needed.width if beyond else largest
        around = Box.around(*(region or whole).centre, width, width / ratio)
    return _inside(around, whole)


def _wanted(whole: Box, region: Box | None, context: float) -> Box:
    """The region with its context, within the picture's size."""
    if region is None:
        return whole
    width, height = min(region.width * context, whole.width), min(region.height * context, whole.height)
    return _inside(Box.around(*region.centre, width, height), whole)


def _grown(box: Box, ratio: float) -> Box:
    """The smallest box of this ratio around another."""
    width = max(box.width, box.height * ratio)
    return Box.around(*box.centre, width, width / ratio)


def _inside(box: Box, whole: Box) -> Box:
    """Move the box into the picture; centre it along a longer side."""

    def shift(low: float, high: float, length: float) -> float:
        if high - low >= length:
            return (length - high - low) / 2
        return max(0.0, -low) - max(0.0, high - length)

    return box.moved(shift(box.left, box.right, whole.width), shift(box.top, box.bottom, whole.height))


def _cost(
    size: tuple[int, int],
    regions: Sequence[Box | None],
    boxes: Sequence[Box],
    context: float,
    sent: tuple[int, int],
) -> tuple[float, float, float]:
    """Padding, context cut off, picture pixels per answer pixel."""
    whole = Box.of_size(*size)
    padding = cut = coarse = 0.0
    for region, box in zip(regions, boxes, strict=True):
        wanted = _wanted(whole, region, context)
        padding += 1 - _area(box, whole) / box.area
        cut += 1 - _area(box, wanted) / wanted.area
        coarse += box.area / (sent[0] * sent[1])
    return round(padding, 6), round(cut, 6), coarse


def _area(one: Box, other: Box) -> float:
    both = one.cut(other)
    return both.area if both else 0.0


def bounds(mask: Array) -> Box | None:
    """The bounding box of a mask (height, width); None if it is empty."""
    rows, columns = np.flatnonzero((mask > 0).any(1)), np.flatnonzero((mask > 0).any(0))
    if not len(rows):
        return None
    return Box(float(columns[0]), float(rows[0]), float(columns[-1] + 1), float(rows[-1] + 1))


def cropped(pixels: Array, box: Box, size: tuple[int, int]) -> Array:
    """Resample the picture under ``box`` to ``size``, as sent: float32 (height, width, channels) of 0 to 1.

    Beyond the picture its edge pixels repeat, increasingly blurred.
    """
    out = resampled(pixels, box, size, LANCZOS)
    np.clip(out, 0, 1, out=out)
    inside = Box.of_size(pixels.shape[1], pixels.shape[0]).seen_from(box, *size)
    _soften(out, math.floor(inside.top), math.ceil(inside.bottom))
    _soften(out.swapaxes(0, 1), math.floor(inside.left), math.ceil(inside.right))
    return out


def _soften(rows: Array, first: int, last: int) -> None:
    """Blur the repeated rows before ``first`` and from ``last``, increasing with distance."""
    length, count = rows.shape[1], len(rows)
    reach = min(_SOFT_PX, (length - 1) // 2)
    if reach < 1:
        return
    for edge, beyond in (
        (first, range(max(0, first) - 1, -1, -1)),
        (last - 1, range(min(count, last), count)),
    ):
        if not len(beyond):
            continue
        line = rows[min(max(edge, 0), count - 1)].copy()
        padded = np.pad(line, ((reach, reach), (0, 0)), "edge")
        sums = np.cumsum(np.pad(padded, ((1, 0), (0, 0))), axis=0, dtype=np.float64)
        soft = ((sums[2 * reach + 1 :] - sums[: -2 * reach - 1]) / (2 * reach + 1)).astype(np.float32)
        for distance, row in enumerate(beyond, 1):
            share = min(1.0, distance / (2 * reach))
            rows[row] = line + share * (soft - line)


def refuse_erased(pixels: Array, mask: Array) -> None:
    """Refuse a picture that is black exactly under the mask.

    Some versions of ComfyUI's mask editor save painted pixels as black; an edit of that hole would be paid for.

    Args:
        pixels: (height, width, channels).
        mask: float32 (height, width).

    Raises:
        ValidationError: ``erased_under_mask``.
    """
    place = bounds(mask)
    if place is None:
        return
    height, width = mask.shape
    top, bottom = max(0, int(place.top) - _MARGIN_PX), min(height, int(place.bottom) + _MARGIN_PX)
    left, right = max(0, int(place.left) - _MARGIN_PX), min(width, int(place.right) + _MARGIN_PX)
    part = mask[top:bottom, left:right]
    black: Array = pixels[top:bottom, left:right, :3].max(-1) == 0
    inside = part >= thresholds.FULLY_MASKED
    outside = _near(part > 0) & (part <= 0)
    if not inside.any() or not outside.any():
        return
    if (
        black[inside].mean() >= thresholds.ERASED_INSIDE
        and black[outside].mean() <= thresholds.ERASED_OUTSIDE
    ):
        raise ValidationError(
            "The picture is black exactly where the mask is: the mask editor of your ComfyUI erased it there "
            "(frontend 1.47.3 and some later ones do).",
            hint="Load the picture once more in a Load Image of its own, and connect that to image.",
            code="erased_under_mask",
        )


def _near(marked: Array) -> Array:
    """Pixels within `_MARGIN_PX` of marked ones, along rows and columns."""
    near: Array = marked.copy()
    for distance in range(1, _MARGIN_PX):
        near[distance:] |= marked[:-distance]
        near[:-distance] |= marked[distance:]
        near[:, distance:] |= marked[:, :-distance]
        near[:, :-distance] |= marked[:, distance:]
    return near
