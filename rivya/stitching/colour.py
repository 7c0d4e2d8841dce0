"""Matches the edit's colours to the original, from unedited pixels.

Per channel a gain and an offset, then a low-frequency residual, measured on unedited pixels and extrapolated into
the edited part.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

import numpy as np

from . import thresholds
from .boxes import Box
from .raster import TRIANGLE, Array, blurred, enlarged, largest, resampled

_GRID = 96
"""Longer side of the residual field, in cells."""
_RADII = (32, 16, 8, 4, 2, 1)


@dataclass(frozen=True)
class Colours:
    """Colour correction of an edit.

    Attributes:
        gain, offset: per channel: value * gain + offset, in units of 0 to 1.
        field: float32 (rows, columns, 3), added to that, over the compared region; None: nothing.
        note: why colours were left alone, one sentence.
    """

    gain: tuple[float, float, float] = (1.0, 1.0, 1.0)
    offset: tuple[float, float, float] = (0.0, 0.0, 0.0)
    field: Array | None = None
    note: str = ""

    def applied(self, pixels: Array) -> Array:
        """Correct float32 (height, width, 3) pixels of the compared region."""
        out = np.empty(pixels.shape, np.float32)
        size = pixels.shape[1], pixels.shape[0]
        corrected = self.corrected((pixels[..., each].copy() for each in range(3)), Box.of_size(1, 1), size)
        for channel, plane in enumerate(corrected):
            out[..., channel] = plane
        return out

    def corrected(self, planes: Iterable[Array], part: Box, size: tuple[int, int]) -> Iterator[Array]:
        """Correct red, green and blue planes of ``size`` in place.

        Args:
            part: their part of the compared region, in shares (0 to 1); beyond it the edge repeats.
        """
        added: Iterable[Array | np.float32] = np.asarray(self.offset, np.float32)
        if self.field is not None:
            rows, columns = self.field.shape[:2]
            cells = Box(part.left * columns, part.top * rows, part.right * columns, part.bottom * rows)
            added = enlarged(self.field + np.asarray(self.offset, np.float32), cells, size)
        for plane, gain, more in zip(planes, self.gain, added, strict=True):
            plane *= np.float32(gain)
            plane += more
            yield plane


def halved(pixels: Array) -> Array:
    """Halve width and height: float32 (height, width, channels)."""
    height, width = pixels.shape[:2]
    return resampled(pixels, Box.of_size(width, height), (max(1, width // 2), max(1, height // 2)), TRIANGLE)


def fitted(original: Array, edited: Array, weight: Array) -> Colours:
    """Fit gain and offset to paired pixels.

    Args:
        original, edited: float32 (height, width, 3) on one grid, `halved`.
        weight: float32 (height, width) in full size, 1 where unedited.

    Returns:
        Colours without a field; identity with a note if too little is unchanged or the correction exceeds a drift.
    """
    if float(weight.mean()) < thresholds.LEAST_UNCHANGED:
        return Colours(note="Colours were left alone: too little of the picture is unchanged.")
    trust = (halved(weight[..., None]) > 0.99).astype(np.float32)
    gains, offsets = [], []
    details = (_detail(edited, trust), _detail(original, trust))
    sure = trust[..., 0] > 0
    if not sure.any():
        return Colours(note="Colours were left alone: too little of the picture is unchanged.")
    for channel in range(3):
        gain = _slope(*(detail[..., channel][sure] for detail in details))
        x, y = edited[..., channel][sure], original[..., channel][sure]
        offset = float(np.median(y - gain * x))
        middle = float(x.mean())
        if not thresholds.LEAST_GAIN <= gain <= thresholds.MOST_GAIN:
            return Colours(note="Colours were left alone: the edit changed them as a whole.")
        if abs(gain * middle + offset - middle) > thresholds.MOST_OFFSET:
            return Colours(note="Colours were left alone: the edit changed them as a whole.")
        gains.append(gain)
        offsets.append(offset)
    return Colours((gains[0], gains[1], gains[2]), (offsets[0], offsets[1], offsets[2]))


def _detail(pixels: Array, trust: Array) -> Array:
    """High-frequency part of the trusted pixels, so that a slow drift does not count as gain."""
    radius = max(2, max(trust.shape) // 20)
    around: Array = pixels - blurred(pixels * trust, radius) / (blurred(trust, radius) + np.float32(1e-6))
    return around


def _slope(theirs: Array, ours: Array) -> float:
    """The gain by robust least squares, regularised to 1: flat content would otherwise give any gain."""
    gain, trust = 1.0, np.ones_like(theirs)
    for _ in range(4):
        total = float(trust.sum()) + 1e-6
        variance = float(trust @ (theirs * theirs)) / total
        both = float(trust @ (theirs * ours)) / total
        gain = (both + thresholds.GAIN_PULL) / (variance + thresholds.GAIN_PULL)
        error = ours - gain * theirs
        spread = max(2 / 255, 1.4826 * float(np.median(np.abs(error))))
        trust = np.clip(1 - (error / np.float32(4.685 * spread)) ** 2, 0, None) ** 2
    return gain


def with_field(colours: Colours, original: Array, edited: Array, weight: Array) -> Colours:
    """Add the low-frequency residual, clipped to the size of a drift."""
    if colours.note:
        return colours
    rest = original - colours.applied(edited)
    height, width = weight.shape
    few = slice(None, None, 4)
    scale = _GRID / max(height, width)
    size = max(2, round(width * scale)), max(2, round(height * scale))
    whole = Box.of_size(width, height)
    spread = max(3 / 255, 1.4826 * float(np.median(np.abs(rest[few, few][weight[few, few] > 0.5]))))
    trust = weight * (largest(np.abs(rest)) < max(4 * spread, thresholds.MOST_FIELD))
    stacked = np.concatenate([rest * trust[..., None], trust[..., None]], axis=-1)
    cells = resampled(stacked, whole, size, TRIANGLE)
    plane = _plane(cells)
    cells[..., :3] -= cells[..., 3:] * plane
    field = np.zeros((size[1], size[0], 3), np.float32)
    for radius in _RADII:
        if 2 * radius + 1 > 2 * max(size):
            continue
        around = blurred(cells, radius, 2)
        mass = around[..., 3:]
        sure = mass / (mass + np.float32(thresholds.FIELD_MASS))
        field += sure * (around[..., :3] / (mass + np.float32(1e-6)) - field)
    most = np.float32(thresholds.MOST_FIELD)
    return replace(colours, field=np.clip(plane + field, -most, most))


def _plane(cells: Array) -> Array:
    """The residual's plane, so that a drift across the picture continues under the edited part.

    Args:
        cells: float32 (rows, columns, 4): residual times share of trusted pixels, and that share.
    """
    rows, columns = cells.shape[:2]
    longer = max(rows, columns)
    down, across = np.mgrid[0:rows, 0:columns].astype(np.float32) / np.float32(longer)
    mass = cells[..., 3]
    total = float(mass.sum()) + 1e-6
    middle = cells[..., :3].sum((0, 1)) / np.float32(total)
    sides = np.stack([across - (mass * across).sum() / total, down - (mass * down).sum() / total])
    spread = np.einsum("iyx,jyx,yx->ij", sides, sides, mass) / total
    slopes = np.einsum("iyx,yxc->ic", sides, cells[..., :3] - mass[..., None] * middle) / total
    slopes = np.linalg.solve(spread + thresholds.PLANE_PULL * np.eye(2), slopes)
    plane: Array = (middle + np.einsum("iyx,ic->yxc", sides, slopes)).astype(np.float32)
    return plane
