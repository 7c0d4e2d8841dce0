"""The last step: blends the edit into the original in bands of rows, with little extra memory."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from .boxes import Box
from .colour import Colours
from .raster import CUBIC, LANCZOS, Array, full, planes, stored

_BAND_PIXELS = 1 << 17
"""Pixels of one plane (half a megabyte), so that a band's planes fit the CPU cache."""
_AVERAGED_FROM = 1.7


@dataclass(frozen=True)
class Canvas:
    """Output arrays of one picture.

    Attributes:
        image: (height, width, 3 or 4) in the original's type.
        mask: float32 (height, width): the edit's share of each pixel.
        layer: (height, width, 3) in the original's type: the whole edit over it; None: not wanted.
    """

    image: Array
    mask: Array
    layer: Array | None


def covered(frame: Box, width: int, height: int) -> tuple[slice, slice]:
    """Rows and columns of pixels wholly under the edit, with tolerance for rounding."""
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
    """Write image and layer; the mask is input.

    Where the mask is 0, values stay exactly the original's. Alpha is always the original's.

    Args:
        original, edited: (height, width, 1, 3 or 4), uint8, uint16 or float32.
        frame: of the edit, in pixels of the original.
        colours, region: colour correction, and the region of the original that it covers.
        canvas: output, with a complete mask.
        check: called between bands; an exception ends the work.
    """
    height, width = original.shape[:2]
    canvas.image[...] = original  # grey broadcasts to three channels
    colour = edited[..., :3] if edited.shape[2] >= 3 else np.broadcast_to(edited, (*edited.shape[:2], 3))
    rows, columns = covered(frame, width, height)
    if canvas.layer is not None:
        _copied_around(canvas.layer, original[..., :3], rows, columns)
    else:
        rows, columns = _shown(canvas.mask[rows, columns] > 0, rows, columns)
    if rows.start >= rows.stop or columns.start >= columns.stop:
        return
    step = max(1, _BAND_PIXELS // (columns.stop - columns.start))
    for top in range(rows.start, rows.stop, step):
        check()
        part = slice(top, min(top + step, rows.stop)), columns
        _band(colour, frame, colours, region, canvas, part)


def _copied_around(layer: Array, original: Array, rows: slice, columns: slice) -> None:
    for part in (
        (slice(0, rows.start), slice(None)),
        (slice(rows.stop, None), slice(None)),
        (rows, slice(0, columns.start)),
        (rows, slice(columns.stop, None)),
    ):
        layer[part] = original[part]


def _shown(shown: Array, rows: slice, columns: slice) -> tuple[slice, slice]:
    """The bounding rows and columns of ``shown``, a mask of the given ones."""
    down, across = np.flatnonzero(shown.any(1)), np.flatnonzero(shown.any(0))
    if not len(down):
        return slice(0, 0), slice(0, 0)
    return (
        slice(rows.start + int(down[0]), rows.start + int(down[-1]) + 1),
        slice(columns.start + int(across[0]), columns.start + int(across[-1]) + 1),
    )


def _laid(colour: Array, window: Box, size: tuple[int, int]) -> Iterator[Array]:
    """The edit under ``window`` in pixels of the original, channel by channel.

    A slightly finer edit is sampled at the original's pixel centres (every third of a triple-size resampling):
    averaging would lose detail.
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
    shown = _shown(canvas.mask[part] > 0, rows, columns)
    inside = tuple(
        slice(some.start - whole.start, some.stop - whole.start)
        for some, whole in zip(shown, part, strict=True)
    )
    share = canvas.mask[shown]
    for channel, plane in enumerate(colours.corrected(laid, here.seen_from(region, 1, 1), size)):
        np.clip(plane, 0, 1, out=plane)
        if canvas.layer is not None:
            canvas.layer[rows, columns, channel] = stored(plane, canvas.layer.dtype)
        if share.size:
            image = canvas.image[shown][..., channel]
            before = image.astype(np.float32)
            before *= np.float32(1 / full(image))
            blended = plane[inside] - before
            blended *= share
            blended += before
            np.copyto(image, stored(blended, image.dtype), where=share > 0)
