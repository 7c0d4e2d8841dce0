"""ComfyUI's editor in the browser, as a person uses it, from frontend 1.32 to the newest.

Everything that depends on how the editor is built is in this file: tests ask for what a person does and sees.
"""

from __future__ import annotations

import json
import os
import re
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from devtools.comfyui import ROOT

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page

    from support.comfy import RivyaComfyUI

TEMPLATES = ROOT / "example_workflows"
SCREENSHOTS = ROOT / ".dev" / "screenshots"

MAKE_PICTURES = bool(os.environ.get("RIVYA_MAKE_PICTURES"))
"""Whether this run also writes the pictures of the README, the help pages and the templates anew."""

_READY = """() => window.app?.extensionManager && window.app.graph && window.LiteGraph
  && window.LiteGraph.registered_node_types['KSampler']
  && !document.querySelector('.p-progressspinner')
  && window.app.extensionManager.workflow?.activeWorkflow"""

# By role and test id where there are some; what differs between frontends stands side by side.
_RUN = "[data-testid=queue-button] button, button[data-testid=queue-button]"
_CLOSE = "[role=dialog] button[aria-label^=Close]"
_SETTINGS_PAGE = "[role=dialog] [role=option][aria-label=Rivya], [role=dialog] [data-nav-id='root/Rivya']"
_NODE = "[data-node-id='{}']"

_BADGES = """(type) => {
  const graphs = [app.graph, ...(app.graph.subgraphs?.values() ?? [])];
  const node = graphs.flatMap((graph) => graph.nodes).find((node) => node.type === type);
  return node.badges.map((badge) => (typeof badge === 'function' ? badge() : badge).text);
}"""


