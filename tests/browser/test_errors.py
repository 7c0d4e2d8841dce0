"""Errors as a person reads them: in ComfyUI's dialog, in both renderers."""

from __future__ import annotations

import json
from typing import Any

import pytest

from support.comfy import RivyaComfyUI, new_seed
from support.service import Watched

from .frontend import Frontend
from .test_seed_and_badge import submit
from .test_templates import graph_of

IMPATIENT = {"retry_budget_s": 0.5, "conflict_wait_s": 0.5}


def answers(status: int, code: str) -> dict[str, Any]:
    body = f'{{"error": {{"code": "{code}", "message": "as the service puts it", "requestId": "req_1"}}}}'
    return {"action": "status", "status": status, "body": body, "times": None}


KINDS: dict[str, dict[str, Any]] = {
    "no-credits": {"credits": 0},
    "refused-key": answers(401, "api_key_revoked"),
    "missing-scope": answers(403, "api_scope_denied"),
    "validation": answers(400, "validation_failed"),
    "rate-limit": answers(429, "rate_limited"),
    "service-down": answers(503, "public_api_disabled"),
    "failed-task": {"action": "fail_task"},
    "unknown": {"action": "cut_after", "times": None},
}


@pytest.mark.parametrize("kind", KINDS)
def test_the_dialog_says_what_happened_what_it_cost_and_what_to_do(
    kind: str, frontend: Frontend, newcomer: RivyaComfyUI, service: Watched
) -> None:
    fault = dict(KINDS[kind])
    newcomer.configure(api_key=newcomer_key(newcomer), base_url=service.url, **IMPATIENT)
    if "credits" in fault:
        service.set_credits(0, account=newcomer_key(newcomer))
    else:
        service.fault("create", fault.pop("action"), **fault)
    graph = graph_of("Make a picture from text")
    # What is left of unknown outcome here is refused to every other key: no other test may want the same picture.
    submit(graph)["widgets_values"][1] = new_seed()
    frontend.load(graph)
    frontend.run()
    dialog = frontend.page.locator(".comfy-error-report")
    dialog.wait_for()
    frontend.screenshot(f"error-{kind}")
    text = dialog.inner_text()
    assert "charged" in text
    assert "Traceback" not in text.split("Show Report")[0]
    assert "<" not in text.split("Show Report")[0]
    assert frontend.page.get_by_text("Sign in").count() == 0


def test_a_blank_prompt_is_refused_before_anything_runs(frontend: Frontend, service: Watched) -> None:
    graph = graph_of("Make a picture from text")
    submit(graph)["widgets_values"][0] = "  "
    frontend.load(graph)
    frontend.page.locator(".comfyui-queue-button button").first.click()
    dialog = frontend.page.locator(".comfy-error-report")
    dialog.get_by_text("The prompt is blank").first.wait_for()
    frontend.screenshot("error-blank-prompt")
    assert not service.requests()
    frontend.errors.clear()  # the browser notes the 400 by itself


def newcomer_key(newcomer: RivyaComfyUI) -> str:
    return str(json.loads((newcomer.home / "config.json").read_text())["api_key"])
