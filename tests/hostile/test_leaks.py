"""The key and what signs a result are planted, every node is run through success and failure, and all is searched.

The library alone is searched in ``tests/library/test_leaks.py``.
"""

from __future__ import annotations

import json
import re
import secrets
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import sandbox
from devtools.comfyui import PromptRefused
from hostile.leaks import artefacts, disguises, found
from rivya.ledger.holders import FileHolder
from rivya.ledger.ledger import Ledger
from support.comfy import RivyaComfyUI, edit_graph, random_picture, show

pytestmark = [pytest.mark.comfy, pytest.mark.xdist_group("leaks"), pytest.mark.timeout(300)]

PROMPT = "planted prompt: paint the barn vermilion"


@pytest.fixture
def service() -> Iterator[Any]:
    key = f"rvya_sk_{secrets.token_hex(16)}"
    with sandbox.running(key=key, megapixels=0.01) as running:
        yield running


def full_graph(comfy: RivyaComfyUI, **edit: Any) -> dict[str, Any]:
    """The edit workflow with every way of keeping a picture and every output shown."""
    graph = edit_graph(comfy.put_image(random_picture()), prompt=edit.pop("prompt", PROMPT), **edit)
    for name, kind in (("webp", "SaveAnimatedWEBP"), ("apng", "SaveAnimatedPNG"), ("look", "PreviewImage")):
        graph[name] = {"class_type": kind, "inputs": {"images": ["edit", 0]}}
    graph["webp"]["inputs"] |= {
        "filename_prefix": "w", "fps": 1.0, "lossless": True, "quality": 80, "method": "default",
    }  # fmt: skip
    graph["apng"]["inputs"] |= {"filename_prefix": "p", "fps": 1.0, "compress_level": 4}
    show(graph, "ids", "edit", 2)
    show(graph, "report", "edit", 3)
    return graph


FAULTS: list[tuple[str, str, dict[str, Any]]] = [
    *(("create", "status", {"status": status}) for status in (400, 401, 402, 403, 404, 409, 413, 422)),
    *(("upload", "status", {"status": status}) for status in (400, 401, 403, 413, 415)),
    *(("status", "status", {"status": status}) for status in (401, 403, 404)),
    ("create", "status", {"status": 500, "times": None}),
    ("create", "status", {"status": 429, "times": None, "retry_after": 1}),
    ("upload", "cut_before", {"times": None}),
    ("create", "cut_before", {"times": None}),
    ("create", "cut_after", {"times": None}),
    *(("create", "body", {"sample": sample, "times": None}) for sample in ("malformed", "shape", "html", "empty")),
    *(("upload", "body", {"sample": sample, "times": None}) for sample in ("malformed", "empty_object", "text")),
    *(("status", "body", {"sample": sample, "times": None}) for sample in ("malformed", "shape", "html")),
    *(("result", "status", {"status": status, "times": None}) for status in (400, 403, 404)),
    ("result", "body", {"sample": "html", "times": None}),
    ("result", "body", {"sample": "empty", "times": None}),
    ("create", "fail_task", {"charged": False}),
    ("create", "fail_task", {"charged": True}),
]  # fmt: skip


def run_everything(comfy: RivyaComfyUI, service: Any) -> dict[str, int]:
    """Every node through success and failure; gives how many prompts succeeded, failed, were refused, interrupted."""
    ends = {"succeeded": 0, "failed": 0, "refused": 0, "interrupted": 0}

    def run(graph: dict[str, Any]) -> None:
        try:
            finished = comfy.run(graph, 60)
        except PromptRefused:
            ends["refused"] += 1
        else:
            ends["succeeded" if finished.succeeded else "failed"] += 1

    collect = {"collect": {"class_type": "RivyaCollectTasks", "inputs": {"task_ids": ""}}}
    show(collect, "report", "collect", 3)
    credits = {"credits": {"class_type": "RivyaCredits", "inputs": {}}}
    run(full_graph(comfy))
    run(edit_graph(None, prompt=PROMPT))
    run(credits)
    run(collect)
    for endpoint, action, fields in FAULTS:
        service.fault(endpoint, action, **fields)
        run(full_graph(comfy))
        service.clear_faults()
    service.fault("credits", "status", status=401)
    run(credits)
    service.clear_faults()
    for task in ("task_nobody_knows", "../credits", "task_1?x=y"):
        run({"collect": {"class_type": "RivyaCollectTasks", "inputs": {"task_ids": task}}})
    for inputs in ({"prompt": " "}, {"seed": -1}, {"variations": 99}, {"client_request_id": "x" * 200}):
        run(edit_graph(None, **{"prompt": PROMPT, **inputs}))
    run(edit_graph(None, prompt=PROMPT, params={"model": "another"}))
    service.fault("create", "latency", seconds=20)
    with comfy.listen() as listener:
        prompt = comfy.queue(full_graph(comfy))
        listener.wait_for("progress_state")
        comfy.interrupt()
        ends["interrupted"] += comfy.wait(prompt).interrupted
    service.clear_faults()
    service.fault("status", "patch", values={"status": "processing", "result": None}, times=1)
    run(collect)
    return ends


