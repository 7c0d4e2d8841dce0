"""Only the edit comes into the original, and nothing else of it is touched."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from benchmarks import drift
from rivya.stitching import Options, Placement, stitch
from rivya.stitching.blobs import grown, shrunk
from rivya.stitching.compose import covered
from rivya.stitching.placement import SIZES, bounds, choose, cropped
from rivya.stitching.raster import TRIANGLE, blurred, resampled
from stitch.photos import cat, disc, in_form, scenery
from support.cases import slow_but


@pytest.fixture(scope="module")
def pair() -> drift.Pair:
    return drift.make(cat(), scenery(), (1184, 880), seed=11, share=0.15)


@pytest.mark.parametrize("form", slow_but(["uint8", "uint16", "float32"], "uint8"))
@pytest.mark.parametrize("channels", slow_but([1, 3, 4], 3))
def test_outside_the_mask_every_value_is_the_original_s(pair: drift.Pair, form: str, channels: int) -> None:
    original = pair.original[..., :1] if channels == 1 else pair.original
    if channels == 4:
        alpha = np.random.default_rng(0).integers(0, 256, (*original.shape[:2], 1), np.uint8)
        original = np.concatenate([original, alpha], axis=-1)
    original = in_form(original, form)
    before = original.copy()
    done = stitch(original, pair.edited)
    shown = done.mask > 0
    assert 0.05 < shown.mean() < 0.4 or channels == 1  # colour in a grey picture is a change everywhere
    assert done.image.dtype == original.dtype
    colours = original if channels > 1 else np.repeat(original, 3, axis=2)
    assert np.array_equal(done.image[~shown], colours[~shown])
    assert not np.array_equal(done.image[shown], colours[shown])
    if channels == 4:
        assert np.array_equal(done.image[..., 3], original[..., 3])
    assert np.array_equal(original, before)


@pytest.mark.slow
def test_values_beyond_white_stay_outside_the_mask(pair: drift.Pair) -> None:
    bright = pair.original.astype(np.float32) / 100
    done = stitch(bright, pair.edited, mask=disc(*pair.original.shape[1::-1]))
    assert bright.max() > 2
    assert np.array_equal(done.image[done.mask == 0], bright[done.mask == 0])


@pytest.mark.parametrize("form", slow_but(["uint8", "float32"], "float32"))
def test_a_resized_copy_changes_nothing(form: str) -> None:
    original = in_form(np.asarray(cat(1804, 1200)), form)
    copy = np.asarray(cat(1804, 1200).resize((1184, 880), Image.Resampling.LANCZOS))
    done = stitch(original, copy)
    assert np.array_equal(done.image, original)
    assert not done.mask.any()
    assert "Nothing in the edit differs" in done.report["notes"][0]


def test_what_changed_is_found_and_the_rest_is_not(pair: drift.Pair) -> None:
    done = stitch(pair.original, pair.edited)
    size = pair.original.shape[1::-1]
    window = pair.place.seen_from(pair.frame, 1184, 880)
    true = resampled(pair.changed.astype(np.float32)[..., None], window, size, TRIANGLE)[..., 0] > 0.5
    rows, columns = covered(pair.frame, *size)
    has = np.zeros_like(true)
    has[rows, columns] = True
    shown = done.mask > 0.5
    assert true[has].mean() > 0.1
    assert shown[shrunk(true, 2) & shrunk(has, 4)].mean() >= 0.98
    assert shown[~grown(true, 14) & has].mean() <= 0.01


@pytest.mark.slow
def test_colours_are_taken_from_what_was_left_alone() -> None:
    # A patch of another photograph in a copy that drifted: the colours that the edit should have had are known.
    original = np.asarray(cat(1024, 1024), np.float32) / 255
    mask = disc(1024, 1024)
    content = np.asarray(scenery(1024, 1024), np.float32) / 255 * 0.5 + 0.25
    true = original + disc(1024, 1024, radius=0.22)[..., None] * (content - original)
    y, x = np.mgrid[-1:1:1024j, -1:1:1024j]
    drifted = true * np.array([1.05, 0.97, 0.94]) + 0.02 + 0.04 * (x * y)[..., None]
    edited = drift.as_answered(drifted, np.random.default_rng(1))
    done = stitch(original, edited, mask=mask, options=Options(feather=0))
    ring = (mask > 0) & ~shrunk(mask > 0, 6)

    def seam(image: np.ndarray) -> float:
        """Mean error of the smoothed pixels just inside the mask, in levels of 255."""
        shown = mask[..., None]
        smooth = blurred((image - true).astype(np.float32) * shown, 3) / (blurred(shown, 3) + 1e-6)
        return float(np.abs(smooth)[ring].mean() * 255)

    error, raw = seam(done.image), seam(edited / 255)
    assert raw > 5
    assert error <= 1.5


def test_a_drift_of_colours_from_side_to_side_goes_on_under_the_mask() -> None:
    # A large mask up to the border, and nothing in the picture but the drift: what is left is the error of the field.
    original = np.full((400, 600, 3), 0.5, np.float32) + np.asarray(cat(600, 400), np.float32)[..., :3] / 2550
    mask = np.zeros((400, 600), np.float32)
    mask[:300, 200:540] = 1
    slope = np.linspace(-0.05, 0.05, 600, dtype=np.float32)[None, :, None]
    done = stitch(original, original + slope, mask=mask, options=Options(align=False, feather=0))
    assert np.abs(done.image - original)[mask > 0].mean() * 255 <= 0.5


def test_the_soft_edge_lies_inside_the_mask_and_not_at_the_border(pair: drift.Pair) -> None:
    height, width = pair.original.shape[:2]
    mask = np.zeros((height, width), np.float32)
    mask[: height // 2, width // 4 : width // 2] = 1
    done = stitch(
        pair.original,
        np.asarray(Image.fromarray(pair.original).resize((1184, 880))),
        mask=mask,
        options=Options(feather=10),
    )
    assert not done.mask[mask == 0].any()
    assert done.mask[0, width * 3 // 8] == pytest.approx(1, abs=0.01)
    edge = done.mask[height // 4, width // 4 : width * 3 // 8]
    assert edge[0] < 0.2
    assert (np.diff(edge) >= -1e-6).all()
    assert edge[-1] == 1


@pytest.mark.slow
def test_a_line_thinner_than_the_soft_edge_still_shows(pair: drift.Pair) -> None:
    height, width = pair.original.shape[:2]
    mask = np.zeros((height, width), np.float32)
    mask[10:-10, width // 2 : width // 2 + 5] = 1
    mask[10:15, 10:-10] = 1
    done = stitch(pair.original, pair.edited, mask=mask, options=Options(feather=10))
    assert done.mask[height // 2, width // 2 + 2] > 0.9


@pytest.mark.parametrize(
    ("keep", "inside", "outside"),
    [
        pytest.param("mask", 1.0, 0.0, marks=pytest.mark.slow),
        pytest.param("all", 1.0, 1.0, marks=pytest.mark.slow),
        ("auto", 1.0, 0.0),
        pytest.param("mask and changed", 0.0, 0.0, marks=pytest.mark.slow),
    ],
)
def test_keep_says_what_shows(keep: str, inside: float, outside: float) -> None:
    original = np.asarray(cat())
    copy = np.asarray(cat().resize((1248, 832)))
    mask = disc(902, 600)
    done = stitch(original, copy, mask=mask, options=Options(keep=keep, feather=0))
    assert done.mask[mask > 0].mean() == inside
    assert done.mask[mask == 0].mean() == outside


def test_where_the_edit_has_no_pixels_the_original_stays() -> None:
    scene = cat(1000, 700)
    original = np.asarray(scene)
    edited = np.asarray(scene.resize((1184, 880), box=(60, 40, 960, 680)))  # zoomed in
    done = stitch(original, edited, options=Options(keep="all", feather=0))
    assert done.layer is not None
    assert np.array_equal(done.image[:, :59], original[:, :59])
    assert np.array_equal(done.layer[:39], original[:39])
    assert done.mask[42:678, 62:958].all()
    assert not done.mask[:39].any()


@pytest.mark.slow
def test_a_night_made_of_a_day_is_kept_whole(pair: drift.Pair) -> None:
    night = drift.make(cat(), scenery(), (1184, 880), seed=2, tone="night", amount="small", share=0)
    done = stitch(night.original, night.edited)
    assert done.report["aligned"] is True
    assert done.report["share"] > 0.85
    assert any("Colours were left alone" in note for note in done.report["notes"])


@pytest.mark.slow
def test_a_restyled_picture_is_kept_whole_and_said(pair: drift.Pair) -> None:
    other = np.asarray(scenery(1184, 880, seed=9))
    done = stitch(pair.original, other)
    assert done.report["aligned"] is False
    assert done.report["share"] == 1.0
    assert any("could not be aligned" in note for note in done.report["notes"])
    assert any("Colours were left alone" in note for note in done.report["notes"])


@pytest.mark.slow
def test_three_edits_in_a_row_leave_the_rest_as_it_was_at_first() -> None:
    first = in_form(np.asarray(cat()), "float32")
    image, touched = first, np.zeros(first.shape[:2], bool)
    for number, x in enumerate((0.2, 0.5, 0.8)):
        mask = disc(902, 600, x, 0.5, 0.15)
        seen = Image.fromarray((image * 255).round().astype(np.uint8))
        pair = drift.make(seen, scenery(), (1184, 880), seed=number)
        drifted = drift.as_answered(
            np.asarray(seen.resize((1248, 832)), np.float32) / 255 * 0.97, np.random.default_rng(number)
        )
        assert pair.edited.shape[0] == 880
        image = stitch(image, drifted, mask=mask).image
        touched |= mask > 0
    assert touched.any()
    assert np.array_equal(image[~touched], first[~touched])
    assert not np.array_equal(image[touched], first[touched])


@pytest.mark.parametrize("fit", slow_but(["pad", "crop"], "pad"))
def test_a_crop_comes_back_to_where_it_was(fit: str) -> None:
    original = np.asarray(cat())
    mask = disc(902, 600, 0.3, 0.4, 0.2)
    shape, (box,) = choose((902, 600), [bounds(mask)], fit=fit)
    sent = cropped(original, box, SIZES[shape])
    place = Placement(902, 600, box, shape, SIZES[shape], mask)
    assert place.coarser < 1
    done = stitch(original, sent, placement=place, options=Options(keep="all", feather=0, match_color=False))
    shown = done.mask > 0
    error = (done.image.astype(float) - original)[shown]
    assert shown.any()
    assert 10 * np.log10(255**2 / (error**2).mean()) >= 50
    assert max(abs(a - b) for a, b in zip(done.report["box"], box.edges(), strict=True)) <= 0.02
