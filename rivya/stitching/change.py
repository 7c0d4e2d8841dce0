"""Finds what an aligned edit changed, and its colour correction."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from . import blobs, colour, thresholds
from .colour import Colours
from .raster import Array, blurred, largest, luma

_ROUNDS = 3
_WINDOW = 8


@dataclass(frozen=True)
class Comparison:
    """The comparison of an edit with its original on one grid.

    Attributes:
        colours: correction of the edit's colours.
        changed: boolean (height, width).
        share: of the compared pixels that changed, 0 to 1.
    """

    colours: Colours
    changed: Array
    share: float


def compare(
    original: Array,
    edited: Array,
    has: Array,
    *,
    match_color: bool,
    excluded: Array | None = None,
    check: Callable[[], None] = lambda: None,
) -> Comparison:
    """Estimate colours and changes alternately: each needs the other.

    Args:
        original, edited: float32 (height, width, 3) on one grid; 1024 pixels a side suffice.
        has: boolean (height, width), where the edit has pixels.
        match_color: match colours before finding changes.
        excluded: boolean, known edits, ignored for colours.
        check: called between rounds; an exception ends the work.
    """
    usable = has if excluded is None else has & ~excluded
    weight = (usable & alike(original, edited)).astype(np.float32)
    colours = Colours()
    changed = np.zeros(has.shape, bool)
    slack, halves = _slack(original), (colour.halved(original), colour.halved(edited))
    for _ in range(_ROUNDS):
        check()
        if match_color:
            colours = colour.fitted(*halves, weight)
            colours = colour.with_field(colours, original, edited, weight)
        changed = found(original, colours.applied(edited), has, slack)
        weight = (usable & ~blobs.grown(changed, 3)).astype(np.float32)
    return Comparison(colours, changed, float(changed.sum() / max(1, has.sum())))


def alike(original: Array, edited: Array) -> Array:
    """Where both show the same shapes in any tone: boolean (height, width)."""
    one, other = (_shapes(luma(pixels)) for pixels in (original, edited))
    rough: Array = blurred(np.abs(one - other), _WINDOW) < thresholds.ALIKE
    return rough


def _shapes(brightness: Array) -> Array:
    around = brightness - blurred(brightness, _WINDOW)
    contrast = np.sqrt(blurred(around * around, _WINDOW))
    shapes: Array = around / (contrast + np.float32(0.03))
    return shapes


def found(original: Array, edited: Array, has: Array, slack: Array) -> Array:
    """The changed pixels: components above this picture's threshold that contain a clear change.

    Args:
        slack: allowed difference per pixel.
    """
    rest = blurred(original - edited, 1)
    difference = largest(np.abs(rest))
    difference = np.maximum(0, difference - slack)
    inside = difference[::2, ::2][has[::2, ::2]]
    if not len(inside):
        return has & False
    middle = float(np.median(inside))
    spread = 1.4826 * float(np.median(np.abs(inside - middle)))
    low = min(max(thresholds.CHANGED, middle + 4 * spread), thresholds.SURELY_CHANGED)
    high = max(thresholds.CLEARLY_CHANGED, 1.5 * low)
    smooth = blurred(difference, 1)
    rough = blobs.holding((smooth > low) & has, (smooth > high) & has)
    side = max(original.shape[:2])
    reach = max(1, side // 160)
    closed = blobs.shrunk(blobs.grown(rough, reach), reach) & has
    numbered, count = blobs.labels(closed)
    large = blobs.sizes(numbered, count) >= thresholds.SPECK * closed.size
    large[0] = False
    closed = large[numbered]
    return blobs.filled(closed, round(thresholds.HOLE * closed.size)) & has


def _slack(original: Array) -> Array:
    """The difference that slight blur and sub-pixel shift cause at edges."""
    bright = luma(original)
    down, across = np.gradient(bright)
    steep = np.hypot(down, across)
    slack: Array = np.float32(thresholds.EDGE_SLACK) * blurred(steep, 1)
    return slack
