"""What can be wrong, and what a person is told in a real ComfyUI: one case of each kind.

The other cases: ``tests/nodes/test_bad_input.py``, ``tests/library/test_bad_answers.py``.
"""

from __future__ import annotations

import json
from typing import Any

import pytest

from devtools.comfyui import PromptRefused
from support.comfy import Graph, RivyaComfyUI, edit_graph, random_picture, show
from support.service import Watched

# No long patience for what will not get better.
IMPATIENT = {"retry_budget_s": 1.0, "conflict_wait_s": 0.5}


def refused(comfy: RivyaComfyUI, graph: Graph, kind: str, *, node: str = "edit") -> str:
    """Run a graph that must end with an error of that class on that node; gives its text."""
    finished = comfy.run(graph)
    error = finished.error
    assert error is not None, finished.explain()
    assert error["node_id"] == node
    assert error["exception_type"].rsplit(".", 1)[-1] == kind, error["exception_message"]
    return str(error["exception_message"])


def impatient(comfy: RivyaComfyUI, service: Watched) -> None:
    comfy.configure(api_key=service.key, base_url=service.url, **IMPATIENT)


@pytest.mark.parametrize("image", [None, "a picture"])
def test_without_a_key_one_error_names_both_places_before_anything_is_sent(
    comfy: RivyaComfyUI, service: Watched, image: str | None
) -> None:
    comfy.configure(base_url=service.url)
    name = comfy.put_image(random_picture()) if image else None
    text = refused(comfy, edit_graph(name), "ConfigurationError", node="reference" if image else "edit")
    assert "RIVYA_API_KEY" in text
    assert str(comfy.home / "config.json") in text
    assert not service.requests()


def test_a_key_with_spaces_and_line_ends_around_it_works(comfy: RivyaComfyUI, service: Watched) -> None:
    comfy.configure(api_key=f"\r\n {service.key} \t\r\n", base_url=service.url)
    finished = comfy.run(edit_graph(None))
    assert finished.succeeded, finished.explain()


def test_a_key_that_cannot_be_in_a_header_is_refused_by_name_and_never_shown(
    comfy: RivyaComfyUI, service: Watched
) -> None:
    comfy.configure(api_key="rvya_sk_se\ncret", base_url=service.url)
    finished = comfy.run(edit_graph(None))
    assert finished.error is not None
    assert finished.error["exception_type"].endswith("ConfigurationError")
    assert "api_key" in finished.error["exception_message"]
    shown = json.dumps(finished.entry, ensure_ascii=False)
    assert "rvya_sk_se" not in shown
    assert "cret\n" not in shown
    assert not service.requests()


def test_a_blank_prompt_is_refused_on_the_node_when_the_graph_is_queued(
    comfy: RivyaComfyUI, service: Watched
) -> None:
    with pytest.raises(PromptRefused) as refusal:
        comfy.queue(edit_graph(None, prompt=" \n\t "))
    (problem,) = refusal.value.errors["edit"]["errors"]
    assert "prompt" in problem["details"]
    assert "blank" in problem["details"]


def test_a_blank_prompt_over_a_link_is_refused_before_anything_is_sent(
    comfy: RivyaComfyUI, service: Watched
) -> None:
    graph = edit_graph(None, prompt=["text", 0])
    graph["text"] = {"class_type": "PrimitiveStringMultiline", "inputs": {"value": "  \n "}}
    assert "prompt is blank" in refused(comfy, graph, "ValidationError")
    assert not service.requests()


@pytest.mark.parametrize("name, value", [("model", "flux-2-pro"), ("watermark", "\ud800")])
def test_a_parameter_outside_the_table_is_named_before_anything_is_sent(
    comfy: RivyaComfyUI, service: Watched, name: str, value: str
) -> None:
    # A newer ComfyUI refuses foreign choices when the graph is queued; 0.3.75 leaves them to the node.
    try:
        finished = comfy.run(edit_graph(None, params={name: value}))
    except PromptRefused as refusal:
        assert name in json.dumps(refusal.answer)
    else:
        assert finished.error is not None
        assert finished.error["exception_type"].endswith("ValidationError")
        assert name in finished.error["exception_message"]
    assert not service.requests()


