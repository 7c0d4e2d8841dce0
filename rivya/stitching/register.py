"""Aligns an edit with its original: two scales and two shifts, from unedited content.

An image model returns its answer slightly scaled or shifted, separately in x and y. Only brightness is compared,
normalised by local mean and contrast: tone (night, sepia) does not matter. Edited pixels lose weight: those that
differ, and those whose surroundings do not correlate.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import product

import numpy as np

from . import thresholds
from .boxes import Box
from .raster import TRIANGLE, Array, blurred, luma, resampled

COARSE, MIDDLE, FINE = 128, 256, 512
"""Longer side of the edit's place in the compared copies, in pixels."""

_WINDOW = {COARSE: 5, MIDDLE: 7, FINE: 10}
_ALIKE_WINDOW = 15
_BLOCK = {COARSE: 8, MIDDLE: 16, FINE: 32}
_ROUNDS = ((3, 3), (8, 1))
"""(iterations per start, number of starts kept)"""
_LAST_ITERATIONS = 14
_SCALES = [float(each) for each in np.exp(np.linspace(-math.log(1.25), math.log(1.25), 9))]
_PEAKS, _BEST = 30, 6
"""Highest peaks tried on the original, and most similar ones kept."""
_COARSE_ITERATIONS = 6
_BEYOND = 0.45
_FLAT = 0.02
_TUKEY = 4.685
_LEAST_SPREAD = 0.15


@dataclass(frozen=True)
class Registration:
    """Where an edit lies.

    Attributes:
        frame: the whole edit, in pixels of the original.
        aligned: whether ``frame`` was found from pixels; else it is the plain placement.
        agreement: share (0 to 1) of detailed blocks that agree at ``frame``.
        plain: the same at the plain placement.
        detail: share of blocks with detail.
    """

    frame: Box
    aligned: bool
    agreement: float
    plain: float
    detail: float


def register(
    view: Array, region: Box, edited: Array, place: Box, check: Callable[[], None] = lambda: None
) -> Registration:
    """Find the frame of an edit near its place.

    Args:
        view: float32 (height, width, channels), the original under ``region``, in any size.
        region: the part of ``place`` inside the original, in its pixels.
        edited: float32 (height, width, channels).
        place: frame of an unmoved edit, in pixels of the original.
        check: called between steps; an exception ends the search.
    """
    brightness = luma(edited)
    coarse, middle, fine = (
        _Level(longer, view, region, brightness, place) for longer in (COARSE, MIDDLE, FINE)
    )
    candidates = [place, *_starts(coarse, check)]
    for iterations, kept in _ROUNDS:
        ranked = []
        for start in candidates:
            check()
            frame = middle.fitted(start, iterations)
            ranked.append((middle.agreement(frame)[0], frame))
        ranked.sort(key=lambda pair: -pair[0])
        candidates = [frame for _, frame in ranked[:kept]]
    best = fine.fitted(candidates[0], _LAST_ITERATIONS)
    check()
    plain, detail = fine.agreement(place)
    agreement, _ = fine.agreement(best)
    if plain >= agreement:
        best, agreement = place, plain
    aligned = agreement >= thresholds.ALIGNED and detail >= thresholds.DETAIL
    return Registration(best if aligned else place, aligned, agreement if aligned else plain, plain, detail)


class _Moving:
    """The edit's brightness, padded so that any frame can be cut out."""

    def __init__(self, brightness: Array) -> None:
        self.height, self.width = brightness.shape
        self._down, self._across = (math.ceil(side * _BEYOND) for side in brightness.shape)
        margins = (self._down, self._down), (self._across, self._across)
        self._padded = np.pad(brightness, margins, "edge")[..., None]

    def whole(self) -> Array:
        return self._padded[
            self._down : self._down + self.height, self._across : self._across + self.width, 0
        ]

    def under(self, window: Box, size: tuple[int, int]) -> Array:
        """The part under ``window``, in pixels of the edit."""
        return resampled(self._padded, window.moved(self._across, self._down), size, TRIANGLE)[..., 0]


