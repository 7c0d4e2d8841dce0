"""One call with its retries: what is repeated, how, for how long, and what the end proves."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from library.calling import BODY, KEY, Line, failing, talk
from rivya.errors import (
    RateLimitError,
    RivyaConnectionError,
    RivyaTimeoutError,
    Sent,
    ServiceUnavailableError,
    UnusableAnswerError,
    ValidationError,
)

pytestmark = pytest.mark.heavy

TROUBLE: dict[str, dict[str, Any]] = {
    "408": {"action": "status", "status": 408},
    "500": {"action": "status", "status": 500},
    "500 after the work": {"action": "status", "status": 500, "when": "after"},
    "502 with HTML": {"action": "body", "status": 502, "sample": "html", "when": "before"},
    "503": {"action": "status", "status": 503},
    "reset before the work": {"action": "cut_before", "reset": True},
    "closed after the work": {"action": "cut_after"},
    "cut in the middle of the answer": {"action": "truncate"},
    "silence": {"action": "stall", "when": "after", "seconds": 2},
    "half of the JSON": {"action": "body", "sample": "half"},
    "a list": {"action": "body", "sample": "shape"},
    "an empty object": {"action": "body", "sample": "empty_object"},
    "nothing": {"action": "body", "sample": "empty"},
}


def endpoint(service: Any, name: str) -> list[dict[str, Any]]:
    return list(service.requests(name))


@pytest.mark.parametrize("trouble", TROUBLE)
def test_an_order_is_repeated_with_the_same_key_and_the_same_bytes(service: Any, trouble: str) -> None:
    service.fault("create", times=2, **TROUBLE[trouble])
    task = talk(service, Line.order)
    requests = endpoint(service, "create")
    assert len(requests) == 3
    assert {each["idempotency_key"] for each in requests} == {KEY}
    assert len({each["body_sha256"] for each in requests}) == 1
    assert {each["size"] for each in requests} == {len(BODY)}
    assert [found["id"] for found in service.tasks()] == [task.id]


@pytest.mark.parametrize("trouble", ["408", "500", "502 with HTML", "reset before the work", "silence"])
def test_reading_is_repeated_freely(service: Any, trouble: str) -> None:
    service.fault("credits", times=2, **TROUBLE[trouble])
    assert talk(service, lambda line: line.api.credits()) == 100_000
    assert len(endpoint(service, "credits")) == 3


def test_what_never_left_is_sent_once_the_service_can_be_reached(service: Any) -> None:
    service.close_listener(0.5)
    talk(service, Line.order)
    assert len(endpoint(service, "create")) == 1


def test_what_never_left_proves_that_nothing_happened(service: Any) -> None:
    service.close_listener(1.0)
    error = failing(service, Line.order, budget_s=0.3)
    assert isinstance(error, RivyaConnectionError)
    assert error.sent is Sent.NO
    time.sleep(0.8)


@pytest.mark.parametrize("form", ["seconds", "date"])
def test_a_named_pace_is_kept(service: Any, form: str) -> None:
    service.fault("create", "status", status=429, retry_after=2, retry_after_form=form)
    begun = time.monotonic()
    talk(service, Line.order, budget_s=10)
    assert 0.9 <= time.monotonic() - begun < 5.0
    assert len(endpoint(service, "create")) == 2


def test_429_without_a_pace_is_repeated_soon(service: Any) -> None:
    service.fault("create", "status", status=429, times=3)
    begun = time.monotonic()
    talk(service, Line.order)
    assert time.monotonic() - begun < 2.0
    assert len(endpoint(service, "create")) == 4


def test_429_to_the_end_proves_that_nothing_happened(service: Any) -> None:
    service.fault("create", "status", status=429, times=None)
    error = failing(service, Line.order, budget_s=1.5)
    assert isinstance(error, RateLimitError)
    assert error.sent is Sent.REFUSED
    assert len(endpoint(service, "create")) > 1


def test_a_pace_beyond_the_budget_is_told_at_once(service: Any) -> None:
    service.fault("create", "status", status=429, retry_after=60)
    begun = time.monotonic()
    error = failing(service, Line.order)
    assert isinstance(error, RateLimitError)
    assert error.retry_after_s == 60
    assert time.monotonic() - begun < 3.0


def test_a_named_pace_holds_everybody_back_and_not_only_who_was_told(service: Any) -> None:
    service.fault("create", "status", status=429, retry_after=1)

    async def two(line: Line) -> float:
        told = asyncio.ensure_future(line.order())
        await asyncio.to_thread(service.wait, "create")
        await asyncio.sleep(0.05)
        begun = time.monotonic()
        await line.api.credits()
        waited = time.monotonic() - begun
        await told
        return waited

    assert talk(service, two, budget_s=10) > 0.7


@pytest.mark.parametrize("status", [400, 401, 402, 403, 404, 409, 413, 415, 422])
def test_other_refusals_are_final(service: Any, status: int) -> None:
    service.fault("create", "status", status=status, code="a_new_code", times=None)
    error = failing(service, Line.order)
    assert error.status == status
    assert error.sent is Sent.REFUSED
    assert len(endpoint(service, "create")) == 1


def test_trouble_to_the_end_proves_nothing(service: Any) -> None:
    service.fault("create", "status", status=500, code="internal_error", times=None)
    begun = time.monotonic()
    error = failing(service, Line.order, budget_s=0.4)
    assert isinstance(error, ServiceUnavailableError)
    assert error.sent is Sent.MAYBE
    assert time.monotonic() - begun < 3.0


def test_an_api_that_says_it_is_switched_off_has_done_nothing(service: Any) -> None:
    service.fault("create", "status", status=503, code="public_api_disabled", times=None)
    error = failing(service, Line.order, budget_s=1.5)
    assert error.code == "public_api_disabled"
    assert error.sent is Sent.REFUSED
    assert len(endpoint(service, "create")) > 1


def test_silence_to_the_end_is_a_timeout_that_proves_nothing(service: Any) -> None:
    service.fault("create", "stall", when="before", seconds=20, times=None)
    error = failing(service, Line.order, budget_s=0.5)
    service.clear_faults()
    assert isinstance(error, RivyaTimeoutError)
    assert error.sent is Sent.MAYBE


def test_a_refusal_after_an_uncertain_attempt_proves_nothing(service: Any) -> None:
    service.fault("create", "cut_after")
    service.fault("create", "status", status=400, code="validation_failed")
    error = failing(service, Line.order)
    assert isinstance(error, ValidationError)
    assert error.sent is Sent.MAYBE


def test_an_answer_after_an_uncertain_attempt_says_so(service: Any) -> None:
    service.fault("create", "cut_before")
    assert talk(service, Line.order).uncertain
    assert not talk(service, lambda line: line.order(key="b" * 64)).uncertain


def test_an_unusable_answer_is_asked_for_three_times_and_quoted(service: Any) -> None:
    service.fault("create", "body", sample="text", times=None)
    error = failing(service, Line.order)
    assert isinstance(error, UnusableAnswerError)
    assert error.sent is Sent.MAYBE
    assert "This is the sandbox, and this answer is not JSON." in error.message
    assert len(endpoint(service, "create")) == 3


@pytest.mark.parametrize("status", [200, 201, 202, 203, 299])
def test_any_2xx_is_success(service: Any, status: int) -> None:
    service.fault("create", "patch", values={}, status=status)
    assert talk(service, Line.order).status == "queued"


def test_a_redirect_is_not_followed(service: Any) -> None:
    headers = {"Location": f"{service.results_url}/elsewhere"}
    service.fault("create", "status", status=307, headers=headers, times=None)
    error = failing(service, Line.order)
    assert isinstance(error, UnusableAnswerError)
    assert error.status == 307
    assert service.requests("result") == []


def test_whoever_gave_up_is_not_sent_again(service: Any) -> None:
    service.fault("create", "status", status=500, code="internal_error", times=None)
    asked = iter([True, True, False, False])
    error = failing(service, lambda line: line.order(wanted=lambda: next(asked)))
    assert error.sent is Sent.MAYBE
    assert len(endpoint(service, "create")) == 1


def test_whoever_gave_up_before_the_first_attempt_is_not_sent_at_all(service: Any) -> None:
    error = failing(service, lambda line: line.order(wanted=lambda: False))
    assert error.code == "cancelled"
    assert error.sent is Sent.NO
    assert service.requests() == []


def test_429_halves_the_bound_once_a_burst_and_orders_that_get_through_raise_it(service: Any) -> None:
    service.fault("create", "status", status=429, times=2)

    async def orders(line: Line) -> list[float]:
        await line.order()
        seen = [line.concurrency.limit]
        line.concurrency._halved_at = None  # the burst is over
        for number in range(4):
            await line.order(key=str(number) * 64)
            seen.append(line.concurrency.limit)
        await line.api.credits()
        seen.append(line.concurrency.limit)
        return seen

    limits = talk(service, orders)
    assert limits[0] == 4.0
    assert limits[4] == pytest.approx(4.9, abs=0.1)
    assert limits[5] == limits[4], "reading proves nothing about orders"


def test_the_error_has_the_service_s_code_words_and_request(service: Any) -> None:
    service.fault(
        "create",
        "status",
        status=400,
        code="validation_failed",
        message="params.watermark is\x1b[31m <b>wrong</b>",
    )
    error = failing(service, Line.order)
    assert error.code == "validation_failed"
    assert error.request_id == endpoint(service, "create")[0]["request_id"]
    assert error.message == "Rivya answered: params.watermark is ‹b›wrong‹/b›."


def test_an_error_without_the_documented_shape_is_told_by_its_status(service: Any) -> None:
    service.fault("create", "body", status=400, sample="html", when="before")
    error = failing(service, Line.order)
    assert isinstance(error, ValidationError)
    assert error.message == "Rivya answered with HTTP 400."
    assert error.code == "validation_failed"
