"""One attempt over real sockets: what is sent, what comes back, what a failure proves."""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
import subprocess
import sys
import time
from email.message import Message
from email.parser import BytesParser
from email.policy import HTTP
from pathlib import Path

import pytest

from hostile.host import Request, always, reply, reset, serving
from network.clients import KEY, PATIENT, QUICK, connections, failure, transport
from rivya.errors import (
    ConfigurationError,
    RivyaConnectionError,
    RivyaTimeoutError,
    Sent,
    UnusableAnswerError,
    ValidationError,
)
from rivya.http.transport import Form, Transport
from rivya.secret import Secret

pytestmark = [pytest.mark.anyio, pytest.mark.heavy]


async def test_a_request_carries_exactly_these_headers() -> None:
    async with serving(always(reply())) as host, transport(host.url) as client:
        await client.exchange(
            "POST", "/api/v1/generations", body=b'{"a":1}', headers={"Idempotency-Key": "k"}
        )
        request = host.requests[0]
        assert request.line == "POST /api/v1/generations HTTP/1.1"
        assert request.body == b'{"a":1}'
        assert re.fullmatch(r"rivya-nodes/\d+\.\d+\.\d+", request.headers["user-agent"])
        assert {k: v for k, v in request.headers.items() if k != "user-agent"} == {
            "host": f"127.0.0.1:{host.port}",
            "accept": "application/json",
            "accept-encoding": "identity",
            "content-type": "application/json",
            "idempotency-key": "k",
            "authorization": f"Bearer {KEY}",
            "content-length": "7",
        }


def parts(request: Request) -> list[Message]:
    """The parts of a multipart request, as the standard library's parser reads them."""
    head = f"Content-Type: {request.headers['content-type']}\r\n\r\n".encode()
    return BytesParser(policy=HTTP).parsebytes(head + request.body).get_payload()


async def test_a_form_arrives_as_it_was_given() -> None:
    data = bytes(range(256)) * 1000
    form = Form(data, "reference.png", "image/png", (("kind", "image"), ("model", "flux-kontext-pro")))
    async with serving(always(reply())) as host, transport(host.url) as client:
        for _ in range(2):
            await client.exchange("POST", "/api/v1/files", form=form)
        for request in host.requests:
            named = {part.get_param("name", header="content-disposition"): part for part in parts(request)}
            assert list(named) == ["kind", "model", "file"]
            assert named["kind"].get_payload(decode=True) == b"image"
            assert named["model"].get_payload(decode=True) == b"flux-kontext-pro"
            assert named["file"].get_filename() == "reference.png"
            assert named["file"].get_content_type() == "image/png"
            start = request.body.index(b"image/png\r\n\r\n") + len(b"image/png\r\n\r\n")
            assert request.body[start : start + len(data)] == data
            assert request.body[start + len(data) :].startswith(b"\r\n--")


async def test_a_file_name_cannot_begin_a_header_or_a_part() -> None:
    form = Form(
        b"x", 'a"\r\nX-Evil: 1\r\n\r\n--b.png', "image/png", (('kind"; filename="x\r\nX-Evil: 1', "image"),)
    )
    async with serving(always(reply())) as host, transport(host.url) as client:
        await client.exchange("POST", "/api/v1/files", form=form)
        body = host.requests[0].body
        assert b'filename="a%22%0D%0AX-Evil: 1%0D%0A%0D%0A--b.png"' in body
        assert b'name="kind%22; filename=%22x%0D%0AX-Evil: 1"' in body
        assert b"\nX-Evil" not in body
        assert len(parts(host.requests[0])) == 2


@pytest.mark.parametrize(
    "form",
    [
        Form(b"x", "a.png", "image/png\r\nX-Evil: 1", ()),
        Form(b"x", "a\ud800.png", "image/png", ()),
        Form(b"x", "a.png", "image/png", (("kind", "\udfff"),)),
    ],
)
async def test_a_form_that_could_be_more_than_it_seems_is_not_sent(form: Form) -> None:
    async with serving(always(reply())) as host, transport(host.url) as client:
        error = await failure(client.exchange("POST", "/api/v1/files", form=form))
        assert isinstance(error, ValidationError)
        assert error.sent is Sent.NO
        assert host.opened == 0


