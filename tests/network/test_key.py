"""The key goes to one place, and is found nowhere else."""

from __future__ import annotations

import copy
import logging
import pickle
from dataclasses import asdict, dataclass

import httpx
import pytest

from hostile.host import Answer, always, reply, reset, serving
from network.clients import KEY, everything_about, failure, transport
from network.proxy import proxying
from rivya.errors import RivyaConnectionError, RivyaTimeoutError, Sent, UnusableAnswerError
from rivya.secret import Secret

pytestmark = pytest.mark.anyio

LOCALLY = {"resolver": lambda host, port: ["127.0.0.1"]}


@dataclass(frozen=True)
class Holder:
    key: Secret


def test_a_secret_is_shown_by_nothing() -> None:
    secret = Secret(KEY)
    shown = [
        repr(secret),
        str(secret),
        f"{secret}",
        f"{secret:>40}",
        f"{secret} {secret!r}",
        repr(Holder(secret)),
    ]
    shown += [
        repr(vars(Holder(secret))),
        repr(asdict(Holder(secret))),
        repr(copy.copy(secret)),
        repr([secret]),
    ]
    assert not [text for text in shown if KEY in text or "0123" in text]
    with pytest.raises(TypeError):
        pickle.dumps(secret)
    assert not hasattr(secret, "__dict__")


def test_secrets_compare_by_what_they_hold() -> None:
    assert Secret("a") == Secret("a") == copy.deepcopy(Secret("a"))
    assert Secret("a") != Secret("b")
    assert Secret("a") != "a"
    assert len({Secret("a"), Secret("a"), Secret("b")}) == 2


async def test_over_tls_the_key_reaches_the_host_that_proved_its_name() -> None:
    async with serving(always(reply()), certificate="server.pem") as host:
        async with transport(f"https://api.example:{host.port}", **LOCALLY) as client:
            assert (await client.exchange("GET", "/api/v1/credits")).status == 200
        assert host.requests[0].headers["authorization"] == f"Bearer {KEY}"


@pytest.mark.parametrize("why", ["another name", "unknown authority", "no TLS at all"])
async def test_a_host_that_cannot_prove_its_name_gets_nothing(
    why: str, environment: pytest.MonkeyPatch
) -> None:
    if why == "unknown authority":
        environment.delenv("SSL_CERT_FILE")
    certificate = {"another name": "stranger.pem", "unknown authority": "server.pem"}.get(why)
    async with serving(always(reply(), close=True), certificate=certificate) as host:
        async with transport(f"https://api.example:{host.port}", **LOCALLY) as client:
            error = await failure(client.exchange("POST", "/api/v1/generations", body=b"{}"))
        assert isinstance(error, (RivyaConnectionError, RivyaTimeoutError))
        assert error.sent is Sent.NO
        assert not [request for request in host.requests if KEY.encode() in request.head]


async def test_through_a_proxy_the_key_travels_inside_the_tunnel(environment: pytest.MonkeyPatch) -> None:
    async with serving(always(reply()), certificate="server.pem") as host, proxying() as proxy:
        environment.setenv("HTTPS_PROXY", proxy.url.replace("http://", "http://user:p%40ss@"))
        async with transport(f"https://api.example:{host.port}") as client:
            for _ in range(3):
                assert (await client.exchange("GET", "/api/v1/credits")).status == 200
        assert len(proxy.heads) == 1
        assert proxy.heads[0].startswith(f"CONNECT api.example:{host.port} HTTP/1.1\r\n")
        assert "Proxy-Authorization: Basic dXNlcjpwQHNz" in proxy.heads[0]
        assert KEY not in proxy.heads[0]
        assert "proxy-authorization" not in host.requests[0].headers


