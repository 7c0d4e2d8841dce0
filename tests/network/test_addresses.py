"""Which hosts and addresses are refused, and which are not."""

from __future__ import annotations

import json
import re
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rivya.config import FAKE_IP_NETWORKS
from rivya.errors import ConfigurationError, RivyaError, Sent, UnusableAnswerError
from rivya.http.guard import Guard, allowed, check_loopback, is_loopback

GUARD = Guard()

PUBLIC = [
    "1.1.1.1",
    "8.8.8.8",
    "93.184.216.34",
    "172.15.255.255",
    "172.32.0.0",
    "2606:4700::1",
    "2a00:1450::1",
]
PUBLIC_THROUGH_NAT64 = ["64:ff9b::808:808", "::ffff:8.8.8.8"]
FAKE = [
    "198.18.0.1",
    "198.19.255.255",
    "::ffff:198.18.0.1",
    "fc00::1",
    "fc00:3fff::1",
    "fdfe:dcba:9876::7",
    "2001:2::1",
]

_FORBIDDEN_TEXT = r"""
0.0.0.0 0.1.2.3 10.0.0.0 10.255.255.255 100.64.0.1 100.127.255.255 127.0.0.1 127.255.255.254 169.254.0.1
169.254.169.254 172.16.0.1 172.31.255.255 192.0.0.1 192.0.0.170 192.0.2.1 192.88.99.1 192.168.0.1
192.168.255.255 198.51.100.1 203.0.113.1 224.0.0.1 239.255.255.255 240.0.0.1 255.255.255.255 :: ::1 ::2
::7f00:1 ::127.0.0.1 ::ffff:127.0.0.1 ::ffff:7f00:1 ::ffff:10.0.0.1 ::ffff:169.254.169.254
::ffff:0:127.0.0.1 64:ff9b::7f00:1 64:ff9b::10.0.0.1 64:ff9b::a9fe:a9fe 64:ff9b:1::1 100::1 100:0:0:1::1
2001::1 2001:0:4136:e378::1 2001:10::1 2001:20::1 2001:db8::1 2002:7f00:1::1 2002:a00:1::
64:ff9b:1:a00:0:5efe:808:808 200::5efe:808:808 100::5efe:808:808
2002:808:808::1 3fff::1 3ffe::5efe:127.0.0.1 2600::5efe:10.0.0.1 2600::200:5efe:192.168.1.1 5f00::1 fc00:4000::1
fdfe:dcba:9876:1::1 fdfe:dcba:9875::1 fd00::1 2001:2:1::1
fd00:ec2::254 fe80::1 fe80::5efe:1.1.1.1 febf::1 fec0::1 feff::1 ff02::1 ff0e::1 4000::1 8000::1 1::1
"""
FORBIDDEN = _FORBIDDEN_TEXT.split()


@pytest.mark.parametrize("address", FORBIDDEN)
def test_an_address_that_is_not_public_is_refused(address: str) -> None:
    with pytest.raises(UnusableAnswerError) as caught:
        GUARD.check_address("name.example", address)
    assert caught.value.code == "forbidden_address"
    assert caught.value.sent is Sent.NO
    with pytest.raises(UnusableAnswerError):
        GUARD.check_url_host(address)


@pytest.mark.parametrize("address", [*PUBLIC, *PUBLIC_THROUGH_NAT64, *FAKE])
def test_a_public_address_and_those_of_fake_ip_proxies_are_allowed(address: str) -> None:
    GUARD.check_address("name.example", address)
    GUARD.check_url_host(address)


@pytest.mark.parametrize("address", FAKE)
def test_without_the_default_networks_those_of_fake_ip_proxies_are_refused(address: str) -> None:
    with pytest.raises(UnusableAnswerError):
        Guard([]).check_address("name.example", address)


def test_a_network_of_one_s_own_can_be_allowed_and_nothing_beside_it() -> None:
    guard = Guard(["10.20.0.0/16", "fd12::/16"])
    for address in ("10.20.3.4", "::ffff:10.20.3.4", "fd12::1", "64:ff9b::a14:1"):
        guard.check_address("name.example", address)
        guard.check_url_host(address)
    for address in ("10.21.0.1", "fd13::1", "198.18.0.1", "127.0.0.1"):
        with pytest.raises(UnusableAnswerError):
            guard.check_address("name.example", address)


