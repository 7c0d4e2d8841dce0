"""ComfyUI's IMAGE and MASK tensors <-> 8-bit pixel arrays and picture files.

All functions are synchronous and thread-safe, for codec threads. Each picture is a call of its own: one can be packed
while another is uploaded.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch

from ..rivya.errors import Charged, ImageError, ValidationError
from ..rivya.images import decode
from ..rivya.images.header import Header
from ..rivya.images.pixels import eight_bits

_BROKEN = "the node before it produced a broken picture."
_FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
_BAND_VALUES = 1 << 18

MAX_PIXELS_TOGETHER = 512_000_000
"""Limit for all pictures of one node: 64 of 8 megapixels, 6 GB as an IMAGE."""


def check(image: object) -> torch.Tensor:
    """Take an IMAGE: (pictures, height, width, 1 grey, 3 RGB or 4 RGBA), floats of 0 to 1, or uint8.

    Values outside 0 to 1 are accepted, and clipped later.

    Raises:
        ValidationError: not that, an empty batch, a side of 0, NaN or infinity (names the picture).
    """
    if not isinstance(image, torch.Tensor):
        raise ValidationError(f"image is {type(image).__name__}, not an IMAGE.")
    shape = "x".join(str(side) for side in image.shape) or "a single number"
    if image.ndim != 4 or image.shape[3] not in (1, 3, 4):
        raise ValidationError(
            f"image is of shape {shape}; an IMAGE is pictures x height x width x 1, 3 or 4 channels."
        )
    if image.shape[0] == 0:
        raise ValidationError(f"image is an empty batch: {_BROKEN}")
    if 0 in image.shape:
        raise ValidationError(f"image is of shape {shape}, without a single pixel: {_BROKEN}")
    if image.dtype is not torch.uint8 and image.dtype not in _FLOATS:
        raise ValidationError(
            f"image holds {str(image.dtype).removeprefix('torch.')}; floats or uint8 are taken."
        )
    image = image.detach()
    if image.dtype is not torch.uint8:
        _check_finite(image)
    return image


def _check_finite(image: torch.Tensor) -> None:
    """Refuse NaN and infinity, by the extremes: one pass without a copy."""
    for number, picture in enumerate(image):
        low, high = (float(value) for value in torch.aminmax(picture))
        if not np.isfinite([low, high]).all():
            what = "NaN" if np.isnan([low, high]).any() else "infinity"
            raise ValidationError(f"image {number + 1} of {len(image)} contains {what}: {_BROKEN}")


def frames(image: object) -> list[Callable[[], np.ndarray[Any, Any]]]:
    """One function per picture of an IMAGE, which returns it as uint8 (height, width, 1, 3 or 4).

    The whole batch is checked first. Values are clipped, then rounded.

    Raises:
        ValidationError: see `check`.
    """
    return [partial(_to_8_bits, picture) for picture in check(image)]


def _to_8_bits(picture: torch.Tensor) -> np.ndarray[Any, Any]:
    """round(255 * clip(value, 0, 1)), in bands that stay in the processor's cache."""
    picture = picture.cpu()
    if picture.dtype is torch.uint8:
        return np.array(picture.numpy(), order="C")
    pixels = np.empty(tuple(picture.shape), np.uint8)
    rows = max(1, _BAND_VALUES // (picture.shape[1] * picture.shape[2]))
    wide = torch.float64 if picture.dtype is torch.float64 else torch.float32
    for top in range(0, len(pixels), rows):
        band = picture[top : top + rows].to(wide).numpy()
        pixels[top : top + rows] = eight_bits(band)
    return pixels


class BatchIndex(NamedTuple):
    """A picture's batch in the output, its position there, and its size in pixels."""

    batch: int
    position: int
    width: int
    height: int


@dataclass(frozen=True)
class Batches:
    """Decoded pictures: one batch per size, in order of first appearance.

    Attributes:
        images: IMAGE tensors, (pictures, height, width, 3), RGB.
        masks: MASK tensors, (pictures, height, width): 1 where transparent. For a batch without transparency, one zero
            expanded to the size.
        places: index of each file's picture.
        warnings: sentences for the report, by file.
    """

    images: list[torch.Tensor]
    masks: list[torch.Tensor]
    places: list[BatchIndex]
    warnings: list[tuple[str, ...]]


def _check_together(headers: Sequence[Header]) -> None:
    """`decode.inspect` caps each picture; this caps all of one node."""
    total = sum(header.width * header.height for header in headers)
    if total > MAX_PIXELS_TOGETHER:
        raise _too_much(
            f"The pictures of this node have {total / 1e6:,.0f} megapixels together, too many for memory."
        )


def _too_much(message: str) -> ImageError:
    return ImageError(
        message,
        hint="They are stored: bring them a few at a time with Rivya Collect Tasks, by their task ids.",
        code="images_too_large",
        charged=Charged.YES,
    )


class Plan:
    """Picture files of known size, to be decoded.

    Memory for the batches is reserved once. `decode` fills in one picture and may run in several threads; `finish`
    returns the batches.

    Args:
        files: PNG, JPEG or WebP.

    Raises:
        ImageError: a file is no picture or beyond the limits, see `decode.inspect`; or all together are
            (``images_too_large``).
    """

    def __init__(self, files: Sequence[bytes]) -> None:
        self._files = list(files)
        self._headers = [decode.inspect(file) for file in self._files]
        _check_together(self._headers)
        members: dict[tuple[int, int], list[Header]] = {}
        self.places: list[BatchIndex] = []
        for header in self._headers:
            size = header.width, header.height
            batch = members.setdefault(size, [])
            self.places.append(BatchIndex(list(members).index(size), len(batch), *size))
            batch.append(header)
        # numpy asks for large pages, unlike torch.empty: filling them is faster by half.
        try:
            self._images = [np.empty((len(batch), h, w, 3), np.float32) for (w, h), batch in members.items()]
            self._masks = [
                np.zeros((len(batch), h, w), np.float32) if any(header.alpha for header in batch) else None
                for (w, h), batch in members.items()
            ]
        except MemoryError:
            raise _too_much("There is not enough memory for all pictures of this node at once.") from None
        self._warnings: list[tuple[str, ...]] = [()] * len(self._files)

    def decode(self, number: int) -> None:
        """Decode file ``number`` into its batch. Raises `ImageError` as `decode.verify`."""
        place, header = self.places[number], self._headers[number]
        masks = self._masks[place.batch]
        self._warnings[number] = decode.decode_into(
            self._files[number],
            self._images[place.batch][place.position],
            masks[place.position] if masks is not None and header.alpha else None,
            header,
        )

    def finish(self, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32) -> Batches:
        """The batches, on ``device`` and as ``dtype``. Call once, after all files are decoded."""
        images, masks = [], []
        while self._images:
            pixels, shades = self._images.pop(0), self._masks.pop(0)
            images.append(torch.from_numpy(pixels).to(device=device, dtype=dtype))
            if shades is None:
                masks.append(torch.zeros((1, 1, 1), device=device, dtype=dtype).expand(pixels.shape[:3]))
            else:
                masks.append(torch.from_numpy(shades).to(device=device, dtype=dtype))
        return Batches(images, masks, self.places, self._warnings)
