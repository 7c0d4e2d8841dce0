"""ComfyUI's tensors in and out: every dtype, stride and value in; exact batches and masks out."""

from __future__ import annotations

import tracemalloc
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from . import making as m
from .pack import ImageError, ValidationError, tensors, to_batches

FLOATS = [torch.float16, torch.bfloat16, torch.float32, torch.float64]
shapes = st.tuples(st.integers(1, 3), st.integers(1, 12), st.integers(1, 12), st.sampled_from([1, 3, 4]))


def pixels_of(image: torch.Tensor) -> np.ndarray:
    """What each picture of ``image`` is in 8 bits."""
    return np.stack([frame() for frame in tensors.frames(image)])


def in_8_bits(values: np.ndarray) -> np.ndarray:
    """Clipped, then rounded, in the precision of the values."""
    return np.rint(np.minimum(np.maximum(values, 0), 1) * values.dtype.type(255)).astype(np.uint8)


@given(
    values=shapes.flatmap(
        lambda s: hnp.arrays(
            np.float32, s, elements=st.floats(width=32, allow_nan=False, allow_infinity=False)
        )
    )
)
@settings(deadline=None, max_examples=200)
def test_any_finite_values_are_clipped_then_rounded(values: np.ndarray) -> None:
    assert np.array_equal(pixels_of(torch.from_numpy(values)), in_8_bits(values))


@given(values=shapes.flatmap(lambda s: hnp.arrays(np.float64, s, elements=st.floats(-0.5, 1.5))))
@settings(deadline=None, max_examples=100)
def test_doubles_are_rounded_as_doubles(values: np.ndarray) -> None:
    assert np.array_equal(pixels_of(torch.from_numpy(values)), in_8_bits(values))


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_every_dtype_and_channel_count(dtype: torch.dtype, channels: int) -> None:
    image = (torch.rand((2, 70, 90, channels), generator=torch.manual_seed(1)) * 1.2 - 0.1).to(dtype)
    wide = image.double() if dtype is torch.float64 else image.float()
    assert np.array_equal(pixels_of(image), in_8_bits(wide.numpy()))


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_what_8_bits_hold_survives_every_dtype_that_holds_it(dtype: torch.dtype) -> None:
    every = torch.arange(256).reshape(1, 16, 16, 1).repeat(1, 1, 1, 3)
    back = pixels_of((every.double() / 255).to(dtype))
    if dtype is torch.bfloat16:
        assert np.abs(back.astype(int) - every.numpy()).max() <= 1
    else:
        assert np.array_equal(back, every.numpy())


def test_uint8_is_taken_as_pixels() -> None:
    pixels = np.stack([m.noise(30, 20, seed, 4) for seed in range(2)])
    assert np.array_equal(pixels_of(torch.from_numpy(pixels)), pixels)


def test_a_picture_of_many_bands_is_put_together() -> None:
    pixels = m.photo(1500, 900)[None]
    assert np.array_equal(pixels_of(torch.from_numpy(pixels.astype(np.float32) / np.float32(255))), pixels)


@given(
    axes=st.permutations([0, 1, 2, 3]),
    steps=st.tuples(st.integers(1, 3), st.integers(1, 3), st.integers(1, 3)),
    flip=st.booleans(),
    expand=st.booleans(),
)
@settings(deadline=None, max_examples=80)
def test_any_strides(axes: list[int], steps: tuple[int, int, int], flip: bool, expand: bool) -> None:
    shape = [6, 9, 11, 3]
    base = torch.rand([shape[axis] for axis in axes], generator=torch.manual_seed(3))
    image = base.permute([axes.index(axis) for axis in range(4)])[:: steps[0], :: steps[1], :: steps[2]]
    image = image.flip(2) if flip else image
    image = image[:, :, :1].expand(-1, -1, 7, -1) if expand else image
    assert np.array_equal(pixels_of(image), in_8_bits(image.contiguous().numpy()))


def test_gradients_are_no_obstacle_and_the_tensor_is_left_as_it_was() -> None:
    image = torch.rand((1, 5, 5, 3), requires_grad=True)
    before = image.detach().clone()
    assert np.array_equal(pixels_of(image * 1.0), in_8_bits(before.numpy()))
    assert np.array_equal(pixels_of(image), in_8_bits(before.numpy()))
    assert image.requires_grad
    assert torch.equal(image.detach(), before)


