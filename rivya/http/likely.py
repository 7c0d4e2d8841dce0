"""Likely causes of a public name with a private address, and the setting for each."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_network

_FAKE = (
    "A proxy program that answers DNS with invented addresses (fake IP: Clash, mihomo, sing-box, Xray, Surge) "
    "or a VPN is likely behind it"
)
_FILTER = (
    "A filter of DNS (Pi-hole, AdGuard Home, the hosts file) is likely behind it: let this host pass there"
)
_OWN_NETWORK = "The DNS of a company, a VPN or a router is likely behind it"

_LIKELY = tuple(
    (ip_network(network), text, setting)
    for network, text, setting in (
        ("0.0.0.0/8", _FILTER, ""),
        ("127.0.0.0/8", _FILTER, ""),
        ("::/127", _FILTER, ""),
        ("169.254.0.0/16", "A login page of this network may be behind it: open it in the browser", ""),
        ("198.18.0.0/15", _FAKE, "198.18.0.0/15"),
        ("2001:2::/48", _FAKE, "2001:2::/48"),
        ("100.64.0.0/10", "Tailscale or the provider's network is likely behind it", "100.64.0.0/10"),
        ("10.0.0.0/8", _OWN_NETWORK, "/24"),
        ("172.16.0.0/12", _OWN_NETWORK, "/24"),
        ("192.168.0.0/16", _OWN_NETWORK, "/24"),
        ("240.0.0.0/4", _FAKE, "/16"),
        ("64:ff9b:1::/48", "NAT64 of this network is likely behind it", "/96"),
        ("fc00::/7", _FAKE, "/64"),
    )
)
"""Network, likely cause of an address in it, and what to allow: a network, or a prefix length around the address."""


def advice(address: IPv4Address | IPv6Address, allowed: tuple[str, ...]) -> str:
    """Advice on a name with this refused address, one sentence.

    Args:
        allowed: networks allowed now; a new setting replaces them.
    """
    text, setting = next(
        ((text, setting) for network, text, setting in _LIKELY if address in network), ("", "")
    )
    if text and not setting:
        return f"{text}."
    network = str(ip_network(f"{address}{setting}", strict=False)) if setting.startswith("/") else setting
    wanted = ", ".join(f'"{name}"' for name in (*allowed, network or str(address)))
    return (
        f"{text + '. ' if text else ''}If your network really has results there, "
        f'set "allowed_result_networks": [{wanted}] in config.json; otherwise report it to Rivya support.'
    )
