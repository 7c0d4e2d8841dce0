"""Names and tooltips in six languages: complete, and shown by the frontend."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from rivya import kontext
from support.comfy import RivyaComfyUI

from .frontend import ROOT, Frontend
from .test_help import NODES

LANGUAGES = ("en", "zh", "zh-TW", "ja", "ko", "id")
WEB = ROOT / "web"


def texts(language: str, part: str) -> dict[str, Any]:
    return dict(json.loads((ROOT / "locales" / language / f"{part}.json").read_text("utf-8")))


def strings(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for each in value.values():
            yield from strings(each)
    else:
        yield value


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_node_input_option_and_output_has_a_name_and_a_tooltip(
    language: str, comfyui: RivyaComfyUI
) -> None:
    ours = texts(language, "nodeDefs")
    assert ours.keys() == set(NODES)
    for node in NODES:
        info = comfyui.object_info(node)[node]
        inputs = {**info["input"].get("required", {}), **info["input"].get("optional", {})}
        expected = set(inputs)
        if any(spec[1].get("control_after_generate") for spec in inputs.values()):
            expected.add("control_after_generate")
        assert ours[node]["inputs"].keys() == expected
        for name, spec in inputs.items():
            if options := spec[1].get("options"):
                assert list(ours[node]["inputs"][name]["options"]) == options
        assert list(ours[node]["outputs"]) == [str(index) for index in range(len(info["output"]))]
        assert ours[node]["display_name"].strip()
        assert ours[node]["description"].strip()
        for field in (*ours[node]["inputs"].values(), *ours[node]["outputs"].values()):
            assert field["name"].strip()
            assert field["tooltip"].strip()


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_texts_hold_nothing_that_the_frontend_would_read_as_its_own_syntax(language: str) -> None:
    for text in (*strings(texts(language, "nodeDefs")), *strings(texts(language, "settings"))):
        assert not re.search(r"[{}@|$<>]", text), text


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_text_of_the_script_is_there_with_its_places(language: str) -> None:
    english, ours = texts("en", "main")["rivya"], texts(language, "main")["rivya"]
    places = re.compile(r"\{\w+\}")
    assert {k: sorted(places.findall(v)) for k, v in ours.items()} == {
        k: sorted(places.findall(v)) for k, v in english.items()
    }
    script = "".join(path.read_text("utf-8") for path in WEB.glob("*.js"))
    used = set(re.findall(r'text\("(\w+)"', script))
    assert used <= set(english)


def test_the_prices_of_the_script_are_those_of_the_model_table() -> None:
    script = (WEB / "badge.js").read_text("utf-8")
    found = re.search(r"const CREDITS = (\{.*\});", script)
    assert found
    assert json.loads(found[1]) == {model.id: model.credits for model in kontext.MODELS.values()}
    assert f'const DEFAULT_MODEL = "{kontext.DEFAULT_MODEL}"' in script


@pytest.mark.parametrize(
    "locale,title,prompt,badge",
    [
        ("zh-TW", "Rivya 提交並等待", "提示詞", "4 點"),
        pytest.param("ja", "Rivya 送信して待つ", "プロンプト", "4 クレジット", marks=pytest.mark.slow),
    ],
)
def test_the_interface_in_another_language_shows_our_names(
    locale: str, title: str, prompt: str, badge: str, renderer: str, open_editor: Callable[..., Frontend]
) -> None:
    editor = open_editor(renderer, locale)
    editor.add("RivyaSubmitAndWait")
    shown = editor.page.evaluate(
        """() => { const node = app.graph.nodes[0];
          return [node.title, node.inputs.find((i) => i.name === 'prompt').localized_name]; }"""
    )
    assert shown == [title, prompt]
    assert editor.badges()[-1] == badge
    editor.frame()
    editor.screenshot(f"language-{locale}")
