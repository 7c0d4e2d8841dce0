"""Attacks by the host of a result. Each ends with an error that has a name, within its time and its memory."""

from __future__ import annotations

import asyncio
import gzip
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from hostile.host import Answer, Request, always, endless, reply, reset, serving
from hostile.limits import within
from network.clients import QUICK, failure, transport
from rivya.errors import (
    NotFoundError,
    RivyaConnectionError,
    RivyaError,
    RivyaTimeoutError,
    ServiceUnavailableError,
    UnusableAnswerError,
)
from support.bombs import ZLIB, bomb
from support.cases import slow_but

pytestmark = pytest.mark.anyio

CAP = 2_000_000
OK = b"HTTP/1.1 200 OK\r\n"
CHUNKS = OK + b"Transfer-Encoding: chunked\r\n\r\n"
BOMB = bomb(100)


def sized(body: bytes, length: object) -> bytes:
    return OK + f"Content-Length: {length}\r\n\r\n".encode() + body


def chunked(raw: bytes) -> Answer:
    return always(OK + b"Transfer-Encoding: chunked\r\n\r\n" + raw, close=True)


async def slow_head(request: Request, writer: asyncio.StreamWriter) -> None:
    for byte in OK * 1000:
        writer.write(bytes([byte]))
        await writer.drain()
        await asyncio.sleep(0.1)


async def silence(request: Request, writer: asyncio.StreamWriter) -> None:
    await request.gone()


async def half_then_silence(request: Request, writer: asyncio.StreamWriter) -> None:
    writer.write(sized(b"half", 100))
    await request.gone()


BROKEN = (RivyaConnectionError, None)
SLOW = (RivyaTimeoutError, None)
LARGE = (UnusableAnswerError, "answer_too_large")
CODED = (UnusableAnswerError, "unusable_encoding")
CRUMBS = (UnusableAnswerError, "answer_in_crumbs")
EMPTY = (UnusableAnswerError, "empty_result")