class _Level:
    """Original and edit at one resolution, on the grid of the region."""

    def __init__(self, longer: int, view: Array, region: Box, brightness: Array, place: Box) -> None:
        scale = longer / max(place.width, place.height)
        self.size = max(8, round(region.width * scale)), max(8, round(region.height * scale))
        self.region, self.place, self._level = region, place, longer
        bounds = Box.of_size(view.shape[1], view.shape[0])
        self.template, self._contrast = self.normalised(luma(resampled(view, bounds, self.size, TRIANGLE)))
        self.moving = _Moving(_at_most(brightness, 2 * longer))
        self._x = (np.arange(self.size[0], dtype=np.float32) + 0.5) / self.size[0]
        self._y = (np.arange(self.size[1], dtype=np.float32) + 0.5) / self.size[1]

    def normalised(self, brightness: Array) -> tuple[Array, Array]:
        """Brightness minus local mean, divided by local contrast; and that contrast."""
        window = _WINDOW[self._level]
        around = brightness - blurred(brightness, window)
        contrast = np.sqrt(blurred(around * around, window))
        return around / (contrast + np.float32(_FLAT)), contrast

    def window(self, frame: Box) -> Box:
        """The region in pixels of an edit at ``frame``."""
        return self.region.seen_from(frame, self.moving.width, self.moving.height)

    def frame(self, window: Box) -> Box:
        """The inverse of `window`."""
        return (
            Box.of_size(self.moving.width, self.moving.height)
            .seen_from(window, self.region.width, self.region.height)
            .moved(self.region.left, self.region.top)
        )

    def laid(self, frame: Box) -> tuple[Array, Array]:
        """The normalised edit on the grid, and where it has pixels."""
        window = self.window(frame)
        moved, _ = self.normalised(self.moving.under(window, self.size))
        return moved, self.has(window)

    def has(self, window: Box) -> Array:
        """Where the grid has pixels of ``window``."""
        across = window.left + self._x * window.width
        down = window.top + self._y * window.height
        has_x = (across > 0) & (across < self.moving.width)
        has_y = (down > 0) & (down < self.moving.height)
        grid: Array = has_y[:, None] & has_x[None, :]
        return grid

    def fitted(self, start: Box, iterations: int) -> Box:
        """The frame that robust least squares find from ``start``; ``start`` if they fail or leave the bounds."""
        frame, spread = start, math.inf
        for _ in range(iterations):
            moved, has = self.laid(frame)
            error = self.template - moved
            seen = has & (np.abs(self.template) + np.abs(moved) > 0.5)
            if np.count_nonzero(seen) < 64:
                return start
            spread = max(_LEAST_SPREAD, 1.4826 * float(np.median(np.abs(error[seen]))))
            weight = np.clip(1 - (error / np.float32(_TUKEY * spread)) ** 2, 0, None) ** 2 * has
            if self._level == FINE:
                weight *= self._alike(moved)
            step = self._step(moved, error, weight)
            if step is None:
                return start
            frame = self._moved(frame, step)
            if not is_near(frame, self.place):
                return start
            if np.abs(step).max() * max(self.size) < 0.004:
                break
        return frame

    def likeness(self, frame: Box) -> float:
        """Correlation of original and edit over their common pixels, -1 to 1."""
        moved, has = self.laid(frame)
        ours, theirs = self.template[has], moved[has]
        energy = math.sqrt(float(ours @ ours) * float(theirs @ theirs))
        return float(ours @ theirs) / energy if energy else 0.0

    def _alike(self, moved: Array) -> Array:
        """Similarity of each pixel's surroundings, 0 to 1.

        Chance matches in replaced content would pull the frame by up to 1.4 px of 1024 (40 % replaced).
        """
        ours, theirs = (blurred(plane * plane, _ALIKE_WINDOW) for plane in (self.template, moved))
        both = blurred(self.template * moved, _ALIKE_WINDOW)
        correlation = both / np.sqrt(ours * theirs + np.float32(1e-4))
        least, most = thresholds.LEAST_ALIKE, thresholds.SURELY_ALIKE
        share: Array = np.clip((correlation - least) / (most - least), 0, 1)
        return share

    def _step(self, moved: Array, error: Array, weight: Array) -> Array | None:
        """Scale and shift in x, then y, in units of the region, that reduce the weighted error."""
        both = (moved + self.template) / 2
        down, across = np.gradient(both)
        across *= self.size[0]
        down *= self.size[1]
        x, y = (self._x - 0.5)[None, :], (self._y - 0.5)[:, None]
        columns = [(across * x).ravel(), across.ravel(), (down * y).ravel(), down.ravel()]
        jacobian = np.stack(columns)
        weighted = jacobian * weight.ravel()
        try:
            solved: Array = np.linalg.solve(
                (weighted @ jacobian.T).astype(np.float64), (weighted @ error.ravel()).astype(np.float64)
            )
        except np.linalg.LinAlgError:
            return None
        return solved if np.isfinite(solved).all() else None

    def _moved(self, frame: Box, step: Array) -> Box:
        """The frame with each grid point's source scaled and shifted by ``step``."""
        window = self.window(frame)
        scale_x, shift_x, scale_y, shift_y = (float(each) for each in step)
        x, y = window.centre
        changed = Box.around(
            x + shift_x * window.width,
            y + shift_y * window.height,
            window.width * (1 + scale_x),
            window.height * (1 + scale_y),
        )
        return self.frame(changed)

    def agreement(self, frame: Box) -> tuple[float, float]:
        """Share of detailed blocks that agree, and share of blocks with detail."""
        moved, has = self.laid(frame)
        side = _BLOCK[self._level]
        rows, columns = self.size[1] // side, self.size[0] // side
        if not rows or not columns:
            return 0.0, 0.0

        def blocks(plane: Array) -> Array:
            cut = plane[: rows * side, : columns * side]
            tiles: Array = cut.reshape(rows, side, columns, side).swapaxes(1, 2)
            return tiles.reshape(rows * columns, -1)

        inside = blocks(has).mean(1) > 0.9
        ours, theirs = blocks(self.template), blocks(moved)
        busy = inside & (blocks(self._contrast).mean(1) > _FLAT / 2)
        ours = ours - ours.mean(1, keepdims=True)
        theirs = theirs - theirs.mean(1, keepdims=True)
        energy = np.sqrt((ours * ours).sum(1) * (theirs * theirs).sum(1)) + 1e-6
        agrees = (ours * theirs).sum(1) / energy > thresholds.BLOCK_AGREES
        count = int(busy.sum())
        return (float((agrees & busy).sum()) / count if count else 0.0), count / max(1, int(inside.sum()))


