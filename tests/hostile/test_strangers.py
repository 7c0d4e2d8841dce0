"""Workflows of strangers: whatever stands in a widget reaches no other endpoint, header, host or file."""

from __future__ import annotations

import json
import re
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import sandbox
from devtools.comfyui import PromptRefused, link_folder
from hostile.audit import Audit
from support.cases import slow_but
from support.comfy import Graph, RivyaComfyUI, edit_graph, new_seed, random_picture
from support.quick import teach_schedule

pytestmark = [pytest.mark.comfy, pytest.mark.xdist_group("strangers"), pytest.mark.timeout(300)]

TEXTS = {
    "path parts": "../../../../etc/passwd",
    "windows path parts": "..\\..\\..\\windows\\win.ini",
    "escaped path parts": "%2e%2e%2f%2e%2e%2fadmin",
    "another endpoint": "x/../../credits",
    "query and fragment": "task_1?admin=1#x",
    "line ends": "a\r\nX-Evil: 1\r\n\r\nGET /evil HTTP/1.1\r\n",
    "a nul": "a\0b",
    "half a character": "a\ud800b",
    "bidi": "\u202egnp.exe",
    "an escape sequence": "\x1b[2J\x1b]0;evil\x07",
    "html": "<img src=x onerror=alert(1)>",
    "a metadata address": "http://169.254.169.254/latest/meta-data/",
    "a host": "https://evil.example/steal",
    "a file address": "file:///etc/passwd",
    "sql": "'; DROP TABLE orders; --",
    "a format": "{0.__class__.__mro__} %s %n ${PATH} `id`",
    "one megabyte": "A" * 1_000_000,
    "json": '"}, "model": "other", "x": {"',
    "nothing": "",
}
VALUES = {**TEXTS, "a number": 10**30, "not a number": "NaN", "minus": -1, "a fraction": 0.5, "null": None,
          "true": True, "an object": {"a": 1}, "deep": [[[[]]]]}  # fmt: skip
ENDPOINTS = re.compile(
    r"GET /api/v1/(credits|models|files/[\w-]{1,128}|generations/[\w-]{1,128})|POST /api/v1/(files|generations)"
)


@pytest.fixture(scope="module")
def strange(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[RivyaComfyUI, Any, Audit]]:
    """A ComfyUI under audit, its state folder where it lies by default, and a sandbox with a key of its own."""
    from support.comfy import start_comfyui

    base = tmp_path_factory.mktemp("strange")
    audit = Audit(base / "audit")
    trap = dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"), "http://127.0.0.1:9")
    (base / "comfy" / "custom_nodes").mkdir(parents=True)
    link_folder(Path(__file__).with_name("expander"), base / "comfy" / "custom_nodes" / "expander")
    with sandbox.running(key="rvya_sk_stranger_must_not_see", megapixels=0.01, credits=10_000) as service:
        comfy = start_comfyui(
            base / "comfy",
            {"RIVYA_HOME": str(base / "comfy" / "user" / "__rivya"), **audit.environment, **trap},
        )
        home = base / "comfy" / "user" / "__rivya"
        home.mkdir(mode=0o700, exist_ok=True)
        settings = {
            "base_url": service.url,
            "api_key": service.key,
            "retry_budget_s": 1.0,
            "conflict_wait_s": 0.5,
        }
        (home / "config.json").write_text(json.dumps(settings))
        (home / "config.json").chmod(0o600)
        teach_schedule(home, service.url, service.key)
        try:
            yield comfy, service, audit
        finally:
            comfy.stop()


def attempt(comfy: RivyaComfyUI, graph: Graph) -> str:
    """Run a graph to whatever end."""
    try:
        finished = comfy.run(graph, 90)
    except PromptRefused:
        return "refused"
    except urllib.error.HTTPError as error:
        return f"refused with {error.code}"
    return "succeeded" if finished.succeeded else "failed"


