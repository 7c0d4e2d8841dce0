"""A ComfyUI for several users: Rivya Collect Tasks without ids brings what this user's prompts ordered."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest

from support.comfy import Graph, RivyaComfyUI, edit_graph, eventually, running_comfyui, show
from support.service import Watched


@pytest.fixture(scope="module")
def _for_several(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RivyaComfyUI]:
    with running_comfyui(tmp_path_factory.mktemp("users"), arguments=["--multi-user"]) as server:
        yield server


@pytest.fixture
def shared(_for_several: RivyaComfyUI, service: Watched) -> RivyaComfyUI:
    return _for_several.use(service)


def post(comfy: RivyaComfyUI, route: str, body: Any, user: str | None = None) -> Any:
    headers = {"Content-Type": "application/json", **({"Comfy-User": user} if user is not None else {})}
    request = urllib.request.Request(comfy.url + route, json.dumps(body).encode(), headers)
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=60) as answer:
        return json.loads(answer.read() or b"null")


def queue(comfy: RivyaComfyUI, graph: Graph, user: str | None, route: str = "/prompt", **extra: Any) -> str:
    body = {"prompt": graph, "client_id": comfy.client_id, "extra_data": extra}
    return str(post(comfy, route, body, user)["prompt_id"])


def leave_behind(comfy: RivyaComfyUI, service: Watched, user: str | None, route: str = "/prompt") -> str:
    """The task of an order that this user's prompt made, and that was cancelled before its picture came."""
    known = {task["id"] for task in service.tasks()}
    prompt = queue(comfy, edit_graph(None), user, route)
    eventually(lambda: len(service.tasks()) > len(known), "an order")
    post(comfy, "/interrupt", {})
    comfy.wait(prompt)
    (task,) = {task["id"] for task in service.tasks()} - known
    return str(task)


def collected(comfy: RivyaComfyUI, user: str | None, task_ids: str = "", **extra: Any) -> set[str]:
    graph: Graph = {"collect": {"class_type": "RivyaCollectTasks", "inputs": {"task_ids": task_ids}}}
    finished = comfy.wait(queue(comfy, show(graph, "ids", "collect", 2), user, **extra))
    assert finished.succeeded, finished.explain()
    return set(comfy.text(finished, "ids").split()) if "ids" in finished.outputs else set()


@pytest.mark.slow
def test_each_user_collects_what_his_own_prompts_ordered(shared: RivyaComfyUI, service: Watched) -> None:
    ann, ben = (post(shared, "/users", {"username": name}) for name in ("Ann", "Ben"))
    service.fault("create", "latency", seconds=3.0, times=None)
    hers, also_hers = leave_behind(shared, service, ann), leave_behind(shared, service, ann, "/api/prompt")
    his = leave_behind(shared, service, ben)
    nobodys = leave_behind(shared, service, None)
    service.clear_faults()
    assert collected(shared, ben, rivya_user=ann) == {his}
    assert collected(shared, ben) == set()
    assert collected(shared, ann) == {hers, also_hers}
    assert collected(shared, None) == {nobodys}
    assert collected(shared, "no_such_user") == set()
    assert collected(shared, ben, task_ids=hers) == {hers}
    assert len(service.charges()) == 4
