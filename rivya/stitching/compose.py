"""The last step: the edit into the original, in bands of rows, so that little more than the result is in memory."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from .boxes import Box
from .colour import Colours
from .raster import CUBIC, LANCZOS, Array, full, planes, stored

_BAND_PIXELS = 1 << 18
_AVERAGED_FROM = 1.7


@dataclass(frozen=True)
class Canvas:
    """Where the result of one picture is written.

    Attributes:
        image: (height, width, 3 or 4) in the type of the original.
        mask: float32 (height, width): how much of the edit is in each pixel.
        layer: (height, width, 3) in the type of the original: the whole edit laid over it; None: not wanted.
    """

    image: Array
    mask: Array
    layer: Array | None


def covered(frame: Box, width: int, height: int) -> tuple[slice, slice]:
    """Rows and columns of the pixels that lie wholly under the edit. A hair is allowed for rounding."""
    hair = 1e-3
    rows = slice(max(0, math.ceil(frame.top - hair)), max(0, min(height, math.floor(frame.bottom + hair))))
    columns = slice(max(0, math.ceil(frame.left - hair)), max(0, min(width, math.floor(frame.right + hair))))
    return rows, columns


def compose(
    original: Array,
    edited: Array,
    frame: Box,
    colours: Colours,
    region: Box,
    canvas: Canvas,
    check: Callable[[], None],
) -> None:
    """Write image and layer; the mask is given.

    Where the mask is 0 every value is the original's, untouched. Alpha is the original's everywhere.

    Args:
        original: (height, width, 1, 3 or 4), uint8, uint16 or float32.
        edited: (height, width, 1, 3 or 4), uint8, uint16 or float32.
        frame: where the edit lies, in pixels of the original.
        colours, region: the correction of the edit's colours, and the region of the original that it covers.
        canvas: what is filled in; its mask already holds how much of the edit shows.
        check: called between bands; what it raises ends the work.
    """
    height, width = original.shape[:2]
    canvas.image[...] = original  # a grey one three times
    if canvas.layer is not None:
        canvas.layer[...] = original[..., :3] if original.shape[2] >= 3 else original
    colour = edited[..., :3] if edited.shape[2] >= 3 else np.broadcast_to(edited, (*edited.shape[:2], 3))
    rows, columns = covered(frame, width, height)
    if canvas.layer is None:
        rows, columns = _shown(canvas.mask, rows, columns)
    if rows.start >= rows.stop or columns.start >= columns.stop:
        return
    step = max(1, _BAND_PIXELS // (columns.stop - columns.start))
    for top in range(rows.start, rows.stop, step):
        check()
        part = slice(top, min(top + step, rows.stop)), columns
        _band(colour, frame, colours, region, canvas, part)


def _shown(mask: Array, rows: slice, columns: slice) -> tuple[slice, slice]:
    """The part of the covered rows and columns in which the edit shows."""
    inside = mask[rows, columns] > 0
    down, across = np.flatnonzero(inside.any(1)), np.flatnonzero(inside.any(0))
    if not len(down):
        return slice(0, 0), slice(0, 0)
    return (
        slice(rows.start + int(down[0]), rows.start + int(down[-1]) + 1),
        slice(columns.start + int(across[0]), columns.start + int(across[-1]) + 1),
    )


def _laid(colour: Array, window: Box, size: tuple[int, int]) -> Iterator[Array]:
    """The edit under ``window`` in the pixels of the original, a channel at a time.

    An edit that is a little finer than the original is read at the centres of the original's pixels: every third of
    three times as many. Averaging, as shrinking does, would take detail that the original has.
    """
    finer = max(window.width / size[0], window.height / size[1])
    if finer < 1:
        return planes(colour, window, size, CUBIC)
    if finer >= _AVERAGED_FROM:
        return planes(colour, window, size, LANCZOS)
    triple = 3 * size[0], 3 * size[1]
    return (np.ascontiguousarray(plane[1::3, 1::3]) for plane in planes(colour, window, triple, LANCZOS))


def _band(
    colour: Array, frame: Box, colours: Colours, region: Box, canvas: Canvas, part: tuple[slice, slice]
) -> None:
    rows, columns = part
    here = Box(float(columns.start), float(rows.start), float(columns.stop), float(rows.stop))
    window = here.seen_from(frame, colour.shape[1], colour.shape[0])
    size = columns.stop - columns.start, rows.stop - rows.start
    laid = _laid(colour, window, size)
    share = canvas.mask[part]
    shown = share > 0
    blends = bool(shown.any())
    for channel, plane in enumerate(colours.corrected(laid, here.seen_from(region, 1, 1), size)):
        np.clip(plane, 0, 1, out=plane)
        if canvas.layer is not None:
            canvas.layer[rows, columns, channel] = stored(plane, canvas.layer.dtype)
        if blends:
            image = canvas.image[rows, columns, channel]
            before = image.astype(np.float32)
            before *= np.float32(1 / full(image))
            plane -= before
            plane *= share
            plane += before
            np.copyto(image, stored(plane, image.dtype), where=shown)
