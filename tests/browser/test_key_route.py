"""The key in the settings: set, checked and removed by its owner, and by nobody else."""

from __future__ import annotations

import json
import stat
from collections.abc import Callable
from http.client import HTTPConnection
from typing import Any
from urllib.parse import urlsplit

import pytest

from support.comfy import RivyaComfyUI
from support.service import Watched

from .frontend import Frontend

SECRET = "rvya_sk_typed_into_the_settings"
ROUTES = [
    ("POST", "/rivya/key/status"),
    ("POST", "/rivya/key"),
    ("DELETE", "/rivya/key"),
    ("POST", "/rivya/key/check"),
]


def ask(
    comfy: RivyaComfyUI, method: str, path: str, body: bytes | None = None, **headers: str | None
) -> tuple[int, str]:
    """One request as ComfyUI's own page sends it, but for ``headers``; None leaves one out."""
    host = urlsplit(comfy.url).netloc
    sent: dict[str, str | None] = {
        "Host": host,
        "Origin": f"http://{host}",
        "Content-Type": "application/json",
    }
    sent.update({name.replace("_", "-"): value for name, value in headers.items()})
    connection = HTTPConnection(host, timeout=60)
    content = json.dumps({"key": SECRET}).encode() if body is None else body
    connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
    for name, value in {**sent, "Content-Length": str(len(content))}.items():
        if value is not None:
            connection.putheader(name, value)
    connection.endheaders(content)
    answer = connection.getresponse()
    text = answer.read().decode()
    connection.close()
    return answer.status, text


@pytest.mark.parametrize("method,path", ROUTES)
@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://evil.example"},
        {"Origin": "https://127.0.0.1"},
        {"Origin": "http://127.0.0.1:1"},
        {"Origin": "http://localhost:{port}"},
        {"Origin": "null"},
        {"Origin": None},
        {"Host": "evil.example", "Origin": "http://evil.example"},
        {"Host": "evil.example:{port}", "Origin": "http://evil.example:{port}"},
        {"Host": "127.0.0.1.evil.example", "Origin": "http://127.0.0.1.evil.example"},
        {"Content_Type": "application/x-www-form-urlencoded"},
        {"Content_Type": "text/plain"},
        {"Content_Type": "multipart/form-data; boundary=x"},
        {"Content_Type": None},
    ],
    ids=lambda headers: " ".join(f"{name}={value}" for name, value in headers.items()),
)
def test_what_does_not_come_from_this_page_is_refused_and_changes_nothing(
    method: str, path: str, headers: dict[str, str | None], comfy: RivyaComfyUI, service: Watched
) -> None:
    host = urlsplit(comfy.url).netloc
    before = (comfy.home / "config.json").read_bytes()
    filled = {k: v and v.format(host=host, port=host.rpartition(":")[2]) for k, v in headers.items()}
    status, text = ask(comfy, method, path, **filled)
    assert status == 403
    assert SECRET not in text
    assert service.key[-4:] not in text
    assert (comfy.home / "config.json").read_bytes() == before
    assert not service.requests()


@pytest.mark.parametrize("header", ["X-Forwarded-For", "X-Real-IP", "Forwarded", "Via", "x-forwarded-host"])
def test_what_a_proxy_passes_on_is_refused(header: str, comfy: RivyaComfyUI, service: Watched) -> None:
    before = (comfy.home / "config.json").read_bytes()
    status, _ = ask(comfy, "POST", "/rivya/key", None, **{header: "203.0.113.7"})
    assert status == 403
    assert (comfy.home / "config.json").read_bytes() == before


@pytest.mark.parametrize("path", ["/rivya/key", "/rivya/key/status", "/rivya/key/check", "/api/rivya/key"])
def test_nothing_is_told_to_a_plain_get(path: str, comfy: RivyaComfyUI) -> None:
    status, text = ask(comfy, "GET", path)
    assert status in (404, 405)
    assert "configured" not in text


@pytest.mark.parametrize("body", [b"", b"null", b"[]", b"not json", b"[" * 4000, b"{" + b" " * 5000 + b"}"])
def test_a_body_that_is_no_small_object_is_refused(body: bytes, comfy: RivyaComfyUI) -> None:
    assert ask(comfy, "POST", "/rivya/key", body)[0] == 400


