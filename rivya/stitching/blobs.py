"""Connected components, holes and distances of boolean arrays, in numpy alone."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from .raster import Array

_BAND_ROWS = 32


def labels(mask: Array) -> tuple[Array, int]:
    """Label the 8-connected components of a boolean (height, width).

    Returns:
        int32 (height, width), 0 outside the mask, else 1 to the count; and the count.
    """
    height, width = mask.shape
    edges = np.diff(np.pad(mask, ((0, 0), (1, 1))).astype(np.int8), axis=1)
    rows, starts = np.nonzero(edges == 1)
    ends = np.nonzero(edges == -1)[1]
    out = np.zeros((height, width), np.int32)
    if not len(rows):
        return out, 0
    # Runs of the next row that touch this one, by position in one line of all rows.
    line = width + 4
    first = np.searchsorted(rows * line + ends, (rows + 1) * line + starts, "left")
    last = np.searchsorted(rows * line + starts, (rows + 1) * line + ends, "right")
    counts = np.maximum(0, last - first)
    upper = np.repeat(np.arange(len(rows)), counts)
    lower = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts) + np.repeat(first, counts)
    names = _joined(len(rows), upper, lower)
    found, compact = np.unique(names, return_inverse=True)
    out[mask] = np.repeat(compact.astype(np.int32) + 1, ends - starts)
    return out, len(found)


def _joined(count: int, one: Array, other: Array) -> Array:
    """The smallest member of each group of linked pairs ``one`` and ``other``."""
    parent = np.arange(count)
    while True:
        low = np.minimum(parent[one], parent[other])
        before = parent.copy()
        np.minimum.at(parent, parent[one], low)
        np.minimum.at(parent, parent[other], low)
        while not np.array_equal(parent[parent], parent):
            parent = parent[parent]
        if np.array_equal(before, parent):
            return parent


def sizes(numbered: Array, count: int) -> Array:
    """Pixels per component; index 0: none."""
    return np.bincount(numbered.ravel(), minlength=count + 1)


def holding(mask: Array, seeds: Array) -> Array:
    """The components of ``mask`` that contain a seed."""
    numbered, count = labels(mask)
    kept = np.zeros(count + 1, bool)
    kept[numbered[seeds & mask]] = True
    kept[0] = False
    return kept[numbered]


def filled(mask: Array, largest: int) -> Array:
    """Close holes of at most ``largest`` pixels that touch no border."""
    numbered, count = labels(~mask)
    small = sizes(numbered, count) <= largest
    for edge in (numbered[0], numbered[-1], numbered[:, 0], numbered[:, -1]):
        small[edge] = False
    small[0] = False
    return mask | small[numbered]


def grown(mask: Array, radius: int) -> Array:
    """Dilate by a disc of ``radius`` pixels."""
    return distance(~mask, radius + 1) <= radius if radius > 0 else mask


def shrunk(mask: Array, radius: int) -> Array:
    """Erode by a disc of ``radius`` pixels; beyond the picture is not outside."""
    return ~grown(~mask, radius)


def distance(mask: Array, most: int) -> Array:
    """Euclidean distance in pixels to the nearest pixel outside the mask, at most ``most``; 0 outside.

    Beyond the picture does not count as outside.
    """
    steps = np.where(mask, np.float32(most), np.float32(0))
    lines = list(steps)
    for line, before in [*pairwise(lines), *pairwise(lines[::-1])]:
        np.minimum(before, line + 1, out=before)
    steps *= steps
    # Bands of rows fit the CPU cache.
    for top in range(0, len(steps), _BAND_ROWS):
        _spread(steps[top : top + _BAND_ROWS], most)
    distances: Array = np.minimum(np.sqrt(steps), np.float32(most))
    return distances


def _spread(squares: Array, most: int) -> None:
    """Turn squared distances along columns into Euclidean ones, in place."""
    upright, moved = squares.copy(), np.empty_like(squares)
    furthest, width = squares.max(initial=0), squares.shape[1]
    for step in range(1, min(most, width)):
        if step * step >= furthest:
            return
        further = np.add(upright, np.float32(step * step), out=moved)
        np.minimum(squares[:, step:], further[:, :-step], out=squares[:, step:])
        np.minimum(squares[:, :-step], further[:, step:], out=squares[:, :-step])
