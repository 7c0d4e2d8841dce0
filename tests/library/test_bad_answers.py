"""Answers of the service that end an order: what a person is told, and what is paid in the end.

One case of each kind runs in a real ComfyUI, in ``tests/comfy/test_bad_input.py``.
"""

from __future__ import annotations

from typing import Any

import pytest

from library.client import Client
from rivya.errors import Charged

pytestmark = pytest.mark.heavy


@pytest.mark.parametrize(
    "status, code, kind, sentence",
    [
        (400, "validation_failed", "ValidationError", "Correct"),
        (401, "api_key_invalid", "AuthenticationError", "RIVYA_API_KEY"),
        (401, "api_key_expired", "AuthenticationError", "RIVYA_API_KEY"),
        (402, "insufficient_credits", "InsufficientCreditsError", "Top up"),
        (403, "api_scope_denied", "PermissionDeniedError", "scopes"),
        (404, "not_found", "NotFoundError", "account"),
        (429, "rate_limited", "RateLimitError", "RIVYA_MAX_CONCURRENCY"),
        (503, "public_api_disabled", "ServiceUnavailableError", "later"),
        (418, "teapot", "ApiError", "request id"),
    ],
)
def test_each_refusal_has_a_sentence_of_its_own_and_costs_nothing(
    client: Client, service: Any, status: int, code: str, kind: str, sentence: str
) -> None:
    service.fault("create", "status", status=status, code=code, message="A reason of Rivya's.", times=None)
    error = client.failure(client.order())
    text = str(error)
    assert type(error).__name__ == kind
    assert "A reason of Rivya's." in text
    assert sentence in text
    assert "No credits were charged." in text
    assert f"HTTP: {status}" in text
    assert "request: req_" in text
    assert service.charges() == []
    # ComfyUI's frontend would take these for its own account's trouble and hide the error.
    assert "Unauthorized: Please login first" not in text
    assert "Payment Required" not in text
    final = status not in (429, 503)
    assert (len(service.requests("create")) == 1) is final


@pytest.mark.parametrize("status", [408, 500, 502, 504])
def test_trouble_that_stays_leaves_open_what_was_done_and_the_next_run_pays_once(
    client: Client, service: Any, status: int
) -> None:
    # The order is carried out, and only the answer is trouble: nobody but the service can know.
    service.fault("create", "status", status=status, code="internal", when="after", times=None)
    error = client.failure(client.order())
    assert type(error).__name__ == "ServiceUnavailableError"
    assert error.charged is Charged.UNKNOWN
    assert "not known" in str(error)
    assert "Run again" in str(error)
    paid_once(client, service)


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503])
def test_trouble_that_passes_is_not_noticed(client: Client, service: Any, status: int) -> None:
    service.fault("create", "status", status=status, times=2)
    client.run(client.order())
    sent = service.requests("create")
    assert len(sent) == 3
    assert len({(each["idempotency_key"], each["body_sha256"]) for each in sent}) == 1
    assert len(service.charges()) == 1


@pytest.mark.parametrize("sample", ["malformed", "shape", "empty_object", "text", "html", "empty", "half"])
def test_an_unusable_answer_to_an_order_never_leads_to_a_second_one(
    client: Client, service: Any, sample: str
) -> None:
    service.fault("create", "body", sample=sample, times=None)
    error = client.failure(client.order())
    assert error.charged is Charged.UNKNOWN
    assert "not known" in str(error)
    paid_once(client, service)


@pytest.mark.parametrize("missing", ["id", "status"])
def test_an_answer_without_what_is_needed_is_quoted(client: Client, service: Any, missing: str) -> None:
    service.fault("create", "patch", drop=[missing], values={"model": "quoted-model"}, times=None)
    text = str(client.failure(client.order()))
    assert "quoted-model" in text
    assert len(text) < 1500


@pytest.mark.parametrize("sample", ["text", "html", "empty", "half"])
def test_a_result_that_is_no_picture_is_an_error_and_stays_collectable(
    client: Client, service: Any, sample: str
) -> None:
    service.fault("result", "body", sample=sample, times=None)
    error = client.failure(client.order())
    assert service.tasks()[0]["id"] in str(error)
    assert error.charged is Charged.YES
    paid_once(client, service)


def paid_once(client: Client, service: Any) -> None:
    """Run the order again: it ends well, and one order has been accepted and charged in all."""
    service.clear_faults()
    client.run(client.order())
    assert len(service.tasks()) == 1
    assert len(service.charges()) == 1
