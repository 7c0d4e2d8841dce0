"""The seed control starts on fixed, the badge says what a run costs, and the blueprints are boxes that run."""

from __future__ import annotations

import copy
from io import BytesIO
from typing import Any

import numpy as np
import pytest
from PIL import Image

import rivya
from stitch.photos import cat, disc
from support.comfy import RivyaComfyUI
from support.service import Watched

from .frontend import Frontend
from .test_templates import graph_of


def widgets(frontend: Frontend, node_type: str = "RivyaSubmitAndWait") -> dict[str, Any]:
    return dict(
        frontend.page.evaluate(
            """(type) => Object.fromEntries(app.graph.nodes.find((n) => n.type === type).widgets
              .map((widget) => [widget.name, widget.value]))""",
            node_type,
        )
    )


def set_widget(frontend: Frontend, name: str, value: object, node_type: str = "RivyaSubmitAndWait") -> None:
    frontend.page.evaluate(
        """([type, name, value]) => {
          const widget = app.graph.nodes.find((n) => n.type === type).widgets.find((w) => w.name === name);
          widget.value = value; widget.callback?.(value); }""",
        [node_type, name, value],
    )
    frontend.settle()


def submit(graph: dict[str, Any]) -> dict[str, Any]:
    return next(node for node in graph["nodes"] if node["type"] == "RivyaSubmitAndWait")


def test_a_new_node_keeps_its_seed_and_a_saved_one_keeps_its_choice(frontend: Frontend) -> None:
    frontend.add("RivyaSubmitAndWait")
    assert widgets(frontend)["control_after_generate"] == "fixed"
    for choice in ("randomize", "increment", "fixed"):
        graph = graph_of("Edit a photo")
        submit(graph)["widgets_values"][2] = choice
        frontend.load(graph)
        assert widgets(frontend)["control_after_generate"] == choice


def test_other_nodes_keep_the_seed_control_of_comfyui(frontend: Frontend) -> None:
    frontend.add("KSampler")
    assert widgets(frontend, "KSampler")["control_after_generate"] == "randomize"


def test_a_new_node_is_saved_with_the_name_and_version_of_the_pack(frontend: Frontend) -> None:
    frontend.add("RivyaCredits")
    saved = frontend.page.evaluate("() => app.graph.serialize().nodes[0].properties")
    assert (saved["cnr_id"], saved["ver"]) == ("rivya-nodes", rivya.__version__)


def test_the_badge_follows_the_widgets_and_links_that_decide_the_price(frontend: Frontend) -> None:
    frontend.load(graph_of("Edit a photo"))
    frontend.expect_badge("4 credits")
    set_widget(frontend, "variations", 3)
    frontend.expect_badge("12 credits")
    set_widget(frontend, "model", "flux-kontext-max", "RivyaKontextParams")
    frontend.expect_badge("24 credits")
    frontend.screenshot("badge-price")
    disconnect(frontend, "params")
    frontend.expect_badge("12 credits")
    disconnect(frontend, "reference")
    frontend.expect_badge("12 credits")


def disconnect(frontend: Frontend, name: str) -> None:
    frontend.change(
        """(name) => {
          const node = app.graph.nodes.find((n) => n.type === 'RivyaSubmitAndWait');
          node.disconnectInput(node.inputs.findIndex((input) => input.name === name)); }""",
        name,
    )


def test_a_batch_is_priced_per_reference(frontend: Frontend) -> None:
    frontend.load(graph_of("One instruction for many photos"))
    frontend.expect_badge("4 credits × pictures")


def test_a_muted_params_node_leaves_both_prices_open(frontend: Frontend) -> None:
    graph = graph_of("Edit a photo")
    next(node for node in graph["nodes"] if node["type"] == "RivyaKontextParams")["mode"] = 2
    frontend.load(graph)
    frontend.expect_badge("4-8 credits")


def test_the_badge_looks_through_a_reroute(frontend: Frontend) -> None:
    graph = copy.deepcopy(graph_of("Edit a photo"))
    params = next(node for node in graph["nodes"] if node["type"] == "RivyaKontextParams")
    params["widgets_values"][0] = "flux-kontext-max"
    link = next(link for link in graph["links"] if link[1] == params["id"])
    reroute = {
        "id": 99, "type": "Reroute", "pos": [740, 20], "size": [75, 26], "flags": {}, "order": 9, "mode": 0,
        "inputs": [{"name": "", "type": "*", "link": link[0]}],
        "outputs": [{"name": "", "type": "RIVYA_PARAMS", "links": [98]}],
        "properties": {"showOutputText": False, "horizontal": False},
    }  # fmt: skip
    node = submit(graph)
    slot = next(i for i, each in enumerate(node["inputs"]) if each["name"] == "params")
    node["inputs"][slot]["link"] = 98
    graph["links"] = [
        [link[0], params["id"], 0, 99, 0, "*"] if each is link else each for each in graph["links"]
    ] + [[98, 99, 0, node["id"], slot, "RIVYA_PARAMS"]]
    graph["nodes"].append(reroute)
    graph["last_node_id"], graph["last_link_id"] = 99, 98
    frontend.load(graph)
    frontend.expect_badge("8 credits")