def assert_nothing_got_out(comfy: RivyaComfyUI, service: Any, audit: Audit, seen: int) -> None:
    requests = service.requests()[seen:]
    assert not [
        r
        for r in requests
        if r["endpoint"] != "result" and not ENDPOINTS.fullmatch(f"{r['method']} {r['path']}")
    ]
    assert not service.book()["violations"]
    assert "Evil" not in json.dumps(requests)
    ports = {int(url.rpartition(":")[2]) for url in (service.url, service.results_url)}
    for what in audit.events("socket.connect"):
        address = next(part for part in what if isinstance(part, list))
        assert address[0] == "127.0.0.1"
        assert address[1] in ports
    assert not [what for what in audit.events("socket.getaddrinfo") if what[0] not in ("127.0.0.1", None)]
    assert not audit.events(
        "subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.fork", "socket.bind"
    )
    for path in written(audit):
        assert any(path.is_relative_to(comfy.base / name) for name in ("user", "output", "temp")), path
    # ComfyUI lives.
    assert comfy.call("/queue")["queue_running"] == []


def written(audit: Audit) -> list[Path]:
    """Every path that was written, moved or removed; byte code, devices and the process's own log aside."""
    paths = [Path(path) for path in audit.events("open") if isinstance(path, str)]
    for event in ("os.rename", "os.remove", "os.mkdir", "os.symlink", "os.link", "os.rmdir", "shutil.rmtree"):
        paths += [Path(path) for what in audit.events(event) for path in what]
    return [
        path
        for path in paths
        if "__pycache__" not in path.parts and not str(path).startswith(("/dev/", "/proc/"))
    ]


@pytest.mark.parametrize("name", slow_but(VALUES, "path parts"))
def test_whatever_stands_in_a_widget_of_a_stranger_s_workflow_stays_in_its_place(
    name: str, strange: tuple[RivyaComfyUI, Any, Audit]
) -> None:
    comfy, service, audit = strange
    value, seen = VALUES[name], len(service.requests())
    picture = comfy.put_image(random_picture(16, 16))
    before = service.book()["accounts"]
    audit.begin()
    ends = {}
    for widget in ("prompt", "client_request_id", "seed", "variations", "on_failure", "timeout_s"):
        ends[widget] = attempt(comfy, with_input(edit_graph(None), "edit", widget, value))
    for widget in (
        "model",
        "aspect_ratio",
        "output_format",
        "watermark",
        "safety_tolerance",
        "enable_translation",
    ):
        ends[widget] = attempt(comfy, with_input(edit_graph(None), "params", widget, value))
    ends["encoding"] = attempt(comfy, with_input(edit_graph(picture), "reference", "encoding", value))
    for widget in ("task_ids", "timeout_s"):
        graph = {"edit": {"class_type": "RivyaCollectTasks", "inputs": {"task_ids": "task_unknown"}}}
        ends[f"collect {widget}"] = attempt(comfy, with_input(graph, "edit", widget, value))
    assert_nothing_got_out(comfy, service, audit, seen)
    # Each graph shows one picture: no value may have bought more.
    tasks = [r for r in service.requests("create")[:] if r in service.requests()[seen:]]
    assert len(tasks) <= 15
    assert ends["model"] != "succeeded"
    if name in ("path parts", "another endpoint", "line ends", "one megabyte"):
        assert ends["collect task_ids"] != "succeeded"
    assert spent(before, service.book()["accounts"]) <= 4 * len(ends)


def with_input(graph: Graph, node: str, widget: str, value: Any) -> Graph:
    graph[node]["inputs"][widget] = value
    return graph


def spent(before: Any, after: Any) -> int:
    """Credits that all accounts have lost."""

    def total(accounts: Any) -> int:
        listed = accounts.values() if isinstance(accounts, dict) else accounts
        return sum(account["credits"] for account in listed)

    return total(before) - total(after)


FORGED = {
    "a text": "abc",
    "an object": {"url": "https://evil.example/a.png", "data": "AAAA", "identity": "x"},
    "objects": [{"url": "https://evil.example/a.png"}],
    "nothing": {},
    "an empty list": [],
    "a number": 5,
}


@pytest.mark.parametrize("socket", ["params", "reference"])
@pytest.mark.parametrize("name", FORGED)
def test_a_value_written_in_place_of_a_link_is_refused_before_anything_is_sent(
    name: str, socket: str, strange: tuple[RivyaComfyUI, Any, Audit]
) -> None:
    """A prompt in API form may hold any value where the frontend only draws links."""
    comfy, service, _ = strange
    seen = len(service.requests())
    try:
        finished = comfy.run(with_input(edit_graph(None), "edit", socket, FORGED[name]), 60)
    except (PromptRefused, urllib.error.HTTPError):
        return
    finally:
        assert len(service.requests()) == seen
    assert finished.error is not None
    assert finished.error["exception_type"].endswith("ValidationError"), finished.error["exception_message"]


