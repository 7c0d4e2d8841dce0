"""The real frontend against the real ComfyUI and the sandbox, in both of its renderers."""

from __future__ import annotations

import itertools
import secrets
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from support.cases import slow_but
from support.quick import teach_schedule

from .frontend import Frontend

if TYPE_CHECKING:
    from playwright.sync_api import Browser

    from support.comfy import RivyaComfyUI
    from support.service import Watched

OPEN_EDITORS = 2
"""Pages kept at a time. Each goes on to draw and takes a tenth of a core."""

RENDERERS = ("litegraph", pytest.param("nodes2", marks=pytest.mark.slow))

# What people see first, with the frontend that they have today; the others with --slow. All other tests look at the
# frontend of the oldest ComfyUI.
EVERYWHERE = slow_but(itertools.product(("pinned", "newest"), ("litegraph", "nodes2")), ("newest", "nodes2"))


@pytest.hookimpl
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let the tests of a module that look at the same page follow each other."""
    here = Path(__file__).parent
    ours = iter(sorted((item for item in items if item.path.parent == here), key=_page_of))
    items[:] = [next(ours) if item.path.parent == here else item for item in items]


def _page_of(item: pytest.Item) -> tuple[str, ...]:
    params = item.callspec.params if hasattr(item, "callspec") else {}
    return (str(item.path), *(str(params.get(name)) for name in ("everywhere", "renderer", "locale")))


@pytest.fixture(params=RENDERERS)
def renderer(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def newcomer(comfy: RivyaComfyUI, service: Watched) -> RivyaComfyUI:
    """ComfyUI as one has it on the first day: its own example.png, and an account that has bought nothing yet.

    Only how long its orders take is known already: every test would wait for its first question otherwise.
    """
    return _first_day(comfy, service)


def _first_day(comfy: RivyaComfyUI, service: Watched) -> RivyaComfyUI:
    from support.comfy import comfyui_folder

    comfy.forget_cached()  # what a template made for another newcomer
    shutil.copyfile(comfyui_folder() / "input" / "example.png", comfy.base / "input" / "example.png")
    key = f"rvya_sk_{secrets.token_hex(16)}"
    service.set_key(key, account=key)
    service.set_credits(1000, account=key)
    comfy.configure(api_key=key, base_url=service.url)
    teach_schedule(comfy.home, service.url, key)
    return comfy


@pytest.fixture(scope="session")
def _newest(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RivyaComfyUI]:
    """The same ComfyUI with the newest frontend."""
    from support.comfy import newest_frontend, running_comfyui

    arguments = ["--front-end-root", str(newest_frontend())]
    with running_comfyui(tmp_path_factory.mktemp("newest"), arguments=arguments) as server:
        yield server


@pytest.fixture(params=EVERYWHERE, ids="-".join)
def everywhere(
    request: pytest.FixtureRequest, open_editor: Callable[..., Frontend], service: Watched
) -> Frontend:
    """The editor of a newcomer, with the frontend of the oldest ComfyUI and with the newest."""
    edition, renderer = request.param
    if edition == "pinned":
        return open_editor(renderer)
    return _open_newest(request, open_editor, service, renderer)


@pytest.fixture
def newest(
    request: pytest.FixtureRequest, open_editor: Callable[..., Frontend], service: Watched
) -> Frontend:
    """The editor of a newcomer with the newest frontend, in Nodes 2.0: for what older ones do not have."""
    return _open_newest(request, open_editor, service, "nodes2")


def _open_newest(
    request: pytest.FixtureRequest, open_editor: Callable[..., Frontend], service: Watched, renderer: str
) -> Frontend:
    comfy = request.getfixturevalue("_newest")
    return open_editor(renderer, server=_first_day(comfy, service))


@pytest.fixture(scope="session")
def _editors(browser: Browser) -> Iterator[Callable[..., Frontend]]:
    """One page for each way of looking at a ComfyUI: loading the editor takes longer than most tests."""
    opened: dict[tuple[str, str, str], Frontend] = {}

    def editor(server: RivyaComfyUI, renderer: str, locale: str) -> Frontend:
        wanted = (server.url, renderer, locale)
        frontend = opened.pop(wanted, None)
        if frontend is None:
            while len(opened) >= OPEN_EDITORS:
                opened.pop(next(iter(opened))).page.context.close()
            context = browser.new_context(viewport={"width": 1600, "height": 1000}, service_workers="block")
            frontend = Frontend(context.new_page(), server, renderer, locale)
            frontend.open()
        opened[wanted] = frontend
        frontend.start_over()
        return frontend

    yield editor
    for frontend in opened.values():
        frontend.page.context.close()


@pytest.fixture
def open_editor(
    request: pytest.FixtureRequest, _editors: Callable[..., Frontend]
) -> Iterator[Callable[..., Frontend]]:
    """An editor with an empty graph: ``open_editor(renderer, locale="en", server=...)``, by default at the ComfyUI of
    a newcomer. At the end, no console error is ours."""
    used: list[Frontend] = []

    def opener(
        renderer: str = "litegraph", locale: str = "en", server: RivyaComfyUI | None = None
    ) -> Frontend:
        used.append(_editors(server or request.getfixturevalue("newcomer"), renderer, locale))
        return used[-1]

    yield opener
    for frontend in used:
        assert frontend.errors_of_ours() == []


@pytest.fixture
def frontend(open_editor: Callable[..., Frontend], renderer: str) -> Frontend:
    """The editor in English, once in each renderer."""
    return open_editor(renderer)
