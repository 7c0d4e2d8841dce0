"""What leaves the graph is what the service gets: packing pixels, and making them fit."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from rivya.errors import ValidationError
from rivya.images import decode, encode

from .making import noise, photo

pytestmark = pytest.mark.heavy

ROOT = Path(__file__).resolve().parents[2]

pictures = st.tuples(st.integers(1, 40), st.integers(1, 40), st.sampled_from([1, 3, 4])).flatmap(
    lambda shape: hnp.arrays(np.uint8, shape)
)


def read_back(data: bytes, channels: int) -> np.ndarray:
    """The pixels of a file by Pillow alone."""
    image = Image.open(BytesIO(data)).convert({1: "L", 3: "RGB", 4: "RGBA"}[channels])
    return np.asarray(image).reshape(image.height, image.width, channels)


@given(pixels=pictures, encoding=st.sampled_from(["auto", "png", "webp"]))
@example(pixels=np.full((1, 1, 4), 255, np.uint8), encoding="webp")
@settings(deadline=None, max_examples=150)
def test_the_lossless_encodings_give_back_every_pixel(pixels: np.ndarray, encoding: str) -> None:
    encoded = encode.encode(pixels, encoding)
    assert np.array_equal(read_back(encoded.data, pixels.shape[2]), pixels)
    ours = decode.decode(encoded.data).pixels
    # Grey comes back as RGB. WebP keeps no alpha channel that is opaque everywhere.
    meant = np.broadcast_to(pixels, (*pixels.shape[:2], max(pixels.shape[2], 3)))
    if ours.shape[2] == 3 and meant.shape[2] == 4:
        assert (meant[..., 3] == 255).all()
        meant = meant[..., :3]
    assert np.array_equal(ours, meant)
    assert (encoded.width, encoded.height) == (pixels.shape[1], pixels.shape[0])
    assert encoded.transformation == ""
    assert encoded.notes == ()


@given(pixels=pictures)
@settings(deadline=None, max_examples=100)
def test_the_identity_of_a_picture_is_its_size_its_mode_and_its_pixels(pixels: np.ndarray) -> None:
    height, width, channels = pixels.shape
    head = f"{width}x{height} {({1: 'L', 3: 'RGB', 4: 'RGBA'})[channels]}\n".encode()
    assert encode.pixel_hash(pixels) == hashlib.sha256(head + pixels.tobytes()).hexdigest()
    strided = np.zeros((height * 2, width, channels), np.uint8)[::2]
    strided[:] = pixels
    assert encode.pixel_hash(strided) == encode.pixel_hash(pixels)


def test_the_same_bytes_in_another_form_are_another_picture() -> None:
    flat = noise(6, 4, channels=1)
    shapes = [(4, 6, 1), (6, 4, 1), (4, 2, 3), (2, 4, 3), (3, 2, 4), (24, 1, 1)]
    assert len({encode.pixel_hash(flat.reshape(shape)) for shape in shapes}) == len(shapes)


def test_auto_is_a_png_as_small_as_the_default_one() -> None:
    pixels = photo(500, 400)
    encoded = encode.encode(pixels)
    default = BytesIO()
    Image.fromarray(pixels).save(default, "PNG")
    assert (encoded.encoding, encoded.mime, encoded.extension) == ("png", "image/png", "png")
    assert len(encoded.data) <= 1.02 * len(default.getvalue())


def test_what_png_cannot_hold_goes_as_lossless_webp() -> None:
    flat = np.kron(noise(40, 40), np.ones((8, 8, 1), np.uint8))
    flat[::2] ^= 1
    limits = {name: len(encode.encode(flat, name).data) for name in ("png", "webp")}
    assert limits["webp"] < limits["png"]
    encoded = encode.encode(flat, "auto", limits["png"] - 1)
    assert encoded.encoding == "webp"
    assert np.array_equal(read_back(encoded.data, 3), flat)
    assert "WebP" in encoded.notes[0]


def test_then_comes_jpeg_of_the_best_quality_that_fits() -> None:
    pixels = photo(300, 200)
    sizes = {}
    for quality in range(85, 96):
        file = BytesIO()
        Image.fromarray(pixels).save(file, "JPEG", quality=quality, subsampling=0)
        sizes[quality] = len(file.getvalue())
    for quality in (95, 92, 88, 85):
        encoded = encode.encode(pixels, "auto", sizes[quality])
        assert encoded.encoding == "jpeg"
        assert len(encoded.data) == sizes[quality]
        assert f"quality {quality}" in encoded.notes[0]
        assert encoded.transformation == ""
        image = Image.open(BytesIO(encoded.data))
        assert [layer[1:3] for layer in image.layer] == [(1, 1)] * 3


def test_only_then_the_picture_gets_smaller_and_both_sizes_are_said() -> None:
    pixels = photo(400, 300)
    full = len(encode.encode(pixels, "jpeg").data)
    encoded = encode.encode(pixels, "auto", full // 4)
    assert len(encoded.data) <= full // 4
    assert encoded.width < 400
    assert abs(encoded.width / encoded.height - 4 / 3) < 0.02
    assert encoded.transformation == f"resize:{encoded.width}x{encoded.height}"
    assert any("400x300" in note and f"{encoded.width}x{encoded.height}" in note for note in encoded.notes)
    assert any("JPEG" in note for note in encoded.notes)
    assert Image.open(BytesIO(encoded.data)).size == (encoded.width, encoded.height)


def test_the_smaller_picture_is_the_lanczos_one_and_about_as_large_as_may_be() -> None:
    pixels = photo(400, 300)
    limit = len(encode.encode(pixels, "jpeg").data) // 4
    encoded = encode.encode(pixels, "auto", limit)
    size = encoded.width, encoded.height
    expected = np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.LANCZOS), np.int16)
    assert np.abs(read_back(encoded.data, 3) - expected).mean() < 3
    file = BytesIO()
    larger = round(size[0] * 25 / 23) + 1, round(size[1] * 25 / 23) + 1
    Image.fromarray(pixels).resize(larger, Image.Resampling.LANCZOS).save(
        file, "JPEG", quality=85, subsampling=0
    )
    assert len(file.getvalue()) > limit


@pytest.mark.parametrize("encoding", ["png", "webp", "jpeg"])
def test_a_named_encoding_that_does_not_fit_names_what_would(encoding: str) -> None:
    with pytest.raises(ValidationError) as caught:
        encode.encode(noise(200, 200), encoding, 20_000)
    assert caught.value.code == "image_too_large"
    assert encoding.upper() in caught.value.message
    assert "MB" in caught.value.message
    assert "auto" in caught.value.hint
    assert "jpeg" in caught.value.hint


def test_a_named_encoding_that_fits_is_taken_without_a_word() -> None:
    for encoding in ("png", "webp", "jpeg"):
        encoded = encode.encode(photo(64, 64), encoding)
        assert (encoded.encoding, encoded.notes) == (encoding, ())
        assert Image.open(BytesIO(encoded.data)).format == encoding.upper()


def test_named_jpeg_goes_down_to_quality_85_and_says_so() -> None:
    pixels = photo(300, 200)
    file = BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=90, subsampling=0)
    encoded = encode.encode(pixels, "jpeg", len(file.getvalue()))
    assert encoded.data == file.getvalue()
    assert "90" in encoded.notes[0]


@pytest.mark.parametrize(("side", "encoding"), [(16_384, "webp"), (65_501, "jpeg")])
def test_sides_beyond_an_encoding_are_named(side: int, encoding: str) -> None:
    pixels = np.zeros((1, side, 3), np.uint8)
    with pytest.raises(ValidationError, match=r"pixels a side") as caught:
        encode.encode(pixels, encoding)
    assert "png" in caught.value.hint
    assert encode.encode(pixels).encoding == "png"


@pytest.mark.parametrize(("side", "encoding"), [(16_383, "webp"), (65_500, "jpeg")])
def test_sides_up_to_the_limit_of_an_encoding_are_taken(side: int, encoding: str) -> None:
    assert encode.encode(np.zeros((side, 1, 3), np.uint8), encoding).height == side


def test_auto_passes_by_what_a_long_side_rules_out() -> None:
    pixels = photo(17_000, 16)
    encoded = encode.encode(pixels, "auto", len(encode.encode(pixels, "png").data) - 1)
    assert (encoded.encoding, encoded.width) == ("jpeg", 17_000)


def test_a_side_that_only_png_can_hold_gets_smaller_when_png_is_too_large() -> None:
    pixels = photo(66_000, 16)
    encoded = encode.encode(pixels, "auto", len(encode.encode(pixels, "png").data) - 1)
    assert encoded.encoding == "jpeg"
    assert encoded.width <= 65_500
    assert encoded.transformation


def test_transparency_that_jpeg_loses_is_said_and_only_that() -> None:
    pixels = photo(40, 40, channels=4)
    pixels[..., 3] = 255
    assert encode.encode(pixels, "jpeg").notes == ()
    pixels[3, 3, 3] = 254
    assert any("transparency" in note for note in encode.encode(pixels, "jpeg").notes)
    for encoding in ("auto", "png", "webp"):
        assert Image.open(BytesIO(encode.encode(pixels, encoding).data)).mode == "RGBA"


def test_colours_under_full_transparency_are_kept() -> None:
    pixels = noise(30, 30, channels=4)
    pixels[..., 3] = 0
    for encoding in ("png", "webp"):
        assert np.array_equal(read_back(encode.encode(pixels, encoding).data, 4), pixels)


@pytest.mark.parametrize(
    "pixels",
    [
        np.zeros((4, 4), np.uint8),
        np.zeros((4, 4, 2), np.uint8),
        np.zeros((4, 4, 3), np.float32),
        np.zeros((0, 4, 3), np.uint8),
        np.zeros((4, 0, 3), np.uint8),
        np.zeros((1, 4, 4, 3), np.uint8),
    ],
    ids=lambda a: f"{a.dtype}-{a.shape}",
)
def test_what_is_no_picture_is_refused(pixels: np.ndarray) -> None:
    for function in (encode.encode, encode.pixel_hash):
        with pytest.raises(ValidationError):
            function(pixels)


def test_an_unknown_encoding_is_refused() -> None:
    with pytest.raises(ValidationError, match="gif"):
        encode.encode(photo(4, 4), "gif")


def test_a_limit_that_nothing_meets_is_an_error_and_no_endless_search() -> None:
    with pytest.raises(ValidationError) as caught:
        encode.encode(noise(60, 60), "auto", 50)
    assert caught.value.code == "image_too_large"


_HASH_THEM = """
import hashlib, sys
sys.path[:0] = [{root!r}, {tests!r}]
from pixels.making import photo
from rivya.images import encode
for encoding in ("png", "webp", "jpeg"):
    print(hashlib.sha256(encode.encode(photo(301, 203, channels=4), encoding).data).hexdigest())
