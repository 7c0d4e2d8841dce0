"""What cannot be stitched is refused by name; what can be read harmlessly is, and is said."""

from __future__ import annotations

import numpy as np
import pytest

from rivya.errors import ValidationError
from rivya.kontext import nearest_ratio
from rivya.stitching import Box, Options, Placement, stitch
from rivya.stitching.placement import SIZES, refuse_erased
from rivya.stitching.stitch import places
from stitch.photos import cat, disc

PICTURE = np.asarray(cat(300, 200))
COPY = np.asarray(cat(1248, 832))


def with_nan() -> np.ndarray:
    broken = PICTURE.astype(np.float32)
    broken[3, 4, 1] = np.nan
    return broken


@pytest.mark.parametrize(
    ("original", "edited", "says"),
    [
        (PICTURE[..., :2], COPY, "original"),
        (PICTURE, COPY[0], "edited"),
        (PICTURE[:0], COPY, "without a single pixel"),
        (PICTURE.astype(np.float64), COPY, "float64"),
        (with_nan(), COPY, "NaN"),
        ("photo.jpg", COPY, "original"),
    ],
)
def test_what_is_no_picture_is_refused_by_name(original: np.ndarray, edited: np.ndarray, says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        stitch(original, edited)


def test_an_edit_of_another_shape_is_refused_with_both_sizes() -> None:
    with pytest.raises(ValidationError, match=r"1184x880.*300x200|300x200") as caught:
        stitch(PICTURE, np.zeros((1392, 752, 3), np.uint8))
    assert caught.value.code == "edit_of_another_shape"
    assert caught.value.hint


def test_no_answer_to_an_automatic_ratio_is_refused_for_its_shape() -> None:
    # 16:9 is really 1.851: the shape that is nearest by name is not the one nearest in pixels.
    for ratio in np.geomspace(0.2, 5, 400):
        size = round(1000 * ratio**0.5), round(1000 / ratio**0.5)
        assert places(None, size, SIZES[nearest_ratio(*size)])


def test_a_placement_of_another_picture_is_refused() -> None:
    place = Placement(640, 480, Box(0, 0, 640, 480), "4:3", (1184, 880))
    with pytest.raises(ValidationError, match="640x480.*300x200"):
        stitch(PICTURE, COPY, placement=place)


def test_a_mask_of_another_shape_is_refused_and_one_of_another_size_is_resized() -> None:
    with pytest.raises(ValidationError, match="150x150.*300x200"):
        stitch(PICTURE, COPY, mask=disc(150, 150))
    done = stitch(PICTURE, COPY, mask=disc(150, 100), options=Options(feather=0))
    assert np.abs(done.mask - disc(300, 200)).mean() < 0.01


def test_an_empty_mask_of_any_shape_means_none_and_is_said() -> None:
    done = stitch(PICTURE, COPY, mask=np.zeros((64, 64), np.float32), options=Options(keep="mask"))
    assert done.report["keep"] == "changed"
    assert any("empty" in note for note in done.report["notes"])


@pytest.mark.parametrize(
    "options",
    [Options(keep="some"), Options(feather=11), Options(feather=float("nan")), Options(align="yes")],  # type: ignore[arg-type]
)
def test_options_out_of_range_are_refused(options: Options) -> None:
    with pytest.raises(ValidationError, match=r"keep|feather|align"):
        stitch(PICTURE, COPY, options=options)


@pytest.mark.parametrize("size", [(1, 1), (7, 5), (40, 3)])
def test_the_smallest_pictures_are_stitched_all_the_same(size: tuple[int, int]) -> None:
    small = np.asarray(cat(*size))
    done = stitch(small, np.asarray(cat(size[0] * 3, size[1] * 3)), options=Options(keep="all"))
    assert done.image.shape == small.shape


def test_a_check_that_raises_ends_the_work() -> None:
    class StopIt(Exception):
        pass

    calls = 0

    def check() -> None:
        nonlocal calls
        calls += 1
        if calls > 3:
            raise StopIt

    with pytest.raises(StopIt):
        stitch(PICTURE, COPY, check=check)


def test_a_picture_erased_under_its_mask_is_refused() -> None:
    mask = disc(300, 200)
    hole = PICTURE * (mask == 0)[..., None].astype(np.uint8)
    with pytest.raises(ValidationError, match="erased") as caught:
        refuse_erased(hole, mask)
    assert caught.value.code == "erased_under_mask"


@pytest.mark.parametrize("what", ["photo", "night", "wider hole", "no mask"])
def test_a_dark_picture_is_no_erased_one(what: str) -> None:
    mask = disc(300, 200)
    picture = PICTURE.copy()
    if what == "night":
        picture[:] = 0
    if what == "wider hole":  # a black object, with the mask inside it
        picture[disc(300, 200, radius=0.3) > 0] = 0
    refuse_erased(picture, mask if what != "no mask" else mask * 0)
