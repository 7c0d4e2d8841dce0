"""Matches edits with their originals, and runs Rivya Stitch Edit in threads."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from threading import Event
from typing import Any

import numpy as np
import torch

from ..rivya.engine import engine
from ..rivya.errors import ValidationError
from ..rivya.stitching import Options, Placement
from ..rivya.stitching.compose import Canvas
from ..rivya.stitching.stitch import stitch_into
from . import host, tensors, waiting


class _Stopped(Exception):
    """The user has cancelled."""


@dataclass(frozen=True)
class Stitches:
    """The node's outputs as lists of batches: one per size, in order of first appearance."""

    images: list[torch.Tensor]
    masks: list[torch.Tensor]
    layers: list[torch.Tensor]


@dataclass(frozen=True)
class _Pair:
    original: int
    edit: torch.Tensor
    batch: int
    position: int


class Work:
    """The pictures of one run.

    Args:
        original, edited: IMAGE batches.
        placements: values of Rivya Crop for Edit.
        masks: MASK batches.
        reports: of Rivya Submit and Wait, one per call.
        options: how edits are put back.

    Raises:
        ValidationError: see `pairs`, `tensors.check`; or too many pixels for memory.
    """

    def __init__(
        self,
        original: Sequence[object],
        edited: Sequence[object],
        placements: Sequence[object] | None,
        masks: Sequence[object] | None,
        reports: Sequence[object] | None,
        options: Options,
    ) -> None:
        self._options = options
        self._stop = Event()
        self._originals = [picture for batch in original for picture in _checked("original", batch)]
        edits = [_checked("edited", batch) for batch in edited]
        self._placements = _placements(placements, len(self._originals))
        self._masks = _masks(masks, len(self._originals))
        self._pairs: list[_Pair] = []
        shapes: dict[tuple[int, ...], int] = {}
        for number, edit in pairs(len(self._originals), edits, reports):
            shape = tuple(self._originals[number].shape)
            batch = list(shapes).index(shape) if shape in shapes else len(shapes)
            self._pairs.append(_Pair(number, edit, batch, shapes.get(shape, 0)))
            shapes[shape] = shapes.get(shape, 0) + 1
        self._canvases = _canvases(shapes)

    async def done(self) -> tuple[Stitches, list[dict[str, Any]]]:
        """Stitch all, with progress and Cancel; returns batches and reports."""
        jobs = [engine.shared().codec(self._stitch, pair) for pair in self._pairs]
        shown = -1

        async def look() -> None:
            nonlocal shown
            ended = sum(job.done.done() for job in jobs)
            if ended != shown:
                shown = ended
                if len(jobs) > 1:
                    host.say(f"Stitching {ended} of {len(jobs)}")
                await host.progress(ended / len(jobs))

        try:
            await look()
            await waiting.until_done(jobs, look)
        finally:
            self._stop.set()
            for job in jobs:
                job.cancel()
        reports = [job.done.result() for job in jobs]
        return await waiting.result(engine.shared().codec(self._batches, **host.tensor_placement())), reports

    def _stitch(self, pair: _Pair) -> dict[str, Any]:
        images, masks, layers = self._canvases[pair.batch]
        at = pair.position
        try:
            report = stitch_into(
                Canvas(images[at], masks[at], layers[at]),
                _pixels(self._originals[pair.original]),
                _pixels(pair.edit),
                placement=self._placements[pair.original],
                mask=self._masks[pair.original],
                options=self._options,
                check=self._check,
            )
        except MemoryError:
            raise ValidationError(
                "There is not enough memory to stitch this picture.",
                hint="Stitch fewer or smaller pictures at once.",
                code="images_too_large",
            ) from None
        return {
            "original": pair.original,
            "batch": pair.batch,
            "position": pair.position,
            **report,
        }

    def _check(self) -> None:
        if self._stop.is_set():
            raise _Stopped

    def _batches(self, device: torch.device | str, dtype: torch.dtype = torch.float32) -> Stitches:
        found = Stitches([], [], [])
        while self._canvases:
            for array, batches in zip(
                self._canvases.pop(0), (found.images, found.masks, found.layers), strict=True
            ):
                batches.append(torch.from_numpy(array).to(device=device, dtype=dtype))
        return found


