"""Where an edit lies is found from what was left alone, and what has nothing to do with the original is not placed."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks import drift
from benchmarks import stitch as stitching
from rivya.stitching import Box, Options, stitch
from rivya.stitching.register import register
from stitch.photos import cat, scenery


@pytest.mark.parametrize(
    ("size", "amount", "tone", "share"),
    [
        (drift.SIZES[0], "mid", "mild", 0.2),
        pytest.param(drift.SIZES[1], "small", "sepia", 0.4, marks=pytest.mark.slow),
        (drift.SIZES[2], "mid", "night", 0.2),
        pytest.param(drift.SIZES[3], "mid", "mild", 0.4, marks=pytest.mark.slow),
        pytest.param(drift.SIZES[4], "none", "mild", 0.2, marks=pytest.mark.slow),
        pytest.param(drift.SIZES[5], "mid", "sepia", 0.2, marks=pytest.mark.slow),
    ],
)
def test_the_frame_is_found_to_a_fraction_of_a_pixel(
    size: tuple[int, int], amount: str, tone: str, share: float
) -> None:
    pair = drift.make(cat(), scenery(), size, seed=size[0], amount=amount, tone=tone, share=share)
    found = register(*floats(pair.original, pair.place), pair.edited.astype(np.float32) / 255, pair.place)
    assert found.aligned
    assert drift.corner_error(found.frame, pair.frame, pair.place) <= 1.0


@pytest.mark.parametrize("number", [78, 141, 198])
@pytest.mark.slow
def test_what_replaced_a_part_by_another_photograph_does_not_pull_the_frame(number: int) -> None:
    # Pairs of the benchmark in which single pixels of the other photograph are alike by chance.
    pair = stitching.pair(stitching.photographs(), number)
    found = register(*floats(pair.original, pair.place), pair.edited.astype(np.float32) / 255, pair.place)
    assert drift.corner_error(found.frame, pair.frame, pair.place) <= 0.5


@pytest.mark.slow
def test_a_wide_picture_with_one_strong_edge_is_not_taken_for_another_scale() -> None:
    photos = stitching.photographs()
    pair = drift.make(photos[0], photos[4], (1568, 672), seed=0)
    found = register(*floats(pair.original, pair.place), pair.edited.astype(np.float32) / 255, pair.place)
    assert drift.corner_error(found.frame, pair.frame, pair.place) <= 0.5


@pytest.mark.slow
def test_an_edit_of_something_else_is_not_aligned() -> None:
    pair = drift.make(cat(), cat(), (1184, 880), seed=1, share=0)
    other = drift.make(scenery(), scenery(), (1184, 880), seed=1, share=0)
    found = register(*floats(pair.original, pair.place), other.edited.astype(np.float32) / 255, pair.place)
    assert not found.aligned
    assert found.frame == pair.place


def test_a_picture_without_detail_is_laid_over_its_place_and_that_is_said() -> None:
    plain = np.full((300, 400, 3), 128, np.uint8)
    done = stitch(plain, plain)
    assert done.report["aligned"] is False
    assert any("too little detail" in note for note in done.report["notes"])
    assert np.array_equal(done.image, plain)


def test_the_report_is_what_a_compositor_needs() -> None:
    pair = drift.make(cat(), scenery(), (1184, 880), seed=4)
    said = stitch(pair.original, pair.edited).report
    left, top, right, bottom = said["box"]
    width, height = pair.place.width, pair.place.height
    assert said["aligned"] is True
    assert said["scale_x"] == pytest.approx(pair.frame.width / width, abs=2e-3)
    assert said["scale_y"] == pytest.approx(pair.frame.height / height, abs=2e-3)
    assert (said["center_x"], said["center_y"]) == pytest.approx(
        ((left + right) / 2 / width, (top + bottom) / 2 / height), abs=1e-5
    )
    assert said["x"] == pytest.approx((left + right) / 2 - width / 2, abs=2e-3)
    assert said["coarser"] == pytest.approx(width / 1184, abs=0.1)


def test_without_align_the_edit_is_laid_over_its_place_as_it_is() -> None:
    pair = drift.make(cat(), scenery(), (1184, 880), seed=4)
    said = stitch(pair.original, pair.edited, options=Options(align=False)).report
    assert said["aligned"] is None
    assert said["box"] == [0, 0, pair.place.width, pair.place.height]


@pytest.mark.parametrize("how", ["crop", "pad", "squeeze"])
@pytest.mark.slow
def test_an_answer_to_a_picture_longer_than_any_shape_is_placed_whatever_was_done_to_fit(how: str) -> None:
    # A phone's screenshot is 9:20; the service's nearest shape is 16.7 % wider.
    original = np.asarray(cat(1500, 1000).crop((300, 0, 750, 1000)))
    whole = cat(1500, 1000)
    tall = 450 / (752 / 1392)
    box = {"crop": (300, 500 - tall / 2, 750, 500 + tall / 2), "squeeze": (300, 0, 750, 1000)}
    wide = 1000 * 752 / 1392
    box["pad"] = (525 - wide / 2, 0, 525 + wide / 2, 1000)
    edited = np.asarray(whole.resize((752, 1392), box=box[how]))
    found = stitch(original, edited).report
    left, top, right, bottom = box[how]
    assert found["aligned"]
    assert found["box"] == pytest.approx([left - 300, top, right - 300, bottom], abs=0.6)


def floats(original: np.ndarray, place: Box) -> tuple[np.ndarray, Box]:
    return original.astype(np.float32) / 255, place
