"""One JPEG through the two libraries that ComfyUI decodes with: Pillow before 0.21, PyAV (FFmpeg) since.

JPEG leaves it to the decoder how colours at half the size are spread over the pixels. So the same file is not the same
picture in both, and an identity over pixels cannot bridge that: what separates the two decoders is more than what
separates a picture from a retouched one.
"""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import numpy.typing as npt
from PIL import Image

from rivya.images import encode

PHOTO = Path(__file__).resolve().parents[2] / "web" / "sample.jpg"


def by_pillow() -> npt.NDArray[np.uint8]:
    return np.asarray(Image.open(PHOTO).convert("RGB"))


def by_pyav() -> npt.NDArray[np.uint8]:
    """As ComfyUI 0.33 does it: planes of floats, then to eight bits as this pack sends them."""
    with av.open(str(PHOTO)) as container:
        frame = next(container.decode(video=0)).to_ndarray(format="gbrpf32le")
    return np.rint(np.clip(frame, 0, 1) * 255).astype(np.uint8)


def distance(one: npt.NDArray[np.uint8], other: npt.NDArray[np.uint8]) -> float:
    """Mean difference of a channel, in levels of 255."""
    return float(np.abs(one.astype(np.int16) - other).mean())


def test_a_tolerance_that_takes_both_decoders_for_one_picture_would_take_a_retouched_one_too() -> None:
    pillow, pyav = by_pillow(), by_pyav()
    assert pillow.shape == pyav.shape
    retouched = pillow.copy()
    retouched[120:140, 160:180] = 255 - retouched[120:140, 160:180]  # a spot that anybody sees
    between = distance(pillow, pyav)
    assert 0 < distance(pillow, retouched) < between < 2
    assert np.abs(pillow.astype(np.int16) - pyav).max() > 4
    assert (pillow != pyav).any(axis=-1).mean() > 0.5


def test_the_identity_of_a_picture_is_exact() -> None:
    pillow = by_pillow()
    one_level = pillow.copy()
    one_level[0, 0, 0] ^= 1
    hashes = {encode.pixel_hash(each) for each in (pillow, one_level, by_pyav())}
    assert len(hashes) == 3
    assert encode.pixel_hash(by_pillow()) == encode.pixel_hash(pillow)