@pytest.mark.parametrize("name", ["a nul", "half a character", "one megabyte"])
def test_a_text_that_cannot_be_sent_is_refused_before_anything_is(
    name: str, strange: tuple[RivyaComfyUI, Any, Audit]
) -> None:
    comfy, service, _ = strange
    seen = len(service.requests())
    for graph in (
        edit_graph(None, prompt=f"a{TEXTS[name]}"),
        edit_graph(None, params={"watermark": TEXTS[name]}),
    ):
        assert attempt(comfy, graph) != "succeeded"
    assert len(service.requests()) == seen


@pytest.mark.slow
def test_texts_arrive_as_they_are_and_in_the_body_alone(strange: tuple[RivyaComfyUI, Any, Audit]) -> None:
    comfy, service, _ = strange
    for name in ("line ends", "html", "json", "sql", "a format", "bidi"):
        graph = edit_graph(None, prompt=f"paint {TEXTS[name]}", params={"watermark": TEXTS[name]})
        assert attempt(comfy, graph) == "succeeded", name
        task = service.tasks()[-1]
        assert task["prompt"] == f"paint {TEXTS[name]}"
        assert task["params"]["watermark"] == TEXTS[name]


PEEKS = [
    "/userdata/config.json",
    "/userdata/__rivya/config.json",
    "/userdata/..%2F__rivya%2Fconfig.json",
    "/userdata/%2e%2e%2f__rivya%2fconfig.json",
    "/userdata?dir=../__rivya&recurse=true&full_info=true",
    "/v2/userdata?path=../__rivya",
    "/view?filename=config.json&subfolder=../user/__rivya&type=output",
    "/view?filename=../user/__rivya/config.json&type=output",
    "/view?filename=config.json&subfolder=__rivya&type=input",
    "/view?filename=..%2Fuser%2F__rivya%2Fconfig.json&type=input",
    "/user/__rivya/config.json",
    "/extensions/rivya-nodes/../../user/__rivya/config.json",
    "/extensions/rivya-nodes/%2e%2e/%2e%2e/user/__rivya/config.json",
    "/api/userdata/..%2F__rivya%2Fconfig.json",
    "/settings",
    "/internal/files/output",
    "/view_metadata/../../user/__rivya?filename=config.json",
    "/rivya/key",
    "/rivya/key/status",
]


@pytest.mark.parametrize("user", ["default", "__rivya", "../user/__rivya"])
def test_nobody_reads_the_state_folder_over_http(user: str, strange: tuple[RivyaComfyUI, Any, Audit]) -> None:
    comfy, service, _ = strange
    opened = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    for place in PEEKS:
        request = urllib.request.Request(comfy.url + place, headers={"comfy-user": user})
        try:
            with opened.open(request, timeout=10) as answer:
                told = answer.read()
        except (urllib.error.HTTPError, OSError) as error:
            told = error.read() if isinstance(error, urllib.error.HTTPError) else b""
        assert service.key.encode() not in told, place
        assert b"retry_budget_s" not in told, place
    home = comfy.base / "user" / "__rivya"
    assert (home / "config.json").is_file()


READERS: list[tuple[str, dict[str, Any]]] = [
    ("LoadImage", {"image": "../user/__rivya/config.json"}),
    ("LoadImage", {"image": "config.json [../user/__rivya]"}),
    ("LoadImageMask", {"image": "../user/__rivya/ledger.sqlite3", "channel": "red"}),
    ("LoadImageOutput", {"image": "../user/__rivya/config.json [output]"}),
]


@pytest.mark.parametrize("kind, inputs", READERS)
def test_no_node_of_a_workflow_reads_the_state_folder_into_a_picture(
    kind: str, inputs: dict[str, Any], strange: tuple[RivyaComfyUI, Any, Audit]
) -> None:
    comfy, service, _ = strange
    graph = {
        "read": {"class_type": kind, "inputs": inputs},
        "show": {"class_type": "PreviewImage", "inputs": {"images": ["read", 0]}},
    }
    assert attempt(comfy, graph) != "succeeded"
    assert service.key not in json.dumps(comfy.call("/history"))


