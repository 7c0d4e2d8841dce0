"""What can go wrong, as one tree: which class, what is said, what can be read by a program."""

from __future__ import annotations

import asyncio
import json
import pickle
from collections.abc import Callable

import pytest

from rivya import errors
from rivya.errors import Charged, RivyaError, Sent, costs_nothing, error_class

DOCUMENTED = {
    "public_api_disabled": (503, errors.ServiceUnavailableError),
    "api_key_missing": (401, errors.AuthenticationError),
    "api_key_invalid": (401, errors.AuthenticationError),
    "api_key_revoked": (401, errors.AuthenticationError),
    "api_key_expired": (401, errors.AuthenticationError),
    "api_scope_denied": (403, errors.PermissionDeniedError),
    "rate_limited": (429, errors.RateLimitError),
    "validation_failed": (400, errors.ValidationError),
    "not_found": (404, errors.NotFoundError),
    "idempotency_conflict": (409, errors.ConflictError),
    "insufficient_credits": (402, errors.InsufficientCreditsError),
}
BY_STATUS = {
    400: errors.ValidationError,
    401: errors.AuthenticationError,
    402: errors.InsufficientCreditsError,
    403: errors.PermissionDeniedError,
    404: errors.NotFoundError,
    408: errors.ServiceUnavailableError,
    409: errors.ConflictError,
    413: errors.ValidationError,
    422: errors.ValidationError,
    429: errors.RateLimitError,
    500: errors.ServiceUnavailableError,
    502: errors.ServiceUnavailableError,
    503: errors.ServiceUnavailableError,
    599: errors.ServiceUnavailableError,
    418: errors.ApiError,
    451: errors.ApiError,
}
ALL = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, RivyaError)]


@pytest.mark.parametrize("code", DOCUMENTED)
def test_every_documented_code_has_its_class(code: str) -> None:
    status, kind = DOCUMENTED[code]
    assert error_class(code, status) is kind


def test_the_code_decides_and_not_the_status() -> None:
    assert error_class("insufficient_credits", 400) is errors.InsufficientCreditsError
    assert error_class("rate_limited", 503) is errors.RateLimitError


@pytest.mark.parametrize("status", BY_STATUS)
@pytest.mark.parametrize("code", [None, "", "a_code_of_next_year", "generation_failed"])
def test_an_unknown_code_falls_back_on_the_status(status: int, code: str | None) -> None:
    assert error_class(code, status) is BY_STATUS[status]


@pytest.mark.parametrize("kind", ALL)
def test_every_error_is_of_the_tree_and_says_nothing_of_credits_by_itself(kind: type[RivyaError]) -> None:
    error = kind("Something happened.")
    assert isinstance(error, RivyaError)
    assert error.code
    assert "charged" not in str(error)
    assert error.charged is None


def test_the_text_has_sentence_cost_hint_and_identifiers() -> None:
    error = errors.InsufficientCreditsError(
        "Rivya answered: The account does not have enough credits.",
        status=402,
        request_id="req_1",
        task_id="task_1",
        order_key="abc",
        charged=Charged.UNKNOWN,
    )
    assert str(error) == (
        "Rivya answered: The account does not have enough credits. It may have been charged; that is not known. "
        "Top up at rivya.ai, then run again.\n\n"
        "(code: insufficient_credits, HTTP: 402, request: req_1, task: task_1, order: abc)"
    )


@pytest.mark.parametrize(
    ("charged", "sentence"),
    [
        (Charged.YES, "Credits were charged."),
        (Charged.NO, "No credits were charged."),
        (Charged.UNKNOWN, "It may have been charged; that is not known."),
    ],
)
def test_the_cost_is_one_plain_sentence(charged: Charged, sentence: str) -> None:
    assert sentence in str(RivyaError("It broke.", charged=charged))
    others = {"Credits were charged.", "No credits were charged.", "It may have been charged"} - {
        sentence[:24]
    }
    assert sum(other in str(RivyaError("It broke.", charged=charged)) for other in others) <= 1


def test_where_cost_is_no_question_nothing_is_said_of_it() -> None:
    assert "charged" not in str(RivyaError("It broke.", charged=None))


def test_a_hint_may_be_replaced_or_left_out() -> None:
    assert str(errors.RateLimitError("Slow.", hint="")).startswith("Slow.\n")
    assert "Now." in str(errors.RateLimitError("Slow.", hint="Now."))


@pytest.mark.parametrize("kind", ALL)
def test_every_error_is_plain_json_for_report_and_ledger(kind: type[RivyaError]) -> None:
    shown = json.loads(json.dumps(kind("It broke.", status=500, charged=Charged.UNKNOWN).as_dict()))
    assert shown["type"] == kind.__name__
    assert shown["message"] == "It broke."
    assert shown["charged"] == "unknown"
    assert set(shown) == {
        "type", "message", "hint", "code", "status", "request_id", "task_id", "order_key", "charged",
    }  # fmt: skip
    assert kind("It broke.", charged=None).as_dict()["charged"] is None


@pytest.mark.parametrize("kind", ALL)
def test_every_error_survives_the_way_between_processes(kind: type[RivyaError]) -> None:
    error = kind("It broke.", charged=Charged.UNKNOWN, task_id="task_1", sent=Sent.MAYBE)
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is kind
    assert str(again) == str(error)
    assert again.sent is Sent.MAYBE


@pytest.mark.parametrize("kind", ALL)
def test_more_may_be_said_about_an_error_by_another_one_of_its_kind(kind: type[RivyaError]) -> None:
    first = kind("It broke.", code="broken", status=418, sent=Sent.MAYBE, credits=4, retry_after_s=2.0)
    second = first.about(charged=Charged.YES, task_id="task_1", message="It broke twice.")
    assert type(second) is kind
    assert (first.charged, first.task_id, first.message) == (None, None, "It broke.")
    assert str(second).startswith("It broke twice. Credits were charged.")
    changed = {name for name, value in vars(first).items() if vars(second)[name] != value}
    assert changed == {"message", "charged", "task_id"}
    assert second.args == ("It broke twice.",)


async def fails_later(error: Exception) -> None:
    await asyncio.sleep(0)
    raise error


def fails(error: Exception) -> None:
    raise error


@pytest.mark.parametrize("told", [None, Charged.YES, Charged.UNKNOWN])
@pytest.mark.parametrize("work", [fails, lambda error: asyncio.run(costs_nothing()(fails_later)(error))])
def test_what_costs_nothing_says_so_unless_the_error_says_more(
    work: Callable[[Exception], None], told: Charged | None
) -> None:
    with pytest.raises(RivyaError) as caught:
        costs_nothing()(work)(errors.ApiError("It broke.", charged=told))
    assert caught.value.charged is (told or Charged.NO)
    assert caught.traceback[-1].name in ("fails", "fails_later")


def test_what_costs_nothing_leaves_other_exceptions_and_results_alone() -> None:
    with pytest.raises(KeyError):
        costs_nothing()(fails)(KeyError("x"))
    assert costs_nothing()(len)("abc") == 3
