"""The badge is the price: what the graph cannot count is said, and never taken for one picture."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, PngImagePlugin

from support.cases import slow_but
from support.comfy import RivyaComfyUI

from .frontend import Frontend
from .test_seed_and_badge import set_widget
from .test_templates import graph_of


def frames(count: int, size: tuple[int, int] = (48, 32)) -> list[Image.Image]:
    return [Image.new("RGB", size, (40 * number, 90, 160)) for number in range(count)]


def animation(kind: str, count: int = 3) -> Callable[[Path], None]:
    first, *others = frames(count)
    return lambda path: first.save(path, kind, save_all=True, append_images=others, duration=100)


def still(kind: str, **options: Any) -> Callable[[Path], None]:
    return lambda path: frames(1)[0].save(path, kind, **options)


def with_notes(path: Path) -> None:
    """A PNG as ComfyUI saves it, with more of a workflow than a megabyte before its pixels."""
    notes = PngImagePlugin.PngInfo()
    notes.add_text("workflow", "acTL" * 300_000)
    frames(1)[0].save(path, "PNG", pnginfo=notes)


ONE, MANY = "4 credits", "4 credits × pictures"
FILES: dict[str, tuple[Callable[[Path], None], str]] = {
    "still.png": (still("PNG"), ONE),
    "still.webp": (still("WEBP"), ONE),
    "still with alpha.webp": (lambda path: Image.new("RGBA", (9, 9)).save(path, "WEBP", exif=b"Exif"), ONE),
    "still.jpg": (still("JPEG"), ONE),
    "still.bmp": (still("BMP"), ONE),
    "words.png": (with_notes, ONE),
    "moving.gif": (animation("GIF"), MANY),
    "moving.webp": (animation("WEBP"), MANY),
    "moving.png": (animation("PNG"), MANY),
    "a gif by another name.png": (animation("GIF"), MANY),
    "a webp & more by another name.jpg": (animation("WEBP"), MANY),
    "pages.tiff": (animation("TIFF"), MANY),
    "sub/folder/moving.png": (animation("PNG"), MANY),
}


@pytest.mark.parametrize(
    "name",
    slow_but(
        FILES, "still.png", "moving.webp", "a gif by another name.png", "sub/folder/moving.png", "words.png"
    ),
)
def test_a_file_of_several_pictures_is_not_priced_as_one(
    frontend: Frontend, newcomer: RivyaComfyUI, name: str
) -> None:
    write, badge = FILES[name]
    path = newcomer.base / "input" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    write(path)
    frontend.load(graph_of("Edit a photo"))
    frontend.expect_badge(ONE)
    set_widget(frontend, "image", name, "LoadImage")
    frontend.expect_badge(badge)


def test_a_file_that_was_replaced_is_looked_at_again(frontend: Frontend, newcomer: RivyaComfyUI) -> None:
    path = newcomer.base / "input" / "replaced.png"
    still("PNG")(path)
    frontend.load(graph_of("Edit a photo"))
    set_widget(frontend, "image", "replaced.png", "LoadImage")
    frontend.expect_badge(ONE)
    animation("PNG")(path)
    set_widget(frontend, "image", "replaced.png", "LoadImage")
    frontend.expect_badge(MANY)


def test_a_file_that_is_not_there_leaves_the_number_open_and_the_page_alone(frontend: Frontend) -> None:
    frontend.load(graph_of("Edit a photo"))
    set_widget(frontend, "image", "gone.webp", "LoadImage")
    frontend.expect_badge(MANY)


_LISTED = """async (slot) => {
  const def = { name: "GiveList", display_name: "Give List", category: "tests", python_module: "custom_nodes.tests",
    description: "", input: { required: {} }, output: ["*"], output_name: ["out"], output_is_list: [true],
    output_node: false };
  await app.registerNodeDef(def.name, def);
  const add = (type) => { const node = window.LiteGraph.createNode(type); app.graph.add(node); return node; };
  const submit = app.graph.nodes.find((node) => node.type === "RivyaSubmitAndWait");
  const into = (from, to, name) => from.connect(0, to, to.inputs.findIndex((input) => input.name === name));
  const list = add("GiveList"), between = add(slot === "lines" ? "RivyaPromptList" : "StringConcatenate");
  if (slot === "seed") return into(list, submit, "seed");
  into(list, between, slot === "lines" ? "prompts" : "string_a");
  into(between, submit, "prompt");
}"""


@pytest.mark.parametrize("slot", ["prompt", "lines", "seed"])
def test_a_list_that_the_graph_cannot_count_is_not_priced_as_one(frontend: Frontend, slot: str) -> None:
    frontend.load(graph_of("Edit a photo"))
    frontend.change(_LISTED, slot)
    frontend.expect_badge(MANY)


def test_a_text_of_another_node_is_one_prompt(frontend: Frontend) -> None:
    frontend.load(graph_of("Edit a photo"))
    frontend.change(
        """() => {
          const text = window.LiteGraph.createNode("StringConcatenate");
          app.graph.add(text);
          const submit = app.graph.nodes.find((node) => node.type === "RivyaSubmitAndWait");
          text.connect(0, submit, submit.inputs.findIndex((input) => input.name === "prompt")); }"""
    )
    frontend.expect_badge(ONE)
