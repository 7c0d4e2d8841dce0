"""Certificates of companies: roots in the system's store, in files and folders that the environment names."""

from __future__ import annotations

import asyncio
import logging
import shutil
import ssl
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from hostile.host import CERTIFICATES, always, reply, serving
from network.clients import PATIENT, failure, transport
from rivya.api.policy import AdaptiveLimit, RetryPolicy
from rivya.api.retry import RetryingClient
from rivya.errors import ConfigurationError, RivyaConnectionError, RivyaError, Sent
from rivya.http import trust
from support.cases import slow_but

pytestmark = [pytest.mark.anyio, pytest.mark.heavy]

LOCALLY = {"resolver": lambda host, port: ["127.0.0.1"]}
ROOT_OF_COMPANY = CERTIFICATES / "company.pem"
"""As many roots of companies are: no key usage, no key identifiers, basic constraints not critical."""


@pytest.fixture(autouse=True)
def no_variables(environment: pytest.MonkeyPatch) -> None:
    for name in trust.VARIABLES:
        environment.delenv(name, raising=False)


async def test_as_it_stands_the_root_of_a_company_is_not_believed_and_the_error_says_what_to_do() -> None:
    error = await refused("company-server.pem")
    assert "its certificate is not valid (unable to get local issuer certificate)" in error.message
    assert "root certificate" in error.hint
    assert "SSL_CERT_FILE" in error.hint


async def refused(certificate: str, name: str = "api.example") -> RivyaError:
    async with serving(always(reply()), certificate=certificate) as host:
        async with transport(f"https://{name}:{host.port}", **LOCALLY) as client:
            error = await failure(client.exchange("POST", "/api/v1/generations", body=b"{}"))
        assert not host.requests
    assert isinstance(error, RivyaConnectionError)
    assert error.code == "bad_certificate"
    assert error.sent is Sent.NO
    return error


async def accepted(certificate: str = "company-server.pem") -> None:
    async with (
        serving(always(reply()), certificate=certificate) as host,
        transport(f"https://api.example:{host.port}", **LOCALLY) as client,
    ):
        assert (await client.exchange("GET", "/api/v1/credits")).status == 200


