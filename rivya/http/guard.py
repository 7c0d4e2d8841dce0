"""Which URLs, host names and addresses a result may come from.

A result URL may be forged, so it must not reach this machine or its network. `Guard.check_url_host` checks the
written name before any request, `Guard.check_address` each resolved address before connecting (`allowed` keeps those
that pass). A proxy resolves names itself, so only the first check applies.

The ranges are listed here because `ipaddress.is_global` differs between Python versions.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

from ..config import FAKE_IP_NETWORKS
from ..errors import ConfigurationError, RivyaError, Sent, UnusableAnswerError
from . import likely

Address = IPv4Address | IPv6Address

DEFAULT_ALLOWED = FAKE_IP_NETWORKS

_FORBIDDEN_V4 = tuple(
    (ip_network(network), what)
    for network, what in (
        ("0.0.0.0/8", "a reserved range"),
        ("10.0.0.0/8", "a private network"),
        ("100.64.0.0/10", "a provider's private network"),
        ("127.0.0.0/8", "this machine"),
        ("169.254.0.0/16", "the local link"),
        ("172.16.0.0/12", "a private network"),
        ("192.0.0.0/24", "a reserved range"),
        ("192.0.2.0/24", "a reserved range"),
        ("192.88.99.0/24", "a reserved range"),
        ("192.168.0.0/16", "a private network"),
        ("198.18.0.0/15", "a reserved range"),
        ("198.51.100.0/24", "a reserved range"),
        ("203.0.113.0/24", "a reserved range"),
        ("224.0.0.0/4", "multicast"),
        ("240.0.0.0/4", "a reserved range"),
    )
)
_FORBIDDEN_V6 = tuple(
    (ip_network(network), what)
    for network, what in (
        ("::1/128", "this machine"),
        ("::/128", "a reserved range"),
        ("fe80::/10", "the local link"),
        ("fc00::/7", "a private network"),
        ("fec0::/10", "a private network"),
        ("ff00::/8", "multicast"),
        ("2001::/23", "a reserved range"),
        ("2001:db8::/32", "a reserved range"),
        ("2002::/16", "a tunnel"),
        ("3fff::/20", "a reserved range"),
    )
)
_GLOBAL_V6 = ip_network("2000::/3")
_NAT64 = ip_network("64:ff9b::/96")
_COMPATIBLE = ip_network("::/96")
_ISATAP_MARKS = (0x00005EFE, 0x02005EFE)

_PRIVATE = ("this machine", "a private network")
"""What a base URL on this machine (the sandbox) opens; the link-local range with cloud metadata stays refused."""

_LOCAL_ENDINGS = (
    "localhost", "local", "localdomain", "internal", "intranet", "private", "corp", "home", "lan", "home.arpa",
)  # fmt: skip
_NAME = r"(?=.{1,253}\Z)[a-z0-9_]([a-z0-9_-]{0,62})(\.[a-z0-9_]([a-z0-9_-]{0,62}))*\.?"
_NUMBER = r"(0x[0-9a-f]*|[0-9]+)"


class Guard:
    """The rules of one configuration.

    Args:
        allowed_networks: private networks, as CIDR, that results may come from.
        local: the base URL is on this machine, so results may be there and on private networks.
    """

    def __init__(self, allowed_networks: Sequence[str] = DEFAULT_ALLOWED, *, local: bool = False) -> None:
        self._allowed = tuple(ip_network(network) for network in allowed_networks)
        self._local = local

    def check_url_host(self, host: str) -> None:
        """Refuse a host by its spelling. ``host``: as in the URL, without brackets, IDNA-encoded.

        Raises:
            UnusableAnswerError: ``forbidden_address``.
        """
        name = host.lower()
        if ":" in name:
            address = _literal(name)
            if address is None:
                raise _refused(host, "is not a plain IPv6 address")
            self.check_address(host, str(address))
            return
        if not re.fullmatch(_NAME, name):
            raise _refused(host, "is not a host name")
        labels = name.rstrip(".").split(".")
        if re.fullmatch(_NUMBER, labels[-1]):
            # Programs read short, octal, decimal and hexadecimal forms differently.
            address = _literal(name)
            if address is None:
                raise _refused(host, "is not a plain IPv4 address")
            self.check_address(host, str(address))
            return
        if self._local:
            return
        bare = ".".join(labels)
        if len(labels) == 1 or any(bare == end or bare.endswith("." + end) for end in _LOCAL_ENDINGS):
            raise _refused(host, "names a machine of a local network")

    def check_address(self, host: str, address: str) -> None:
        """Refuse an address of ``host`` that is neither public nor allowed. Raises as `check_url_host`."""
        found = _literal(address)
        if found is None:
            raise _refused(host, "has an address that cannot be read")
        reason = self._reason(found)
        if reason is not None:
            own = found == _literal(host)  # DNS is not involved
            names = tuple(map(str, self._allowed))
            raise _refused(
                host,
                f"has the address {found}, which belongs to {reason}",
                hint=None if own else likely.advice((_embedded(found) or (found,))[0], names),
            )

    def _reason(self, address: Address) -> str | None:
        embedded = _embedded(address)
        if any(candidate in net for net in self._allowed for candidate in (address, *embedded)):
            return None
        ranges = _FORBIDDEN_V4 if isinstance(address, IPv4Address) else _FORBIDDEN_V6
        reason = next((what for net, what in ranges if address in net), None)
        if reason is None and embedded:
            reason = next((found for inner in embedded if (found := self._reason(inner)) is not None), None)
        carrier = bool(embedded) and not _is_isatap(address)
        if reason is None and isinstance(address, IPv6Address) and not carrier and address not in _GLOBAL_V6:
            reason = "a reserved range"
        return None if self._local and reason in _PRIVATE else reason


def allowed(check: Callable[[str, str], None], host: str, addresses: Sequence[str]) -> list[str]:
    """The addresses that pass ``check``, in order.

    Raises:
        RivyaError: none passes; the first one's error.
    """
    passed: list[str] = []
    refusal: RivyaError | None = None
    for address in addresses:
        try:
            check(host, address)
            passed.append(address)
        except RivyaError as error:
            refusal = refusal or error
    if refusal is not None and not passed:
        raise refusal
    return passed


def is_loopback(host: str) -> bool:
    """Whether ``host`` is spelled as this machine: ``localhost``, 127.0.0.0/8 or ::1."""
    if host.lower().rstrip(".") == "localhost":
        return True
    address = _literal(host)
    return address is not None and address.is_loopback


def check_loopback(host: str, address: str) -> None:
    """Refuse plain http to any address but this machine's, even as ``localhost``."""
    found = _literal(address)
    if found is None or not found.is_loopback:
        raise ConfigurationError(
            f"The Rivya base URL is plain http, and {host} is not this machine.",
            hint="Correct the base URL, or what the name means in the hosts file.",
            sent=Sent.NO,
        )


