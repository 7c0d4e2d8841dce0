"""Turns the area where an edit may show into its share of each pixel."""

from __future__ import annotations

import numpy as np

from ..errors import ValidationError
from . import blobs, thresholds
from .boxes import Box
from .raster import BAND_ROWS, TRIANGLE, Array, enlarged, resampled

_CELLS = 1536
"""Longer side of the distance grid."""
_CELLS_A_FEATHER = 12


def fitting(mask: Array, width: int, height: int) -> Array:
    """Return a mask at the picture's size.

    Args:
        mask: float32 (height, width) of 0 to 1.

    Raises:
        ValidationError: its shape differs from the picture's.
    """
    if mask.shape == (height, width):
        return mask
    ratio = (mask.shape[1] / mask.shape[0]) / (width / height)
    if not 1 - thresholds.MASK_SHAPE <= ratio <= 1 + thresholds.MASK_SHAPE:
        raise ValidationError(
            f"The mask is {mask.shape[1]}x{mask.shape[0]} and the picture {width}x{height}: their shapes differ.",
            hint="Take the mask of this picture, or one of the same shape.",
            code="mask_of_another_shape",
        )
    whole = Box.of_size(mask.shape[1], mask.shape[0])
    resized: Array = resampled(mask[..., None], whole, (width, height), TRIANGLE)[..., 0].clip(0, 1)
    return resized


def feathered(support: Array, feather: float) -> Array:
    """Return the edit's share of each pixel, with a soft edge inside the support.

    A component's edge is ``feather`` percent of its shorter side wide, at most half its depth: thin lines must not
    vanish. The picture's border is no edge.

    Args:
        support: boolean (height, width).
        feather: in percent, 0 to 10.

    Returns:
        float32 (height, width) of 0 to 1, exactly 0 outside the support.
    """
    out = support.astype(np.float32)
    place = None if feather <= 0 else _bounds(support)
    if place is None:
        return out
    top, bottom, left, right = place
    part = support[top:bottom, left:right]
    cell = max(1, -(-max(part.shape) // _CELLS), int(min(part.shape) * feather / 100 / _CELLS_A_FEATHER))
    borders = top > 0, bottom < support.shape[0], left > 0, right < support.shape[1]
    soft = _soft_cells(_cells(part, cell), borders, feather)
    for first in range(0, bottom - top, BAND_ROWS):
        last = min(first + BAND_ROWS, bottom - top)
        window = Box(0, first / cell, (right - left) / cell, last / cell)
        (band,) = enlarged(soft[..., None], window, (right - left, last - first))
        out[top + first : top + last, left:right] *= band
    return out


def _bounds(support: Array) -> tuple[int, int, int, int] | None:
    rows, columns = np.flatnonzero(support.any(1)), np.flatnonzero(support.any(0))
    if not len(rows):
        return None
    return int(rows[0]), int(rows[-1]) + 1, int(columns[0]), int(columns[-1]) + 1


def _cells(part: Array, cell: int) -> Array:
    """Pool ``cell`` x ``cell`` pixels by "any": thin lines must not vanish."""
    # Slices take a tenth of reduceat's time.
    for _ in range(2):
        cells = part[::cell].copy()
        for offset in range(1, cell):
            line = part[offset::cell]
            cells[: len(line)] |= line
        part = cells.T
    return part


def _soft_cells(cells: Array, borders: tuple[bool, bool, bool, bool], feather: float) -> Array:
    """The soft edge of each component, 0 to 1; ``borders``: more picture above, below, left, right."""
    above, below, left, right = borders
    margins = (int(above), int(below)), (int(left), int(right))
    padded = np.pad(cells, margins)
    numbered, count = blobs.labels(padded)
    widest = 1.0
    widths = np.ones(count + 1, np.float32)
    for number, (rows, columns) in enumerate(_extents(numbered, count), 1):
        widths[number] = max(1e-3, min(rows, columns) * feather / 100)
        widest = max(widest, float(widths[number]))
    depth = blobs.distance(padded, int(np.ceil(2 * widest)) + 2)
    deepest = np.zeros(count + 1, np.float32)
    np.maximum.at(deepest, numbered.ravel(), depth.ravel())
    widths = np.maximum(1e-3, np.minimum(widths, deepest / 2))
    share = np.clip(depth / widths[numbered], 0, 1)
    soft = share * share * (3 - 2 * share)
    inner = soft[margins[0][0] : soft.shape[0] - margins[0][1], margins[1][0] : soft.shape[1] - margins[1][1]]
    return np.ascontiguousarray(inner, np.float32)


def _extents(numbered: Array, count: int) -> list[tuple[int, int]]:
    rows, columns = np.nonzero(numbered)
    names = numbered[rows, columns]
    spans = []
    for line in (rows, columns):
        low, high = np.full(count + 1, 1 << 30), np.full(count + 1, -1)
        np.minimum.at(low, names, line)
        np.maximum.at(high, names, line)
        spans.append(high - low + 1)
    return list(zip(spans[0][1:].tolist(), spans[1][1:].tolist(), strict=True))
