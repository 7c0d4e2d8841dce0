"""The endpoints, read tolerantly: what is needed is required, what is not known is normal."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from library.calling import BODY, Line, failing, talk
from library.client import png
from rivya.api.policy import AdaptiveLimit
from rivya.errors import AuthenticationError, NotFoundError, Sent, UnusableAnswerError

pytestmark = pytest.mark.heavy


def upload(line: Line) -> Any:
    return line.api.upload_file(png(1), name="reference.png", mime="image/png", model="flux-kontext-pro")


def finished(line: Line) -> Any:
    async def work() -> Any:
        task = await line.order()
        while task.status not in ("succeeded", "failed"):
            await asyncio.sleep(0.02)
            task = await line.api.retrieve_generation(task.id)
        return task

    return work()


# -- files


def test_a_file_is_uploaded_and_retrieved(service: Any) -> None:
    file = talk(service, upload)
    (kept,) = service.book()["uploads"]
    assert (file.id, file.url, file.duration_token) == (kept["id"], kept["url"], None)
    assert talk(service, lambda line: line.api.retrieve_file(file.id)) == file


def test_the_id_of_a_file_may_be_called_file_id(service: Any) -> None:
    service.fault("upload", "patch", drop=["id"], values={"file_id": "file_under_another_name"})
    assert talk(service, upload).id == "file_under_another_name"


def test_a_file_may_come_without_an_id(service: Any) -> None:
    service.fault("upload", "patch", drop=["id"])
    assert talk(service, upload).id is None


@pytest.mark.parametrize("spelling", ["duration_token", "durationToken"])
def test_the_duration_token_is_read_in_either_spelling(service: Any, spelling: str) -> None:
    service.fault("upload", "duration_token", spelling=spelling)
    assert talk(service, upload).duration_token == service.book()["uploads"][0]["token"] is not None


@pytest.mark.parametrize("token", [None, "", 17, ["x"], "x" * 5000])
def test_a_duration_token_that_is_none_is_none(service: Any, token: Any) -> None:
    service.fault("upload", "patch", values={"duration_token": token})
    assert talk(service, upload).duration_token is None


@pytest.mark.parametrize(
    "url", ["javascript:alert(1)", "ftp://example.com/x", "not a url", "https://u:p@example.com/"]
)
def test_a_file_whose_url_is_of_no_use_is_refused(service: Any, url: str) -> None:
    service.fault("upload", "patch", values={"url": url}, times=None)
    assert isinstance(failing(service, upload), UnusableAnswerError)


def test_a_file_without_a_url_is_an_error_that_quotes_what_came(service: Any) -> None:
    service.fault("upload", "patch", drop=["url"], times=None)
    error = failing(service, upload)
    assert isinstance(error, UnusableAnswerError)
    assert "no usable url" in error.message
    assert service.book()["uploads"][-1]["id"] in error.message


def test_a_file_that_is_gone_is_not_found(service: Any) -> None:
    file = talk(service, upload)
    service.expire_uploads()
    assert isinstance(failing(service, lambda line: line.api.retrieve_file(file.id)), NotFoundError)


@pytest.mark.parametrize("file_id", ["../credits", "a/b", "", "x" * 200, "ümlaut"])
def test_an_id_that_could_lead_elsewhere_is_not_asked_for(service: Any, file_id: str) -> None:
    assert isinstance(failing(service, lambda line: line.api.retrieve_file(file_id)), UnusableAnswerError)
    assert isinstance(
        failing(service, lambda line: line.api.retrieve_generation(file_id)), UnusableAnswerError
    )
    assert service.requests() == []


# -- generations


def test_a_generation_is_created_and_followed(service: Any) -> None:
    task = talk(service, finished)
    (kept,) = service.tasks()
    assert (task.id, task.status, task.urls) == (kept["id"], "succeeded", tuple(kept["urls"]))
    assert (task.reserved_credits, task.final_credits) == (4, 4)
    assert task.service_s is not None


def test_of_a_task_only_id_and_status_are_needed(service: Any) -> None:
    names = ["model", "reserved_credits", "final_credits", "created_at", "updated_at", "result", "error"]
    service.fault("create", "patch", drop=names)
    task = talk(service, Line.order)
    assert (task.reserved_credits, task.final_credits, task.urls, task.service_s) == (None, None, (), None)


def test_unknown_fields_and_statuses_are_normal(service: Any) -> None:
    service.fault("create", "patch", values={"status": "Warming_Up", "moon": {"phase": 3}, "error": "odd"})
    assert talk(service, Line.order).status == "warming_up"


@pytest.mark.parametrize("name", ["id", "status"])
@pytest.mark.parametrize("value", [None, "", 7, ["x"]])
def test_a_task_without_id_or_status_is_an_error_that_quotes_what_came(
    service: Any, name: str, value: Any
) -> None:
    service.fault("create", "patch", values={name: value, "model": "flux-kontext-odd"}, times=None)
    error = failing(service, Line.order)
    assert isinstance(error, UnusableAnswerError)
    assert f"no usable {name}" in error.message
    assert "flux-kontext-odd" in error.message
    assert len(error.message) < 300
    assert error.sent is Sent.MAYBE


def test_the_quote_holds_no_result_url(service: Any) -> None:
    url = "https://media.example/secret.png?signature=abc"
    service.fault("create", "patch", drop=["id"], values={"result": {"primary_url": url}}, times=None)
    assert "secret" not in str(failing(service, Line.order))


@pytest.mark.parametrize("task_id", ["../../credits", "a b", "x" * 129, "task/1"])
def test_a_task_id_of_no_usable_form_leaves_the_outcome_open(service: Any, task_id: str) -> None:
    service.fault("create", "patch", values={"id": task_id}, times=None)
    assert failing(service, Line.order).sent is Sent.MAYBE


def test_another_task_than_was_asked_for_is_refused(service: Any) -> None:
    service.fault("status", "patch", values={"id": "task_of_somebody_else"}, times=None)
    error = failing(service, finished)
    assert isinstance(error, UnusableAnswerError)
    assert "task_of_somebody_else" in error.message


@pytest.mark.parametrize(
    ("result", "urls"),
    [
        ({"primary_url": "https://m.example/1", "urls": ["https://m.example/1"]}, ("https://m.example/1",)),
        ({"primary_url": "https://m.example/1"}, ("https://m.example/1",)),
        (
            {"urls": ["https://m.example/1", "https://m.example/2"]},
            ("https://m.example/1", "https://m.example/2"),
        ),
        (
            {"primary_url": "https://m.example/2", "urls": ["https://m.example/1", "https://m.example/2"]},
            ("https://m.example/2", "https://m.example/1"),
        ),
        ({"primary_url": None, "urls": [None, 3, "", "https://m.example/1"]}, ("https://m.example/1",)),
        ({"urls": "https://m.example/1"}, ()),
        (["https://m.example/1"], ()),
        (None, ()),
    ],
)
def test_result_urls_come_once_each_the_primary_one_first(
    service: Any, result: Any, urls: tuple[str, ...]
) -> None:
    service.fault("create", "patch", values={"result": result})
    assert talk(service, Line.order).urls == urls


def test_no_more_than_sixteen_results_are_read(service: Any) -> None:
    many = [f"https://m.example/{number}" for number in range(40)]
    service.fault("create", "patch", values={"result": {"urls": many}})
    assert talk(service, Line.order).urls == tuple(many[:16])


@pytest.mark.parametrize(
    ("value", "credits"), [(4, 4), (4.0, 4), (0, 0), (-1, None), (1.5, None), (True, None), ("4", None)]
)
def test_credits_are_whole_numbers_or_not_known(service: Any, value: Any, credits: int | None) -> None:
    service.fault("create", "patch", values={"reserved_credits": value, "final_credits": value})
    task = talk(service, Line.order)
    assert (task.reserved_credits, task.final_credits) == (credits, credits)


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (
            {"code": "moderated", "message": "The picture\nwas <b>refused</b>."},
            "moderated",
            "The picture was ‹b›refused‹/b›.",
        ),
        ({"code": 17, "message": None}, None, ""),
        ({}, None, ""),
        (None, None, ""),
        ("text", None, ""),
    ],
)
def test_the_reason_of_a_failed_task_is_read_as_far_as_there_is_one(
    service: Any, error: Any, code: str | None, message: str
) -> None:
    service.fault("create", "patch", values={"status": "failed", "error": error})
    task = talk(service, Line.order)
    assert (task.status, task.error_code, task.error_message) == ("failed", code, message)


@pytest.mark.parametrize(
    ("created", "updated", "seconds"),
    [
        ("2026-05-10T00:00:00.000Z", "2026-05-10T00:01:00.500Z", 60.5),
        ("2026-05-10T02:00:00+02:00", "2026-05-10T00:01:00Z", 60.0),
        ("2026-05-10T00:00:00", "2026-05-10T00:01:00Z", None),
        ("yesterday", "today", None),
        (None, None, None),
        (1, 2, None),
    ],
)
def test_the_service_s_own_times_are_read_as_far_as_they_make_sense(
    service: Any, created: Any, updated: Any, seconds: float | None
) -> None:
    service.fault("create", "patch", values={"created_at": created, "updated_at": updated})
    assert talk(service, Line.order).service_s == seconds


def test_a_task_shows_no_urls_in_its_repr(service: Any) -> None:
    assert "http" not in repr(talk(service, finished))


# -- credits


def test_credits_are_asked_for(service: Any) -> None:
    service.set_credits(123)
    assert talk(service, lambda line: line.api.credits()) == 123


@pytest.mark.parametrize("value", [None, "many", -3, 1.5])
def test_credits_that_are_none_are_an_error_that_quotes_what_came(service: Any, value: Any) -> None:
    service.fault("credits", "patch", values={"current_credits": value}, times=None)
    error = failing(service, lambda line: line.api.credits())
    assert "no usable current_credits" in error.message


def test_a_key_that_is_not_known_is_an_error_of_authentication(service: Any) -> None:
    class Stranger:
        url, key = service.url, "rvya_sk_stranger"

    error = failing(Stranger, lambda line: line.api.credits())
    assert isinstance(error, AuthenticationError)
    assert error.code == "api_key_invalid"
    assert "rvya_sk_stranger" not in str(error)


def test_what_is_sent_is_sent_as_json_with_the_key_of_the_order(service: Any) -> None:
    talk(service, Line.order)
    (request,) = service.requests("create")
    assert request["content_type"] == "application/json"
    assert request["idempotency_key"] == "a" * 64
    assert request["size"] == len(BODY)
    assert AdaptiveLimit(maximum=1).slots == 1