@pytest.mark.parametrize(
    "answer, cut",
    [
        (b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n", False),
        (b"", True),
        (b"HTTP/1.1 200 OK\r\n\r\n", True),
    ],
    ids=["asks for a password", "hangs up", "hangs up in the tunnel"],
)
async def test_a_tunnel_that_does_not_come_about_proves_that_nothing_was_delivered(
    answer: bytes, cut: bool, environment: pytest.MonkeyPatch
) -> None:
    async with proxying(answer, cut=cut) as proxy:
        environment.setenv("HTTPS_PROXY", proxy.url)
        async with transport("https://api.example") as client:
            error = await failure(client.exchange("POST", "/api/v1/generations", body=b"{}"))
        assert error.sent is Sent.NO
        assert len(proxy.heads) == 1


@pytest.mark.parametrize("answer", [reset(), always(b"", close=True)], ids=["reset", "closed"])
async def test_what_breaks_inside_the_tunnel_after_the_request_left_proves_nothing(
    answer: Answer, environment: pytest.MonkeyPatch
) -> None:
    async with serving(answer, certificate="server.pem") as host, proxying() as proxy:
        environment.setenv("HTTPS_PROXY", proxy.url)
        async with transport(f"https://api.example:{host.port}") as client:
            error = await failure(client.exchange("POST", "/api/v1/generations", body=b"{}"))
        assert error.sent is Sent.MAYBE
        assert len(host.requests) == 1


async def test_a_proxy_is_never_asked_for_this_machine(environment: pytest.MonkeyPatch) -> None:
    """Plain http is allowed only because it does not leave the machine; through a proxy it would, key and all."""
    async with serving(always(reply())) as host, proxying() as proxy:
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
            environment.setenv(name, proxy.url)
        for name in ("127.0.0.1", "localhost"):
            async with transport(f"http://{name}:{host.port}") as client:
                await client.exchange("GET", "/api/v1/credits")
        assert len(host.requests) == 2
        assert not proxy.heads


async def test_no_proxy_is_honoured(environment: pytest.MonkeyPatch) -> None:
    async with serving(always(reply()), certificate="server.pem") as host, proxying() as proxy:
        environment.setenv("HTTPS_PROXY", proxy.url)
        environment.setenv("NO_PROXY", "other.example, .example")
        async with transport(f"https://api.example:{host.port}", **LOCALLY) as client:
            assert (await client.exchange("GET", "/api/v1/credits")).status == 200
        assert not proxy.heads


@pytest.mark.parametrize("url", ["gopher://127.0.0.1:1", "http://", "http://[::1"])
async def test_a_proxy_that_cannot_be_used_is_named_and_nothing_is_sent(
    url: str, environment: pytest.MonkeyPatch
) -> None:
    environment.setenv("HTTPS_PROXY", url)
    async with transport("https://api.example") as client:
        error = await failure(client.exchange("POST", "/api/v1/generations", body=b"{}"))
    assert "proxy" in error.message.lower()
    assert error.sent is Sent.NO


async def test_a_key_that_the_service_sends_back_is_cut_out() -> None:
    echo = reply(f'{{"error":{{"message":"bad key {KEY}"}}}}'.encode(), "401 No", f"X-Echo: {KEY}")
    async with serving(always(echo)) as host, transport(host.url) as client:
        got = await client.exchange("GET", "/api/v1/credits")
        assert KEY.encode() not in got.body
        assert KEY not in str(dict(got.headers))
        assert got.body == b'{"error":{"message":"bad key [API key]"}}'


BROKEN = {
    "reset": reset(),
    "closed": always(b"", close=True),
    "no HTTP": always(b"\x00\x01garbage\r\n\r\n", close=True),
    "cut": always(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nx", close=True),
    "redirect": always(reply(b"", "302 Found", f"Location: https://evil.example/?key={KEY}")),
    "echo in a broken head": always(f"HTTP/1.1 200 OK\r\nBad{KEY}\r\n\r\n".encode(), close=True),
    "too large": always(reply(bytes(2_000_000))),
}


@pytest.mark.parametrize("name", BROKEN)
async def test_no_failure_shows_the_key_even_with_the_locals_of_every_frame(name: str) -> None:
    async with serving(BROKEN[name]) as host, transport(host.url) as client:
        error = await failure(client.exchange("POST", "/api/v1/generations", body=b"{}"))
        shown = everything_about(error)
        assert type(error).__name__ in shown
        assert KEY not in shown


@pytest.mark.parametrize("why", ["refused", "unknown name", "time"])
async def test_no_failure_to_reach_the_host_shows_the_key(why: str) -> None:
    def resolve(host: str, port: int) -> list[str]:
        if why == "unknown name":
            raise OSError("no such name")
        return ["127.0.0.1"]

    async def silent(request: object, writer: object) -> None:
        await request.gone()

    async with serving(silent) as host:
        port = 1 if why == "refused" else host.port
        async with transport(f"http://localhost:{port}", resolver=resolve) as client:
            assert KEY not in everything_about(await failure(client.exchange("GET", "/api/v1/credits")))


async def test_httpx_and_httpcore_log_nothing_of_ours_and_everything_of_others(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    async with serving(always(reply(b"picture"))) as host, transport(host.url) as client:
        await client.exchange("GET", "/api/v1/credits")
        await client.download(f"{host.url}/a.png?signature=secret")
        await failure(
            client.download(f"{host.url.replace('127.0.0.1', '169.254.169.254')}/a.png?signature=secret")
        )
        await client.aclose()
        ours = [record for record in caplog.records if record.name.startswith(("httpx", "httpcore", "rivya"))]
        assert not ours
        text = "\n".join(f"{record.getMessage()} {record.args}" for record in caplog.records)
        assert KEY not in text
        assert "signature" not in text
        caplog.clear()
        async with httpx.AsyncClient() as other:
            await other.get(f"{host.url}/other")
        assert {record.name.split(".")[0] for record in caplog.records} >= {"httpx", "httpcore"}


async def test_a_result_is_fetched_without_key_cookies_or_traces_of_where_we_came_from() -> None:
    async def answer(request: object, writer: object) -> None:
        if request.path.startswith("/hop"):
            writer.write(reply(b"", "302 Found", "Location: /picture?sig=1", "Set-Cookie: id=1; Path=/"))
        else:
            writer.write(reply(b"picture", "200 OK", "Set-Cookie: id=2"))

    async with serving(answer) as host, transport(host.url) as client:
        for _ in range(2):
            assert await client.download(f"{host.url}/hop?sig=0") == b"picture"
        assert [request.path for request in host.requests] == ["/hop?sig=0", "/picture?sig=1"] * 2
        for request in host.requests:
            assert set(request.headers) == {"host", "user-agent", "accept-encoding", "accept"}
            assert KEY.encode() not in request.head


async def test_results_of_the_service_s_own_host_get_no_key_either() -> None:
    async with serving(always(reply(b"picture")), certificate="server.pem") as host:
        base = f"https://api.example:{host.port}"
        async with transport(base, allowed_networks=["127.0.0.1/32"], **LOCALLY) as client:
            await client.exchange("GET", "/api/v1/credits")
            await client.download(f"{base}/result.png")
        assert ["authorization" in request.headers for request in host.requests] == [True, False]
        assert [request.connection for request in host.requests] == [1, 2]


async def test_a_result_over_tls_is_checked_for_the_name_not_the_address() -> None:
    async with serving(always(reply(b"picture")), certificate="server.pem") as host:
        options = {"allowed_networks": ["127.0.0.1/32"], **LOCALLY}
        async with transport("https://api.example", **options) as client:
            assert await client.download(f"https://results.example:{host.port}/a") == b"picture"
            error = await failure(client.download(f"https://elsewhere.example:{host.port}/a"))
            assert isinstance(error, RivyaConnectionError)
            assert "certificate" in error.message


async def test_through_a_proxy_names_and_literals_of_results_are_checked(
    environment: pytest.MonkeyPatch,
) -> None:
    async with serving(always(reply(b"picture")), certificate="server.pem") as host, proxying() as proxy:
        environment.setenv("ALL_PROXY", proxy.url)
        async with transport("https://api.example") as client:
            assert await client.download(f"https://results.example:{host.port}/a?sig=1") == b"picture"
            assert len(proxy.heads) == 1
            for name in (
                "169.254.169.254",
                "[::1]",
                "127.1",
                "2130706433",
                "localhost",
                "printer.local",
                "intranet",
            ):
                error = await failure(client.download(f"https://{name}/a"))
                assert isinstance(error, UnusableAnswerError)
                assert error.code == "forbidden_address"
            assert len(proxy.heads) == 1