def test_the_badge_tells_what_was_charged_and_then_what_was_reused(frontend: Frontend) -> None:
    frontend.load(graph_of("Edit a photo"))
    frontend.run()
    frontend.expect_badge("4 credits (last run 4)")
    frontend.run()
    frontend.expect_badge("4 credits (last run 0, 4 reused)")
    set_widget(frontend, "variations", 2)
    frontend.run()
    frontend.expect_badge("8 credits (last run 4, 4 reused)")
    frontend.screenshot("badge-reused")


def place_blueprint(
    frontend: Frontend, words: str, title: str, photo: str, prompt: str, **links: int
) -> None:
    """Find a blueprint by these words, place it, and draw a graph around it.

    ``photo`` of the input folder goes into it over ``links`` (name of the box's input: output of Load Image), and its
    first output into Save Image.
    """
    frontend.search_nodes(words, title)
    frontend.page.keyboard.press("Enter")
    frontend.page.wait_for_function("() => app.graph.nodes.some((node) => node.subgraph)")
    frontend.page.evaluate(
        """([photo, prompt, links]) => {
          const box = app.graph.nodes.find((node) => node.subgraph);
          const place = (type, x) => {
            const node = LiteGraph.createNode(type);
            app.graph.add(node);
            node.pos = [box.pos[0] + x, box.pos[1]];
            return node;
          };
          const load = place('LoadImage', -400);
          load.widgets.find((widget) => widget.name === 'image').value = photo;
          for (const [input, slot] of Object.entries(links))
            load.connect(slot, box, box.inputs.findIndex((each) => each.name === input));
          box.connect(0, place('SaveImage', 450), 0);
          box.widgets.find((widget) => widget.name === 'prompt').value = prompt;
        }""",
        [photo, prompt, links],
    )


def test_the_blueprint_is_one_box_that_shows_its_price_and_runs(
    frontend: Frontend, newcomer: RivyaComfyUI
) -> None:
    page, image = frontend.page, newcomer.put_image(np.asarray(cat(300, 200)))
    title = "Kontext image edit (image to image)"
    place_blueprint(frontend, "Kontext image edit", title, image, "Make it night", image=0)
    inputs = page.evaluate("() => app.graph.nodes.find((n) => n.subgraph).inputs.map((i) => i.name)")
    assert inputs == ["image", "prompt", "seed"]
    entry = frontend.run()
    frontend.frame()
    frontend.screenshot("blueprint")
    assert entry["status"]["status_str"] == "success"
    box = "() => { const b = app.graph.nodes.find((n) => n.subgraph).badges.at(-1); return b().text }"
    assert page.evaluate(box) == "4 credits (last run 4)"


@pytest.mark.slow
def test_the_blueprint_of_a_region_leaves_everything_outside_the_mask_as_it_was(
    frontend: Frontend, newcomer: RivyaComfyUI, service: Watched
) -> None:
    photo, mask = np.asarray(cat(1500, 1000)), disc(1500, 1000, 0.4, 0.5, 0.15)
    # Load Image takes what is transparent as the mask.
    image = newcomer.put_image(np.dstack([photo, np.where(mask > 0, 0, 255).astype(np.uint8)]))
    title = "Edit a region at full size"
    place_blueprint(frontend, "region at full size", title, image, "A red hat", image=0, mask=1)
    entry = frontend.run()
    frontend.frame()
    frontend.screenshot("blueprint-region")
    assert entry["status"]["status_str"] == "success"
    (saved,) = [picture for output in entry["outputs"].values() for picture in output.get("images", [])]
    with Image.open(BytesIO(newcomer.file(saved))) as opened:
        result = np.asarray(opened.convert("RGB"))
    assert result.shape == photo.shape
    assert np.array_equal(result[mask == 0], photo[mask == 0])
    assert np.abs(result[mask > 0].astype(int) - photo[mask > 0]).mean() > 5
    assert service.charges() == [4]


def test_the_badge_counts_the_prompts_of_a_list_and_the_pictures_of_a_batch(frontend: Frontend) -> None:
    frontend.load(graph_of("Edit a photo"))
    frontend.change(
        """() => {
          const find = (type) => app.graph.nodes.find((node) => node.type === type);
          const add = (type) => { const node = window.LiteGraph.createNode(type); app.graph.add(node); return node; };
          const added = ["RivyaPromptList", "RivyaCropForEdit", "ImageBatch", "LoadImage"];
          const [list, crop, batch, second] = added.map(add);
          const submit = find("RivyaSubmitAndWait"), upload = find("RivyaUploadReference");
          const file = (node) => node.widgets.find((widget) => widget.name === "image");
          file(second).value = file(find("LoadImage")).value; // not the first of the folder, whatever that holds
          const into = (from, slot, to, name) => from.connect(slot, to, to.inputs.findIndex((i) => i.name === name));
          const lines = "one\\n\\n# no\\ntwo\\nthree\\nfour\\nfive\\ntwo";
          list.widgets.find((widget) => widget.name === "prompts").value = lines;
          into(list, 0, submit, "prompt");
          into(find("LoadImage"), 0, batch, "image1");
          into(second, 0, batch, "image2");
          into(batch, 0, crop, "image");
          into(crop, 0, upload, "image");
        }"""
    )
    frontend.expect_badge("40 credits")  # five prompts, two pictures, four credits
    set_widget(frontend, "variations", 2)
    frontend.expect_badge("80 credits")
    frontend.screenshot("badge-prompts")
