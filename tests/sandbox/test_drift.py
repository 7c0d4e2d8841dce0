"""Answers that drift as those of image models do, on demand and the same every time."""

from __future__ import annotations

from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from rivya.stitching import stitch
from sandbox.drift import drawn
from sandbox.pictures import PictureOrder, render
from stitch.photos import cat


def order(drift: int | None, prompt: str = "a ball", side: int = 1024) -> PictureOrder:
    file = BytesIO()
    cat(side, side).save(file, "PNG")
    return PictureOrder("flux-kontext-pro", prompt, "1:1", "png", "", file.getvalue(), 0, 0, 1.0, drift)


@pytest.mark.slow
def test_the_same_seed_drifts_alike_and_another_differently() -> None:
    first = render(order(1))
    assert render(order(1)) == first
    assert render(order(2)) != first
    assert render(order(1, "two balls")) != first


@pytest.mark.slow
def test_a_drifted_answer_finds_its_way_back_into_the_picture() -> None:
    photo = np.asarray(cat(1024, 1024))
    wanted = order(7)
    drift = drawn(7, wanted.words)
    done = stitch(photo, np.asarray(Image.open(BytesIO(render(wanted)))))
    said = done.report
    assert said["aligned"]
    assert said["scale_x"] == float(np.clip(said["scale_x"], drift.scale_x - 0.002, drift.scale_x + 0.002))
    assert said["scale_y"] == float(np.clip(said["scale_y"], drift.scale_y - 0.002, drift.scale_y + 0.002))
    assert 0.02 < said["share"] < 0.2
    assert np.array_equal(done.image[done.mask == 0], photo[done.mask == 0])
