"""Crop for Edit's choice of shape and box, beside one that tries everything."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rivya.errors import ValidationError
from rivya.stitching import Box
from rivya.stitching.placement import SIZES, bounds, choose, cropped
from stitch.photos import cat


@st.composite
def masked(draw: st.DrawFn) -> tuple[tuple[int, int], Box | None, float]:
    width, height = draw(st.integers(1, 9000)), draw(st.integers(1, 9000))
    left, top = draw(st.integers(0, width - 1)), draw(st.integers(0, height - 1))
    right, bottom = draw(st.integers(left + 1, width)), draw(st.integers(top + 1, height))
    region = draw(st.sampled_from([Box(left, top, right, bottom), None]))
    return (width, height), region, draw(st.floats(1, 8))


@pytest.mark.slow
@settings(max_examples=1_000, deadline=None)
@given(masked(), st.sampled_from(["pad", "crop"]))
def test_the_box_is_of_the_shape_around_the_mask_and_inside_where_it_can_be(
    picture: tuple[tuple[int, int], Box | None, float], fit: str
) -> None:
    check_choice(picture, fit)


@pytest.mark.long
@pytest.mark.timeout(1_800)
@settings(max_examples=10_000, deadline=None)
@given(masked(), st.sampled_from(["pad", "crop"]))
def test_it_is_for_ten_thousand_pictures(
    picture: tuple[tuple[int, int], Box | None, float], fit: str
) -> None:
    check_choice(picture, fit)


def check_choice(picture: tuple[tuple[int, int], Box | None, float], fit: str) -> None:
    """Ratio, size and place of the box by themselves, and the choice beside one that tries every shape."""
    size, region, context = picture
    shape, (box,) = choose(size, [region], context, fit=fit)
    whole = Box.of_size(*size)
    ratio = SIZES[shape][0] / SIZES[shape][1]
    hair = 1e-6 * max(size)
    assert box.width / box.height == pytest.approx(ratio, rel=1e-6)
    needed = region or whole
    fits = needed.width <= min(whole.width, whole.height * ratio) and needed.height <= min(
        whole.height, whole.width / ratio
    )
    assert box.width == pytest.approx(smallest_width(size, region, context, ratio, fit))
    inside = holds(whole, box, hair)
    assert inside or (fit == "pad" and not fits)
    assert holds(box, needed, hair) or (fit == "crop" and not fits)
    assert cost(size, region, context, box, shape) == min(
        cost(size, region, context, each[1][0], name)
        for name in SIZES
        for each in [choose(size, [region], context, name, fit)]
    )


def smallest_width(
    size: tuple[int, int], region: Box | None, context: float, ratio: float, fit: str
) -> float:
    """How wide a box has to be: for the context, else for the region, else (crop) as wide as the picture lets it."""
    width, height = (float(side) for side in size)
    largest = min(width, height * ratio)
    of_region = (region.width, region.height) if region else (width, height)
    of_context = min(of_region[0] * context, width), min(of_region[1] * context, height)
    enough, least = (max(wide, high * ratio) for wide, high in (of_context, of_region))
    if enough <= largest:
        return enough
    return least if fit == "pad" and least > largest else largest


def holds(outer: Box, inner: Box, hair: float) -> bool:
    return (
        outer.left <= inner.left + hair
        and outer.top <= inner.top + hair
        and outer.right >= inner.right - hair
        and outer.bottom >= inner.bottom - hair
    )


def cost(
    size: tuple[int, int], region: Box | None, context: float, box: Box, shape: str
) -> tuple[float, float, float]:
    """What is padded, what of the wanted surroundings is missing, pixels of the picture for one of the answer."""
    width, height = size
    wanted = [0.0, float(width), 0.0, float(height)]
    if region is not None:
        for at, (low, high, length) in enumerate(
            ((region.left, region.right, width), (region.top, region.bottom, height))
        ):
            span = min((high - low) * context, length)
            first = min(max((low + high) / 2 - span / 2, 0), length - span)
            wanted[2 * at : 2 * at + 2] = first, first + span

    def shared(left: float, right: float, top: float, bottom: float) -> float:
        across = min(box.right, right) - max(box.left, left)
        down = min(box.bottom, bottom) - max(box.top, top)
        return max(0.0, across) * max(0.0, down)

    area = (wanted[1] - wanted[0]) * (wanted[3] - wanted[2])
    sent = SIZES[shape][0] * SIZES[shape][1]
    return (
        round(1 - shared(0, width, 0, height) / box.area, 6),
        round(1 - shared(*wanted) / area, 6),
        round(box.area / sent, 9),
    )


def test_a_small_region_in_the_middle_gets_the_shape_nearest_to_its_own() -> None:
    for mask, expected in (
        (Box(900, 900, 1100, 1100), "1:1"),
        (Box(500, 900, 1500, 1300), "21:9"),
        (Box(900, 700, 1100, 1080), "9:16"),
    ):
        shape, (box,) = choose((2000, 2000), [mask])
        assert shape == expected
        assert box.centre == pytest.approx(mask.centre)


@pytest.mark.parametrize(
    ("size", "shape", "padding"),
    [
        ((6000, 4000), "4:3", 0.103),
        ((4032, 3024), "4:3", 0.009),
        ((3840, 2160), "16:9", 0.04),
        ((1080, 1350), "3:4", 0.071),
        ((1080, 2400), "9:16", 0.167),
        ((1024, 1024), "1:1", 0.0),
    ],
)
def test_a_whole_picture_is_padded_as_little_as_can_be(
    size: tuple[int, int], shape: str, padding: float
) -> None:
    chosen, (box,) = choose(size, [None])
    assert chosen == shape
    assert 1 - size[0] * size[1] / box.area == pytest.approx(padding, abs=0.002)


def test_a_batch_shares_one_shape() -> None:
    shape, boxes = choose((3000, 2000), [Box(100, 100, 900, 300), Box(1200, 300, 1500, 1900), None])
    assert {round(box.width / box.height, 6) for box in boxes} == {
        round(SIZES[shape][0] / SIZES[shape][1], 6)
    }


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ((float("nan"), "auto", "pad"), "context"),
        ((0.5, "auto", "pad"), "context"),
        ((2, "3:2", "pad"), "shape"),
        ((2, "auto", "stretch"), "fit"),
        ((True, "auto", "pad"), "context"),
    ],
)
def test_values_out_of_range_are_refused_by_name(values: tuple[float, str, str], says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        choose((300, 200), [None], *values)


def test_padding_repeats_the_edge_ever_more_softly_and_mirrors_nothing() -> None:
    picture = np.asarray(cat(600, 400), np.float32) / 255
    shape, (box,) = choose((600, 400), [None])
    sent = cropped(picture, box, SIZES[shape])
    inner = Box.of_size(600, 400).seen_from(box, *SIZES[shape])
    top = int(inner.top)
    assert top > 20
    rough = np.abs(np.diff(sent[top + 1], axis=0)).mean()
    assert np.abs(sent[top - 1] - sent[top + 1]).mean() < 0.05
    assert np.abs(np.diff(sent[0], axis=0)).mean() < rough / 2
    assert sent.shape == (SIZES[shape][1], SIZES[shape][0], 3)


def test_the_bounds_of_a_mask() -> None:
    mask = np.zeros((20, 30), np.float32)
    assert bounds(mask) is None
    mask[3:7, 10:25] = 0.2
    assert bounds(mask) == Box(10, 3, 25, 7)
