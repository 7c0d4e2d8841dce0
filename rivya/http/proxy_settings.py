"""The proxy that a request takes, as the environment or the desktop names it.

Found as Python's standard library finds it: variables in both cases, and the system's settings on Windows and macOS.
Requests to this machine never take one: plain http is allowed there only because it does not leave it.
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
"""Schemes, and what they are. Desktops and their proxy programs write ``socks`` for SOCKS5. A SOCKS5 proxy is always
given the name, so that ``socks5h`` is no other kind."""

_SOCKS_PORT = 1080
_HOST = r"\[[0-9A-Fa-f:.]+\]|[^\s:/@?#\[\]\"'<>\\]+"
_WANTED = (
    "Write it as http://HOST:PORT, or socks5://HOST:PORT for SOCKS; USER:PASSWORD@ may stand before HOST."
)


def proxy_for(scheme: str, host: str) -> str | None:
    """The proxy for a host: http, https or socks5, user and password quoted as in any URL. None: straight.

    Blocks: some systems look the host up to answer.

    Raises:
        ConfigurationError: what is set is no proxy that can be used; it names variable and value without password.
    """
    if is_loopback(host):
        return None
    proxies = getproxies()
    named = next((found for kind in (scheme, "all") if (found := unquoted(proxies.get(kind, "")))), "")
    if not named or proxy_bypass(host) or _excepted(host, proxies.get("no", "")):
        return None
    return _plain(named)


def where_set(named: str) -> str:
    """The variable that holds this value, or the system's settings."""
    for name in sorted(os.environ, reverse=True):  # the lower-case one counts first
        if name.lower().endswith("_proxy") and unquoted(os.environ[name]) == named:
            return name
    return "the system's proxy settings"


def _excepted(host: str, exceptions: str) -> bool:
    """Whether NO_PROXY leaves the host out in a form that the standard library does not know: ``*.x`` and networks."""
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
    """The URL of the proxy in its one form. Passwords are taken as they are often written: unquoted."""
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
    """A proxy's URL for a message: scheme, host and port."""
    scheme, separator, rest = named.partition("://")
    if not separator:
        scheme, rest = "", named
    return clean_text(f"{scheme}{separator}{rest.rpartition('@')[2].partition('?')[0]}", 100)