@pytest.mark.parametrize(
    "path",
    [
        "",
        "api",
        "//evil.example/x",
        "/api/../admin",
        "/api/v1/generations/..",
        "/api/./x",
        "/api//x",
        "/api/v1/generations/a?b=c",
        "/api/v1/generations/a#b",
        "/api/v1/generations/%2e%2e",
        "/api/v1/generations/a b",
        "/api/v1/x\r\nX-Evil: 1",
        "/api/v1/x\n",
        "/api/v1/\0",
        "/api\\v1",
        "/@evil.example",
        "/api/v1/ü",
        "/" + "a" * 2000,
        "http://evil.example/",
        "\\\\evil.example\\x",
    ],
)
async def test_a_path_that_could_lead_elsewhere_is_not_sent(path: str) -> None:
    async with serving(always(reply())) as host, transport(host.url) as client:
        assert isinstance(await failure(client.exchange("GET", path)), ValidationError)
        assert host.opened == 0


@pytest.mark.parametrize(
    "name, value",
    [
        ("Idempotency-Key", "a\r\nX-Evil: 1"),
        ("Idempotency-Key", "a\nb"),
        ("Idempotency-Key", "a\0b"),
        ("Idempotency-Key", "ü"),
    ],
)
async def test_a_header_that_could_be_more_than_it_seems_is_not_sent(name: str, value: str) -> None:
    async with serving(always(reply())) as host, transport(host.url) as client:
        assert isinstance(
            await failure(client.exchange("GET", "/api/v1/x", headers={name: value})), ValidationError
        )
        assert host.opened == 0


@pytest.mark.parametrize(
    "status", ["400 Bad", "404 Not Found", "429 Slow", "500 Oops", "503 Later", "201 Created"]
)
async def test_every_status_comes_back_with_its_headers_and_body(status: str) -> None:
    answer = reply(b'{"x":1}', status, "Retry-After: 7", "X-A: 1", "x-a: 2")
    async with serving(always(answer)) as host, transport(host.url) as client:
        got = await client.exchange("GET", "/api/v1/credits")
        assert (got.status, got.body) == (int(status[:3]), b'{"x":1}')
        assert got.headers["retry-after"] == "7"
        assert got.headers["x-a"] == "1, 2"


async def test_a_reply_shows_neither_body_nor_headers_in_its_repr() -> None:
    async with (
        serving(always(reply(b"signed", "200 OK", "X-A: signed"))) as host,
        transport(host.url) as client,
    ):
        assert repr(await client.exchange("GET", "/api/v1/credits")) == "Reply(status=200)"


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308, 304])
async def test_no_redirect_of_the_api_is_followed(status: int) -> None:
    async with serving(always(reply(b"{}"))) as other:
        answer = reply(b"", f"{status} Elsewhere", f"Location: {other.url}/steal")
        async with serving(always(answer)) as host, transport(host.url) as client:
            error = await failure(client.exchange("POST", "/api/v1/generations", body=b"{}"))
            assert isinstance(error, UnusableAnswerError)
            assert (error.status, error.sent) == (status, Sent.MAYBE)
            assert other.opened == 0


async def test_a_refused_connection_proves_that_nothing_was_delivered() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    async with transport(f"http://127.0.0.1:{port}") as client:
        error = await failure(client.exchange("GET", "/api/v1/credits"))
        assert isinstance(error, RivyaConnectionError)
        assert error.sent is Sent.NO
        assert "Connection refused" in error.message


@pytest.mark.parametrize("trouble", [OSError("no such name"), UnicodeError("label too long"), []])
async def test_a_name_that_cannot_be_looked_up_proves_that_nothing_was_delivered(trouble: object) -> None:
    def resolve(host: str, port: int) -> list[str]:
        if isinstance(trouble, Exception):
            raise trouble
        return []

    async with transport("https://api.example", resolver=resolve) as client:
        error = await failure(client.exchange("POST", "/api/v1/generations", body=b"{}"))
        assert isinstance(error, RivyaConnectionError)
        assert error.sent is Sent.NO