def test_the_pixels_are_a_copy() -> None:
    image = torch.full((1, 2, 2, 3), 7, dtype=torch.uint8)
    (frame,) = tensors.frames(image)
    pixels = frame()
    image.zero_()
    assert (pixels == 7).all()


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize(
    ("value", "word"), [(float("nan"), "NaN"), (float("inf"), "infinity"), (float("-inf"), "infinity")]
)
def test_a_broken_picture_is_named_before_anything_is_done(
    dtype: torch.dtype, value: float, word: str
) -> None:
    image = torch.zeros((8, 4, 4, 3), dtype=dtype)
    image[2, 3, 1, 2] = value
    with pytest.raises(ValidationError) as caught:
        tensors.frames(image)
    message = f"image 3 of 8 contains {word}: the node before it produced a broken picture."
    assert caught.value.message == message
    assert caught.value.charged is None  # the node says that: no order has been sent


@pytest.mark.parametrize(
    ("image", "words"),
    [
        (torch.zeros((0, 4, 4, 3)), "empty batch"),
        (torch.zeros((1, 0, 4, 3)), "1x0x4x3"),
        (torch.zeros((1, 4, 0, 3)), "1x4x0x3"),
        (torch.zeros((4, 4, 3)), "4x4x3"),
        (torch.zeros((4, 4)), "4x4"),
        (torch.zeros(()), "single number"),
        (torch.zeros((1, 1, 4, 4, 3)), "1x1x4x4x3"),
        (torch.zeros((1, 4, 4, 2)), "channels"),
        (torch.zeros((1, 3, 4, 5)), "channels"),
        (torch.zeros((1, 4, 4, 3), dtype=torch.int64), "int64"),
        (torch.zeros((1, 4, 4, 3), dtype=torch.bool), "bool"),
        (torch.zeros((1, 4, 4, 3), dtype=torch.complex64), "complex64"),
        (None, "NoneType"),
        ([torch.zeros((1, 4, 4, 3))], "list"),
    ],
    ids=str,
)
def test_what_is_no_image_is_named(image: object, words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        tensors.frames(image)


def unit(pixels: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(pixels.astype(np.float32) / np.float32(np.iinfo(pixels.dtype).max))


def test_equal_sizes_become_one_batch_in_order() -> None:
    pictures = [m.photo(40, 30, seed) for seed in range(5)]
    batches = to_batches([m.saved(each, "PNG") for each in pictures])
    (images,), (masks,) = batches.images, batches.masks
    assert torch.equal(images, unit(np.stack(pictures)))
    assert images.dtype == torch.float32
    assert images.is_contiguous()
    assert torch.equal(masks, torch.zeros((5, 30, 40)))
    assert batches.places == [(0, position, 40, 30) for position in range(5)]


def test_other_sizes_become_batches_of_their_own_in_order_of_first_appearance() -> None:
    sizes = [(40, 30), (20, 30), (40, 30), (9, 9), (20, 30), (40, 30)]
    pictures = [m.photo(*size, seed) for seed, size in enumerate(sizes)]
    forms = ["PNG", "WEBP"] * 3
    files = [m.saved(each, form, lossless=True) for each, form in zip(pictures, forms, strict=True)]
    batches = to_batches(files)
    assert [tuple(images.shape) for images in batches.images] == [
        (3, 30, 40, 3),
        (2, 30, 20, 3),
        (1, 9, 9, 3),
    ]
    assert [place[:2] for place in batches.places] == [(0, 0), (1, 0), (0, 1), (2, 0), (1, 1), (0, 2)]
    for picture, size, place in zip(pictures, sizes, batches.places, strict=True):
        assert (place.width, place.height) == size
        assert torch.equal(batches.images[place.batch][place.position], unit(picture))


def test_a_turned_picture_counts_by_the_size_that_is_shown() -> None:
    pixels = m.photo(40, 30)
    files = [m.png_with(m.saved(pixels, "PNG"), (b"eXIf", m.exif(6))), m.saved(m.photo(30, 40), "PNG")]
    batches = to_batches(files)
    assert [tuple(images.shape) for images in batches.images] == [(2, 40, 30, 3)]
    assert torch.equal(batches.images[0][0], unit(np.rot90(pixels, -1)))


def test_masks_are_one_where_it_is_transparent() -> None:
    clear = m.photo(40, 30, channels=4)
    files = [m.saved(m.photo(40, 30), "PNG"), m.saved(clear, "PNG"), m.saved(m.photo(40, 30), "JPEG")]
    batches = to_batches(files)
    expected = torch.zeros((3, 30, 40))
    expected[1] = 1.0 - unit(clear)[..., 3]
    assert torch.equal(batches.masks[0], expected)
    assert torch.equal(batches.images[0][1], unit(clear)[..., :3])


def test_a_mask_without_transparency_is_one_zero() -> None:
    (mask,) = to_batches([m.saved(m.photo(400, 300), "PNG")] * 2).masks
    assert mask.shape == (2, 300, 400)
    assert mask.untyped_storage().nbytes() == mask.element_size()
    assert not mask.any()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32], ids=str)
