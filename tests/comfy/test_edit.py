"""The main job in a real ComfyUI: a picture is edited, and what went over the wire is what was meant."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image

from devtools.comfyui import Finished
from support.cases import slow_but
from support.comfy import Graph, Pixels, RivyaComfyUI, edit_graph, eventually, random_picture, show
from support.service import Watched


def pixels_of(data: bytes) -> Pixels:
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


def batch(graph: Graph, *names: str) -> Graph:
    """Replace the photograph of the edit workflow by a batch of pictures."""
    del graph["photo"]
    for number, name in enumerate(names):
        graph[f"photo{number}"] = {"class_type": "LoadImage", "inputs": {"image": name}}
    joined = ["photo0", 0]
    for number in range(1, len(names)):
        graph[f"join{number}"] = {
            "class_type": "ImageBatch",
            "inputs": {"image1": joined, "image2": [f"photo{number}", 0]},
        }
        joined = [f"join{number}", 0]
    graph["reference"]["inputs"]["image"] = joined
    return graph


@pytest.mark.parametrize("output_format", slow_but(["png", "jpeg"], "png"))
def test_the_edited_picture_arrives_pixel_by_pixel(
    comfy: RivyaComfyUI, service: Watched, output_format: str
) -> None:
    name = comfy.put_image(random_picture())
    finished = comfy.run(edit_graph(name, params={"output_format": output_format}))
    assert finished.succeeded, finished.explain()
    (task,) = service.tasks()
    (picture,) = comfy.pictures(finished)
    sent = pixels_of(service.picture(task["id"]))
    assert picture.shape == sent.shape
    assert np.array_equal(picture, sent)


@pytest.mark.parametrize("encoding", slow_but(["auto", "png", "webp"], "auto"))
def test_the_reference_reaches_the_service_pixel_by_pixel(
    comfy: RivyaComfyUI, service: Watched, encoding: str
) -> None:
    pixels = random_picture(97, 61)
    graph = edit_graph(comfy.put_image(pixels))
    graph["reference"]["inputs"]["encoding"] = encoding
    assert comfy.run(graph).succeeded
    (upload,) = service.uploads()
    assert np.array_equal(pixels_of(service.uploaded(upload)), pixels)
    assert service.tasks()[0]["upload"] == upload["id"]


def test_the_wire_format_of_an_edit_is_exact(comfy: RivyaComfyUI, service: Watched) -> None:
    graph = edit_graph(
        comfy.put_image(random_picture(90, 160)),
        prompt="Paint it blue",
        client_request_id="order-123",
        params={"prompt_upsampling": True, "enable_translation": False, "safety_tolerance": 1},
    )
    assert comfy.run(graph).succeeded
    (upload,) = service.uploads()
    (task,) = service.tasks()
    (order,) = service.requests("create")
    item = task["params"].pop("referenceMediaItems")
    assert task["params"] == {
        "aspectRatio": "9:16",
        "outputFormat": "png",
        "enableTranslation": "false",
        "promptUpsampling": "true",
        "safetyTolerance": 1,
    }
    assert item == [
        {"url": upload["url"], "kind": "image", "name": upload["name"], "mimeType": upload["mime_type"]}
    ]
    assert (task["model"], task["prompt"], task["client_request_id"]) == (
        "flux-kontext-pro",
        "Paint it blue",
        "order-123",
    )
    assert (upload["kind"], upload["model"]) == ("image", "flux-kontext-pro")
    assert re.fullmatch(r"[0-9a-f]{64}", order["idempotency_key"])
    assert order["content_type"] == "application/json"


@pytest.mark.slow
def test_a_watermark_is_sent_only_where_there_is_one(comfy: RivyaComfyUI, service: Watched) -> None:
    assert comfy.run(edit_graph(None, params={"watermark": "mine"})).succeeded
    assert comfy.run(edit_graph(None, params={"watermark": ""})).succeeded
    first, second = (task["params"] for task in service.tasks())
    assert first["watermark"] == "mine"
    assert "watermark" not in second


@pytest.mark.parametrize("spelling", slow_but(["duration_token", "durationToken"], "duration_token"))
def test_a_token_of_the_upload_comes_back_with_the_order(
    comfy: RivyaComfyUI, service: Watched, spelling: str
) -> None:
    service.fault("upload", "duration_token", spelling=spelling)
    assert comfy.run(edit_graph(comfy.put_image(random_picture()))).succeeded
    (task,) = service.tasks()
    assert task["params"]["referenceMediaItems"][0]["durationToken"] == service.uploads()[0]["token"]


def test_a_picture_is_made_from_text_alone_with_the_defaults_of_the_service(
    comfy: RivyaComfyUI, service: Watched
) -> None:
    graph = edit_graph(None)
    del graph["params"], graph["edit"]["inputs"]["params"]
    finished = comfy.run(graph)
    assert finished.succeeded, finished.explain()
    (task,) = service.tasks()
    assert not service.uploads()
    assert "referenceMediaItems" not in task["params"]
    assert task["params"].get("aspectRatio", "16:9") == "16:9"
    assert np.array_equal(comfy.pictures(finished)[0], pixels_of(service.picture(task["id"])))


def test_an_order_is_charged_once_and_then_served_from_the_store(
    comfy: RivyaComfyUI, service: Watched
) -> None:
    graph = show(edit_graph(comfy.put_image(random_picture())), "report", "edit", 3)
    first = comfy.run(graph)
    assert service.charges() == [4]
    requests = len(service.requests())
    comfy.forget_cached()
    second = comfy.run(graph)
    assert service.charges() == [4]
    assert len(service.requests()) == requests
    assert np.array_equal(comfy.pictures(first)[0], comfy.pictures(second)[0])
    bought, reused = (json.loads(comfy.text(finished, "report")) for finished in (first, second))
    assert (bought["credits_charged"], bought["credits_reused"]) == (4, 0)
    assert (reused["credits_charged"], reused["credits_reused"]) == (0, 4)
    assert bought["orders"][0]["source"] == "new"
    assert reused["orders"][0]["source"] == "stored"


@pytest.mark.slow
def test_another_seed_buys_another_picture_and_the_first_seed_brings_the_first_back(
    comfy: RivyaComfyUI, service: Watched
) -> None:
    graph = edit_graph(comfy.put_image(random_picture()))
    first = comfy.pictures(comfy.run(graph))[0]
    graph["edit"]["inputs"]["seed"] += 2**29
    second = comfy.pictures(comfy.run(graph))[0]
    graph["edit"]["inputs"]["seed"] -= 2**29
    third = comfy.pictures(comfy.run(graph))[0]
    assert service.charges() == [4, 4]
    assert not np.array_equal(first, second)
    assert np.array_equal(first, third)


@pytest.mark.slow
def test_more_variations_buy_only_what_is_new(comfy: RivyaComfyUI, service: Watched) -> None:
    graph = edit_graph(comfy.put_image(random_picture()), variations=2)
    first = comfy.pictures(comfy.run(graph))
    graph["edit"]["inputs"]["variations"] = 3
    second = comfy.pictures(comfy.run(graph))
    assert service.charges() == [4, 4, 4]
    assert len(first) == 2
    assert len(second) == 3
    assert all(np.array_equal(a, b) for a, b in zip(first, second, strict=False))


def test_a_batch_comes_out_reference_by_reference_as_one_batch(comfy: RivyaComfyUI, service: Watched) -> None:
    names = [comfy.put_image(random_picture()) for _ in range(2)]
    graph = show(batch(edit_graph("", variations=2), *names), "report", "edit", 3)
    graph = show(graph, "ids", "edit", 2)
    finished = comfy.run(graph)
    assert finished.succeeded, finished.explain()
    pictures = comfy.pictures(finished)
    ids = comfy.text(finished, "ids").split("\n")
    report = json.loads(comfy.text(finished, "report"))
    assert [(o["reference"], o["variation"], o["batch"], o["position"]) for o in report["orders"]] == [
        (0, 0, 0, 0),
        (0, 1, 0, 1),
        (1, 0, 0, 2),
        (1, 1, 0, 3),
    ]
    assert ids == [order["task_id"] for order in report["orders"]]
    assert all(
        np.array_equal(picture, pixels_of(service.picture(task)))
        for picture, task in zip(pictures, ids, strict=True)
    )
    by_id = {task["id"]: task for task in service.tasks()}
    uploads = [by_id[task]["upload"] for task in ids]
    assert uploads[0] == uploads[1]
    assert uploads[2] == uploads[3]
    assert len(set(uploads)) == 2
    assert len(service.uploads()) == 2


def test_identical_references_share_one_order_and_are_delivered_at_each_place(
    comfy: RivyaComfyUI, service: Watched
) -> None:
    name = comfy.put_image(random_picture())
    finished = comfy.run(batch(edit_graph(""), name, name))
    assert len(comfy.pictures(finished)) == 2
    assert service.charges() == [4]
    assert len(service.uploads()) == 1


@pytest.mark.slow
def test_the_larger_model_is_ordered_and_charged_as_such(comfy: RivyaComfyUI, service: Watched) -> None:
    assert comfy.run(edit_graph(None, params={"model": "flux-kontext-max"})).succeeded
    assert service.tasks()[0]["model"] == "flux-kontext-max"
    assert service.charges() == [8]


def test_a_task_with_several_results_delivers_them_all(comfy: RivyaComfyUI, service: Watched) -> None:
    service.fault("create", "results", count=3)
    finished = comfy.run(edit_graph(None))
    (task,) = service.tasks()
    expected = [pixels_of(service.picture(task["id"], number)) for number in range(3)]
    pictures = comfy.pictures(finished)
    assert len(pictures) == 3
    assert all(np.array_equal(a, b) for a, b in zip(pictures, expected, strict=True))


def test_the_mask_is_empty_and_of_the_pictures_size_where_there_is_no_alpha(
    comfy: RivyaComfyUI, service: Watched
) -> None:
    graph = edit_graph(None)
    graph["mask"] = {"class_type": "MaskToImage", "inputs": {"mask": ["edit", 1]}}
    graph["save_mask"] = {
        "class_type": "SaveImage",
        "inputs": {"images": ["mask", 0], "filename_prefix": "mask"},
    }
    finished = comfy.run(graph)
    (picture,), (mask,) = comfy.pictures(finished), comfy.pictures(finished, "save_mask")
    assert mask.shape == picture.shape
    assert not mask.any()


def test_the_node_says_what_it_is_at_and_what_it_cost(comfy: RivyaComfyUI, service: Watched) -> None:
    service.fault("create", "latency", seconds=1.5)
    with comfy.listen() as listener:
        assert comfy.run(edit_graph(None)).succeeded
        texts = [text for node, text in listener.progress_texts() if node == "edit"]
    assert len(set(texts)) >= 2
    assert "4 credits" in texts[-1]


@pytest.mark.slow
def test_number_and_price_of_an_animation_are_said_before_its_first_order(
    comfy: RivyaComfyUI, service: Watched
) -> None:
    first, *others = [Image.fromarray(random_picture()) for _ in range(12)]
    first.save(comfy.base / "input" / "moving.webp", save_all=True, append_images=others, lossless=True)
    service.fault("create", "latency", seconds=1.5, times=None)
    with comfy.listen() as listener:
        prompt = comfy.queue(edit_graph("moving.webp"))
        eventually(lambda: service.requests("create"), "the first order")
        said = [text for node, text in listener.progress_texts() if node == "edit"]
        finished = comfy.wait(prompt)
    assert finished.succeeded, finished.explain()
    assert said[0] == "12 pictures · at most 48 credits"
    assert "at most 48 credits" in said[-1]
    assert sum(service.charges()) == 48


def test_number_and_price_of_a_list_are_those_of_all_its_runs(comfy: RivyaComfyUI, service: Watched) -> None:
    graph = edit_graph(None, prompt=["list", 0], variations=2)
    graph["list"] = {"class_type": "RivyaPromptList", "inputs": {"prompts": "one\ntwo\nthree", "always": ""}}
    with comfy.listen() as listener:
        finished = comfy.run(graph)
        texts = [text for node, text in listener.progress_texts() if node == "edit"]
    assert finished.succeeded, finished.explain()
    assert texts[0] == "6 pictures · at most 24 credits"


def test_a_graph_of_an_early_version_with_nothing_optional_still_runs(
    comfy: RivyaComfyUI, service: Watched
) -> None:
    graph = edit_graph(None)
    del graph["params"]
    graph["edit"]["inputs"] = {
        name: graph["edit"]["inputs"][name] for name in ("prompt", "seed", "variations")
    }
    assert comfy.run(graph).succeeded


def test_collect_brings_a_picture_by_its_task_id_without_spending(
    comfy: RivyaComfyUI, service: Watched
) -> None:
    graph = show(edit_graph(None), "ids", "edit", 2)
    bought = comfy.run(graph)
    collected = comfy.run(
        {
            "collect": {"class_type": "RivyaCollectTasks", "inputs": {"task_ids": comfy.text(bought, "ids")}},
            "save": {"class_type": "SaveImage", "inputs": {"images": ["collect", 0], "filename_prefix": "c"}},
        }
    )
    assert collected.succeeded, collected.explain()
    assert np.array_equal(comfy.pictures(collected)[0], comfy.pictures(bought)[0])
    assert service.charges() == [4]


def test_the_balance_is_asked_for_each_time(comfy: RivyaComfyUI, service: Watched) -> None:
    graph: Graph = {"credits": {"class_type": "RivyaCredits", "inputs": {}}}
    show(graph, "number", "credits", 0)
    assert comfy.text(comfy.run(graph), "number") == "1000"
    service.set_credits(17)
    assert comfy.text(comfy.run(graph), "number") == "17"


def written(comfy: RivyaComfyUI, finished: Finished) -> int:
    """How many files Save Image wrote in this run: it writes none when it is served from ComfyUI's memory."""
    cached = finished.message("execution_cached") or {"nodes": []}
    return 0 if "save" in cached["nodes"] else len(comfy.pictures(finished))


@pytest.mark.slow
def test_with_skip_and_another_cache_it_is_the_same(
    start_comfyui: Callable[..., RivyaComfyUI], service: Watched
) -> None:
    comfy = start_comfyui(arguments=["--cache-lru=10"])
    comfy.configure(api_key=service.key, base_url=service.url)
    test_with_skip_the_same_graph_runs_again_after_a_failure_and_only_then(comfy, service)


def test_with_skip_the_same_graph_runs_again_after_a_failure_and_only_then(
    comfy: RivyaComfyUI, service: Watched
) -> None:
    graph = edit_graph(None, variations=2, on_failure="skip")
    assert [written(comfy, comfy.run(graph)) for _ in range(3)] == [2, 0, 0]

    service.fault("create", "fail_task", error=None, after=1)
    graph = edit_graph(None, variations=2, on_failure="skip")
    assert [written(comfy, comfy.run(graph)) for _ in range(4)] == [1, 2, 0, 0]
    assert service.charges() == [4] * 4
