"""The URL of a ledger's database: what is valid, what may be shown, how TLS is required."""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Mapping
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from .errors import ConfigurationError, costs_nothing
from .secret import Secret

SETTING = "RIVYA_LEDGER"
HINT = f"Set {SETTING} to postgresql://USER@HOST/DATABASE, or to nothing for the file in the state folder."


@costs_nothing()
def read(value: object, setting: str) -> Secret:
    """Return the URL as a secret.

    Args:
        setting: origin of the value, for the error.

    Raises:
        ConfigurationError: ``ledger_setting``: no PostgreSQL URL. Hides the value.
    """
    if not isinstance(value, str):
        raise ConfigurationError(f"{setting} is not text.", hint=HINT, code="ledger_setting")
    problem = ""
    if not value.startswith(("postgresql://", "postgres://")):
        problem = "is no URL of a PostgreSQL database"
    elif not value.isprintable() or " " in value:
        problem = "holds a space or a control character"
    else:
        try:
            parts = urlsplit(value)
        except ValueError:
            problem = "cannot be read as a URL"
        else:
            if "@" in parts.path or "#" in value or "@" in parts.netloc.rpartition("@")[0]:
                problem = "has a character in its password that must be written as %XX (@ as %40, / as %2F, # as %23)"
    if problem:
        raise ConfigurationError(f"{setting} {problem}.", hint=HINT, code="ledger_setting")
    return Secret(value)


def shown(url: Secret) -> str:
    """Host and database: all that is ever shown of a URL."""
    parts = urlsplit(url.reveal())
    database = unquote(parts.path.strip("/")) or _query(parts).get("dbname", "") or "the default database"
    return f"{', '.join(_hosts(parts)) or 'this computer'}/{database}"


def security(url: Secret, env: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Return connection options that make the server prove its identity.

    Empty where the URL or ``PGSSLMODE`` sets a mode, or the connection is local (socket, loopback).
    """
    parts = urlsplit(url.reveal())
    query = _query(parts)
    if "sslmode" in query or env.get("PGSSLMODE"):
        return {}
    hosts = _hosts(parts) or [host for host in env.get("PGHOST", "").split(",") if host]
    service = "service" in query or env.get("PGSERVICE")
    if not service and all(_is_near(host) for host in hosts):
        return {}
    return {"sslmode": "verify-full"}


def _query(parts: SplitResult) -> dict[str, str]:
    return dict(parse_qsl(parts.query))


def _hosts(parts: SplitResult) -> list[str]:
    """The hosts of a URL as libpq reads it."""
    query = _query(parts)
    named = [each for each in parts.netloc.rpartition("@")[2].split(",") if each]
    hosts = [
        unquote(each[1:].partition("]")[0] if each[0] == "[" else each.partition(":")[0]) for each in named
    ]
    hosts += [each for name in ("host", "hostaddr") for each in query.get(name, "").split(",")]
    return [host for host in hosts if host]


def _is_near(host: str) -> bool:
    """Whether a host is a socket folder or loopback, without DNS."""
    if host.startswith(("/", "@")) or host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