OPEN_WHEN_LOCAL = ["127.0.0.1", "::1", "10.0.0.1", "192.168.1.1", "fd00::1", "::ffff:127.0.0.1", "8.8.8.8"]


@pytest.mark.parametrize("address", OPEN_WHEN_LOCAL)
def test_a_base_url_on_this_machine_opens_it_and_private_networks(address: str) -> None:
    Guard(local=True).check_address("localhost", address)
    Guard(local=True).check_url_host(address)


@pytest.mark.parametrize(
    "address", ["169.254.169.254", "fe80::1", "224.0.0.1", "::ffff:169.254.169.254", "240.0.0.1"]
)
def test_but_not_the_local_link_with_the_metadata_of_clouds(address: str) -> None:
    with pytest.raises(UnusableAnswerError):
        Guard(local=True).check_address("localhost", address)


_SPELLINGS_TEXT = r"""
2130706433 0x7f000001 0x7f.0.0.1 0x7F.1 0177.0.0.1 017700000001 127.1 127.0.1 127.0.0.1. 127.000.000.001
1.2.3 1.2.3.4.5 256.1.1.1 1.2.3.-4 0 0x0 00 0.0 8.8.2056 010.8.8.8 127.0.0.0x1 fe80::1%25eth0 fe80::1%eth0
::1%1 2606:4700::1%25eth0 [::1] ::1] 1::2::3 12345:: ::ffff:127.1 v1.fe80::a localhost LOCALHOST localhost.
x.localhost foo.localhost. printer.local PRINTER.LOCAL. router.lan nas.home metadata.google.internal db.corp
wiki.intranet files.private host.localdomain router.home.arpa home.arpa intranet metadata a - . .. .example
example..com -a.example. a_b exa%6dple.com 127%2e0%2e0%2e1 a/b a\b a?b a#b a@b a:b user@host
"""
SPELLINGS = [
    *_SPELLINGS_TEXT.split(),
    "",
    " ",
    "a b.example",
    "a\tb.example",
    "a\r\nb.example",
    "a\0b.example",
    "１２７.0.0.1",
    "①②⑦.⓪.⓪.①",
    "127。0。0。1",
    "exam\u00adple.com",
    "exam\u202eple.com",
    "x" * 64 + ".example",
    "a." * 130 + "example",
]


@pytest.mark.parametrize("host", SPELLINGS)
def test_a_host_that_can_be_read_in_several_ways_or_names_the_local_network_is_refused(host: str) -> None:
    with pytest.raises(UnusableAnswerError) as caught:
        GUARD.check_url_host(host)
    assert caught.value.code == "forbidden_address"
    assert caught.value.message.isascii()
    assert caught.value.message.isprintable()


@pytest.mark.parametrize(
    "host",
    ["cdn.example.com", "CDN.Example.COM", "a-b.example", "xn--bcher-kva.example", "r2.dev", "a_b.s3.amazonaws.com",
     "127.0.0.1.nip.io", "cafe.example.", "3.example", "0x.example", "local.example", "localhost.example"],
)  # fmt: skip
def test_an_ordinary_name_passes_the_first_check(host: str) -> None:
    GUARD.check_url_host(host)


@pytest.mark.parametrize("host, expected", [
    ("localhost", True), ("LocalHost.", True), ("127.0.0.1", True), ("127.9.9.9", True), ("::1", True),
    ("127.1", False), ("127.0.0.1.evil.example", False), ("localhost.evil.example", False), ("10.0.0.1", False),
    ("0.0.0.0", False), ("::1%1", False),
])  # fmt: skip
def test_this_machine_is_known_by_its_plain_spellings(host: str, expected: bool) -> None:
    assert is_loopback(host) is expected


def test_a_network_that_is_none_is_refused_at_once() -> None:
    with pytest.raises((ValueError, ConfigurationError)):
        Guard(["10.0.0.1/8"])