@pytest.mark.parametrize("prefix", ["../../evil", "/evil", "..\\evil", "a/../../../evil"])
def test_a_picture_is_saved_by_comfyui_s_own_rules_only(
    prefix: str, strange: tuple[RivyaComfyUI, Any, Audit]
) -> None:
    comfy, service, audit = strange
    graph = edit_graph(None)
    graph["save"]["inputs"]["filename_prefix"] = prefix
    seen = len(service.requests())
    audit.begin()
    attempt(comfy, graph)
    assert_nothing_got_out(comfy, service, audit, seen)


def list_of(count: int) -> Graph:
    """Nodes of ComfyUI that make a list of that many pictures."""
    graph: Graph = {}
    for number in range(count):
        graph[f"c{number}"] = {
            "class_type": "EmptyImage",
            "inputs": {"width": 16, "height": 16, "batch_size": 1, "color": number * 1000},
        }
    joined: list[Any] = ["c0", 0]
    for number in range(1, count):
        graph[f"j{number}"] = {
            "class_type": "ImageBatch",
            "inputs": {"image1": joined, "image2": [f"c{number}", 0]},
        }
        joined = [f"j{number}", 0]
    graph["list"] = {"class_type": "RebatchImages", "inputs": {"images": joined, "batch_size": 1}}
    return graph


def test_a_list_that_multiplies_orders_in_secret_is_stopped_before_anything_is_bought(
    strange: tuple[RivyaComfyUI, Any, Audit],
) -> None:
    """Five pictures as a list, sixteen variations each: eighty orders from a node that shows sixteen."""
    comfy, service, _ = strange
    before = len(service.tasks())
    graph = edit_graph(None, variations=16)
    graph |= list_of(5)
    graph["reference"] = {
        "class_type": "RivyaUploadReference",
        "inputs": {"image": ["list", 0], "encoding": "auto"},
    }
    graph["edit"]["inputs"]["reference"] = ["reference", 0]
    finished = comfy.run(graph, 90)
    assert finished.error is not None
    assert "80 pictures for 320 credits" in finished.error["exception_message"]
    assert len(service.tasks()) == before


def test_a_node_that_expands_into_many_counts_as_the_one_that_is_shown(
    strange: tuple[RivyaComfyUI, Any, Audit],
) -> None:
    comfy, service, _ = strange
    before = len(service.tasks())
    for count, bought in ((80, 0), (3, 3)):
        graph: Graph = {
            "loop": {"class_type": "RepeatSubmit", "inputs": {"count": count, "first_seed": new_seed()}},
            "look": {"class_type": "PreviewAny", "inputs": {"source": ["loop", 0]}},
        }
        finished = comfy.run(graph, 90)
        assert finished.succeeded == bool(bought), finished.explain()
        if finished.error is not None:
            assert "at most 64 are allowed in one run" in finished.error["exception_message"]
        assert len(service.tasks()) == before + bought


def test_the_cap_of_the_owner_holds_for_all_nodes_of_a_workflow_together(
    strange: tuple[RivyaComfyUI, Any, Audit],
) -> None:
    comfy, service, _ = strange
    config = comfy.base / "user" / "__rivya" / "config.json"
    settings = json.loads(config.read_text())
    config.write_text(json.dumps({**settings, "max_credits_per_run": 12}))
    before = len(service.tasks())
    try:
        graph: Graph = {}
        for number in range(6):
            one = edit_graph(None)
            graph |= {f"{name}{number}": relinked(node, number) for name, node in one.items()}
        attempt(comfy, graph)
        assert len(service.tasks()) - before <= 3
    finally:
        config.write_text(json.dumps(settings))


def relinked(node: dict[str, Any], number: int) -> dict[str, Any]:
    inputs = {
        name: [f"{value[0]}{number}", value[1]] if isinstance(value, list) else value
        for name, value in node["inputs"].items()
    }
    return {**node, "inputs": inputs}


def test_the_state_folder_and_its_files_are_for_their_owner_alone(
    strange: tuple[RivyaComfyUI, Any, Audit],
) -> None:
    comfy, _, _ = strange
    home = comfy.base / "user" / "__rivya"
    assert home.stat().st_mode & 0o777 == 0o700
    loose = [p for p in home.rglob("*") if p.stat().st_mode & 0o777 != (0o700 if p.is_dir() else 0o600)]
    assert not loose