def is_near(frame: Box, place: Box) -> bool:
    """Whether a model may have moved its answer so far."""
    (x, y), (at_x, at_y) = frame.centre, place.centre
    scales = frame.width / place.width, frame.height / place.height
    return (
        all(1 / thresholds.MOST_SCALE < scale < thresholds.MOST_SCALE for scale in scales)
        and abs(x - at_x) < thresholds.MOST_SHIFT * place.width
        and abs(y - at_y) < thresholds.MOST_SHIFT * place.height
    )


def _at_most(brightness: Array, longer: int) -> Array:
    height, width = brightness.shape
    scale = min(1.0, longer / max(width, height))
    size = max(8, round(width * scale)), max(8, round(height * scale))
    return resampled(brightness[..., None], Box.of_size(width, height), size, TRIANGLE)[..., 0]


def _starts(level: _Level, check: Callable[[], None]) -> Iterator[Box]:
    """The best frames by phase correlation over a grid of scales, then by `_Level.likeness`.

    One strong edge, such as a horizon, makes a high peak and alone would select a wrong scale.
    """
    width, height = level.size
    place, edit, whole = level.place, level.moving, level.moving.whole()
    level.moving = _Moving(level.normalised(_at_most(whole, COARSE))[0])
    shape = 2 * height, 2 * width
    fixed = np.fft.rfft2(level.template, shape)
    found = []
    for scale_x, scale_y in product(_SCALES, _SCALES):
        x, y = place.centre
        frame = Box.around(x, y, place.width * scale_x, place.height * scale_y)
        window = level.window(frame)
        moved = level.moving.under(window, level.size) * level.has(window)
        spectrum = fixed * np.conj(np.fft.rfft2(moved, shape))
        peaks = np.fft.irfft2(spectrum / (np.abs(spectrum) + 1e-3), shape)
        most_x, most_y = int(thresholds.MOST_SHIFT * width), int(thresholds.MOST_SHIFT * height)
        rows = np.r_[-most_y : most_y + 1]
        columns = np.r_[-most_x : most_x + 1]
        near = peaks[rows[:, None], columns[None, :]]
        at = int(near.argmax())
        down, across = rows[at // len(columns)], columns[at % len(columns)]
        per_pixel = level.region.width / width, level.region.height / height
        shift = float(across) * per_pixel[0], float(down) * per_pixel[1]
        found.append((float(near.flat[at]), frame.moved(*shift)))
        check()
    level.moving = edit
    found.sort(key=lambda pair: -pair[0])
    starts = [frame for _, frame in found[:_PEAKS]]
    for frame in sorted(starts, key=level.likeness, reverse=True)[:_BEST]:
        check()
        yield level.fitted(frame, _COARSE_ITERATIONS)
