"""One edit back into its original: alignment, colours, mask and the result at full size."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .. import scalars
from ..errors import ValidationError
from . import blobs, change, masks, thresholds
from .boxes import Box
from .change import Comparison
from .colour import Colours
from .compose import Canvas, compose, covered
from .placement import SIZES, Placement
from .raster import BAND_ROWS, TRIANGLE, Array, enlarged, full, resampled
from .register import Registration, register

KEEPS = ("auto", "mask", "changed", "mask and changed", "all")
MOST_PIXELS = 400_000_000
_WORK = 640
"""Longer side of the copies for colours and changes, in pixels."""


def _nothing() -> None:
    return None


@dataclass(frozen=True)
class Options:
    """How to put an edit back.

    Attributes:
        keep: what part of the edit shows, one of `KEEPS`.
        align: align the edit; else it stays at its place.
        match_color: match the original's colours.
        feather: width of the soft edge inside the shown part, in percent of the edited part's shorter side, 0 to 10.
    """

    keep: str = "auto"
    align: bool = True
    match_color: bool = True
    feather: float = 1.0

    def validate(self) -> Options:
        """Return Python's own types; raises `ValidationError` that names the first value out of range."""
        return Options(
            keep=scalars.choice("keep", self.keep, KEEPS),
            align=scalars.truth("align", self.align),
            match_color=scalars.truth("match_color", self.match_color),
            feather=scalars.number("feather", self.feather, 0, 10),
        )


@dataclass(frozen=True)
class Stitched:
    """An original with an edit in it.

    Attributes:
        image: (height, width, 3 or 4) in the original's type; edited where ``mask`` is above 0.
        mask: float32 (height, width): the edit's share of each pixel.
        layer: (height, width, 3): the whole edit over the original, unblended; None if not wanted.
        report: JSON values; see `describe`.
    """

    image: Array = field(repr=False)
    mask: Array = field(repr=False)
    layer: Array | None = field(repr=False)
    report: dict[str, Any]


def stitch(
    original: Array,
    edited: Array,
    *,
    placement: Placement | None = None,
    mask: Array | None = None,
    options: Options | None = None,
    layer: bool = True,
    check: Callable[[], None] = _nothing,
) -> Stitched:
    """Put an edit back into its original, at the original's size.

    Args:
        original: (height, width, 1, 3 or 4) uint8, uint16 or float32 of 0 to 1. Grey becomes RGB.
        edited: the model's answer, of any size.
        placement: of Crop for Edit; None: the whole picture.
        mask: float32 (height, width), 1 where the edit may show; overrides that of ``placement``.
        options: see `Options`.
        layer: whether to make the layer.
        check: called many times a second; an exception ends the work.

    Raises:
        ValidationError: unsuitable pixels or mask, or a shape far from the original's.
    """
    check_pixels("original", original)
    height, width, channels = original.shape
    canvas = Canvas(
        np.empty((height, width, max(3, channels)), original.dtype),
        np.empty((height, width), np.float32),
        np.empty((height, width, 3), original.dtype) if layer else None,
    )
    report = stitch_into(
        canvas, original, edited, placement=placement, mask=mask, options=options, check=check
    )
    return Stitched(canvas.image, canvas.mask, canvas.layer, report)


def stitch_into(
    canvas: Canvas,
    original: Array,
    edited: Array,
    *,
    placement: Placement | None = None,
    mask: Array | None = None,
    options: Options | None = None,
    check: Callable[[], None] = _nothing,
) -> dict[str, Any]:
    """As `stitch`, into the caller's arrays; returns the report."""
    options = (options or Options()).validate()
    check_pixels("original", original)
    check_pixels("edited", edited)
    height, width = original.shape[:2]
    notes: list[str] = []
    allowed = _allowed(mask, placement, width, height, notes)
    keep = _resolved(options.keep, allowed, notes)
    near = places(placement, (width, height), (edited.shape[1], edited.shape[0]))
    region, view, found = _registered(original, edited, near, options.align, notes, check)
    compared = _compared(view, edited, region, found.frame, allowed, keep, options, check)
    if compared.colours.note:
        notes.append(compared.colours.note)
    canvas.mask[...] = _shares(found, compared, region, allowed, keep, options, (width, height), notes)
    check()
    compose(original, edited, found.frame, compared.colours, region, canvas, check)
    return describe(canvas.mask, edited, found, compared, keep, options, near[0], notes)


