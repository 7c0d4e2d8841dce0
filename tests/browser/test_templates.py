"""Every template: found in the template browser, loaded, run as it is, in both renderers."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import rivya
from support.cases import slow_but
from support.comfy import RivyaComfyUI, edit_graph
from support.service import Watched

from .frontend import ROOT, TEMPLATES, Frontend

NAMES = sorted(path.stem for path in TEMPLATES.glob("*.json"))

# Nodes of ComfyUI 0.3.75 that the templates use besides ours.
CORE = {
    *("LoadImage", "SaveImage", "PreviewImage", "PreviewAny", "MarkdownNote"),
    *("ImageBatch", "ImageFlip", "ImageGrid", "ImageStitch", "RebatchImages"),
}

# What the badge of the first Submit and Wait says before the run, and the credits that the run costs.
PRICES = {
    "Edit a photo": ("4 credits", 4),
    "Make a picture from text": ("4 credits", 4),
    "Four variations in a grid": ("16 credits", 16),
    "One instruction for many photos": ("4 credits × pictures", 8),
    "Edit in two steps": ("4 credits", 8),
    "Before and after": ("4 credits", 4),
    "Edit a region at full size": ("4 credits", 4),
    "Edit in steps without drift": ("4 credits", 12),
}


def graph_of(name: str) -> dict[str, Any]:
    return dict(json.loads((TEMPLATES / f"{name}.json").read_text("utf-8")))


@pytest.mark.parametrize(
    "name",
    slow_but(
        PRICES,
        # Other tests run "Edit a photo" and "Make a picture from text".
        *("One instruction for many photos", "Edit a region at full size"),
    ),
)
def test_a_template_runs_as_it_is_and_costs_what_its_badge_says(
    name: str, frontend: Frontend, service: Watched
) -> None:
    frontend.open_template(name)
    price, credits = PRICES[name]
    frontend.expect_badge(price)
    entry = frontend.run()
    frontend.frame()
    frontend.screenshot(f"template-{name}")
    assert entry["status"]["status_str"] == "success"
    assert sum(service.charges()) == credits
    assert [picture for output in entry["outputs"].values() for picture in output.get("images", [])]
    steps = {"Edit in two steps": 2, "Edit in steps without drift": 3}.get(name, 1)
    frontend.expect_badge(f"{price} (last run {credits // steps})")


def test_what_was_paid_for_and_not_delivered_is_collected_by_the_template(
    frontend: Frontend, newcomer: RivyaComfyUI, service: Watched
) -> None:
    frontend.open_template("Collect pictures you paid for")
    assert frontend.run()["outputs"].keys() == {credits_node(frontend)}
    prompt = newcomer.queue(edit_graph("example.png"))
    while not service.tasks():
        frontend.page.wait_for_timeout(50)
    newcomer.interrupt(prompt)
    assert newcomer.wait(prompt).interrupted
    entry = frontend.run()
    frontend.frame()
    frontend.screenshot("template-Collect pictures you paid for")
    assert [picture for output in entry["outputs"].values() for picture in output.get("images", [])]
    assert service.charges() == [4]


def credits_node(frontend: Frontend) -> str:
    return str(frontend.page.evaluate("() => app.graph.nodes.find((n) => n.type === 'RivyaCredits').id"))


@pytest.mark.parametrize("name", slow_but(NAMES, "Before and after"))
def test_the_api_form_of_a_template_runs_without_a_browser(
    name: str, open_editor: Callable[..., Frontend], newcomer: RivyaComfyUI
) -> None:
    editor = open_editor()
    editor.load(graph_of(name))
    finished = newcomer.run(editor.api_form())
    assert finished.succeeded, finished.explain()


@pytest.mark.parametrize(
    "path", [*TEMPLATES.glob("*.json"), *(ROOT / "subgraphs").glob("*.json")], ids=lambda p: p.stem
)
def test_a_template_holds_nothing_of_its_maker_and_can_be_found_by_the_manager(path: Path) -> None:
    text = path.read_text("ascii" if path.parent.name == "subgraphs" else "utf-8")
    assert not re.search(r"rvya_sk_|https?://|file:|[A-Z]:\\\\|\"/|/home/|/Users/|/tmp/", text)
    graph = json.loads(text)
    nodes = [
        *graph["nodes"],
        *(n for g in graph.get("definitions", {}).get("subgraphs", []) for n in g["nodes"]),
    ]
    ours = [node for node in nodes if node["type"].startswith("Rivya")]
    assert ours
    assert {(n["properties"]["cnr_id"], n["properties"]["ver"]) for n in ours} == {
        ("rivya-nodes", rivya.__version__)
    }
    seeds = [node["widgets_values"][1:3] for node in ours if node["type"] == "RivyaSubmitAndWait"]
    assert seeds == [[0, "fixed"]] * len(seeds)
    others = {node["type"] for node in nodes if not node["type"].startswith("Rivya")}
    assert others <= CORE | {g["id"] for g in graph.get("definitions", {}).get("subgraphs", [])}


def test_every_template_is_a_form_in_app_mode_and_tells_its_price_there(comfyui: RivyaComfyUI) -> None:
    known = comfyui.object_info()
    for name in NAMES:
        graph = graph_of(name)
        form = graph["extra"]["linearData"]
        types = {str(node["id"]): node["type"] for node in graph["nodes"]}
        for node, widget in form["inputs"]:
            inputs = known[types[node]]["input"]
            assert widget in {**inputs["required"], **inputs.get("optional", {})}, (name, widget)
        labels = {
            (str(node["id"]), each["name"]): each.get("label", each["name"])
            for node in graph["nodes"]
            for each in node.get("inputs", [])
        }
        fields = [labels.get((node, widget), widget) for node, widget in form["inputs"]]
        assert len(set(fields)) == len(fields), f"{name} has fields of one name"
        assert all(known[types[node]]["output_node"] for node in form["outputs"]), name
        # The price stands beside the variations: every node that buys has them in the form.
        buying = {number for number, kind in types.items() if kind == "RivyaSubmitAndWait"}
        assert {node for node, widget in form["inputs"] if widget == "variations"} == buying, name


def test_every_template_explains_itself() -> None:
    assert {*PRICES, "Collect pictures you paid for"} == {*NAMES}
    for name in NAMES:
        assert any(node["type"] == "MarkdownNote" for node in graph_of(name)["nodes"])
