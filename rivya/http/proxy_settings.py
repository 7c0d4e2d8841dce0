"""The proxy of a request, from the environment or desktop.

Detected as by Python's standard library: variables in both cases, system settings on Windows and macOS. Requests to
this machine use none: plain http is allowed only because it stays there.
"""

from __future__ import annotations

import os
import re
from importlib.util import find_spec
from ipaddress import ip_address, ip_network
from urllib.parse import quote, unquote
from urllib.request import getproxies, proxy_bypass

from .. import commands
from ..config import unquoted
from ..errors import ConfigurationError, Sent
from .guard import is_loopback
from .values import clean_text

_KINDS = {"http": "http", "https": "https", "socks5": "socks5", "socks5h": "socks5", "socks": "socks5"}
"""Scheme names by kind. Desktops and proxy programs write ``socks`` for SOCKS5. A SOCKS5 proxy always gets the host
name, so ``socks5h`` is the same.
"""

_SOCKS_PORT = 1080
_HOST = r"\[[0-9A-Fa-f:.]+\]|[^\s:/@?#\[\]\"'<>\\]+"
_WANTED = (
    "Write it as http://HOST:PORT, or socks5://HOST:PORT for SOCKS; USER:PASSWORD@ may stand before HOST."
)


def proxy_for(scheme: str, host: str) -> str | None:
    """The proxy URL for a host: http, https or socks5, user and password quoted. None: no proxy.

    Blocks: some systems look up the host.

    Raises:
        ConfigurationError: no usable proxy; names variable and value without password.
    """
    if is_loopback(host):
        return None
    proxies = getproxies()
    named = next((found for kind in (scheme, "all") if (found := unquoted(proxies.get(kind, "")))), "")
    if not named or proxy_bypass(host) or _excepted(host, proxies.get("no", "")):
        return None
    return _plain(named)


def where_set(named: str) -> str:
    """The variable with this value, or the system's settings."""
    for name in sorted(os.environ, reverse=True):  # the lower-case one takes precedence
        if name.lower().endswith("_proxy") and unquoted(os.environ[name]) == named:
            return name
    return "the system's proxy settings"


def _excepted(host: str, exceptions: str) -> bool:
    """Whether NO_PROXY excludes the host in a form the standard library lacks: ``*.x`` and networks."""
    for entry in re.split(r"[\s,;]+", unquoted(exceptions)):
        if entry.startswith("*.") and host.lower().endswith(entry[1:].lower()):
            return True
        try:
            if "/" in entry and ip_address(host.strip("[]")) in ip_network(entry, strict=False):
                return True
        except ValueError:
            continue
    return False


def _plain(named: str) -> str:
    """The normalised proxy URL; passwords may be unquoted, as is common."""
    scheme, separator, rest = named.partition("://")
    if not separator:
        scheme, rest = "http", named.lstrip("/")
    kind = _KINDS.get(scheme.lower())
    if kind is None:
        other = "SOCKS4 is not supported" if scheme.lower().startswith("socks4") else "no such proxy is known"
        raise _unusable(named, other)
    login, at, address = rest.rpartition("@")
    found = re.fullmatch(rf"({_HOST})(?::([0-9]{{1,5}}))?/*", address)
    if found is None or not 0 < int(found[2] or 1) < 65536:
        raise _unusable(named, "host and port cannot be read")
    if kind == "socks5" and find_spec("socksio") is None:
        raise _needs_socks(named)
    port = found[2] or (str(_SOCKS_PORT) if kind == "socks5" else "")
    user, colon, password = login.partition(":")
    quoted = f"{_quoted(user)}{colon}{_quoted(password)}{at}" if login else ""
    return f"{kind}://{quoted}{found[1]}{':' if port else ''}{port}"


def _quoted(text: str) -> str:
    return quote(unquote(text), safe="")


def _unusable(named: str, why: str) -> ConfigurationError:
    return ConfigurationError(
        f"{where_set(named)} is {without_password(named)}, which cannot be used as a proxy: {why}.",
        hint=_WANTED,
        code="proxy",
        sent=Sent.NO,
    )


def _needs_socks(named: str) -> ConfigurationError:
    return ConfigurationError(
        f"{where_set(named)} is {without_password(named)}, a SOCKS proxy, for which a package is not installed.",
        hint=f"Run {commands.pip_install('socksio')} and start again.",
        code="package_missing",
        sent=Sent.NO,
    )


def without_password(named: str) -> str:
    """The proxy URL for messages: scheme, host and port."""
    scheme, separator, rest = named.partition("://")
    if not separator:
        scheme, rest = "", named
    return clean_text(f"{scheme}{separator}{rest.rpartition('@')[2].partition('?')[0]}", 100)