BODIES: dict[str, tuple[Answer, tuple[type[RivyaError], str | None]]] = {
    "gzip bomb": (always(reply(BOMB, "200 OK", "Content-Encoding: gzip")), LARGE),
    "gzip bomb in chunks": (endless(OK + b"Content-Encoding: gzip\r\n\r\n" + BOMB, b"x"), LARGE),
    "deflate bomb": (always(reply(bomb(100, ZLIB), "200 OK", "Content-Encoding: deflate")), LARGE),
    "gzip in gzip": (always(reply(gzip.compress(BOMB), "200 OK", "Content-Encoding: gzip, gzip")), CODED),
    "two encodings in two headers": (
        always(reply(BOMB, "200 OK", "Content-Encoding: gzip", "Content-Encoding: gzip")), CODED),
    "brotli": (always(reply(b"\xa1\xff\xff", "200 OK", "Content-Encoding: br")), CODED),
    "zstd": (always(reply(b"\x28\xb5\x2f\xfd", "200 OK", "Content-Encoding: zstd")), CODED),
    "an encoding nobody knows": (always(reply(b"x", "200 OK", "Content-Encoding: x-\xff")), CODED),
    "gzip that is none": (always(reply(b"no gzip", "200 OK", "Content-Encoding: gzip")), CODED),
    "gzip cut off": (always(reply(BOMB[:50], "200 OK", "Content-Encoding: gzip")), CODED),
    "gzip of nothing": (always(reply(gzip.compress(b""), "200 OK", "Content-Encoding: gzip")), EMPTY),
    "damaged gzip": (always(reply(BOMB[:50] + b"x" * 200, "200 OK", "Content-Encoding: gzip")), CODED),
    "more than the cap": (always(reply(bytes(CAP + 1))), LARGE),
    "a length beyond the cap": (endless(sized(b"", 10**9), b"x" * 65536), LARGE),
    "a length beyond all numbers": (always(sized(b"x", 10**19)), LARGE),
    "a length of a hundred digits": (always(sized(b"x", "9" * 100)), BROKEN),
    "a negative length": (always(sized(b"x", -1)), BROKEN),
    "a length in words": (always(sized(b"x", "ten")), BROKEN),
    "a length with a sign": (always(sized(b"x", "+1")), BROKEN),
    "two lengths": (always(OK + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\nxx"), BROKEN),
    "less than the length": (always(sized(b"x", 10), close=True), BROKEN),
    "no end": (endless(OK + b"\r\n", b"x" * 65536), LARGE),
    "no end, in chunks": (endless(CHUNKS, b"1000\r\n" + b"x" * 4096 + b"\r\n"), LARGE),
    "chunks of one byte without end": (endless(CHUNKS, b"1\r\nx\r\n" * 20000), CRUMBS),
    "a chunk size that is none": (chunked(b"xyz\r\nabc\r\n0\r\n\r\n"), BROKEN),
    "a chunk size beyond all": (chunked(b"f" * 30 + b"\r\nabc"), BROKEN),
    "a huge chunk size": (chunked(b"ffffffffff\r\nabc"), BROKEN),
    "a negative chunk size": (chunked(b"-1\r\nabc\r\n"), BROKEN),
    "chunks cut off": (chunked(b"3\r\nabc\r\n"), BROKEN),
    "a chunk extension without end": (endless(OK + b"Transfer-Encoding: chunked\r\n\r\n1;", b"x" * 65536), BROKEN),
    "trailers without end": (
        endless(OK + b"Transfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n", b"X-T: y\r\n" * 1000), BROKEN),
    "an unknown transfer encoding": (always(OK + b"Transfer-Encoding: gzip\r\n\r\nabc", close=True), BROKEN),
    "nothing": (always(reply(b"")), EMPTY),
    "nothing and no length": (always(OK + b"\r\n", close=True), EMPTY),
    "a drip": (endless(sized(b"", 10**6), b"x", 0.05), SLOW),
    "a drip without a length": (endless(OK + b"\r\n", b"x", 0.05), SLOW),
    "a drip in chunks": (endless(OK + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n", 0.05), SLOW),
    "a drip of gzip": (endless(OK + b"Content-Encoding: gzip\r\n\r\n" + BOMB[:10], b"\0", 0.05), (RivyaError, None)),
    "silence": (silence, SLOW),
    "half, then silence": (half_then_silence, SLOW),
    "half, then a reset": (reset(sized(b"half", 100)), BROKEN),
    "a reset": (reset(), BROKEN),
}  # fmt: skip

HEADS: dict[str, tuple[Answer, tuple[type[RivyaError], str | None]]] = {
    "a head that drips": (slow_head, SLOW),
    "headers without end": (endless(OK, b"X-A: b\r\n" * 1000), BROKEN),
    "one header without end": (endless(OK + b"X-A: ", b"x" * 65536), BROKEN),
    "a status line without end": (endless(b"HTTP/1.1 200 ", b"O" * 65536), BROKEN),
    "empty lines without end": (endless(b"", b"\r\n" * 1000), BROKEN),
    "'continue' without end": (endless(b"", b"HTTP/1.1 100 Continue\r\nX-A: " + b"x" * 1000 + b"\r\n\r\n"), BROKEN),
    "a drip of 'continue'": (endless(b"", b"HTTP/1.1 100 Continue\r\n\r\n", 0.05), SLOW),
    "early hints without end": (endless(b"", b"HTTP/1.1 103 Early\r\nLink: <" + b"x" * 1000 + b">\r\n\r\n"), BROKEN),
    "another protocol": (always(b"HTTP/1.1 101 Switching\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n"), BROKEN),
    "ssh": (always(b"SSH-2.0-OpenSSH_9.9\r\n", close=True), BROKEN),
    "smtp": (always(b"220 mail.example ESMTP\r\n", close=True), BROKEN),
    "redis": (always(b"-ERR unknown command\r\n", close=True), BROKEN),
    "HTTP/0.9": (always(b"<html>hello</html>", close=True), BROKEN),
    "HTTP/2": (always(b"\0\0\x12\x04\0\0\0\0\0", close=True), BROKEN),
    "a TLS alert": (always(b"\x15\x03\x03\0\x02\x02\x28", close=True), BROKEN),
    "noise": (always(bytes(range(256)) * 10, close=True), BROKEN),
    "a status of four digits": (always(b"HTTP/1.1 2000 OK\r\n\r\nx", close=True), BROKEN),
    "a status that is no number": (always(b"HTTP/1.1 abc OK\r\n\r\nx", close=True), BROKEN),
    "status 0": (always(b"HTTP/1.1 000 OK\r\n\r\nx", close=True), (RivyaError, None)),
    "status 999": (always(reply(b"x", "999 Odd")), (ServiceUnavailableError, "result_unavailable")),
    "a version that is none": (always(b"HTTP/x 200 OK\r\n\r\nx", close=True), BROKEN),
    "a header without a colon": (always(OK + b"broken\r\n\r\nx", close=True), BROKEN),
    "a header with NUL": (always(OK + b"X-A: a\0b\r\n\r\nx", close=True), BROKEN),
    "a header name with a space": (always(OK + b"X A: b\r\n\r\nx", close=True), BROKEN),
    "nothing at all": (always(b"", close=True), BROKEN),
}  # fmt: skip

STATUSES = {
    204: UnusableAnswerError, 206: UnusableAnswerError, 304: UnusableAnswerError, 400: UnusableAnswerError,
    401: NotFoundError, 403: NotFoundError, 404: NotFoundError, 410: NotFoundError, 402: UnusableAnswerError,
    408: ServiceUnavailableError, 418: UnusableAnswerError, 429: ServiceUnavailableError,
    451: UnusableAnswerError, 500: ServiceUnavailableError, 503: ServiceUnavailableError,
}  # fmt: skip


async def attack(
    answer: Answer, expected: tuple[type[RivyaError], str | None], *, seconds: float = 3.0
) -> RivyaError:
    # Crumbs are counted, and a busy machine takes thousands of them apart slowly: that must not look like a slow host.
    longer = 5 if expected is CRUMBS else 1
    times = replace(QUICK, window_s=QUICK.window_s * longer)
    async with serving(answer) as host, transport(host.url, timeouts=times) as client:
        with within(seconds * longer, CAP / 1e6 + 8):
            error = await failure(
                client.download(f"{host.url}/r.png?sig=secret", max_bytes=CAP, time_cap_s=2.0 * longer)
            )
        assert isinstance(error, expected[0]), repr(error)
        assert expected[1] in (None, error.code)
        assert error.charged is None
        assert "secret" not in str(error)
        assert error.message.isprintable()
        # And the client is as good as before.
        other = always(reply(b"picture"))
        async with serving(other) as honest:
            assert await client.download(f"{honest.url}/r.png") == b"picture"
        return error


OFTEN = ("gzip bomb", "deflate bomb", "gzip in gzip", "brotli", "damaged gzip", "more than the cap", "two lengths",
         "a negative length", "less than the length", "no end", "chunks of one byte without end", "a huge chunk size",
         "trailers without end", "nothing", "a drip in chunks", "half, then silence", "half, then a reset")  # fmt: skip


@pytest.mark.parametrize("name", slow_but(BODIES, *OFTEN))
async def test_a_body_made_to_hurt_is_refused(name: str) -> None:
    await attack(*BODIES[name])


@pytest.mark.parametrize(
    "name",
    slow_but(
        HEADS,
        "a head that drips",
        "headers without end",
        "a drip of 'continue'",
        "ssh",
        "noise",
        "status 999",
    ),
)
async def test_a_head_made_to_hurt_is_refused(name: str) -> None:
    await attack(*HEADS[name])


@pytest.mark.parametrize("status", slow_but(STATUSES, 206, 401, 404, 429, 500))
async def test_a_status_that_is_not_200_has_an_error_of_its_own(status: int) -> None:
    error = await attack(
        always(reply(b"<html>", f"{status} Word", "Retry-After: 3")), (STATUSES[status], None)
    )
    assert error.status == status
    if status in (401, 403, 404, 410):
        assert error.code == "result_gone"
    if status in (429, 503):
        assert error.retry_after_s == 3.0


async def test_the_largest_allowed_result_passes_with_little_more_memory_than_itself() -> None:
    picture = bytes(64 * 1024 * 1024)

    async def answer(request: Request, writer: asyncio.StreamWriter) -> None:
        writer.write(OK + b"\r\n")
        for start in range(0, len(picture), 2**20):
            writer.write(memoryview(picture)[start : start + 2**20])
            await writer.drain()
        writer.close()

    async with serving(answer) as host, transport(host.url) as client:
        with within(20, 64 * 1.05 * 1.125 + 10):
            assert len(await client.download(host.url)) == len(picture)


async def test_the_event_loop_stays_free_while_a_bomb_is_taken_apart() -> None:
    longest = 0.0

    async def heartbeat() -> None:
        nonlocal longest
        while True:
            # Of this thread's own processor time: what other programs take is not the loop's.
            began = time.thread_time()
            await asyncio.sleep(0.005)
            longest = max(longest, time.thread_time() - began)

    async with (
        serving(always(reply(BOMB, "200 OK", "Content-Encoding: gzip"))) as host,
        transport(host.url) as client,
    ):
        beat = asyncio.create_task(heartbeat())
        error = await failure(client.download(host.url, max_bytes=50_000_000))
        beat.cancel()
        assert error.code == "answer_too_large"
        assert longest < 0.1


FORBIDDEN_PLACES = """
http://169.254.169.254/latest/meta-data/ http://[fe80::1]/ http://[fe80::1%25eth0]/ http://0.0.0.0/ http://[::]/
http://224.0.0.1/ http://255.255.255.255/ http://240.0.0.1/ http://100.64.0.1/ http://192.0.2.1/ http://[ff02::1]/
http://[::ffff:169.254.169.254]/ http://[::169.254.169.254]/ http://[64:ff9b::a9fe:a9fe]/ http://[2002:a9fe:a9fe::]/
http://[2001::1]/ http://[2600::5efe:a9fe:a9fe]/ http://2852039166/ http://0xa9fea9fe/ http://0251.0376.0251.0376/
http://169.254.43518/ http://169.16689662/ http://0xa9.0xfe.0xa9.0xfe/ http://169.254.169.254./ http://①⑥⑨.254.169.254/
file:///etc/passwd ftp://ftp.example/x gopher://x.example/ data:image/png;base64,AAAA javascript:alert(1)
http:///x http://?x http://user:pass@x.example/ http://x.example:0/ http://x.example:66000/ http://x.example:port/
http://[::1 http://[v1.x]/ http://a%00b.example/ http://a\\b.example/
"""
PLACES = [*FORBIDDEN_PLACES.split(), "http://a b.example/", "http://a.example/" + "x" * 9000]


@pytest.mark.parametrize("place", slow_but(PLACES, *PLACES[::3]))
async def test_a_redirect_to_a_forbidden_place_is_not_followed(place: str) -> None:
    """The base URL is on this machine here, so that what stays forbidden even then is what is tried."""
    location = f"Location: {place}".encode().decode("latin-1")
    error = await attack(always(reply(b"", "302 Found", location)), (UnusableAnswerError, None))
    assert not isinstance(error, RivyaConnectionError)


PRIVATE_PLACES = """
https://127.0.0.1/ https://127.0.0.2/ https://[::1]/ https://localhost/ https://x.localhost/ https://10.0.0.1/
https://172.16.0.1/ https://192.168.0.1/ https://[fd00::1]/ https://[::ffff:10.0.0.1]/ https://127.1/ https://2130706433/
https://0x7f000001/ https://0177.0.0.1/ https://printer.local/ https://intranet/ https://metadata.google.internal/
https://private.example/ https://mixed.example/ https://mapped.example/ https://zero.example/ https://zone.example/
https://nonsense.example/ http://results.example/ http://127.0.0.1/
"""
NAMES = {
    "private.example": ["10.1.2.3"],
    "mixed.example": ["fd00::7", "192.168.1.1"],
    "mapped.example": ["::ffff:127.0.0.2"],
    "zero.example": ["0.0.0.0"],
    "zone.example": ["fe80::1%eth0"],
    "nonsense.example": ["not an address"],
}


def resolver(asked: list[str] | None = None) -> Callable[[str, int], list[str]]:
    def resolve(host: str, port: int) -> list[str]:
        if asked is not None:
            asked.append(host)
        return NAMES.get(host, ["127.0.0.1"])

    return resolve


def abroad(**options: Any) -> Any:
    """A transport for a service that is not on this machine; 127.0.0.1 plays the part of a public address."""
    return transport(
        "https://api.example", **{"allowed_networks": ["127.0.0.1/32"], "resolver": resolver(), **options}
    )


@pytest.mark.parametrize("status", slow_but([301, 302, 303, 307, 308], 302))
@pytest.mark.parametrize("place", slow_but(PRIVATE_PLACES.split()[1:], *PRIVATE_PLACES.split()[1::3]))
async def test_a_redirect_into_this_machine_or_its_network_is_not_followed(place: str, status: int) -> None:
    answer = always(reply(b"", f"{status} There", f"Location: {place}"))
    async with serving(answer, certificate="server.pem") as host, abroad() as client:
        with within(3, 8):
            error = await failure(client.download(f"https://results.example:{host.port}/a?sig=secret"))
        assert isinstance(error, UnusableAnswerError)
        assert error.code in ("forbidden_address", "unusable_answer")
        assert len(host.requests) == 1


@pytest.mark.parametrize("place", PRIVATE_PLACES.split())
async def test_a_result_url_into_this_machine_or_its_network_is_not_asked(place: str) -> None:
    async with transport("https://api.example", resolver=resolver(), allowed_networks=[]) as client:
        error = await failure(client.download(place))
        assert isinstance(error, UnusableAnswerError)
        assert error.code in ("forbidden_address", "unusable_answer")


async def test_the_connection_goes_to_the_address_that_was_checked() -> None:
    """The second answer of DNS would lead to this machine; nobody asks for it."""
    asked: list[str] = []

    def rebinding(host: str, port: int) -> list[str]:
        asked.append(host)
        return ["127.0.0.1"] if len(asked) == 1 else ["127.0.0.2"]

    async with (
        serving(always(reply(b"good")), certificate="server.pem") as good,
        serving(
            always(reply(b"evil")), address="127.0.0.2", port=good.port, certificate="server.pem"
        ) as evil,
    ):
        async with abroad(resolver=rebinding) as client:
            url = f"https://results.example:{good.port}/a"
            assert await client.download(url) == b"good"
            assert await client.download(url) == b"good"  # the connection that was kept
        assert asked == ["results.example"]
        async with abroad(resolver=rebinding) as client:
            error = await failure(client.download(url))
        assert error.code == "forbidden_address"
        assert evil.opened == 0


async def test_of_a_name_with_several_addresses_only_those_that_are_allowed_are_asked() -> None:
    """As behind a fake-IP proxy that invents IPv4 addresses alone, or NAT64 with a prefix of the network's own."""
    async with (
        serving(always(reply(b"good")), certificate="server.pem") as good,
        serving(
            always(reply(b"evil")), address="127.0.0.2", port=good.port, certificate="server.pem"
        ) as evil,
        abroad(resolver=lambda host, port: ["127.0.0.2", "fd00::7", "127.0.0.1"]) as client,
    ):
        assert await client.download(f"https://results.example:{good.port}/a") == b"good"
        assert evil.opened == 0


async def test_a_name_changes_its_address_between_two_hops_and_is_checked_again() -> None:
    asked: list[str] = []

    def rebinding(host: str, port: int) -> list[str]:
        asked.append(host)
        return ["127.0.0.1"] if host == "results.example" else ["127.0.0.2"]

    async with (
        serving(
            always(reply(b"", "302 Found", "Location: https://other.example/b")), certificate="server.pem"
        ) as host,
        abroad(resolver=rebinding) as client,
    ):
        error = await failure(client.download(f"https://results.example:{host.port}/a"))
    assert error.code == "forbidden_address"
    assert asked == ["results.example", "other.example"]


@pytest.mark.parametrize("answer", [["192.0.2.1"] * 5000, ["", "x" * 10000], ["\x1b[31m"], ["<b>"]])
async def test_an_answer_of_dns_made_to_hurt_is_refused(answer: list[str]) -> None:
    async with transport("https://api.example", resolver=lambda host, port: answer) as client:
        with within(3, 8):
            error = await failure(client.download("https://results.example/a"))
        assert error.code == "forbidden_address"
        assert len(error.message) < 300
        assert error.message.isprintable()
        assert "<" not in error.message


async def test_dns_that_never_answers_ends_in_time() -> None:
    def hanging(host: str, port: int) -> list[str]:
        time.sleep(3)
        return ["127.0.0.1"]

    async with abroad(resolver=hanging) as client:
        with within(2, 8):
            assert isinstance(await failure(client.download("https://results.example/a")), RivyaTimeoutError)


@pytest.mark.parametrize("hops, works", [(0, True), (1, True), (5, True), (6, False), (50, False)])
async def test_at_most_five_redirects_are_followed(hops: int, works: bool) -> None:
    async def answer(request: Request, writer: asyncio.StreamWriter) -> None:
        left = int(request.path.strip("/").split("?")[0])
        writer.write(
            reply(b"", "302 Found", f"Location: /{left - 1}?sig=secret") if left else reply(b"picture")
        )

    async with serving(answer) as host, transport(host.url) as client:
        if works:
            assert await client.download(f"{host.url}/{hops}") == b"picture"
        else:
            assert "more than 5 times" in (await failure(client.download(f"{host.url}/{hops}"))).message
        assert len(host.requests) == min(hops, 5) + 1


async def test_a_redirect_to_itself_ends() -> None:
    error = await attack(always(reply(b"", "302 Found", "Location: ")), (UnusableAnswerError, None))
    assert "nowhere" in error.message
    error = await attack(always(reply(b"", "302 Found", "Location: ?")), (UnusableAnswerError, None))
    assert "more than 5 times" in error.message


async def test_a_redirect_with_an_endless_body_is_not_read() -> None:
    async def answer(request: Request, writer: asyncio.StreamWriter) -> None:
        if request.path == "/end":
            writer.write(reply(b"picture"))
            return
        await endless(b"HTTP/1.1 302 Found\r\nLocation: /end\r\n\r\n", b"x" * 65536)(request, writer)

    async with serving(answer) as host, transport(host.url) as client:
        with within(3, 8):
            assert await client.download(f"{host.url}/start") == b"picture"


async def test_a_host_that_drips_is_left_long_before_the_time_cap() -> None:
    async with serving(endless(sized(b"", 10**6), b"x", 0.05)) as host, transport(host.url) as client:
        began = time.monotonic()
        error = await failure(client.download(host.url, time_cap_s=60))
        assert isinstance(error, RivyaTimeoutError)
        assert "too slowly" in error.message
        assert time.monotonic() - began < 3


async def test_a_drip_at_the_lowest_rate_ends_with_the_time_cap() -> None:
    """Enough bytes in each window, but more time than there is in all."""
    steady = endless(sized(b"", 10**6), b"x" * 500, 0.1)
    async with serving(steady) as host, transport(host.url) as client:
        began = time.monotonic()
        error = await failure(client.download(host.url, time_cap_s=1.5))
        assert isinstance(error, RivyaTimeoutError)
        assert 1.4 < time.monotonic() - began < 2.5
        assert QUICK.window_bytes < 500 * 4


async def test_cancelling_a_download_closes_its_connection_at_once() -> None:
    started, closed = asyncio.Event(), asyncio.Event()

    async def answer(request: Request, writer: asyncio.StreamWriter) -> None:
        writer.write(sized(b"x", 1000))
        started.set()
        await request.gone()
        closed.set()

    async with serving(answer) as host, transport(host.url) as client:
        task = asyncio.create_task(client.download(host.url))
        await started.wait()
        began = time.monotonic()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert time.monotonic() - began < 0.2
        await asyncio.wait_for(closed.wait(), 2)