@pytest.mark.parametrize("key", ["", "   ", "rvya sk", "rvya_sk_\u00e9", "x" * 600, 7, None, ["rvya_sk_x"]])
def test_a_key_that_cannot_be_one_is_refused_and_not_repeated(key: Any, comfy: RivyaComfyUI) -> None:
    before = (comfy.home / "config.json").read_bytes()
    status, text = ask(comfy, "POST", "/rivya/key", json.dumps({"key": key}).encode())
    assert status == 400
    assert not (isinstance(key, str) and len(key.strip()) > 3 and key in text)
    assert (comfy.home / "config.json").read_bytes() == before


def test_a_key_is_written_for_its_owner_alone_and_keeps_what_stands_beside_it(
    comfy: RivyaComfyUI, service: Watched
) -> None:
    comfy.configure(base_url=service.url, max_concurrency=3)
    status, text = ask(comfy, "POST", "/rivya/key")
    assert (status, SECRET in text) == (200, False)
    path = comfy.home / "config.json"
    assert json.loads(path.read_text()) == {"api_key": SECRET, "base_url": service.url, "max_concurrency": 3}
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    status, text = ask(comfy, "POST", "/rivya/key/status")
    assert json.loads(text) == {"configured": True, "source": "file", "last4": SECRET[-4:], "problem": None}
    assert ask(comfy, "DELETE", "/rivya/key")[0] == 200
    assert json.loads(path.read_text()) == {"base_url": service.url, "max_concurrency": 3}


def test_a_person_sets_checks_and_removes_the_key_in_the_settings(
    renderer: str, open_editor: Callable[..., Frontend], newcomer: RivyaComfyUI, service: Watched
) -> None:
    editor = open_editor(renderer)
    newcomer.configure(base_url=service.url)
    row = editor.open_settings()
    row.get_by_text("No key is set.").wait_for()
    editor.screenshot("settings-none")
    row.locator("input").fill(service.key)
    row.get_by_role("button", name="Save").click()
    row.get_by_text(f"A key is set, ending in {service.key[-4:]}.").wait_for()
    assert row.locator("input").input_value() == ""
    row.get_by_role("button", name="Check").click()
    row.get_by_text("Balance: 1000 credits.").wait_for()
    editor.screenshot("settings-checked")
    everywhere = editor.page.evaluate(
        """async () => JSON.stringify([document.documentElement.outerHTML, {...localStorage}, {...sessionStorage},
          location.href, await (await fetch('/settings')).json()])"""
    )
    assert service.key not in everywhere
    row.get_by_role("button", name="Remove").click()
    row.get_by_text("No key is set.").wait_for()
    row.locator("input").fill("rvya_sk_wrong")
    row.locator("input").press("Enter")
    row.get_by_text("ending in rong").wait_for()
    row.get_by_role("button", name="Check").click()
    row.get_by_text("key", exact=False).first.wait_for()
    editor.page.wait_for_function(
        "() => !/Asking|ending in/.test(document.querySelector('.rivya-key').innerText)"
    )
    editor.screenshot("settings-refused")
    editor.errors.clear()  # the browser notes the 400 by itself


@pytest.mark.slow
def test_a_key_of_the_environment_wins_and_the_row_says_so(
    start_comfyui: Callable[..., RivyaComfyUI], open_editor: Callable[..., Frontend]
) -> None:
    server = start_comfyui(env={"RIVYA_API_KEY": "rvya_sk_from_outside"})
    row = open_editor(server=server).open_settings()
    row.get_by_text("ending in side. It comes from RIVYA_API_KEY").wait_for()


# "127.1" is this machine, but it takes the system to know that: to the pack it is as foreign as any other.
ELSEWHERE = ["--listen", "127.1"]


@pytest.mark.slow
def test_where_others_may_reach_comfyui_there_is_no_route(start_comfyui: Callable[..., RivyaComfyUI]) -> None:
    server = start_comfyui(arguments=ELSEWHERE)
    for method, path in ROUTES:
        assert ask(server, method, path)[0] in (404, 405)


@pytest.mark.slow
def test_where_others_may_reach_comfyui_the_row_says_what_to_do(
    start_comfyui: Callable[..., RivyaComfyUI], open_editor: Callable[..., Frontend]
) -> None:
    editor = open_editor(server=start_comfyui(arguments=ELSEWHERE))
    row = editor.open_settings()
    row.get_by_text("This ComfyUI can be reached from other computers").wait_for()
    assert not row.locator("input").is_visible()
    editor.screenshot("settings-elsewhere")
    editor.errors.clear()  # the browser notes the 405 by itself
