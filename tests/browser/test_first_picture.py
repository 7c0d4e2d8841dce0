"""From a started ComfyUI to the first picture, as a newcomer with a key at hand."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from support.comfy import RivyaComfyUI
from support.service import Watched

from .frontend import Frontend


def test_a_newcomer_gets_the_first_picture_with_seven_clicks(
    open_editor: Callable[..., Frontend],
    newcomer: RivyaComfyUI,
    service: Watched,
    record_property: Callable[..., None],
) -> None:
    editor = open_editor()
    newcomer.configure(base_url=service.url)
    page = editor.page
    page.evaluate("() => { window.clicks = 0; addEventListener('click', () => (window.clicks += 1), true); }")
    begun = time.monotonic()
    row = editor.open_settings()
    row.locator("input").fill(service.key)
    row.get_by_role("button", name="Save").click()
    row.get_by_text("A key is set").wait_for()
    editor.close_dialogs()
    editor.open_template("Edit a photo")
    entry = editor.run()
    seconds = time.monotonic() - begun
    clicks = page.evaluate("() => window.clicks")
    record_property("clicks", clicks)
    record_property("seconds", round(seconds, 1))
    print(f"first picture: {clicks} clicks, {seconds:.1f} s")
    assert entry["status"]["status_str"] == "success"
    assert clicks <= 7


@pytest.mark.slow
def test_the_pack_adds_no_error_to_the_console(
    start_comfyui: Callable[..., RivyaComfyUI], open_editor: Callable[..., Frontend], renderer: str
) -> None:
    editor = open_editor(renderer)
    editor.add("RivyaSubmitAndWait")
    editor.reload()
    with_pack = kinds(editor)
    bare = open_editor(renderer, server=start_comfyui(pack=None))
    bare.reload()
    assert with_pack - kinds(bare) == set()


def kinds(editor: Frontend) -> set[str]:
    """The errors of a page without what differs from start to start."""
    return {error.replace(editor.server.url, "").partition("    at ")[0] for error in editor.errors}
