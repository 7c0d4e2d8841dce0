"""Pictures for the tests: the demo's photograph, and shapes with the detail of one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from pixels.making import photo

ROOT = Path(__file__).resolve().parents[2]


def cat(width: int = 902, height: int = 600) -> Image.Image:
    """The photograph of the demo."""
    with Image.open(ROOT / "web" / "sample.jpg") as opened:
        return opened.convert("RGB").resize((width, height), Image.Resampling.BICUBIC)


def scenery(width: int = 902, height: int = 600, seed: int = 5) -> Image.Image:
    """Soft shapes with waves and noise."""
    return Image.fromarray(photo(width, height, seed))


def in_form(pixels: np.ndarray, form: str) -> np.ndarray:
    """uint8 pixels as uint8, uint16 or float32, with low bits and values that only the wider form has."""
    if form == "uint8":
        return pixels
    rng = np.random.default_rng(3)
    if form == "uint16":
        return pixels.astype(np.uint16) * 256 + rng.integers(0, 256, pixels.shape, np.uint16)
    return pixels.astype(np.float32) / 255 * 0.99 + rng.random(pixels.shape, np.float32) * 0.001


def disc(width: int, height: int, x: float = 0.5, y: float = 0.5, radius: float = 0.2) -> np.ndarray:
    """A mask, float32: a disc; ``radius`` in shares of the height."""
    rows, columns = np.mgrid[0:height, 0:width]
    return (np.hypot(columns - x * width, rows - y * height) < radius * height).astype(np.float32)