def _literal(text: str) -> Address | None:
    """The address if ``text`` is its plain form; else None, as for names and zone ids."""
    if "%" in text:
        return None
    try:
        return ip_address(text)
    except ValueError:
        return None


def _embedded(address: Address) -> tuple[IPv4Address, ...]:
    """The IPv4 address inside an IPv6 address: mapped, compatible, NAT64, ISATAP."""
    if isinstance(address, IPv4Address):
        return ()
    number = int(address)
    low = IPv4Address(number & 0xFFFFFFFF)
    if address.ipv4_mapped is not None or address in _NAT64:
        return (low,)
    if address in _COMPATIBLE and number > 1:
        return (low,)
    if _is_isatap(address):
        return (low,)
    return ()


def _is_isatap(address: Address) -> bool:
    """Whether the lower half carries an IPv4 address; any network can be the upper half."""
    return isinstance(address, IPv6Address) and (int(address) >> 32) & 0xFFFFFFFF in _ISATAP_MARKS


def _refused(host: str, why: str, hint: str | None = None) -> UnusableAnswerError:
    shown = ascii(host)[1:-1][:100]
    return UnusableAnswerError(
        f"The host of the result was not asked: {shown} {why}.",
        code="forbidden_address",
        hint=hint
        or "If your network really keeps results there, add it to allowed_result_networks in config.json; "
        "otherwise report it to Rivya support.",
        sent=Sent.NO,
    )