@pytest.mark.parametrize("inputs", [{"safety_tolerance": 7}, {"safety_tolerance": "high"}])
def test_a_number_out_of_range_is_refused_when_the_graph_is_queued(
    comfy: RivyaComfyUI, service: Watched, inputs: dict[str, Any]
) -> None:
    with pytest.raises(PromptRefused) as refusal:
        comfy.queue(edit_graph(None, params=inputs))
    assert "params" in refusal.value.errors


@pytest.mark.parametrize("inputs", [{"variations": 17}, {"on_failure": 7}])
def test_a_setting_out_of_range_never_reaches_the_service(
    comfy: RivyaComfyUI, service: Watched, inputs: dict[str, Any]
) -> None:
    try:
        finished = comfy.run(edit_graph(None, **inputs))
    except PromptRefused as refusal:
        assert "edit" in refusal.errors
    else:
        assert finished.error is not None
        assert finished.error["exception_type"].endswith("ValidationError")
    assert not service.requests()


def test_a_base_url_that_is_neither_https_nor_loopback_is_refused(
    comfy: RivyaComfyUI, service: Watched
) -> None:
    comfy.configure(api_key=service.key, base_url="http://user:word@rivya.example")
    text = refused(comfy, edit_graph(None), "ConfigurationError")
    assert "base URL" in text
    assert "user:word" not in text


def test_a_failed_task_says_the_services_reason_and_that_credits_came_back(
    comfy: RivyaComfyUI, service: Watched
) -> None:
    reason = "The prompt was flagged by the safety filter."
    service.fault("create", "fail_task", error={"code": "content_policy", "message": reason})
    text = refused(comfy, edit_graph(None), "TaskFailedError")
    assert reason in text
    assert "No credits were charged." in text
    assert service.tasks()[0]["id"] in text
    assert service.charges() == []


def test_a_failed_task_that_was_charged_says_so_and_is_never_ordered_again_by_itself(
    comfy: RivyaComfyUI, service: Watched
) -> None:
    service.fault("create", "fail_task", charged=True, error={"code": "generation_failed", "message": "No."})
    graph = edit_graph(None)
    assert "Credits were charged." in refused(comfy, graph, "TaskFailedError")
    assert "seed" in refused(comfy, graph, "TaskFailedError")
    assert service.charges() == [4]


def test_a_task_that_failed_without_charge_is_ordered_again_by_the_next_run(
    comfy: RivyaComfyUI, service: Watched
) -> None:
    service.fault("create", "fail_task", error=None)
    graph = edit_graph(None)
    refused(comfy, graph, "TaskFailedError")
    finished = comfy.run(graph)
    assert finished.succeeded, finished.explain()
    assert service.charges() == [4]


@pytest.mark.parametrize(
    "status, code, kind, sentence",
    [
        (401, "api_key_expired", "AuthenticationError", "RIVYA_API_KEY"),
        (402, "insufficient_credits", "InsufficientCreditsError", "Top up"),
    ],
)
def test_a_refusal_has_a_sentence_of_its_own_and_costs_nothing(
    comfy: RivyaComfyUI, service: Watched, status: int, code: str, kind: str, sentence: str
) -> None:
    impatient(comfy, service)
    service.fault(
        "create", "status", status=status, code=code, message="A reason of the service.", times=None
    )
    text = refused(comfy, edit_graph(None), kind)
    assert sentence in text
    assert "No credits were charged." in text
    assert f"HTTP: {status}" in text
    assert "request: req_" in text
    assert service.charges() == []
    # ComfyUI's frontend would take these for its own account's trouble and hide the error.
    assert "Unauthorized: Please login first" not in text
    assert "Payment Required" not in text