async def test_a_lookup_that_hangs_ends_in_time_and_is_left_behind() -> None:
    def resolve(host: str, port: int) -> list[str]:
        time.sleep(3)
        return ["127.0.0.1"]

    async with transport("https://api.example", resolver=resolve) as client:
        began = time.monotonic()
        error = await failure(client.exchange("GET", "/api/v1/credits"))
        assert time.monotonic() - began < 2
        assert isinstance(error, RivyaTimeoutError)
        assert error.sent is Sent.NO


async def test_many_requests_share_one_lookup() -> None:
    asked: list[str] = []

    def resolve(host: str, port: int) -> list[str]:
        asked.append(host)
        time.sleep(0.1)
        return ["127.0.0.1"]

    async with (
        serving(always(reply())) as host,
        transport(f"http://localhost:{host.port}", resolver=resolve) as client,
    ):
        await asyncio.gather(*(client.exchange("GET", "/api/v1/credits") for _ in range(50)))
        assert asked == ["localhost"]


async def test_plain_http_goes_to_this_machine_even_if_localhost_was_given_another_meaning() -> None:
    async with transport("http://localhost:1", resolver=lambda host, port: ["203.0.113.5"]) as client:
        error = await failure(client.exchange("GET", "/api/v1/credits"))
        assert isinstance(error, ConfigurationError)
        assert error.sent is Sent.NO


@pytest.mark.parametrize(
    "url", ["http://rivya.ai", "ftp://127.0.0.1", "http://10.0.0.1", "http://127.0.0.1.evil.example"]
)
def test_a_base_url_in_the_clear_is_refused(url: str) -> None:
    with pytest.raises(ConfigurationError):
        Transport(url, Secret(KEY))


