"""The work of Rivya Crop for Edit, in a thread."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from ..rivya.errors import ValidationError
from ..rivya.stitching import Placement, masks, placement
from ..rivya.stitching.boxes import Box
from ..rivya.stitching.raster import TRIANGLE, resampled
from . import tensors
from .stitching import mask_batch


def cropped(
    image: object,
    context: float,
    shape: str,
    fit: str,
    mask: object,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
) -> tuple[torch.Tensor, tuple[Placement, ...], torch.Tensor, list[str]]:
    """Crops, placements, masks in the crops, and notes.

    Raises:
        ValidationError: an input does not fit, or the picture is erased under its mask.
    """
    pictures = [picture.cpu() for picture in tensors.check(image)]
    height, width = pictures[0].shape[:2]
    shades, notes = _shades(mask, len(pictures), width, height)
    regions = [placement.bounds(shade) if shade is not None else None for shade in shades]
    for picture, shade in zip(pictures, shades, strict=True):
        if shade is not None:
            placement.refuse_erased(_pixels(picture), shade)
    chosen, boxes = placement.choose((width, height), regions, context, shape, fit)
    size = placement.SIZES[chosen]
    crops = np.stack(
        [placement.cropped(_pixels(picture), box, size) for picture, box in zip(pictures, boxes, strict=True)]
    )
    inside = np.stack([_in_crop(shade, box, size) for shade, box in zip(shades, boxes, strict=True)])
    placements = tuple(
        Placement(width, height, box, chosen, size, shade) for box, shade in zip(boxes, shades, strict=True)
    )
    return (
        torch.from_numpy(crops).to(device=device, dtype=dtype),
        placements,
        torch.from_numpy(inside).to(device=device, dtype=dtype),
        notes,
    )


def _pixels(picture: torch.Tensor) -> np.ndarray[Any, Any]:
    if picture.dtype is torch.uint8:
        return np.asarray(picture.numpy())
    return np.asarray(picture.to(torch.float32).numpy())


def _shades(
    mask: object, count: int, width: int, height: int
) -> tuple[list[np.ndarray[Any, Any] | None], list[str]]:
    """For each picture its mask at picture size (None where nothing is marked), and notes."""
    if mask is None:
        return [None] * count, []
    found = mask_batch(mask)
    if len(found) not in (1, count):
        raise ValidationError(
            f"There are {count} pictures and {len(found)} masks.",
            hint="Give one mask for all pictures, or one for each.",
            code="counts_do_not_fit",
        )
    marked = [masks.fitting(shade, width, height) if shade.max() > 0 else None for shade in found]
    notes = (
        ["The mask is empty: the whole picture is taken."] if any(shade is None for shade in marked) else []
    )
    return marked * count if len(marked) == 1 else marked, notes


def _in_crop(shade: np.ndarray[Any, Any] | None, box: Box, size: tuple[int, int]) -> np.ndarray[Any, Any]:
    """The mask in the crop, 1 everywhere without a mask; beyond the picture it continues the picture's edge."""
    if shade is None:
        return np.ones((size[1], size[0]), np.float32)
    return np.asarray(resampled(shade[..., None], box, size, TRIANGLE)[..., 0].clip(0, 1))


def text(placements: Sequence[Placement]) -> str:
    first = placements[0]
    worst = max(placements, key=lambda each: each.coarser)
    if worst.coarser > 1.05:
        detail = f"Kontext sees it {worst.coarser:.1f}x coarser"
    else:
        detail = "Kontext sees every pixel"
    what = f"{first.shape}, {worst.box.width:,.0f} px of {worst.width:,}"
    if worst.padding > 0.001:
        what += f", {worst.padding:.0%} padding"
    advice = "\nPaint a mask to keep more detail." if worst.mask is None and worst.coarser > 1.5 else ""
    return f"{what}: {detail}.{advice}"
