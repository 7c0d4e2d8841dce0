"""Errors as a person reads them: as a toast, on the node, and in ComfyUI's own report."""

from __future__ import annotations

import json
from typing import Any

import pytest

from support.cases import slow_but
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


@pytest.mark.parametrize("kind", slow_but(KINDS, "no-credits", "failed-task", "unknown"))
def test_all_places_say_what_happened_what_it_cost_and_what_to_do(
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
    said = frontend.error_message("charged").inner_text()
    frontend.screenshot(f"error-{kind}")
    for text in (
        said,
        frontend.note("charged").inner_text(),
        frontend.error_dialog().split("Stack Trace")[0],
    ):
        assert "charged" in text
        assert "Traceback" not in text
        assert "<" not in text
    assert frontend.page.get_by_text("Sign in").count() == 0


def newcomer_key(newcomer: RivyaComfyUI) -> str:
    return str(json.loads((newcomer.home / "config.json").read_text())["api_key"])