def describe(
    shown: Array,
    edited: Array,
    found: Registration,
    compared: Comparison,
    keep: str,
    options: Options,
    place: Box,
    notes: list[str],
) -> dict[str, Any]:
    """The report of one picture.

    ``scale_x``, ``scale_y``: size of the edit relative to its place. ``x``, ``y``: shift of its centre in pixels of
    the original; ``center_x``, ``center_y``: that centre in shares of the original. ``box``: left, top, right,
    bottom of the edit in pixels of the original. ``share``: replaced part of the original. ``gain``, ``offset``: of
    red, green and blue. ``coarser``: original pixels per edit pixel, along a side.
    """
    frame, (height, width) = found.frame, shown.shape
    x, y = frame.centre
    coarser = math.sqrt(frame.area / (edited.shape[0] * edited.shape[1]))
    return {
        "width": width,
        "height": height,
        "keep": keep,
        "aligned": found.aligned if options.align else None,
        "agreement": round(found.agreement, 3),
        "scale_x": round(frame.width / place.width, 5),
        "scale_y": round(frame.height / place.height, 5),
        "x": round(x - place.centre[0], 3),
        "y": round(y - place.centre[1], 3),
        "center_x": round(x / width, 6),
        "center_y": round(y / height, 6),
        "box": [round(edge, 3) for edge in frame.edges()],
        "share": round(float((shown > 0.5).mean()), 5),
        "gain": [round(each, 4) for each in compared.colours.gain],
        "offset": [round(each, 4) for each in compared.colours.offset],
        "coarser": round(coarser, 2),
        "notes": notes,
    }


def check_pixels(name: str, pixels: object) -> None:
    """Raise `ValidationError` unless ``pixels`` are a picture."""
    if not isinstance(pixels, np.ndarray) or pixels.ndim != 3 or pixels.shape[2] not in (1, 3, 4):
        shape = getattr(pixels, "shape", None)
        what = f"of shape {shape}" if shape is not None else f"a {type(pixels).__name__}"
        raise ValidationError(f"{name} is {what}; a picture is height x width x 1, 3 or 4 channels.")
    if 0 in pixels.shape:
        raise ValidationError(f"{name} is of shape {pixels.shape}, without a single pixel.")
    if pixels.dtype not in (np.uint8, np.uint16, np.float32):
        raise ValidationError(f"{name} holds {pixels.dtype}; uint8, uint16 or float32 are taken.")
    if pixels.shape[0] * pixels.shape[1] > MOST_PIXELS:
        raise ValidationError(
            f"{name} has {pixels.shape[0] * pixels.shape[1] / 1e6:,.0f} megapixels; at most {MOST_PIXELS / 1e6:,.0f} "
            "are taken.",
            code="image_too_large",
        )
    if pixels.dtype == np.float32 and not np.isfinite([pixels.min(), pixels.max()]).all():
        raise ValidationError(f"{name} contains NaN or infinity.")


def _allowed(
    mask: Array | None, placement: Placement | None, width: int, height: int, notes: list[str]
) -> Array | None:
    """The mask at the picture's size; None if missing or empty."""
    if mask is None:
        mask = placement.mask if placement is not None else None
    if mask is None:
        return None
    if not isinstance(mask, np.ndarray) or mask.ndim != 2 or 0 in mask.shape:
        raise ValidationError("mask is no mask: height x width of 0 to 1.")
    values = mask.astype(np.float32, copy=False) / np.float32(full(mask))
    if not np.isfinite([values.min(), values.max()]).all():
        raise ValidationError("mask contains NaN or infinity.")
    if values.max() <= 0:
        notes.append("The mask is empty: the same as no mask.")
        return None
    return np.clip(masks.fitting(values, width, height), 0, 1)


