"""The proxy that a request takes, if any.

Proxies are found as Python's standard library finds them (environment, and the system's settings on Windows and
macOS). Requests to this machine never take one: plain http is allowed there only because it does not leave it.
"""

from __future__ import annotations

import ssl
from urllib.request import getproxies, proxy_bypass

from .. import commands
from ..errors import ConfigurationError, Sent
from .guard import is_loopback
from .network import httpx


def proxy_for(scheme: str, host: str) -> str | None:
    """The URL of the proxy for a host, None for a direct connection. Some systems look the host up to answer."""
    if is_loopback(host) or proxy_bypass(host):
        return None
    proxies = getproxies()
    named = proxies.get(scheme) or proxies.get("all")
    if not named:
        return None
    return named if "://" in named else f"http://{named}"


def usable(url: str, context: ssl.SSLContext) -> httpx.Proxy:
    """The proxy at ``url``, user and password included, as httpx takes it. A SOCKS proxy looks names up either way.

    Raises:
        ConfigurationError: it cannot be used.
    """
    try:
        proxy = httpx.Proxy(url.replace("socks5h:", "socks5:", 1))
        if not proxy.url.host:
            raise ValueError("no host")
    except (ValueError, httpx.InvalidURL):
        raise _no_proxy("cannot be used", "Correct HTTPS_PROXY or ALL_PROXY in the environment.") from None
    if proxy.url.scheme == "https":
        proxy.ssl_context = context
    elif proxy.url.scheme == "socks5":
        try:
            import socksio  # noqa: F401
        except ImportError:
            hint = f"Run: {commands.pip_install('socksio')}"
            raise _no_proxy("is a SOCKS proxy, which needs one more package", hint) from None
    return proxy


def _no_proxy(why: str, hint: str) -> ConfigurationError:
    return ConfigurationError(f"The proxy that is set {why}.", hint=hint, sent=Sent.NO)