@pytest.mark.slow
@pytest.mark.parametrize(
    "level, place",
    [pytest.param("DEBUG", "environment", marks=pytest.mark.long), ("INFO", "config.json")],
)
def test_neither_the_key_nor_what_signs_a_result_is_found_anywhere(
    level: str, place: str, service: Any, start_comfyui: Callable[..., RivyaComfyUI], tmp_path: Path
) -> None:
    settings = {"base_url": service.url, "retry_budget_s": 1.0, "conflict_wait_s": 0.5}
    env = {"RIVYA_API_KEY": service.key} if place == "environment" else {}
    comfy = start_comfyui(env=env, arguments=["--verbose", level])
    comfy.configure(**settings, api_key=None if env else service.key)
    with comfy.listen() as listener:
        ends = run_everything(comfy, service)
        messages = listener.raw
    assert ends["succeeded"] >= 4
    assert ends["failed"] >= len(FAULTS)
    assert ends["refused"] >= 3
    assert ends["interrupted"] == 1

    places = dict(artefacts(comfy, messages))
    signatures = signed_queries(service)
    planted = {"the key": service.key, **{f"signature {n}": text for n, text in enumerate(signatures)}}
    assert len(signatures) >= 2
    assert {name.split()[0] for name in places} >= {"file", "metadata", "answer", "message", "arguments"}
    assert any(name.startswith("file state/ledger") for name in places)
    print(Counter(name.split()[0] for name in places), sum(map(len, places.values())), "bytes", ends)
    own = places.pop("file state/config.json")
    assert (service.key.encode() in own) is (place == "config.json")
    # An order that is open needs what is in its row; nothing else does.
    ledger = {name for name in places if name.startswith("file state/ledger")}
    assert not found({"the key": service.key}, places)
    assert not found(planted, {name: data for name, data in places.items() if name not in ledger})
    close_all_orders(comfy)
    assert comfy.run(full_graph(comfy)).succeeded
    after = {name: (comfy.base / name.removeprefix("file ")).read_bytes() for name in ledger}
    assert not found({**planted, "the prompt": PROMPT}, after)

    log = places["file comfyui.log"].decode("utf-8", "replace")
    assert "httpx" not in log
    assert "httpcore" not in log
    assert not re.search(r"HTTP Request:|send_request_headers", log)
    # The prompt is in the workflow, which ComfyUI keeps, but the pack's own lines never hold it.
    # (Pillow's lines at DEBUG tell what ComfyUI writes into the EXIF data of a WebP: the workflow.)
    assert not [line for line in log.splitlines() if "vermilion" in line and "class_type" not in line]
    # The key went to one place only.
    for request in service.requests():
        assert service.key not in json.dumps({k: v for k, v in request.items() if k != "authorization"})
    assert not service.book()["violations"]


def close_all_orders(comfy: RivyaComfyUI) -> None:
    """Give up what came to no end: orders of unknown outcome, and pictures that could not be fetched."""
    holder = FileHolder(comfy.home)
    ledger = Ledger(comfy.home, holder)
    for row in ledger.orders(1000):
        if row.body is not None or row.result_urls:
            assert ledger.forget(row.id)
    ledger.close()
    holder.close()


def signed_queries(service: Any) -> list[str]:
    """What signs the URLs of the results that the service has told."""
    signatures = set()
    for task in service.tasks():
        request = urllib.request.Request(
            f"{service.url}/api/v1/generations/{task['id']}",
            headers={"Authorization": f"Bearer {service.key}"},
        )
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=10) as answer:
            signatures |= set(re.findall(r"signature=([\w-]+)", answer.read().decode()))
    return sorted(signatures)


def test_the_search_finds_what_is_there() -> None:
    """A search that finds nothing must be able to find something."""
    secret = "rvya_sk_" + secrets.token_hex(8)
    for spelling, needle in disguises(secret).items():
        assert found({"key": secret}, {"place": b"before " + needle + b" after"}), spelling
    assert found({"key": secret}, {"log": json.dumps({"a": [f"Bearer {secret}"]}).encode()})
    assert not found({"key": secret}, {"log": b"Bearer ***"})