@pytest.mark.parametrize(
    "name",
    slow_but(["SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"], "SSL_CERT_FILE"),
)
@pytest.mark.parametrize("form", ["file", "quoted", "der", "folder"])
async def test_each_variable_may_name_a_file_or_a_folder(
    name: str, form: str, environment: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A folder without the hashed links of OpenSSL, and with other things in it."""
    shutil.copy(ROOT_OF_COMPANY, tmp_path / "root.crt")
    (tmp_path / "notes.txt").write_text("-----BEGIN nothing")
    (tmp_path / "more").mkdir()
    environment.setenv(
        name,
        {
            "file": str(ROOT_OF_COMPANY),
            "quoted": f'"{ROOT_OF_COMPANY}"',
            "der": str(CERTIFICATES / "company.cer"),
            "folder": str(tmp_path),
        }[form],
    )
    await accepted()


async def test_none_takes_another_s_place(environment: pytest.MonkeyPatch, tmp_path: Path) -> None:
    environment.setenv("SSL_CERT_FILE", str(CERTIFICATES / "ca.pem"))
    environment.setenv("SSL_CERT_DIR", f"{tmp_path}:{CERTIFICATES}")
    environment.setenv("REQUESTS_CA_BUNDLE", str(ROOT_OF_COMPANY))
    await accepted("server.pem")
    await accepted("company-server.pem")
    import certifi

    known = {certificate["serialNumber"] for certificate in trust.context().get_ca_certs()}
    lists = ssl.create_default_context(cafile=certifi.where()).get_ca_certs()
    assert {certificate["serialNumber"] for certificate in lists} <= known


async def test_the_system_s_own_store_counts_beside_certifi(
    environment: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Also with SSL_CERT_FILE, and for a Python whose own paths lead nowhere."""
    environment.setattr(trust, "_SYSTEM_FILES", (str(tmp_path / "missing"), str(ROOT_OF_COMPANY)))
    nowhere = ssl.get_default_verify_paths()._replace(openssl_cafile=str(tmp_path / "nowhere.pem"))
    environment.setattr(ssl, "get_default_verify_paths", lambda: nowhere)
    await accepted()
    environment.setenv("SSL_CERT_FILE", str(CERTIFICATES / "ca.pem"))
    await accepted()
    await accepted("server.pem")


async def test_where_the_system_verifies_by_itself_what_is_named_counts_too(
    environment: pytest.MonkeyPatch,
) -> None:
    """As on Windows and macOS, by truststore; here it asks OpenSSL."""
    truststore = pytest.importorskip("truststore")
    environment.setattr(trust, "_native", lambda: truststore.SSLContext(ssl.PROTOCOL_TLS_CLIENT))
    await refused("company-server.pem")
    environment.setenv("REQUESTS_CA_BUNDLE", str(ROOT_OF_COMPANY))
    await accepted()


async def test_a_variable_that_names_nothing_is_left_out_said_and_part_of_the_advice(
    environment: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A removed environment of conda leaves such a variable behind."""
    environment.setenv("SSL_CERT_FILE", str(tmp_path / "gone.pem"))
    environment.setenv("REQUESTS_CA_BUNDLE", str(CERTIFICATES / "ca.pem"))
    with caplog.at_level(logging.WARNING, "rivya"):
        await accepted("server.pem")
    (line,) = [line for line in caplog.messages if "gone.pem" in line]
    assert line.startswith("Rivya: SSL_CERT_FILE names ")
    assert "No such file" in line
    assert (
        f"SSL_CERT_FILE names {tmp_path / 'gone.pem'}: there is no such file"
        in (await refused("company-server.pem")).hint
    )


async def test_a_certificate_that_is_over_speaks_of_the_date(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("SSL_CERT_FILE", str(ROOT_OF_COMPANY))
    error = await refused("company-expired.pem")
    assert "certificate has expired" in error.message
    assert f"it says {time.strftime('%Y-%m-%d')}" in error.hint


async def test_another_name_speaks_of_who_may_answer_in_its_place(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("SSL_CERT_FILE", str(ROOT_OF_COMPANY))
    error = await refused("company-server.pem", "elsewhere.example")
    assert "login in the browser" in error.hint


async def test_https_in_front_of_a_plain_proxy_is_found_out(environment: pytest.MonkeyPatch) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(100)
        writer.write(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n")
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        environment.setenv("HTTPS_PROXY", f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}")
        async with transport("https://api.example", timeouts=PATIENT) as client:
            error = await failure(client.exchange("GET", "/api/v1/credits"))
    assert "try http://" in error.hint


@pytest.mark.parametrize("wrong", ["certificate", "proxy"])
async def test_what_does_not_pass_by_itself_is_not_tried_again(
    wrong: str, environment: pytest.MonkeyPatch
) -> None:
    if wrong == "proxy":
        environment.setenv("HTTPS_PROXY", "socks4://127.0.0.1:1")
    began = time.monotonic()
    async with serving(always(reply()), certificate="company-server.pem") as host:
        async with transport(f"https://api.example:{host.port}", **LOCALLY) as client:
            retrying = RetryingClient(client, RetryPolicy(), AdaptiveLimit(1))
            call = retrying.call("GET", "/api/v1/credits", lambda answer: answer)
            error = await failure(asyncio.wait_for(call, 30))
        assert host.opened <= 1
    assert isinstance(error, ConfigurationError if wrong == "proxy" else RivyaConnectionError)
    assert time.monotonic() - began < 15


@pytest.mark.parametrize("module", ["truststore", None])
def test_the_advice_names_the_system_s_store_and_what_reaches_it(
    module: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    error = ssl.SSLCertVerificationError(1, "self-signed certificate in certificate chain")
    error.verify_code = 19
    monkeypatch.setattr(trust, "platform", SimpleNamespace(system=lambda: "Windows"))
    if module is None:
        monkeypatch.setitem(sys.modules, "truststore", None)
    hint = trust.advice(error) or ""
    assert "the system's store of trusted root certificates" in hint
    assert (f"{sys.executable} -m pip install truststore" in hint) is (module is None)


def test_the_strict_flag_of_python_3_13_is_left_out() -> None:
    assert not trust.context().verify_flags & ssl.VERIFY_X509_STRICT
    assert trust.context().verify_mode is ssl.CERT_REQUIRED
    assert trust.context().check_hostname


async def test_a_broken_list_of_certifi_is_an_error_with_a_remedy_for_each_caller(
    environment: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    environment.setattr("certifi.where", lambda: str(tmp_path / "cacert.pem"))
    async with transport("https://api.example", **LOCALLY) as client:
        calls = [client.exchange("POST", "/api/v1/generations", body=b"{}") for _ in range(2)]
        first, second = await asyncio.gather(*calls, return_exceptions=True)
    assert first is not second
    for error in (first, second):
        assert isinstance(error, ConfigurationError)
        assert "certifi cannot be read: No such file or directory" in error.message
        assert "install" in error.hint
        assert error.sent is Sent.NO