def test_trouble_that_stays_leaves_open_what_was_done_and_the_next_run_pays_once(
    comfy: RivyaComfyUI, service: Watched
) -> None:
    impatient(comfy, service)
    # The order is carried out, and only the answer is trouble: nobody but the service can know.
    service.fault("create", "status", status=502, code="internal", when="after", times=None)
    graph = edit_graph(None)
    text = refused(comfy, graph, "ServiceUnavailableError")
    assert "not known" in text
    assert "Run again" in text
    service.clear_faults()
    again = comfy.run(graph)
    assert again.succeeded, again.explain()
    assert service.charges() == [4]


def test_a_conflict_is_a_safe_stop(comfy: RivyaComfyUI, service: Watched) -> None:
    impatient(comfy, service)
    service.fault("create", "status", status=409, code="idempotency_conflict", times=None)
    finished = comfy.run(edit_graph(None))
    assert finished.error is not None
    assert finished.error["exception_type"].rsplit(".", 1)[-1] in ("ConflictError", "UnknownOutcomeError")
    keys = {request["idempotency_key"] for request in service.requests("create")}
    bodies = {request["body_sha256"] for request in service.requests("create")}
    assert len(keys) == len(bodies) == 1
    assert service.charges() == []


def test_trouble_that_passes_is_not_noticed(comfy: RivyaComfyUI, service: Watched) -> None:
    service.fault("create", "status", status=503, times=2)
    finished = comfy.run(edit_graph(None))
    assert finished.succeeded, finished.explain()
    assert len({request["idempotency_key"] for request in service.requests("create")}) == 1
    assert len({request["body_sha256"] for request in service.requests("create")}) == 1
    assert service.charges() == [4]


def test_an_unusable_answer_to_an_order_never_leads_to_a_second_one(
    comfy: RivyaComfyUI, service: Watched
) -> None:
    impatient(comfy, service)
    service.fault("create", "body", sample="malformed", times=None)
    graph = edit_graph(None)
    first = comfy.run(graph)
    assert first.error is not None
    assert "not known" in first.error["exception_message"]
    service.clear_faults()
    second = comfy.run(graph)
    assert second.succeeded, second.explain()
    assert len(service.tasks()) == 1
    assert service.charges() == [4]


def test_a_result_that_is_no_picture_is_an_error_and_stays_collectable(
    comfy: RivyaComfyUI, service: Watched
) -> None:
    impatient(comfy, service)
    service.fault("result", "body", sample="html", times=None)
    graph = edit_graph(None)
    finished = comfy.run(graph)
    assert finished.error is not None
    assert not finished.outputs
    assert service.tasks()[0]["id"] in finished.error["exception_message"]
    service.clear_faults()
    again = comfy.run(graph)
    assert again.succeeded, again.explain()
    assert service.charges() == [4]


def test_with_skip_the_report_names_what_failed_and_the_rest_goes_on(
    comfy: RivyaComfyUI, service: Watched
) -> None:
    graph = show(edit_graph(None, variations=3, on_failure="skip"), "report", "edit", 3)
    service.fault(
        "create", "fail_task", error={"code": "generation_failed", "message": "Not this one."}, after=1
    )
    finished = comfy.run(graph)
    assert finished.succeeded, finished.explain()
    assert len(comfy.pictures(finished)) == 2
    orders = json.loads(comfy.text(finished, "report"))["orders"]
    failed = [order for order in orders if order["error"]]
    assert len(orders) == 3
    assert len(failed) == 1
    assert "Not this one." in json.dumps(failed)
    again = comfy.run(graph)
    assert len(comfy.pictures(again)) == 3
    assert service.charges() == [4, 4, 4]


def test_with_skip_it_is_an_error_when_all_fail(comfy: RivyaComfyUI, service: Watched) -> None:
    service.fault("create", "fail_task", error=None, times=None)
    assert comfy.run(edit_graph(None, variations=2, on_failure="skip")).error is not None
