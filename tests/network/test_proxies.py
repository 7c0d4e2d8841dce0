"""Proxies as desktops, shells and proxy programs write them into the environment."""

from __future__ import annotations

import sys

import pytest

from hostile.host import always, reply, serving
from network.clients import PATIENT, failure, transport
from network.proxy import proxying, socks
from rivya.errors import ConfigurationError, Sent
from rivya.http import proxy_settings
from rivya.http.proxy_settings import proxy_for
from support.cases import slow_but

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize(
    ("form", "login"),
    [
        ("socks://{at}/", None),
        ("socks5://{at}", None),
        ("SOCKS5H://{at}/", None),
        ('"socks5://{at}" ', None),
        ("socks://ann:p@ss#1@{at}", ("ann", "p@ss#1")),
        ("socks5://ann:p%40ss%231@{at}/", ("ann", "p@ss#1")),
    ],
)
async def test_all_spellings_of_a_socks_proxy_lead_through_it(
    form: str, login: tuple[str, str] | None, environment: pytest.MonkeyPatch
) -> None:
    async with serving(always(reply()), certificate="server.pem") as host, socks(login) as proxy:
        environment.setenv("ALL_PROXY", form.format(at=proxy.url.partition("://")[2]))
        async with transport(f"https://api.example:{host.port}") as client:
            assert (await client.exchange("GET", "/api/v1/credits")).status == 200
        said = f"{login[0]}:{login[1]}@" if login else ""
        assert proxy.heads == [f"{said}api.example:{host.port}"]


async def test_a_proxy_that_speaks_tls_is_verified_as_everybody_else(environment: pytest.MonkeyPatch) -> None:
    async with (
        serving(always(reply()), certificate="server.pem") as host,
        proxying(certificate="server.pem") as proxy,
        proxying(certificate="company-server.pem") as stranger,
    ):
        options = {"resolver": lambda name, port: ["127.0.0.1"], "timeouts": PATIENT}
        environment.setenv("https_proxy", proxy.url)
        async with transport(f"https://api.example:{host.port}", **options) as client:
            assert (await client.exchange("GET", "/api/v1/credits")).status == 200
        assert proxy.heads[0].startswith(f"CONNECT api.example:{host.port}")
        environment.setenv("https_proxy", stranger.url)
        async with transport(f"https://api.example:{host.port}", **options) as client:
            error = await failure(client.exchange("GET", "/api/v1/credits"))
        assert (error.code, error.sent, stranger.heads) == ("bad_certificate", Sent.NO, [])


async def test_a_proxy_without_a_scheme_and_with_an_unquoted_password_is_used(
    environment: pytest.MonkeyPatch,
) -> None:
    async with serving(always(reply()), certificate="server.pem") as host, proxying() as proxy:
        environment.setenv("https_proxy", f"user:p@ss@{proxy.url.partition('://')[2]}/")
        async with transport(f"https://api.example:{host.port}") as client:
            assert (await client.exchange("GET", "/api/v1/credits")).status == 200
        assert "Proxy-Authorization: Basic dXNlcjpwQHNz" in proxy.heads[0]


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("127.0.0.1:7890", "http://127.0.0.1:7890"),
        ("//127.0.0.1:7890", "http://127.0.0.1:7890"),
        ("'http://proxy.example:8080/'", "http://proxy.example:8080"),
        (" https://proxy.example ", "https://proxy.example"),
        ("HTTP://[::1]:8080/", "http://[::1]:8080"),
        ("socks://proxy.example", "socks5://proxy.example:1080"),
        ("http://ann:@proxy.example:1", "http://ann:@proxy.example:1"),
        ("http://ann@proxy.example:1", "http://ann@proxy.example:1"),
        ("", None),
        ('""', None),
    ],
)
def test_what_is_written_is_taken_for_what_is_meant(
    written: str, meant: str | None, environment: pytest.MonkeyPatch
) -> None:
    environment.setenv("HTTPS_PROXY", written)
    assert proxy_for("https", "api.example") == meant


@pytest.mark.parametrize(
    "written",
    [
        "socks4://ann:secret@127.0.0.1:1080",
        "socks4a://127.0.0.1:1080/",
        "gopher://ann:secret@127.0.0.1:1",
        "ss://c2VjcmV0:secret@proxy.example:8388",
        "http://",
        "http://[::1",
        "http://ann:secret@proxy.example:port",
        "http://ann:secret@proxy.example:99999",
        "http://proxy.example:80/pac/secret?token=secret",
        "socks5:127.0.0.1:1080",
    ],
)
@pytest.mark.parametrize("name", slow_but(["HTTPS_PROXY", "all_proxy"], "HTTPS_PROXY"))
async def test_what_cannot_be_used_is_named_without_its_password_and_nothing_is_sent(
    name: str, written: str, environment: pytest.MonkeyPatch
) -> None:
    environment.setenv(name, written)
    async with transport("https://api.example") as client:
        error = await failure(client.exchange("POST", "/api/v1/generations", body=b"{}"))
    assert isinstance(error, ConfigurationError)
    assert error.sent is Sent.NO
    shown = written.rpartition("@")[2].partition("?")[0] or written
    assert error.message.startswith(f"{name} is ")
    assert shown[: shown.find("secret")] in error.message
    assert "secret@" not in str(error)
    assert "token" not in str(error)
    assert "http://HOST:PORT" in error.hint
    assert "socks5://HOST:PORT" in error.hint
    assert ("SOCKS4 is not supported" in error.message) is ("socks4" in written)


def test_what_the_system_names_is_called_so(environment: pytest.MonkeyPatch) -> None:
    """As Windows gives a SOCKS proxy of its settings, by way of the standard library."""
    environment.setattr(proxy_settings, "getproxies", lambda: {"https": "socks4://127.0.0.1:1080"})
    with pytest.raises(ConfigurationError, match="the system's proxy settings is socks4://127.0.0.1:1080"):
        proxy_for("https", "api.example")


@pytest.mark.parametrize(
    ("exceptions", "host", "straight"),
    [
        ("*.example", "api.example", True),
        ("*.example", "example", False),
        ("localhost 127.0.0.0/8 10.0.0.0/8", "10.1.2.3", True),
        ("localhost;2001:db8::/32", "2001:db8::1", True),
        ("10.0.0.0/8", "api.example", False),
        ("other, .example", "api.example", True),
        ("*", "api.example", True),
        ("api.example/8", "api.example", False),
    ],
)
def test_exceptions_as_desktops_write_them_are_honoured(
    exceptions: str, host: str, straight: bool, environment: pytest.MonkeyPatch
) -> None:
    environment.setenv("ALL_PROXY", "http://127.0.0.1:1")
    environment.setenv("no_proxy", exceptions)
    assert (proxy_for("https", host) is None) is straight


def test_a_socks_proxy_without_its_package_says_how_to_install_it(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("ALL_PROXY", "socks://ann:secret@127.0.0.1:1080/")
    environment.setitem(sys.modules, "socksio", None)
    with pytest.raises(ConfigurationError) as caught:
        proxy_for("https", "api.example")
    assert caught.value.message.startswith("ALL_PROXY is socks://127.0.0.1:1080/, a SOCKS proxy")
    assert f"{sys.executable} -m pip install socksio" in caught.value.hint
    assert "secret" not in str(caught.value)