print(encode.pixel_hash(photo(301, 203, channels=4)))
"""


@pytest.mark.slow
def test_identical_pixels_give_identical_bytes_in_every_process_and_thread() -> None:
    script = _HASH_THEM.format(root=str(ROOT), tests=str(ROOT / "tests"))
    seen = {
        subprocess.run(
            [sys.executable, "-c", script],
            env={"PYTHONHASHSEED": seed, "PATH": "", "OMP_NUM_THREADS": threads},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed, threads in (("0", "1"), ("4242", "7"))
    }
    assert len(seen) == 1
    pixels = photo(301, 203, channels=4)
    for workers in (1, 2, 8):
        with ThreadPoolExecutor(workers) as pool:
            for encoding, expected in zip(("png", "webp", "jpeg"), next(iter(seen)).split(), strict=False):
                made = pool.map(lambda name: encode.encode(pixels, name).data, [encoding] * 8)
                assert {hashlib.sha256(data).hexdigest() for data in made} == {expected}


def test_a_preview_is_small_and_keeps_the_proportions() -> None:
    for form in ("PNG", "JPEG", "WEBP"):
        file = BytesIO()
        Image.fromarray(photo(1200, 600)).save(file, form)
        preview = encode.thumbnail_for_preview(file.getvalue())
        assert (preview.size, preview.mode) == ((512, 256), "RGB")
    small = encode.thumbnail_for_preview(encode.encode(photo(30, 20)).data)
    assert small.size == (30, 20)
