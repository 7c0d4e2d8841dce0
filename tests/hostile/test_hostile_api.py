"""Attacks by the service, broken or taken over. Each ends with an error that has a name; none is believed."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from hostile.host import Answer, Request, always, endless, reply, reset, serving
from hostile.limits import within
from network.clients import KEY, everything_about, failure, transport
from rivya.api.endpoints import Api
from rivya.api.policy import AdaptiveLimit, RetryPolicy
from rivya.api.retry import RetryingClient
from rivya.errors import RivyaError, Sent, UnusableAnswerError
from support.bombs import bomb
from support.cases import slow_but

pytestmark = pytest.mark.anyio

OK = b"HTTP/1.1 200 OK\r\n"
GOOD: dict[str, Any] = {
    "id": "task_1",
    "status": "queued",
    "model": "flux-kontext-pro",
    "reserved_credits": 4,
    "final_credits": 0,
    "created_at": "2026-05-11T00:00:00.000Z",
    "updated_at": "2026-05-11T00:00:00.000Z",
    "result": None,
    "error": None,
}


def as_json(**changes: Any) -> Answer:
    return always(reply(json.dumps({**GOOD, **changes}).encode()))


def raw(body: bytes, *headers: str) -> Answer:
    return always(reply(body, "200 OK", *headers))


def result(*urls: Any) -> dict[str, Any]:
    return {"status": "succeeded", "result": {"primary_url": urls[0], "urls": list(urls)}}


@contextlib.asynccontextmanager
async def api(base_url: str) -> AsyncIterator[Api]:
    async with transport(base_url) as client:
        yield Api(RetryingClient(client, RetryPolicy(base_s=0.01, budget_s=0.3), AdaptiveLimit(maximum=8)))


BOMB = bomb(50)
ANSWERS: dict[str, Answer] = {
    "a gzip bomb": raw(BOMB, "Content-Encoding: gzip"),
    "brotli": raw(b"\x8b\x02\x80{}\x03", "Content-Encoding: br"),
    "more than a megabyte": raw(b'{"id":"' + b"x" * 2_000_000 + b'"}'),
    "no end": endless(OK + b"\r\n", b" " * 65536),
    "a drip": endless(OK + b"Content-Length: 100000\r\n\r\n", b" ", 0.05),
    "headers without end": endless(OK, b"X-A: b\r\n" * 1000),
    "'continue' without end": endless(b"", b"HTTP/1.1 100 Continue\r\nX-A: " + b"x" * 1000 + b"\r\n\r\n"),
    "crumbs": endless(OK + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\n \r\n" * 20000),
    "a lying length": always(OK + b"Content-Length: 1000\r\n\r\n{}", close=True),
    "a reset": reset(),
    "no HTTP": always(b"\x16\x03\x01\x02\0\x01\0", close=True),
    "another protocol": always(b"HTTP/1.1 101 Switching\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n"),
    "a page": raw(b"<html><script>alert(1)</script></html>"),
    "nothing": raw(b""),
    "a list": raw(b"[]"),
    "NaN": raw(b'{"id":"task_1","status":"queued","reserved_credits":NaN}'),
    "deep": raw(b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}"),
    "a key twice": raw(b'{"id":"task_1","status":"queued","id":"task_2"}'),
    "a huge number": raw(b'{"id":"task_1","status":"queued","reserved_credits":' + b"9" * 5000 + b"}"),
    "utf-16": raw(json.dumps(GOOD).encode("utf-16")),
    "no id": as_json(id=None),
    "no status": as_json(status=None),
    "an id with path parts": as_json(id="../credits"),
    "an id with an escape": as_json(id="task%2F..%2Fcredits"),
    "an id with line ends": as_json(id="task_1\r\nX-Evil: 1"),
    "an id with NUL": as_json(id="task_1\0"),
    "an id with bidi": as_json(id="task_\u202e1"),
    "an id with half a character": as_json(id="task_\ud800"),
    "an id that is endless": as_json(id="x" * 100_000),
    "an id that is a number": as_json(id=5),
    "an id that is an object": as_json(id={"a": 1}),
    "a status that is an object": as_json(status={"a": 1}),
    "a result at a file": as_json(**result("file:///etc/passwd")),
    "a result in data": as_json(**result("data:image/png;base64,AAAA")),
    "a result in javascript": as_json(**result("javascript:alert(1)")),
    "a result with a password": as_json(**result("https://user:pass@media.example/a")),
    "a result with line ends": as_json(**result("https://media.example/a\r\nX-Evil: 1")),
    "a result with a backslash": as_json(**result("https://media.example\\@evil.example/")),
    "a result that is endless": as_json(**result("https://media.example/" + "x" * 20_000)),
    "a second result at a file": as_json(**result("https://media.example/a", "file:///etc/passwd")),
}
ODD_BUT_USABLE: dict[str, dict[str, Any]] = {
    "results that are numbers": result(1, 2),
    "results that are an object": {"status": "succeeded", "result": {"primary_url": {}, "urls": {}}},
    "a result that is a text": {"status": "succeeded", "result": "https://media.example/a"},
    "a thousand results": result(*[f"https://media.example/{n}" for n in range(1000)]),
    "credits below nothing": {"reserved_credits": -4, "final_credits": -4},
    "credits beyond all": {"reserved_credits": 10**30, "final_credits": 1e300},
    "credits in words": {"reserved_credits": "four", "final_credits": [4]},
    "an error that is a text": {"status": "failed", "error": "boom"},
    "an error of escapes": {"status": "failed", "error": {"code": "\x1b[31mx", "message": "\x1b[2J<b>\u202ex\ud83d"}},
    "an error of megabytes": {"status": "failed", "error": {"code": "x" * 300_000, "message": "y" * 300_000}},
    "an error of objects": {"status": "failed", "error": {"code": {"a": 1}, "message": ["x"]}},
    "times of nonsense": {"created_at": "yesterday", "updated_at": 10**18},
    "times beyond the calendar": {"created_at": "0001-01-01T00:00:00Z", "updated_at": "9999-12-31T23:59:59+14:00"},
    "a status nobody knows": {"status": "\x1b[31mdreaming<b>"},
    "fields nobody knows": {"x": {"y": [1, 2, {"z": None}]}, "": "", "__proto__": {"a": 1}},
}  # fmt: skip


OFTEN = ("a gzip bomb", "no end", "a drip", "headers without end", "a lying length", "a reset", "a page", "a list",
         "NaN", "deep", "a key twice", "no id", "an id with line ends", "a result at a file",
         "a second result at a file")  # fmt: skip


@pytest.mark.parametrize("name", slow_but(ANSWERS, *OFTEN))
async def test_an_answer_that_is_not_usable_ends_with_an_error_that_says_it_may_have_been_done(
    name: str,
) -> None:
    async with serving(ANSWERS[name]) as host, api(host.url) as client:
        with within(6, 12):
            error = await failure(client.create_generation(b"{}", "key"))
        assert error.sent is Sent.MAYBE
        assert_fit_to_be_shown(error)
        assert len(host.requests) >= 1
        assert {request.line for request in host.requests} == {"POST /api/v1/generations HTTP/1.1"}


@pytest.mark.parametrize(
    "name", slow_but(ODD_BUT_USABLE, "a thousand results", "credits beyond all", "an error of escapes")
)
async def test_odd_values_where_none_is_needed_do_no_harm(name: str) -> None:
    async with serving(as_json(**ODD_BUT_USABLE[name])) as host, api(host.url) as client:
        with within(3, 12):
            task = await client.create_generation(b"{}", "key")
        shown = f"{task!r} {task.status} {task.error_code} {task.error_message}"
        assert shown.isprintable()
        assert "<" not in task.error_message + task.status
        assert len(shown) < 1000
        assert len(task.urls) <= 16
        for count in (task.reserved_credits, task.final_credits):
            assert count is None or 0 <= count < 2**53


def assert_fit_to_be_shown(error: RivyaError) -> None:
    assert error.message.isprintable()
    assert len(error.message) < 600
    assert "<" not in error.message
    assert "\x1b" not in str(error.as_dict())
    assert KEY not in everything_about(error)


TEXTS = {
    "escapes": "\x1b[2J\x1b]0;evil\x07gone",
    "bidi": "abc\u202edcb",
    "html": "<img src=x onerror=alert(1)>",
    "line ends": "a\r\nERROR: everything is lost",
    "megabytes": "x" * 900_000,
    "half a character": "x\ud83d",
    "the key": f"key {KEY} is bad",
    "a signed url": "see https://media.example/a.png?signature=abcdef",
}


@pytest.mark.parametrize("status", slow_but([400, 401, 402, 403, 404, 409, 418, 500], 400))
@pytest.mark.parametrize("name", TEXTS)
async def test_a_text_of_an_error_is_clean_before_anybody_sees_it(name: str, status: int) -> None:
    body = {"error": {"code": TEXTS[name], "message": TEXTS[name], "requestId": TEXTS[name]}}
    answer = always(reply(json.dumps(body).encode(), f"{status} No", "X-Request-Id: \x1b[31mreq"))
    async with serving(answer) as host, api(host.url) as client:
        with within(6, 20):
            error = await failure(client.credits())
        assert error.status == status
        assert_fit_to_be_shown(error)
        assert "abcdef" not in str(error)
        for text in (error.code, error.request_id or ""):
            assert text.isprintable()
            assert len(text) <= 128


@pytest.mark.parametrize("status", ["401 No", "429 Slow", "503 Later"])
async def test_a_refusal_counts_even_if_its_text_is_a_bomb_or_never_ends(status: str) -> None:
    head = f"HTTP/1.1 {status}\r\n".encode()
    for answer in (
        always(reply(BOMB, status, "Content-Encoding: gzip")),
        endless(head + b"\r\n", b"x" * 65536),
        always(head + b"Content-Length: 1000\r\n\r\n{}", close=True),
        always(reply(b"\xff\xfe<html>", status, "Content-Encoding: br")),
    ):
        async with serving(answer) as host, api(host.url) as client:
            with within(6, 12):
                error = await failure(client.credits())
            assert error.status == int(status[:3])
            assert not isinstance(error, UnusableAnswerError)


@pytest.mark.parametrize(
    "place", ["", "/api/v1/generations", "https://evil.example/", "//evil.example/", "?x"]
)
async def test_the_key_follows_no_redirect(place: str) -> None:
    async with serving(always(reply(b"stolen"))) as thief:
        location = place or f"{thief.url}/steal"
        answer = always(reply(b"", "307 There", f"Location: {location}", "Set-Cookie: a=b"))
        async with serving(answer) as host, api(host.url) as client:
            with pytest.raises(UnusableAnswerError) as caught:
                await client.create_generation(b"{}", "key")
            assert caught.value.status == 307
            assert thief.opened == 0
            assert not [request for request in host.requests if "cookie" in request.headers]


async def test_an_answer_for_another_task_is_not_taken() -> None:
    async with serving(as_json(id="task_2")) as host, api(host.url) as client:
        with pytest.raises(UnusableAnswerError, match="answered with task task_2"):
            await client.retrieve_generation("task_1")


@pytest.mark.parametrize("task_id", ["../credits", "a/b", "a?b", "a%2fb", "", "a\r\nb", "a\0"])
async def test_a_task_id_of_another_form_is_never_asked_for(task_id: str) -> None:
    async with serving(always(reply())) as host, api(host.url) as client:
        for ask in (client.retrieve_generation, client.retrieve_file):
            with pytest.raises(RivyaError):
                await ask(task_id)
        assert host.opened == 0


UPLOADS: dict[str, dict[str, Any]] = {
    "no url": {"id": "file_1"},
    "a url that is a number": {"id": "file_1", "url": 5},
    "a url at a file": {"id": "file_1", "url": "file:///etc/passwd"},
    "a url with line ends": {"id": "file_1", "url": "https://a.example/\r\nX: 1"},
    "an id with path parts": {"id": "../x", "url": "https://a.example/"},
    "an id that is an object": {"id": {"a": 1}, "url": "https://a.example/"},
}


@pytest.mark.parametrize("name", UPLOADS)
async def test_an_upload_whose_answer_is_not_of_its_form_is_not_used(name: str) -> None:
    async with serving(always(reply(json.dumps(UPLOADS[name]).encode()))) as host, api(host.url) as client:
        with pytest.raises(UnusableAnswerError):
            await client.upload_file(b"x", name="a.png", mime="image/png", model="flux-kontext-pro")


async def test_the_caller_holds_back_no_longer_than_the_service_may_ask() -> None:
    """A Retry-After of a century must not stop the pack for a century."""
    calls = 0

    async def answer(request: Request, writer: asyncio.StreamWriter) -> None:
        nonlocal calls
        calls += 1
        writer.write(reply(b"{}", "429 Slow", "Retry-After: 3155760000"))

    async with serving(answer) as host, transport(host.url) as client:
        concurrency = AdaptiveLimit(maximum=8)
        with pytest.raises(RivyaError):
            await Api(RetryingClient(client, RetryPolicy(budget_s=0.3), concurrency)).credits()
        assert concurrency.hold_s(asyncio.get_running_loop().time()) <= 150