class Frontend:
    """One page of the editor.

    Attributes:
        page: Playwright's page.
        server: the ComfyUI behind it.
        renderer: "litegraph" (the canvas) or "nodes2" (Nodes 2.0, in Vue).
        errors: what the page wrote to its console as an error, and what its scripts threw.
    """

    def __init__(self, page: Page, server: RivyaComfyUI, renderer: str, locale: str) -> None:
        self.page = page
        self.server = server
        self.renderer = renderer
        self.errors: list[str] = []
        self._has_clock = False
        self._settings = {
            "Comfy.VueNodes.Enabled": renderer == "nodes2",
            "Comfy.Locale": locale,
            "Comfy.TutorialCompleted": True,
            "Comfy.Minimap.Visible": False,
            "Comfy.ConfirmClear": False,
        }

    def open(self) -> None:
        """Load the page with these settings and wait until the editor stands."""
        self.page.set_default_timeout(15_000)
        self.page.on("console", self._heard)
        self.page.on("pageerror", lambda error: self.errors.append(f"{error} {error.stack}"))
        self.reload()
        banner = self.page.get_by_role("button", name="Close", exact=True)
        if banner.count() == 1 and banner.is_visible():
            banner.click()

    def reload(self) -> None:
        """Load the page anew, with its own settings: ComfyUI has one set of them for all pages."""
        self._post("/settings", self._settings)
        if self.page.url.startswith(self.server.url):
            self.page.reload(wait_until="domcontentloaded")
        else:
            self.page.goto(self.server.url, wait_until="domcontentloaded")
        self.page.wait_for_function(_READY, timeout=60_000)

    def start_over(self) -> None:
        """Close what is open, and clear the workflow."""
        self.close_dialogs()
        self.close_toasts()
        self.page.keyboard.press("Escape")  # the search for nodes
        self.page.evaluate(
            """() => {
              app.extensionManager.sidebarTab.activeSidebarTabId = null;
              return app.extensionManager.command.execute('Comfy.ClearWorkflow');
            }"""
        )
        self.page.wait_for_function("() => app.graph.nodes.length === 0")
        self.errors.clear()

    def _heard(self, message: Any) -> None:
        if message.type == "error":
            self.errors.append(f"{message.text} ({message.location.get('url', '')})")

    def errors_of_ours(self) -> list[str]:
        """The errors that name this pack.

        Two are the frontend's own affair: that hosts are not there, and that it asks for a help page in English under
        a name of its own before it takes the one that is there.
        """
        foreign = re.compile(r"api\.comfy\.org|/docs/\w+/en\.md")
        return [e for e in self.errors if "rivya" in e.lower() and not foreign.search(e)]

    def _post(self, route: str, content: object) -> None:
        request = urllib.request.Request(
            self.server.url + route, json.dumps(content).encode(), {"Content-Type": "application/json"}
        )
        urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request).close()

    # -- what a person does -----------------------------------------------------------------------------------------

    def open_template(self, name: str) -> None:
        """Open the template browser, choose this pack, click the template; wait until its graph is there."""
        self.page.get_by_role("button", name="Templates").first.click()
        self.page.get_by_role("dialog").get_by_text("rivya-nodes", exact=True).first.click()
        self.page.get_by_test_id(f"template-workflow-{name}").click()
        count = len(json.loads((TEMPLATES / f"{name}.json").read_text("utf-8"))["nodes"])
        self.page.wait_for_function("(count) => app.graph.nodes.length === count", arg=count)
        self.settle()

    def load(self, graph: dict[str, Any]) -> None:
        """Load a workflow in the frontend's own format, as drag and drop does."""
        self.page.evaluate("(graph) => app.loadGraphData(graph)", graph)
        self.settle()

    def add(self, node_type: str, select: bool = False) -> None:
        """Place a new node in the middle of the view."""
        self.page.evaluate(
            """([type, select]) => {
              const node = LiteGraph.createNode(type);
              const { scale, offset } = app.canvas.ds;
              node.pos = [innerWidth / 2 / scale - offset[0] - 100, innerHeight / 2 / scale - offset[1] - 100];
              app.graph.add(node);
              if (select) app.canvas.selectItems([node]);
            }""",
            [node_type, select],
        )
        self.settle()

    def change(self, script: str, arg: object = None) -> None:
        """Change the graph by a script, and let ComfyUI look for changes, as it does after each click."""
        self.page.evaluate(script, arg)
        self.page.evaluate("() => app.extensionManager.workflow.activeWorkflow.changeTracker.checkState()")
        self.settle()

    def run(self, timeout_s: float = 60.0) -> dict[str, Any]:
        """Click Run and wait for the end; gives ComfyUI's entry of the history."""
        known = set(self._history())
        self.click_run()
        end = time.monotonic() + timeout_s
        while not (fresh := [entry for id_, entry in self._history().items() if id_ not in known]):
            assert time.monotonic() < end, f"the run did not end within {timeout_s} s"
            self.page.wait_for_timeout(100)
        assert len(fresh) == 1
        self.settle()
        return dict(fresh[0])

    def _history(self) -> dict[str, Any]:
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(
            self.server.url + "/history"
        ) as answer:
            return dict(json.load(answer))

    def open_settings(self) -> Locator:
        """Open Settings > Rivya; gives the row of the key."""
        self.page.keyboard.press("Control+,")
        self.page.locator(_SETTINGS_PAGE).first.click()
        row = self.page.locator(".rivya-key")
        row.wait_for()
        return row

    def toggle_app_mode(self) -> None:
        """Show the form of the workflow in place of its graph, or the graph again."""
        self.page.evaluate("() => app.extensionManager.command.execute('Comfy.ToggleLinear')")
        self.settle()

    def click_run(self) -> None:
        self.page.locator(_RUN).first.click()

    def close_dialogs(self) -> None:
        """Close what is open; one that is on its way out takes no real click any more."""
        while self.page.locator(_CLOSE).count():
            self.page.evaluate("(close) => [...document.querySelectorAll(close)].at(-1)?.click()", _CLOSE)
            self.page.wait_for_timeout(300)

    def close_toasts(self) -> None:
        self.page.evaluate(
            "() => { const { toast } = app.extensionManager; (toast.removeAll ?? toast.dismissAll)(); }"
        )

    def cancel_when(self, ready: Callable[[], object]) -> None:
        """Click Run, and cancel once ``ready`` gives something."""
        self.click_run()
        while not ready():
            self.page.wait_for_timeout(50)
        self._post("/interrupt", {})

    def search_nodes(self, words: str, best: str) -> None:
        """Double-click the canvas and type; wait until the best offer begins with that name."""
        field = self.page.locator("input:focus")
        while not field.count():  # a canvas that is just drawn anew does not take a double-click
            self.page.mouse.dblclick(800, 500)
            self.page.wait_for_timeout(500)
        field.fill(words)
        self.page.wait_for_function(
            """(best) => [...document.querySelectorAll("[role=option]")].map((option) => option.innerText.trim())
              .find(Boolean)?.startsWith(best)""",
            arg=best,
        )

    # -- what a person sees -----------------------------------------------------------------------------------------

    def badges(self, node_type: str = "RivyaSubmitAndWait") -> list[str]:
        """The texts of the badges of the first node of that type."""
        return list(self.page.evaluate(_BADGES, node_type))

    def node_text(self, node_type: str) -> str:
        """What Nodes 2.0 shows in the first node of a type."""
        return self._node(node_type).inner_text()

    def _node(self, node_type: str) -> Locator:
        """The first node of a type in Nodes 2.0."""
        number = self.page.evaluate("(type) => app.graph.nodes.find((n) => n.type === type).id", node_type)
        return self.page.locator(_NODE.format(number)).first

    def expect_badge(self, text: str, node_type: str = "RivyaSubmitAndWait") -> None:
        """Wait until a node shows that badge: on the page in Nodes 2.0, in what the canvas draws otherwise.

        Nodes 2.0 shows badges only of nodes that are in view, and large enough to be read: the view moves there.
        """
        if self.renderer == "nodes2":
            self.frame(node_type, scale=1.0)
            self._node(node_type).get_by_text(text, exact=True).first.wait_for(timeout=5000)
        else:
            end = time.monotonic() + 5
            while (shown := self.badges(node_type)[-1]) != text and time.monotonic() < end:
                self.page.wait_for_timeout(50)
            assert shown == text

    def note(self, text: str) -> Locator:
        """Wait for the lasting note of a node that says this."""
        found = self.page.locator(".rivya-note", has_text=text).first
        found.wait_for(timeout=10_000)
        return found

    def toast(self, text: str) -> Locator:
        """Wait for a toast that says this."""
        found = self.page.get_by_role("alert").filter(has_text=text).first
        found.wait_for(timeout=10_000)
        return found

    def error_message(self, text: str) -> Locator:
        """Wait for what pops up about an error: a toast, or ComfyUI's own overlay, with nothing general beside it."""
        overlay = self.page.get_by_test_id("error-overlay")
        found = self.page.get_by_role("alert").or_(overlay).filter(has_text=text).first
        found.wait_for(timeout=10_000)
        assert self.page.get_by_text("threw an error during execution").count() == 0
        return found

    def form_field(self, label: str) -> Locator:
        """Wait for the field of App mode whose label says this."""
        found = self.page.get_by_test_id("app-mode-widget-item").filter(has_text=label).first
        found.wait_for(timeout=10_000)
        return found

    def error_dialog(self) -> str:
        """What ComfyUI itself says about an error: its dialog, or the panel behind its overlay."""
        dialog = self.page.locator(".comfy-error-report")
        details = self.page.get_by_test_id("error-overlay-see-errors")
        dialog.or_(details).first.wait_for()
        if details.count():
            details.click()
            panel = self.page.locator("[data-testid^=error-group], [data-testid=properties-panel]").first
            panel.wait_for()
            return panel.inner_text()
        return dialog.inner_text()

    def api_form(self) -> dict[str, Any]:
        """What Export (API) writes."""
        return dict(self.page.evaluate("async () => (await app.graphToPrompt()).output"))

    def take_clock(self) -> None:
        """Put a clock into the page that goes on by itself and can be put forward: ``page.clock``."""
        if not self._has_clock:
            self.page.clock.install()
        self._has_clock = True

    def settle(self) -> None:
        """Let two frames be drawn."""
        self.page.evaluate(
            "() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))"
        )

    def frame(self, around: str | None = None, scale: float | None = None) -> None:
        """Bring the whole graph, or the first node of a type, into view."""
        self.page.evaluate(
            """([type, scale]) => {
              const nodes = app.graph.nodes.filter((node) => !type || node.type === type);
              const left = Math.min(...nodes.map((n) => n.pos[0])), top = Math.min(...nodes.map((n) => n.pos[1] - 60));
              const right = Math.max(...nodes.map((n) => n.pos[0] + n.size[0]));
              const bottom = Math.max(...nodes.map((n) => n.pos[1] + n.size[1]));
              const [width, height] = [innerWidth - 140, innerHeight - 250];
              const fit = scale ?? Math.min(width / (right - left), height / (bottom - top), 1.2);
              app.canvas.ds.scale = fit;
              app.canvas.ds.offset = [90 / fit - left, 210 / fit - top];
              app.canvas.setDirty(true, true);
            }""",
            [around, scale],
        )
        self.settle()

    def area(self, *types: str) -> dict[str, float]:
        """The part of the page that holds the nodes of these types, all without any, with their titles and badges."""
        return dict(
            self.page.evaluate(
                """(types) => {
                  const nodes = app.graph.nodes.filter((node) => !types.length || types.includes(node.type));
                  const { scale, offset } = app.canvas.ds, edge = 14;
                  const origin = app.canvas.canvas.getBoundingClientRect();
                  const x = (value) => origin.left + (value + offset[0]) * scale;
                  const y = (value) => origin.top + (value + offset[1]) * scale;
                  const left = x(Math.min(...nodes.map((n) => n.pos[0]))) - edge;
                  const top = y(Math.min(...nodes.map((n) => n.pos[1] - 54))) - edge;
                  const right = x(Math.max(...nodes.map((n) => n.pos[0] + n.size[0]))) + edge;
                  const ends = nodes.map((n) => Math.max(y(n.pos[1] + n.size[1]),  // Nodes 2.0 may need more
                    document.querySelector(`[data-node-id="${n.id}"]`)?.getBoundingClientRect().bottom ?? 0));
                  const bottom = Math.max(...ends) + edge;
                  return { x: left, y: top, width: right - left, height: bottom - top };
                }""",
                list(types),
            )
        )

    def screenshot(self, name: str, **options: Any) -> Path:
        """Keep a picture of the page, for people to look at."""
        path = SCREENSHOTS / f"{name}-{self.renderer}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        self.page.screenshot(path=str(path), **options)
        return path