def _resolved(keep: str, allowed: Array | None, notes: list[str]) -> str:
    """Resolve ``auto`` and a missing mask."""
    if keep == "auto":
        return "changed" if allowed is None else "mask"
    if allowed is None and "mask" in keep:
        notes.append("There is no mask: what changed is kept.")
        return "changed"
    return keep


def places(placement: Placement | None, size: tuple[int, int], sent: tuple[int, int]) -> list[Box]:
    """The possible places of an unmoved edit, likeliest first.

    Raises:
        ValidationError: its shape is too far from its place's.
    """
    whole = Box.of_size(*size)
    if placement is not None:
        if (placement.width, placement.height) != size:
            raise ValidationError(
                f"placement is of a picture of {placement.width}x{placement.height}; original is {size[0]}x{size[1]}.",
                hint="Connect the picture that went into Rivya Crop for Edit.",
                code="placement_of_another_picture",
            )
        if not _like(placement.box, sent):
            raise _other_shape(sent, f"{placement.sent[0]}x{placement.sent[1]} was sent")
        return [placement.box]
    if _like(whole, sent):
        return [whole]
    ratio, (x, y) = sent[0] / sent[1], whole.centre
    if not any(_apart(ratio, each) <= thresholds.SERVICE_SHAPE for each in _answered(size[0] / size[1])):
        raise _other_shape(sent, f"original is {size[0]}x{size[1]}")
    # The ratio is between two shapes of the service or beyond all: the answer is the middle part, padded or squeezed.
    inner, outer = min(whole.width, whole.height * ratio), max(whole.width, whole.height * ratio)
    return [Box.around(x, y, inner, inner / ratio), Box.around(x, y, outer, outer / ratio), whole]


def _answered(ratio: float) -> list[float]:
    """The ratios in which the service may answer a picture: of the nearest size, or of the nearest name.

    16:9 is really 1.851: a ratio of 1.56 is nearest to 4:3 in pixels and to 16:9 by name.
    """

    def by_name(shape: str) -> float:
        across, down = shape.split(":")
        return _apart(ratio, int(across) / int(down))

    pixels = {shape: width / height for shape, (width, height) in SIZES.items()}
    return [min(pixels.values(), key=lambda each: _apart(ratio, each)), pixels[min(pixels, key=by_name)]]


def _apart(one: float, other: float) -> float:
    return abs(math.log(one / other))


def _like(place: Box, sent: tuple[int, int]) -> bool:
    return _apart(sent[0] / sent[1], place.width / place.height) <= math.log(1 + thresholds.PLACE_SHAPE)


def _other_shape(sent: tuple[int, int], other: str) -> ValidationError:
    return ValidationError(
        f"edited is {sent[0]}x{sent[1]} and {other}: the shapes are more than {thresholds.PLACE_SHAPE:.0%} apart.",
        hint="Is this the picture that was ordered from it? With Rivya Crop for Edit, connect its placement.",
        code="edit_of_another_shape",
    )


def _registered(
    original: Array,
    edited: Array,
    places: list[Box],
    align: bool,
    notes: list[str],
    check: Callable[[], None],
) -> tuple[Box, Array, Registration]:
    """The compared part of the original, its pixels in a working size, and the edit's position."""
    whole = Box.of_size(original.shape[1], original.shape[0])
    tried: list[tuple[Box, Array, Registration]] = []
    theirs = _view(edited, None)
    for place in places:
        region = place.cut(whole)
        if region is None:
            raise ValidationError("placement lies beyond the picture.", code="placement_of_another_picture")
        view = _view(original, region)
        if not align:
            return region, view, Registration(place, False, 0.0, 0.0, 0.0)
        tried.append((region, view, register(view, region, theirs, place, check)))
    region, view, found = max(tried, key=lambda each: each[2].agreement if each[2].aligned else -1)
    if not found.aligned:
        if found.detail < thresholds.DETAIL:
            notes.append("There is too little detail to align by: the edit is laid over its place as it is.")
        else:
            notes.append("The edit could not be aligned: it is laid over its place as it is.")
    return region, view, found