@pytest.mark.parametrize(
    "answer",
    [reset(), reset(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf"), always(b"", close=True)],
    ids=["reset", "reset in the body", "closed"],
)
async def test_a_connection_that_breaks_after_the_request_left_proves_nothing(answer: object) -> None:
    async with serving(answer) as host, transport(host.url) as client:
        error = await failure(client.exchange("POST", "/api/v1/generations", body=b"{}"))
        assert isinstance(error, RivyaConnectionError)
        assert error.sent is Sent.MAYBE


async def test_silence_after_the_request_left_proves_nothing() -> None:
    async def silent(request: Request, writer: asyncio.StreamWriter) -> None:
        await request.gone()

    async with serving(silent) as host, transport(host.url) as client:
        error = await failure(client.exchange("POST", "/api/v1/generations", body=b"{}"))
        assert isinstance(error, RivyaTimeoutError)
        assert error.sent is Sent.MAYBE


async def test_a_kept_connection_that_was_closed_meanwhile_is_not_used_again() -> None:
    async def once(request: Request, writer: asyncio.StreamWriter) -> None:
        writer.write(reply())
        await writer.drain()
        writer.close()

    async with serving(once) as host, transport(host.url) as client:
        for _ in range(3):
            await client.exchange("GET", "/api/v1/credits")
            await asyncio.sleep(0.05)
        assert host.opened == 3


async def test_of_several_kept_connections_one_that_is_still_open_is_used() -> None:
    """The one that was used last is taken first, but not if the other side has closed it."""
    both, writers = asyncio.Event(), {}

    async def together(request: Request, writer: asyncio.StreamWriter) -> None:
        writers[request.connection] = writer
        if len(writers) == 2:
            both.set()
        await both.wait()
        await asyncio.sleep(0.1 * (request.connection - 1))  # the second connection is kept last
        writer.write(reply())

    async with serving(together) as host, transport(host.url) as client:
        await asyncio.gather(*(client.exchange("GET", "/api/v1/credits") for _ in range(2)))
        writers[2].close()
        await asyncio.sleep(0.1)
        await client.exchange("GET", "/api/v1/credits")
        assert [request.connection for request in host.requests][2:] == [1]


async def test_a_kept_connection_that_closes_under_the_request_proves_nothing() -> None:
    """The server closes exactly when the next request arrives: it may have been taken in."""

    async def second_time_unlucky(request: Request, writer: asyncio.StreamWriter) -> None:
        if len(host.requests) == 1:
            writer.write(reply())
        else:
            writer.close()

    async with serving(second_time_unlucky) as host, transport(host.url) as client:
        await client.exchange("GET", "/api/v1/credits")
        error = await failure(client.exchange("POST", "/api/v1/generations", body=b"{}"))
        assert error.sent is Sent.MAYBE
        assert [request.connection for request in host.requests] == [1, 1]


async def test_requests_in_turn_use_one_connection_and_a_burst_as_many_as_it_needs() -> None:
    async def slowly(request: Request, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(0.1)
        writer.write(reply())

    async with serving(slowly) as host, transport(host.url) as client:
        for _ in range(3):
            await client.exchange("GET", "/api/v1/credits")
        assert host.opened == 1
        began = time.monotonic()
        await asyncio.gather(*(client.exchange("GET", "/api/v1/credits") for _ in range(40)))
        assert time.monotonic() - began < 1
        assert host.opened == 40


def picture(size: int) -> Form:
    return Form(bytes(size), "reference.png", "image/png", ())


async def test_an_upload_gets_the_time_that_a_slow_line_needs() -> None:
    """Each piece of the body may take as long as the limit for a write; the whole may take many times that."""

    async def slow_reader(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        left = 8 * 1024 * 1024
        while left > 0:
            left -= len(await reader.read(1024 * 1024))
            await asyncio.sleep(0.1)
        writer.write(reply())
        writer.close()  # Python 3.12's server waits for that when it ends

    server = await asyncio.start_server(slow_reader, "127.0.0.1", 0, limit=2**17)
    port = server.sockets[0].getsockname()[1]
    async with server, transport(f"http://127.0.0.1:{port}") as client:
        began = time.monotonic()
        got = await client.exchange("POST", "/api/v1/files", form=picture(8 * 1024 * 1024))
        assert got.status == 200
        assert time.monotonic() - began > 2 * QUICK.write_s


async def test_an_answer_that_comes_before_the_upload_is_read_counts() -> None:
    """A server may say 413 and stop reading; what it said is worth more than the broken pipe."""

    async def hasty(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(reply(b"{}", "413 Too Large", "Connection: close"))
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(hasty, "127.0.0.1", 0)
    async with server, transport(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}") as client:
        try:
            assert (await client.exchange("POST", "/api/v1/files", form=picture(200_000))).status == 413
        except RivyaConnectionError as error:
            assert error.sent is Sent.MAYBE


@pytest.mark.parametrize("state", ["looking up", "connecting", "waiting", "reading"])
async def test_cancelling_answers_at_once_and_leaves_no_connection_behind(state: str) -> None:
    async def answer(request: Request, writer: asyncio.StreamWriter) -> None:
        if state == "reading":
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")
        await request.gone()
        writer.close()

    def resolve(host: str, port: int) -> list[str]:
        if state == "looking up":
            time.sleep(1)
        return ["127.0.0.1"]

    async with serving(answer) as host, contextlib.AsyncExitStack() as stack:
        port = host.port
        if state == "connecting":
            full = stack.enter_context(socket.socket())
            full.bind(("127.0.0.1", 0))
            full.listen(0)
            port = full.getsockname()[1]
            for _ in range(3):  # Fills the backlog, so that the next one hangs.
                other = stack.enter_context(socket.socket())
                other.setblocking(False)
                other.connect_ex(("127.0.0.1", port))
        client = await stack.enter_async_context(
            transport(f"http://localhost:{port}", resolver=resolve, timeouts=PATIENT)
        )
        task = asyncio.create_task(client.exchange("POST", "/api/v1/generations", body=b"{}"))
        await asyncio.sleep(0.3)
        assert not task.done()
        began = time.monotonic()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert time.monotonic() - began < 0.2
        assert connections(client) == (0, 0)
        await asyncio.sleep(0.05)
        assert host.open == 0


async def test_cancelling_in_the_middle_of_an_upload_answers_at_once_and_closes_the_connection() -> None:
    begun, cancelled, closed = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def lazy_reader(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        begun.set()
        await cancelled.wait()
        await reader.read()
        closed.set()
        writer.close()

    server = await asyncio.start_server(lazy_reader, "127.0.0.1", 0)
    async with (
        server,
        transport(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", timeouts=PATIENT) as client,
    ):
        task = asyncio.create_task(client.exchange("POST", "/api/v1/files", form=picture(50_000_000)))
        await asyncio.wait_for(begun.wait(), 10)
        began = time.monotonic()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert time.monotonic() - began < 0.2
        assert connections(client) == (0, 0)
        cancelled.set()
        await asyncio.wait_for(closed.wait(), 2)


async def test_cancelling_at_any_instant_leaves_no_connection_behind() -> None:
    """Hundreds of requests, cancelled after every possible number of turns of the event loop."""

    async def answer(request: Request, writer: asyncio.StreamWriter) -> None:
        writer.write(reply())

    async with serving(answer) as host, transport(host.url) as client:
        await client.exchange("GET", "/api/v1/credits")
        for turns in range(60):
            tasks = [asyncio.create_task(client.exchange("GET", "/api/v1/credits")) for _ in range(5)]
            for _ in range(turns):
                await asyncio.sleep(0)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            total, idle = connections(client)
            assert total == idle
        await client.aclose()
        await asyncio.sleep(0.05)
        assert host.open == 0


async def test_five_hundred_cancelled_at_once_are_gone_within_a_second() -> None:
    async def silent(request: Request, writer: asyncio.StreamWriter) -> None:
        if len(host.requests) == 500:
            all_sent.set()
        await request.gone()

    all_sent = asyncio.Event()
    async with serving(silent) as host, transport(host.url, timeouts=PATIENT) as client:
        tasks = [asyncio.create_task(client.exchange("GET", "/api/v1/credits")) for _ in range(500)]
        await asyncio.wait_for(all_sent.wait(), 10)
        began, worked = time.monotonic(), time.thread_time()
        for task in tasks:
            task.cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        took, worked = time.monotonic() - began, time.thread_time() - worked
        assert worked < 1
        assert took < max(1, 4 * worked)  # on a busy machine this thread has to wait for its turn
        assert {type(result) for result in results} == {asyncio.CancelledError}
        assert connections(client) == (0, 0)


async def test_a_cancelled_caller_does_not_disturb_the_others() -> None:
    async def slowly(request: Request, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(0.2)
        writer.write(reply())

    async with serving(slowly) as host, transport(f"http://localhost:{host.port}") as client:
        tasks = [asyncio.create_task(client.exchange("GET", "/api/v1/credits")) for _ in range(6)]
        await asyncio.sleep(0.05)
        for task in tasks[::2]:
            task.cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert [getattr(result, "status", None) for result in results] == [None, 200] * 3


def test_a_lookup_that_hangs_does_not_hold_up_the_end_of_the_process() -> None:
    """In a daemon thread, as the engine runs its loop: the threads that it starts are daemons, too."""
    program = """
import asyncio, threading, time
from rivya.http.transport import Transport
from rivya.secret import Secret

begun = threading.Event()

def hanging(host, port):
    begun.set()
    time.sleep(60)
    return ["127.0.0.1"]

def run():
    asyncio.run(Transport("https://api.example", Secret("key"), resolver=hanging).exchange("GET", "/x"))

threading.Thread(target=run, daemon=True).start()
assert begun.wait(20)
"""
    root = Path(__file__).resolve().parents[2]
    subprocess.run([sys.executable, "-c", program], cwd=root, check=True, timeout=40)
