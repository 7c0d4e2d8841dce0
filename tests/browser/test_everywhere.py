"""What people see first and what costs money, with the frontend of the oldest ComfyUI and with the newest."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest

from support.comfy import eventually, new_seed
from support.service import Watched

from .frontend import Frontend
from .test_seed_and_badge import disconnect, set_widget, submit, widgets
from .test_templates import graph_of

pytestmark = pytest.mark.xdist_group("newest frontend")

A_MINUTE_MS = 60_000


def fresh(name: str) -> dict[str, object]:
    """A template whose order nobody else has."""
    graph = graph_of(name)
    submit(graph)["widgets_values"][1] = new_seed()
    return graph


def test_the_badge_tells_the_price_before_and_after_runs(everywhere: Frontend) -> None:
    everywhere.load(fresh("Edit a photo"))
    everywhere.expect_badge("4 credits")
    everywhere.run()
    everywhere.expect_badge("4 credits (last run 4)")
    set_widget(everywhere, "variations", 3)
    everywhere.expect_badge("12 credits (last run 4)")
    set_widget(everywhere, "model", "flux-kontext-max", "RivyaKontextParams")
    everywhere.expect_badge("24 credits (last run 4)")
    disconnect(everywhere, "params")
    everywhere.expect_badge("12 credits (last run 4)")


def test_the_price_crosses_the_border_of_a_subgraph(everywhere: Frontend) -> None:
    everywhere.load(graph_of("Edit a photo"))
    everywhere.page.evaluate(
        """() => { app.graph.convertToSubgraph(
          new Set(app.graph.nodes.filter((n) => n.type === 'RivyaSubmitAndWait'))); }"""
    )
    box = everywhere.page.evaluate("() => app.graph.nodes.find((n) => n.subgraph).type")
    everywhere.expect_badge("4 credits", box)
    set_widget(everywhere, "model", "flux-kontext-max", "RivyaKontextParams")
    everywhere.expect_badge("8 credits", box)


def test_a_running_node_says_so_once(everywhere: Frontend, service: Watched) -> None:
    service.fault("create", "latency", seconds=3.0)
    everywhere.load(fresh("Make a picture from text"))
    everywhere.click_run()
    everywhere.page.wait_for_function(
        """() => app.graph.nodes.some((node) => node.widgets?.some((widget) =>
          widget.name.startsWith('$$') && /^running/.test(widget.value)))"""
    )
    everywhere.page.wait_for_timeout(1200)  # a text that comes each second, in each place that shows one
    assert everywhere.badges()[-1] == "4 credits"
    if everywhere.renderer == "nodes2":
        assert everywhere.node_text("RivyaSubmitAndWait").count("running") == 1
    everywhere.note("4 credits charged")


def test_the_form_of_app_mode_tells_the_price_and_leaves_the_workflow_as_it_is(newest: Frontend) -> None:
    newest.load(fresh("Edit a photo"))
    graph = "() => JSON.stringify(app.graph.serialize())"
    before = newest.page.evaluate(graph)
    newest.toggle_app_mode()
    try:
        newest.form_field("variations · 4 credits")
        newest.screenshot("app-mode")
        set_widget(newest, "variations", 3)
        newest.form_field("variations · 12 credits")
        set_widget(newest, "variations", 1)
        newest.form_field("variations · 4 credits")
    finally:
        newest.toggle_app_mode()
    newest.page.wait_for_function(f"(before) => ({graph})() === before", arg=before)
    newest.expect_badge("4 credits")


def test_what_a_node_says_stays_when_the_job_has_ended(everywhere: Frontend) -> None:
    credits_and_collect(everywhere)
    note = everywhere.note("Nothing to collect")
    everywhere.screenshot("note-collect")
    everywhere.page.evaluate("() => app.canvas.setDirty(true, true)")
    everywhere.page.wait_for_timeout(3000)  # the host takes its own text away within that time
    assert note.is_visible()
    assert everywhere.note("1000 credits").is_visible()
    saved = everywhere.page.evaluate(
        "() => app.graph.serialize().nodes.find((node) => node.type === 'RivyaCollectTasks').widgets_values"
    )
    assert saved == ["", 900]


See = Callable[..., None]


@pytest.fixture(params=["clock", pytest.param("real", marks=pytest.mark.long)])
def see_for_a_minute(request: pytest.FixtureRequest, everywhere: Frontend) -> See:
    """Sees notes that say these texts, and sees them still when a minute has passed: by the clock of the page, which
    is set up before anything runs, and with --full really.
    """
    if request.param == "clock":
        everywhere.take_clock()

    def see(*texts: str) -> None:
        notes = [everywhere.note(text) for text in texts]
        if request.param == "clock":
            everywhere.page.clock.fast_forward(A_MINUTE_MS)
        else:
            everywhere.page.wait_for_timeout(A_MINUTE_MS)
        everywhere.page.evaluate("() => app.canvas.setDirty(true, true)")
        everywhere.settle()
        assert [note.is_visible() for note in notes] == [True] * len(texts)

    return see


@pytest.mark.timeout(200)
def test_what_a_node_says_lasts_a_minute(everywhere: Frontend, see_for_a_minute: See) -> None:
    credits_and_collect(everywhere)
    see_for_a_minute("Nothing to collect", "1000 credits")


def credits_and_collect(everywhere: Frontend) -> None:
    """Run both nodes that end with nothing but what they say."""
    everywhere.add("RivyaCredits")
    everywhere.page.evaluate("() => { app.graph.nodes[0].pos[1] += 250; }")
    everywhere.add("RivyaCollectTasks")
    everywhere.run()


@pytest.mark.timeout(200)
def test_what_a_run_says_of_cost_upload_and_delivery_lasts_a_minute(
    everywhere: Frontend, service: Watched, see_for_a_minute: See
) -> None:
    service.fault("create", "fail_task", charged=False)
    everywhere.load(fresh("One instruction for many photos"))
    everywhere.run()
    said = ("2 uploaded", "1 picture · 4 credits charged", "1 failed, see the report")
    see_for_a_minute(*said)


@pytest.mark.timeout(200)
def test_what_crop_and_stitch_say_lasts_a_minute(everywhere: Frontend, see_for_a_minute: See) -> None:
    everywhere.load(fresh("Edit a region at full size"))
    everywhere.run()
    see_for_a_minute("Kontext sees", "of the picture replaced")


@pytest.mark.timeout(200)
def test_the_note_of_a_cancel_lasts_a_minute(
    everywhere: Frontend, service: Watched, see_for_a_minute: See
) -> None:
    cancel(everywhere, service)
    see_for_a_minute("Run again with seed")
    eventually(lambda: service.charges() == [4], "the order ends before the next test begins")


def cancel(everywhere: Frontend, service: Watched) -> None:
    """Order one picture, and cancel when Rivya has taken it."""
    service.fault("create", "latency", seconds=5.0)
    everywhere.load(fresh("Edit a photo"))
    everywhere.cancel_when(lambda: service.tasks())


def test_a_cancel_says_that_the_order_goes_on_and_how_to_get_it(
    everywhere: Frontend, service: Watched
) -> None:
    cancel(everywhere, service)
    text = everywhere.toast("goes on at Rivya").inner_text()
    assert "Run again with seed" in text
    assert "1 picture goes on at Rivya and is collected" in text
    assert "to get it for no more credits" in text
    assert "goes on at Rivya" in everywhere.note("Cancelled").inner_text()
    everywhere.screenshot("cancel")
    everywhere.close_toasts()  # in frontend 1.32 it lies over the Run button
    everywhere.run()
    everywhere.note("4 credits")
    assert service.charges() == [4]


def test_an_error_is_our_sentence_first(everywhere: Frontend, service: Watched) -> None:
    body = (
        '{"error": {"code": "validation_failed", "message": "as the service puts it", "requestId": "req_1"}}'
    )
    service.fault("create", "status", status=400, body=body, times=None)
    everywhere.load(fresh("Make a picture from text"))
    entry = everywhere.run()
    text = everywhere.error_message("charged").inner_text()
    assert "as the service puts it" in text
    assert "as the service puts it" in everywhere.note("charged").inner_text()
    everywhere.screenshot("error")
    everywhere.close_toasts()  # in frontend 1.49 it lies over the button that opens the details
    (error,) = [body for name, body in entry["status"]["messages"] if name == "execution_error"]
    assert re.fullmatch(r"rivya\.\w+", error["exception_type"])
    heading = re.split('Traceback|Stack Trace|File "', everywhere.error_dialog())[0]
    assert "as the service puts it" in heading
    assert "custom_nodes" not in heading
    everywhere.screenshot("error-details")


def test_a_blank_prompt_is_refused_in_our_words(everywhere: Frontend, service: Watched) -> None:
    graph = fresh("Make a picture from text")
    submit(graph)["widgets_values"][0] = "  "
    everywhere.load(graph)
    everywhere.click_run()
    everywhere.error_message("The prompt is blank. Write what to change in the picture.")
    everywhere.screenshot("error-blank-prompt")
    assert not service.requests()
    everywhere.errors.clear()  # the browser notes the 400 by itself


def test_the_seed_starts_on_fixed_whatever_was_there_before(everywhere: Frontend) -> None:
    everywhere.add("KSampler")
    assert widgets(everywhere, "KSampler")["control_after_generate"] == "randomize"
    everywhere.start_over()
    everywhere.add("RivyaSubmitAndWait")
    assert widgets(everywhere)["control_after_generate"] == "fixed"
    # A choice is kept on clone, paste and load.
    set_widget(everywhere, "control_after_generate", "randomize")
    everywhere.page.evaluate(
        """() => {
          const [first] = app.graph.nodes;
          app.graph.add(first.clone());
          app.canvas.selectItems([first]);
          app.canvas.copyToClipboard();
          app.canvas.pasteFromClipboard();
        }"""
    )
    everywhere.page.wait_for_function("() => app.graph.nodes.length === 3")
    assert controls(everywhere) == ["randomize"] * 3
    graph = everywhere.page.evaluate("() => JSON.parse(JSON.stringify(app.graph.serialize()))")
    everywhere.start_over()
    everywhere.add("RivyaSubmitAndWait")
    assert controls(everywhere) == ["fixed"]
    everywhere.load(graph)
    assert controls(everywhere) == ["randomize"] * 3


def controls(frontend: Frontend) -> list[str]:
    return list(
        frontend.page.evaluate(
            """() => app.graph.nodes.map((node) =>
              node.widgets.find((widget) => widget.name === 'control_after_generate').value)"""
        )
    )


def test_the_row_of_the_key_has_the_colours_of_the_theme(everywhere: Frontend) -> None:
    row = everywhere.open_settings()
    row.get_by_role("button", name="Check").click()
    row.get_by_text("Balance: 1000 credits.").wait_for()
    everywhere.screenshot("settings-key")
    look = row.evaluate(
        """(row) => {
          const of = (node, name) => getComputedStyle(node)[name];
          const [field, button] = [row.querySelector('input'), row.querySelector('button')];
          return { size: of(row, 'fontSize'),
            field: of(field, 'backgroundColor'), button: of(button, 'backgroundColor'),
            style: of(button, 'borderTopStyle'), width: of(button, 'borderTopWidth') }; }"""
    )
    assert look["size"] == "14px"
    assert look["field"] == look["button"] == "rgb(34, 34, 34)"  # --comfy-input-bg of the dark theme
    assert (look["style"], look["width"]) == ("solid", "1px")


def test_the_help_fits_its_panel(everywhere: Frontend) -> None:
    everywhere.add("RivyaSubmitAndWait", select=True)
    everywhere.page.get_by_test_id("info-button").click()
    shown = everywhere.page.locator(".node-help-content")
    shown.get_by_role("heading", name="When something goes wrong").wait_for()
    everywhere.screenshot("help-fits")
    wider = shown.evaluate(
        """(panel) => [...panel.querySelectorAll('p, li, img, h1, h2, table, code')]
          .filter((each) => each.getBoundingClientRect().right > panel.getBoundingClientRect().right + 1)
          .map((each) => each.outerHTML.slice(0, 80))"""
    )
    assert wider == []


def test_a_template_opens_with_a_photograph_where_comfyui_has_none(everywhere: Frontend) -> None:
    folder = everywhere.server.base / "input"
    (folder / "example.png").unlink()
    everywhere.load(graph_of("Edit a photo"))
    loaded = "() => app.graph.nodes.find((node) => node.type === 'LoadImage').widgets[0].value"
    assert everywhere.page.evaluate(loaded) == "rivya_example.jpg"
    assert (folder / "rivya_example.jpg").is_file()
    everywhere.screenshot("sample")
    assert everywhere.page.get_by_text("Media input missing").count() == 0
    assert everywhere.run()["status"]["status_str"] == "success"


def test_who_searches_for_an_edit_finds_the_blueprint_first(newest: Frontend) -> None:
    for words in ("kontext", "image to image"):
        newest.search_nodes(words, "Kontext image edit (image to image)")
        newest.page.keyboard.press("Escape")
        newest.page.get_by_role("option").first.wait_for(state="hidden")
