"""Pixels of any type as float32 planes, resampled by Pillow."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import numpy as np
from PIL import Image

from ..images.pixels import eight_bits
from .boxes import Box

Array = np.ndarray[Any, Any]

LANCZOS = Image.Resampling.LANCZOS
CUBIC = Image.Resampling.BICUBIC
"""For enlarging: half the time of Lanczos, without its ringing at JPEG blocks."""
TRIANGLE = Image.Resampling.BILINEAR
"""For shrinking before measurements: antialiased, without the bias of a mean over whole pixels."""

BAND_ROWS = 64
"""Rows of a large picture processed at once, to fit the CPU cache."""

_SUPPORT = {LANCZOS: 3.0, CUBIC: 2.0, TRIANGLE: 1.0}
_LUMA = np.array([0.299, 0.587, 0.114], np.float32)


def full(pixels: Array) -> float:
    """The value that means 1: an integer type's maximum, or 1."""
    return float(np.iinfo(pixels.dtype).max) if pixels.dtype.kind == "u" else 1.0


def resampled(pixels: Array, box: Box, size: tuple[int, int], kernel: Image.Resampling) -> Array:
    """Resample the part of a picture under ``box``.

    Args:
        pixels: (height, width, channels), uint8, uint16 or float32.
        box: in pixels; beyond the picture its edge repeats.
        size: (width, height) of the result.
        kernel: `LANCZOS`, `CUBIC` or `TRIANGLE`.

    Returns:
        float32 (height, width, channels) of 0 to 1.
    """
    out = np.empty((size[1], size[0], pixels.shape[2]), np.float32)
    for channel, plane in enumerate(planes(pixels, box, size, kernel)):
        out[..., channel] = plane
    return out


def planes(pixels: Array, box: Box, size: tuple[int, int], kernel: Image.Resampling) -> Iterator[Array]:
    """As `resampled`, channel by channel: float32 (height, width), owned by the caller."""
    height, width, channels = pixels.shape
    columns, left = _needed(box.left, box.right, width, size[0], kernel)
    rows, top = _needed(box.top, box.bottom, height, size[1], kernel)
    beyond = tuple(
        (max(0, low - math.floor(first)), max(0, math.ceil(last) - high))
        for low, high, first, last in (
            (rows.start, rows.stop, box.top, box.bottom),
            (columns.start, columns.stop, box.left, box.right),
        )
    )
    local = box.moved(beyond[1][0] - left, beyond[0][0] - top)
    whole, part = full(pixels), pixels[rows, columns]
    gap = 3.0 if kernel == TRIANGLE else None
    for channel in range(channels):
        plane = np.ascontiguousarray(part[..., channel], np.float32)
        if any(beyond[0]) or any(beyond[1]):
            plane = np.pad(plane, beyond, "edge")
        # Rounding may move an edge slightly outside, which Pillow refuses.
        edges = (
            max(0.0, local.left),
            max(0.0, local.top),
            min(float(plane.shape[1]), local.right),
            min(float(plane.shape[0]), local.bottom),
        )
        resized = Image.fromarray(plane).resize(size, kernel, box=edges, reducing_gap=gap)
        out: Array = np.array(resized)
        if whole != 1.0:
            out *= np.float32(1 / whole)
        yield out


def _needed(first: float, last: float, length: int, out: int, kernel: Image.Resampling) -> tuple[slice, int]:
    """The slice of one axis that the kernel reads, and its start."""
    reach = math.ceil(_SUPPORT[kernel] * max(1.0, (last - first) / out)) + 1
    low = min(max(0, math.floor(first) - reach), length - 1)
    high = max(min(length, math.ceil(last) + reach), low + 1)
    return slice(low, high), low


def enlarged(cells: Array, box: Box, size: tuple[int, int]) -> Iterator[Array]:
    """As `planes` with `TRIANGLE`, for enlarging coarse cells, in a third of Pillow's time.

    Args:
        cells: float32 (rows, columns, channels).
        box: in cells; beyond them the outermost repeat.
        size: (width, height) of each plane.
    """
    left, right, beside = _between(box.left, box.right, cells.shape[1], size[0])
    above, below, under = _between(box.top, box.bottom, cells.shape[0], size[1])
    first = int(above[0])
    part = cells[first : int(below[-1]) + 1]
    turns = [0, *(np.flatnonzero(np.diff(above)) + 1).tolist(), size[1]]
    for channel in range(cells.shape[2]):
        here = part[..., channel]
        across = here[:, left]
        across += (here[:, right] - across) * beside
        plane = np.empty((size[1], size[0]), np.float32)
        for start, stop in pairwise(turns):
            upper, lower = across[above[start] - first], across[below[start] - first]
            lines = np.multiply(under[start:stop, None], lower - upper, out=plane[start:stop])
            lines += upper
        yield plane


def _between(first: float, last: float, cells: int, count: int) -> tuple[Array, Array, Array]:
    """The two cells around each pixel, and the fraction towards the second."""
    at = np.clip(first + (np.arange(count) + 0.5) * ((last - first) / count) - 0.5, 0, cells - 1)
    low = at.astype(np.intp)
    return low, np.minimum(low + 1, cells - 1), (at - low).astype(np.float32)


def largest(pixels: Array) -> Array:
    """The largest channel of each pixel: (height, width), ten times as fast as NumPy's ``max``."""
    return np.maximum(np.maximum(pixels[..., 0], pixels[..., 1]), pixels[..., 2])


def stored(values: Array, dtype: np.dtype[Any]) -> Array:
    """Convert values of 0 to 1 to ``dtype``: integers rounded and clipped, floats unchanged."""
    if dtype == np.uint8:
        return eight_bits(values)
    if dtype.kind != "u":
        return values.astype(dtype, copy=False)
    most = np.iinfo(dtype).max
    whole = np.clip(values, 0, 1)
    whole *= np.float32(most)
    rounded: Array = np.rint(whole, out=whole).astype(dtype)
    return rounded


def luma(pixels: Array) -> Array:
    """Brightness of float32 (height, width, 1, 3 or 4): float32 (height, width)."""
    if pixels.shape[2] < 3:
        return np.ascontiguousarray(pixels[..., 0])
    weighted: Array = pixels[..., :3] @ _LUMA
    return weighted


def blurred(plane: Array, radius: int, passes: int = 1) -> Array:
    """Box blur over (2 radius + 1) squared pixels; edge pixels repeat. Shape (height, width, ...)."""
    mean = _mean_of_three if radius == 1 else _running_mean
    for _ in range(passes):
        for axis in (0, 1):
            plane = mean(plane, radius, axis)
    return plane


def _mean_of_three(plane: Array, radius: int, axis: int) -> Array:
    """`_running_mean` for radius 1, in half the time."""
    out: Array = plane * np.float32(1 / 3)
    sums, thirds = out.swapaxes(0, axis), out.copy().swapaxes(0, axis)
    sums[1:] += thirds[:-1]
    sums[:-1] += thirds[1:]
    sums[0] += thirds[0]
    sums[-1] += thirds[-1]
    return out


def _running_mean(plane: Array, radius: int, axis: int) -> Array:
    margins = [(0, 0)] * plane.ndim
    margins[axis] = (radius + 1, radius)
    sums = np.cumsum(np.pad(plane, margins, "edge"), axis=axis, dtype=np.float32)
    span = 2 * radius + 1
    means = sums[span:] - sums[:-span] if axis == 0 else sums[:, span:] - sums[:, :-span]
    return (means / span).astype(np.float32)
