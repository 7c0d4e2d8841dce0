"""The help pages: shown in the side panel, in the language of the interface, and complete."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from support.cases import slow_but
from support.comfy import RivyaComfyUI

from . import pictures, thumbnails
from .frontend import MAKE_PICTURES, ROOT, TEMPLATES, Frontend
from .test_templates import graph_of

PHOTO = ROOT / "web" / "sample.jpg"
DOCS = ROOT / "web" / "docs"
NODES = (
    "RivyaUploadReference",
    "RivyaKontextParams",
    "RivyaSubmitAndWait",
    "RivyaCollectTasks",
    "RivyaCredits",
    "RivyaStitchEdit",
    "RivyaCropForEdit",
    "RivyaPromptList",
)
PAGES = [(node, language) for node in NODES for language in ("en", "zh-TW", "id")]


def page_of(node: str, language: str) -> Path:
    return DOCS / f"{node}.md" if language == "en" else DOCS / node / f"{language}.md"


def names(node: str, info: dict[str, object]) -> set[str]:
    """Every input, output, and the seed's control, by the names in ``/object_info``."""
    about = info[node]
    assert isinstance(about, dict)
    inputs = {**about["input"].get("required", {}), **about["input"].get("optional", {})}
    control = (
        {"control_after_generate"}
        if any("control_after_generate" in i[1] for i in inputs.values())
        else set()
    )
    return {*inputs, *about["output_name"], *control}


@pytest.mark.parametrize("node,language", PAGES)
def test_a_help_page_names_every_input_and_output(node: str, language: str, comfyui: RivyaComfyUI) -> None:
    text = page_of(node, language).read_text("utf-8")
    missing = {name for name in names(node, comfyui.object_info(node)) if not re.search(rf"\b{name}\b", text)}
    assert missing == set()


@pytest.mark.parametrize("node,language", PAGES)
def test_every_picture_of_a_help_page_is_there(node: str, language: str) -> None:
    found = re.findall(r"!\[[^\]]+\]\(([^)]+)\)", page_of(node, language).read_text("utf-8"))
    assert found
    # The frontend resolves them against docs/, in whatever folder the page itself lies.
    assert [name for name in found if not (DOCS / name).is_file()] == []


@pytest.mark.parametrize("node", slow_but(NODES, "RivyaSubmitAndWait"))
@pytest.mark.parametrize("locale,heading", [("en", "When something goes wrong"), ("zh-TW", "發生問題時")])
def test_the_side_panel_shows_the_help_of_a_node(
    node: str, locale: str, heading: str, renderer: str, open_editor: Callable[..., Frontend]
) -> None:
    editor = open_editor(renderer, locale)
    editor.add(node, select=True)
    editor.page.get_by_test_id("info-button").click()
    shown = editor.page.locator(".node-help-content")
    shown.get_by_role("heading", name=heading).wait_for()
    picture = shown.locator("img").first
    picture.wait_for()
    editor.page.wait_for_function(
        "(img) => img.complete && img.naturalWidth > 100", arg=picture.element_handle()
    )
    editor.screenshot(f"help-{node}-{locale}")


@pytest.mark.slow
def test_the_pictures_of_the_help_pages_and_the_readme_show_real_graphs(
    open_editor: Callable[..., Frontend],
) -> None:
    editor = open_editor("nodes2")
    shutil.copyfile(PHOTO, editor.server.base / "input" / "example.png")
    editor.load(graph_of("Edit a photo"))
    editor.frame()
    editor.page.wait_for_timeout(500)
    editor.screenshot("part-graph", clip=editor.area())
    if MAKE_PICTURES:
        thumbnails.draw_all()
        pictures.readme_picture(editor, "edit_a_photo", editor.area())
    for node in NODES:
        editor.start_over()
        editor.add(node)
        editor.frame(scale=1.0)
        editor.page.wait_for_timeout(300)
        name = re.sub("(?<!^)(?=[A-Z])", "_", node.removeprefix("Rivya")).lower()
        editor.screenshot(f"part-{name}", clip=editor.area())
        if MAKE_PICTURES:
            pictures.help_picture(editor, name, editor.area())
    assert thumbnails.THUMBNAILS.keys() == {path.stem for path in TEMPLATES.glob("*.json")}
    assert {path.stem for path in TEMPLATES.glob("*.jpg")} == {path.stem for path in TEMPLATES.glob("*.json")}


@pytest.mark.parametrize("language", ["zh-TW", "id"])
def test_the_readmes_say_the_same_in_each_language(language: str) -> None:
    english, other = ((ROOT / name).read_text("utf-8") for name in ("README.md", f"README.{language}.md"))

    def shape(text: str) -> list[str]:
        """Headings, table rows with their cells, list items, and the commands in code, without what is translated."""
        kinds = [
            (re.compile(r"#+ "), lambda line: line.split()[0]),
            (re.compile(r"\| "), lambda line: f"row of {line.count('|')}"),
            (re.compile(r"- "), lambda line: "item"),
            (
                re.compile(r"(python|git|cd|import|from|try|except|print) ?"),
                lambda line: line.split("  #")[0],
            ),
        ]
        return [write(line) for line in text.splitlines() for pattern, write in kinds if pattern.match(line)]

    assert shape(other) == shape(english)


def test_the_pictures_of_the_readmes_are_there() -> None:
    for path in ROOT.glob("README*.md"):
        for name in re.findall(r"!\[[^\]]*\]\(([^)]+)\)", path.read_text("utf-8")):
            assert (ROOT / name).is_file(), f"{path.name}: {name}"