def _view(pixels: Array, region: Box | None) -> Array:
    """RGB of a region in a working size, float32."""
    region = region or Box.of_size(pixels.shape[1], pixels.shape[0])
    scale = min(1.0, 1024 / max(region.width, region.height))
    size = max(1, round(region.width * scale)), max(1, round(region.height * scale))
    return resampled(_rgb(pixels), region, size, TRIANGLE)


def _compared(
    view: Array,
    edited: Array,
    region: Box,
    frame: Box,
    allowed: Array | None,
    keep: str,
    options: Options,
    check: Callable[[], None],
) -> Comparison:
    scale = min(1.0, _WORK / max(region.width, region.height))
    size = max(1, round(region.width * scale)), max(1, round(region.height * scale))
    window = region.seen_from(frame, edited.shape[1], edited.shape[0])
    if (not options.match_color and "changed" not in keep) or min(size) < 8:
        return Comparison(Colours(), np.zeros((size[1], size[0]), bool), 0.0)
    across = window.left + (np.arange(size[0]) + 0.5) / size[0] * window.width
    down = window.top + (np.arange(size[1]) + 0.5) / size[1] * window.height
    has_x = (across > 0) & (across < edited.shape[1])
    has = ((down > 0) & (down < edited.shape[0]))[:, None] & has_x[None, :]
    excluded = None
    if allowed is not None:
        excluded = resampled(allowed[..., None], region, size, TRIANGLE)[..., 0] > 0.05
    return change.compare(
        resampled(view, Box.of_size(view.shape[1], view.shape[0]), size, TRIANGLE),
        resampled(_rgb(edited), window, size, TRIANGLE),
        has,
        match_color=options.match_color,
        excluded=excluded,
        check=check,
    )


def _rgb(pixels: Array) -> Array:
    return pixels[..., :3] if pixels.shape[2] >= 3 else np.broadcast_to(pixels, (*pixels.shape[:2], 3))


def _shares(
    found: Registration,
    compared: Comparison,
    region: Box,
    allowed: Array | None,
    keep: str,
    options: Options,
    size: tuple[int, int],
    notes: list[str],
) -> Array:
    width, height = size
    rows, columns = covered(found.frame, width, height)
    support = np.zeros((height, width), bool)
    support[rows, columns] = True
    if "mask" in keep and allowed is not None:
        support &= allowed > 0
    if "changed" in keep:
        restyled = options.align and not found.aligned and found.detail >= thresholds.DETAIL
        if restyled:
            notes.append("All of it counts as changed.")
        else:
            support &= _enlarged(_with_margin(compared.changed, options.feather), region, size)
            if not support.any():
                notes.append("Nothing in the edit differs from the original beyond a drift of its colours.")
    shares = masks.feathered(support, options.feather)
    if "mask" in keep and allowed is not None:
        shares *= allowed
    return shares


def _with_margin(changed: Array, feather: float) -> Array:
    rows, columns = np.flatnonzero(changed.any(1)), np.flatnonzero(changed.any(0))
    if not len(rows):
        return changed
    shorter = min(int(rows[-1] - rows[0]), int(columns[-1] - columns[0])) + 1
    return blobs.grown(changed, 2 + min(24, math.ceil(shorter * feather / 100)))


def _enlarged(changed: Array, region: Box, size: tuple[int, int]) -> Array:
    """The changed pixels at the original's size; none outside the region."""
    width, height = size
    out = np.zeros((height, width), bool)
    rows, columns = covered(region, width, height)
    part = changed.astype(np.float32)[..., None]
    for top in range(rows.start, rows.stop, BAND_ROWS):
        bottom = min(top + BAND_ROWS, rows.stop)
        here = Box(float(columns.start), float(top), float(columns.stop), float(bottom))
        window = here.seen_from(region, changed.shape[1], changed.shape[0])
        (share,) = enlarged(part, window, (columns.stop - columns.start, bottom - top))
        out[top:bottom, columns] = share > 0.5
    return out
