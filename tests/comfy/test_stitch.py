"""A region of a large photo is edited in a real ComfyUI, and comes back into it with nothing else touched."""

from __future__ import annotations

import json
import time
from typing import Any

import numpy as np
import pytest
from PIL import Image

from stitch.photos import cat, disc
from support.cases import slow_but
from support.comfy import Graph, RivyaComfyUI, edit_graph, show
from support.service import Watched

MASK = disc(1500, 1000, 0.4, 0.5, 0.15)


def region_graph(comfy: RivyaComfyUI, photo: np.ndarray, mask: np.ndarray, **stitch: Any) -> Graph:
    """Load, crop, upload, submit, stitch, save; the mask is a picture of its own."""
    graph = edit_graph(comfy.put_image(photo), params={"output_format": "png"})
    shade = comfy.put_image(np.repeat((mask * 255).astype(np.uint8)[..., None], 3, 2))
    graph["mask"] = {"class_type": "LoadImageMask", "inputs": {"image": shade, "channel": "red"}}
    crop = {"image": ["photo", 0], "mask": ["mask", 0], "context": 2.0, "shape": "auto", "fit": "pad"}
    graph["crop"] = {"class_type": "RivyaCropForEdit", "inputs": crop}
    graph["reference"]["inputs"]["image"] = ["crop", 0]
    graph["stitch"] = {
        "class_type": "RivyaStitchEdit",
        "inputs": {
            "original": ["photo", 0],
            "edited": ["edit", 0],
            "placement": ["crop", 1],
            "keep": "auto",
            "align": True,
            "match_color": True,
            "feather": 1.0,
            **stitch,
        },
    }
    graph["save"]["inputs"]["images"] = ["stitch", 0]
    graph["layer"] = {"class_type": "SaveImage", "inputs": {"images": ["stitch", 2], "filename_prefix": "l"}}
    return show(graph, "told", "stitch", 3)


def test_a_region_is_edited_at_full_size(comfy: RivyaComfyUI, service: Watched) -> None:
    photo = np.asarray(cat(1500, 1000))
    finished = comfy.run(region_graph(comfy, photo, MASK))
    assert finished.succeeded, finished.explain()
    (result,) = comfy.pictures(finished)
    (layer,) = comfy.pictures(finished, "layer")
    assert result.shape == photo.shape == layer.shape
    assert np.array_equal(result[MASK == 0], photo[MASK == 0])
    assert np.abs(result[MASK > 0].astype(int) - photo[MASK > 0]).mean() > 10
    (said,) = json.loads(comfy.text(finished, "told"))["pictures"]
    assert (said["width"], said["height"], said["keep"]) == (1500, 1000, "mask")
    # What was sent is exactly of a size that the service keeps.
    (task,) = service.tasks()
    with Image.open(__import__("io").BytesIO(service.picture(task["id"]))) as answered:
        assert answered.size == (1024, 1024)
    assert service.charges() == [4]


@pytest.mark.slow
def test_edits_of_a_batch_with_variations_find_their_originals(comfy: RivyaComfyUI, service: Watched) -> None:
    one, two = np.asarray(cat(640, 480)), np.asarray(cat(640, 480))[:, ::-1]
    mask = disc(640, 480, 0.5, 0.5, 0.3)
    graph = region_graph(comfy, one, mask)
    graph["second"] = {
        "class_type": "LoadImage",
        "inputs": {"image": comfy.put_image(np.ascontiguousarray(two))},
    }
    graph["both"] = {"class_type": "ImageBatch", "inputs": {"image1": ["photo", 0], "image2": ["second", 0]}}
    graph["crop"]["inputs"]["image"] = graph["stitch"]["inputs"]["original"] = ["both", 0]
    graph["edit"]["inputs"]["variations"] = 2
    graph["stitch"]["inputs"]["report"] = ["edit", 3]
    finished = comfy.run(graph)
    assert finished.succeeded, finished.explain()
    pictures = comfy.pictures(finished)
    assert len(pictures) == 4
    for picture, original in zip(pictures, (one, one, two, two), strict=True):
        assert np.array_equal(picture[mask == 0], original[mask == 0])
    assert sum(service.charges()) == 16