def test_dtype_and_device_are_what_was_asked_for(dtype: torch.dtype) -> None:
    pixels = m.photo(40, 30, channels=4)
    batches = to_batches([m.saved(pixels, "PNG"), m.saved(m.photo(9, 9), "PNG")], device="cpu", dtype=dtype)
    assert torch.equal(batches.images[0][0], unit(pixels)[..., :3].to(dtype))
    assert torch.equal(batches.masks[0][0], (1.0 - unit(pixels)[..., 3]).to(dtype))
    assert {tensor.dtype for tensor in (*batches.images, *batches.masks)} == {dtype}


def test_16_bits_are_kept() -> None:
    wide = np.random.default_rng(1).integers(0, 65536, (20, 30, 4), np.uint32)
    batches = to_batches([m.png(wide, m.RGBA, 16)])
    expected = wide.astype(np.float32) / np.float32(65535)
    assert torch.equal(batches.images[0][0], torch.from_numpy(expected[..., :3]))
    assert torch.equal(batches.masks[0][0], torch.from_numpy(np.float32(1) - expected[..., 3]))


def test_no_files_are_no_batches() -> None:
    batches = to_batches([])
    assert (batches.images, batches.masks, batches.places) == ([], [], [])


def test_warnings_are_told_for_each_file() -> None:
    broken = m.png_with(m.saved(m.photo(9, 9), "PNG"), m.iccp(b"broken" * 40))
    batches = to_batches([m.saved(m.photo(9, 9), "PNG"), broken])
    assert batches.warnings[0] == ()
    assert "profile" in batches.warnings[1][0]


def test_a_file_that_is_no_picture_is_an_error_before_memory_is_reserved() -> None:
    with pytest.raises(ImageError, match="HTML"):
        to_batches([m.saved(m.photo(9, 9), "PNG"), b"<html>"])


@pytest.mark.slow
def test_results_are_the_same_over_any_number_of_threads() -> None:
    pictures = [m.photo(700 + 13 * (seed % 2), 500, seed, 3 + seed % 2) for seed in range(8)]
    forms = ["PNG", "JPEG", "WEBP", "PNG"] * 2
    files = [
        m.saved(each[..., :3] if form == "JPEG" else each, form)
        for each, form in zip(pictures, forms, strict=True)
    ]
    expected = to_batches(files)
    for workers in (1, 2, 8):
        plan = tensors.Plan(files)
        with ThreadPoolExecutor(workers) as pool:
            list(pool.map(plan.decode, range(len(files))))
        batches = plan.finish()
        assert batches.places == expected.places
        for ours, theirs in zip(
            (*batches.images, *batches.masks), (*expected.images, *expected.masks), strict=True
        ):
            assert torch.equal(ours, theirs)


@pytest.mark.heavy
@pytest.mark.slow
def test_decoding_holds_little_beside_the_result() -> None:
    files = [m.saved(m.photo(1000, 800, seed), "PNG") for seed in range(2)]
    result = 2 * 1000 * 800 * 3 * 4
    to_batches(files)
    tracemalloc.start()
    try:
        batches = to_batches(files)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert len(batches.images) == 1
    assert peak < 1.25 * result


def test_pictures_that_fit_one_by_one_but_not_together_are_refused_before_memory_is_reserved() -> None:
    tile = m.png(np.zeros((1, 1, 1), np.uint32), m.GREY, 1)
    bomb = m.saved(np.zeros((10_000, 10_000), np.uint8), "PNG")
    tensors.Plan([bomb, tile])
    tracemalloc.start()
    with pytest.raises(ImageError, match="megapixels together") as caught:
        tensors.Plan([bomb] * 16)
    assert tracemalloc.get_traced_memory()[1] < 10_000_000
    tracemalloc.stop()
    assert caught.value.code == "images_too_large"
    assert "Collect Tasks" in caught.value.hint


def test_too_little_memory_is_an_error_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    def none_left(*_: object) -> None:
        raise MemoryError

    picture = m.saved(m.photo(8, 8), "PNG")
    monkeypatch.setattr(tensors.np, "empty", none_left)
    with pytest.raises(ImageError, match="not enough memory"):
        tensors.Plan([picture])