def pairs(
    originals: int, edits: Sequence[torch.Tensor], reports: Sequence[object] | None
) -> list[tuple[int, torch.Tensor]]:
    """Each edit with the number of its original, in output order.

    Raises:
        ValidationError: the counts do not fit; the message names both and the remedy.
    """
    if reports:
        return _by_report(originals, edits, reports)
    flat = [edit for batch in edits for edit in batch]
    if not originals or not flat or len(flat) % originals:
        raise ValidationError(
            f"There are {originals} originals and {len(flat)} edits: that is not the same number of edits for each.",
            hint="Connect report of Rivya Submit and Wait: it says which edit belongs to which picture.",
            code="counts_do_not_fit",
        )
    return [(number // (len(flat) // originals), edit) for number, edit in enumerate(flat)]


def _by_report(
    originals: int, edits: Sequence[torch.Tensor], reports: Sequence[object]
) -> list[tuple[int, torch.Tensor]]:
    found: list[tuple[int, torch.Tensor]] = []
    first_batch = first_picture = 0
    for report in reports:
        orders = _orders(report)
        delivered = [order for order in orders if order.get("batch") is not None]
        for order in delivered:
            number = first_picture + (order.get("reference") or 0)
            batch = first_batch + order["batch"]
            if number >= originals or batch >= len(edits) or order["position"] >= len(edits[batch]):
                raise ValidationError(
                    f"report tells of picture {number + 1} and batch {batch + 1}; there are {originals} originals and "
                    f"{len(edits)} batches of edits.",
                    hint="Connect images and report of one Rivya Submit and Wait, and the pictures that it edited.",
                    code="counts_do_not_fit",
                )
            found.append((number, edits[batch][order["position"]]))
        first_batch += 1 + max((order["batch"] for order in delivered), default=-1)
        first_picture += 1 + max((order.get("reference") or 0 for order in orders), default=-1)
    if not found:
        raise ValidationError("report tells of no picture.", code="counts_do_not_fit")
    return found


def _orders(report: object) -> list[dict[str, Any]]:
    try:
        orders = json.loads(str(report))["orders"]
        if isinstance(orders, list) and all(_tells_where(order) for order in orders):
            return orders
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        pass
    raise ValidationError("report is not the report of Rivya Submit and Wait.", code="not_a_report")


def _tells_where(order: dict[str, Any]) -> bool:
    """Whether batch, position and reference are whole numbers from 0, or absent."""
    places = [order["position"]] if order.get("batch") is not None else []
    places += [value for name in ("batch", "reference") if (value := order.get(name)) is not None]
    return all(type(value) is int and value >= 0 for value in places)


def _checked(name: str, batch: object) -> torch.Tensor:
    try:
        return tensors.check(batch)
    except ValidationError as error:
        raise ValidationError(f"{name}: {error.message}", hint=error.hint, code=error.code) from None


def _pixels(picture: torch.Tensor) -> np.ndarray[Any, Any]:
    """uint8 or float32 (height, width, channels), sharing the tensor's memory where possible."""
    picture = picture.cpu()
    if picture.dtype is torch.uint8:
        return np.asarray(picture.numpy())
    return np.asarray(picture.to(torch.float32).numpy())


def _placements(values: Sequence[object] | None, count: int) -> list[Placement | None]:
    if not values:
        return [None] * count
    found: list[Placement] = []
    for value in values:
        if not isinstance(value, tuple) or not all(isinstance(each, Placement) for each in value):
            raise ValidationError("placement does not come from Rivya Crop for Edit.")
        found.extend(value)
    return list(_for_each("placements", found, count))


def _masks(values: Sequence[object] | None, count: int) -> list[np.ndarray[Any, Any] | None]:
    if not values:
        return [None] * count
    found = [shade for value in values for shade in mask_batch(value)]
    return list(_for_each("masks", found, count))


def mask_batch(value: object) -> list[np.ndarray[Any, Any]]:
    """The masks of a MASK: float32 (height, width).

    Raises:
        ValidationError: no MASK, empty, or with NaN or infinity.
    """
    if not isinstance(value, torch.Tensor) or value.ndim not in (2, 3) or 0 in value.shape:
        shape = "x".join(map(str, getattr(value, "shape", ()))) or type(value).__name__
        raise ValidationError(f"mask is of shape {shape}; a MASK is masks x height x width.")
    shades = value.detach().cpu().to(torch.float32).numpy()
    if not np.isfinite([shades.min(), shades.max()]).all():
        raise ValidationError("mask contains NaN or infinity: the node before it produced a broken mask.")
    return list(shades if shades.ndim == 3 else shades[None])


def _for_each(name: str, values: list[Any], count: int) -> list[Any]:
    if len(values) == 1:
        return values * count
    if len(values) != count:
        raise ValidationError(
            f"There are {count} originals and {len(values)} {name}.",
            hint=f"Give one for all pictures, or one of the {name} for each.",
            code="counts_do_not_fit",
        )
    return values


def _canvases(shapes: dict[tuple[int, ...], int]) -> list[tuple[np.ndarray[Any, Any], ...]]:
    pixels = sum(height * width * count for (height, width, _), count in shapes.items())
    message = f"The results of this node have {pixels / 1e6:,.0f} megapixels together, too many for memory."
    hint = "Stitch fewer pictures at once."
    if pixels > tensors.MAX_PIXELS_TOGETHER:
        raise ValidationError(message, hint=hint, code="images_too_large")
    try:
        return [
            (
                np.empty((count, height, width, max(3, channels)), np.float32),
                np.empty((count, height, width), np.float32),
                np.empty((count, height, width, 3), np.float32),
            )
            for (height, width, channels), count in shapes.items()
        ]
    except MemoryError:
        raise ValidationError(message, hint=hint, code="images_too_large") from None


def texts(pictures: Sequence[dict[str, Any]]) -> list[str]:
    lines = [_line(picture) for picture in pictures[:4]]
    if len(pictures) > len(lines):
        lines.append(f"and {len(pictures) - len(lines)} more: see report")
    notes = dict.fromkeys(note for picture in pictures for note in picture["notes"])
    return [*lines, *notes]


def _line(picture: dict[str, Any]) -> str:
    parts = []
    if picture["aligned"]:
        moved = [f"aligned {picture['scale_x']:.1%} x {picture['scale_y']:.1%}"]
        for value, names in ((picture["x"], ("right", "left")), (picture["y"], ("down", "up"))):
            if abs(value) >= 0.5:
                moved.append(f"{abs(value):.0f} px {names[value < 0]}")
        parts.append(", ".join(moved))
    elif picture["aligned"] is False:
        parts.append("not aligned")
    parts.append(f"{picture['share']:.1%} of the picture replaced")
    gain = sum(picture["gain"]) / 3 - 1
    if abs(gain) >= 0.005:
        parts.append(f"colours {gain:+.0%}")
    if picture["coarser"] > 1.05:
        parts.append(f"detail {picture['coarser']:.1f}x coarser than the original")
    return " · ".join(parts)