def test_counts_that_do_not_fit_are_an_error_that_names_both(comfy: RivyaComfyUI) -> None:
    photo = comfy.put_image(np.asarray(cat(300, 200)))
    batch = {"image1": ["a", 0], "image2": ["a", 0]}
    graph: Graph = {
        "a": {"class_type": "LoadImage", "inputs": {"image": photo}},
        "b": {"class_type": "ImageBatch", "inputs": batch},
        "c": {"class_type": "ImageBatch", "inputs": {"image1": ["b", 0], "image2": ["a", 0]}},
        "stitch": {
            "class_type": "RivyaStitchEdit",
            "inputs": {
                "original": ["b", 0],
                "edited": ["c", 0],
                "keep": "auto",
                "align": True,
                "match_color": True,
                "feather": 1.0,
            },
        },
        "save": {"class_type": "SaveImage", "inputs": {"images": ["stitch", 0], "filename_prefix": "x"}},
    }
    finished = comfy.run(graph)
    assert not finished.succeeded
    assert "2 originals and 3 edits" in finished.explain()
    assert "Connect report" in finished.explain()


def test_a_picture_that_the_mask_editor_erased_is_refused_before_anything_is_paid(
    comfy: RivyaComfyUI, service: Watched
) -> None:
    photo = np.asarray(cat(1500, 1000)).copy()
    photo[MASK > 0] = 0
    finished = comfy.run(region_graph(comfy, photo, MASK))
    assert not finished.succeeded
    assert "erased it there" in finished.explain()
    assert not service.tasks()


@pytest.mark.slow
def test_cancel_is_answered_within_a_second(comfy: RivyaComfyUI) -> None:
    # No account and no network are needed: both pictures are loaded.
    big = np.asarray(cat(6000, 4000))
    graph = region_graph(comfy, big, disc(6000, 4000))
    for name in ("edit", "reference", "params", "crop", "mask"):
        del graph[name]
    graph["small"] = {
        "class_type": "LoadImage",
        "inputs": {"image": comfy.put_image(np.asarray(cat(1184, 880)))},
    }
    del graph["stitch"]["inputs"]["placement"]
    graph["stitch"]["inputs"]["edited"] = ["small", 0]
    with comfy.listen() as listener:
        prompt = comfy.queue(graph)
        listener.wait_for("executing", lambda body: body.get("node") == "stitch")
        time.sleep(0.3)
        began = time.monotonic()
        comfy.interrupt(prompt)
        assert comfy.wait(prompt).interrupted
        assert time.monotonic() - began < 1.5


@pytest.mark.parametrize("always", slow_but(["", "keep everything else"], ""))
def test_a_list_of_prompts_orders_each_for_every_picture(
    comfy: RivyaComfyUI, service: Watched, always: str
) -> None:
    one, two = (comfy.put_image(np.asarray(cat(64 + 8 * n, 48))) for n in range(2))
    graph = edit_graph(one)
    graph["second"] = {"class_type": "LoadImage", "inputs": {"image": two}}
    graph["both"] = {"class_type": "ImageBatch", "inputs": {"image1": ["photo", 0], "image2": ["second", 0]}}
    graph["reference"]["inputs"]["image"] = ["both", 0]
    text = "make it night\n\n# not this one\nmake it: a/b 50% snow!\nmake it night"
    graph["list"] = {"class_type": "RivyaPromptList", "inputs": {"prompts": text, "always": always}}
    graph["edit"]["inputs"]["prompt"] = ["list", 0]
    show(graph, "labels", "list", 1)
    finished = comfy.run(graph)
    assert finished.succeeded, finished.explain()
    more = always and f", {always}", always and f" {always}"
    bought = [task["prompt"] for task in service.tasks()]
    assert sorted(set(bought)) == sorted({"make it night" + more[0], "make it: a/b 50% snow!" + more[1]})
    assert len(bought) == 4  # two prompts, two pictures; the line that is there twice is bought once
    assert finished.outputs["labels"]["text"] == [
        "01 make it night",
        "02 make it a b 50 snow",
        "03 make it night",
    ]
    assert len(comfy.pictures(finished)) == 6