@given(st.ip_addresses(v=4))
def test_every_ipv4_address_that_python_calls_private_is_refused_also_inside_ipv6(
    address: IPv4Address,
) -> None:
    carriers = [
        IPv6Address(int(ip_address(prefix)) + int(address))
        for prefix in ("::ffff:0:0", "64:ff9b::", "2600::5efe:0:0", "2600::200:5efe:0:0")
    ]
    expected = address.is_private or address.is_multicast or address.is_reserved
    if address in ip_network("198.18.0.0/15"):
        return
    for candidate in (address, *carriers):
        try:
            GUARD.check_address("name.example", str(candidate))
            refused = False
        except UnusableAnswerError:
            refused = True
        assert refused or not expected


@given(st.ip_addresses(v=6))
def test_every_ipv6_address_that_python_calls_private_is_refused(address: IPv6Address) -> None:
    try:
        GUARD.check_address("name.example", str(address))
    except UnusableAnswerError:
        return
    fake = any(address in ip_network(network) for network in FAKE_IP_NETWORKS)
    assert fake or address.is_global or address.ipv4_mapped is not None


@given(st.text(max_size=80))
def test_any_text_as_a_host_is_taken_or_refused_by_name(host: str) -> None:
    try:
        GUARD.check_url_host(host)
    except UnusableAnswerError as error:
        assert error.code == "forbidden_address"
    else:
        assert host.isascii()
        assert not set(host) & set("/\\?#@%[] \t\r\n\0")


@pytest.mark.parametrize(
    "refused", ["fd00::5", "64:ff9b:1::808:808", "fe80::1", "127.0.0.1", "::", "no address"]
)
def test_one_refused_address_of_a_name_does_not_refuse_the_others(refused: str) -> None:
    for addresses in ([refused, "8.8.8.8"], ["8.8.8.8", refused], [refused, "8.8.8.8", refused]):
        assert allowed(GUARD.check_address, "name.example", addresses) == ["8.8.8.8"]
    with pytest.raises(UnusableAnswerError) as caught:
        allowed(GUARD.check_address, "name.example", [refused, "10.0.0.1"])
    assert refused == "no address" or f"the address {refused}," in caught.value.message


def test_plain_http_goes_to_the_addresses_of_this_machine_alone() -> None:
    assert allowed(check_loopback, "localhost", ["192.168.1.5", "::1", "127.0.0.1"]) == ["::1", "127.0.0.1"]
    with pytest.raises(RivyaError):
        allowed(check_loopback, "localhost", ["192.168.1.5"])


@pytest.mark.parametrize(
    ("address", "program", "setting"),
    [
        ("fd00:6152::9", "Surge", "fd00:6152::/64"),
        ("198.18.0.5", "Clash", "198.18.0.0/15"),
        ("240.1.2.3", "sing-box", "240.1.0.0/16"),
        ("100.100.1.2", "Tailscale", "100.64.0.0/10"),
        ("::ffff:192.168.7.9", "company", "192.168.7.0/24"),
        ("64:ff9b:1::a00:1", "NAT64", "64:ff9b:1::/96"),
        ("0.0.0.0", "Pi-hole", None),
        ("127.0.0.1", "AdGuard", None),
        ("::", "hosts file", None),
        ("169.254.1.1", "login page", None),
        ("203.0.113.7", "your network", "203.0.113.7"),
    ],
)
def test_a_refusal_names_the_address_the_likely_program_and_the_setting_that_works(
    address: str, program: str, setting: str | None
) -> None:
    with pytest.raises(UnusableAnswerError) as caught:
        Guard(["10.1.0.0/16"]).check_address("results.example", address)
    assert f"results.example has the address {ip_address(address)}" in caught.value.message
    assert program in caught.value.hint
    if setting is None:
        assert "allowed_result_networks" not in caught.value.hint
        return
    written = re.search(r'"allowed_result_networks": (\[.*\])', caught.value.hint)
    assert written is not None
    networks = json.loads(written[1])
    assert networks == ["10.1.0.0/16", setting]
    Guard(networks).check_address("results.example", address)


def test_an_address_that_the_service_itself_names_is_put_down_to_no_program() -> None:
    with pytest.raises(UnusableAnswerError) as caught:
        GUARD.check_url_host("192.168.1.1")
    assert "DNS" not in caught.value.hint
