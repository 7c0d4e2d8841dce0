"""The configuration: environment, else ``config.json`` in the state folder, else defaults.

Neither key nor base URL is ever a node's widget: a shared workflow must not be able to send a key anywhere.
"""

from __future__ import annotations

import hashlib
import ipaddress
import json
import math
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from . import files, ledger_url
from .bucket_urls import BucketUrl, is_bucket
from .errors import ConfigurationError, costs_nothing
from .kontext import MAX_ORDERS
from .refusals import advice
from .secret import Secret
from .values import ANY_QUOTE, number, whole
from .values import unquoted as unquoted

ENV_KEY = "RIVYA_API_KEY"
ENV_BASE_URL = "RIVYA_BASE_URL"
ENV_CONCURRENCY = "RIVYA_MAX_CONCURRENCY"
ENV_HOME = "RIVYA_HOME"
ENV_RESULTS = "RIVYA_RESULTS"
ENV_LEDGER = ledger_url.SETTING
ENV_RUN = "RIVYA_RUN"
ENV_CREDIT_CAP = "RIVYA_MAX_CREDITS_PER_RUN"

DEFAULT_BASE_URL = "https://rivya.ai"
DEFAULT_CONCURRENCY = 8
MAX_CONCURRENCY = 1024
MOST_ORDERS_PER_NODE = 10_000
CONFIG_NAME = "config.json"
MAX_CONFIG_BYTES = 64 * 1024

FAKE_IP_NETWORKS = ("198.18.0.0/15", "2001:2::/48", "fc00::/18", "fdfe:dcba:9876::/64")
"""Ranges from which "fake IP" proxies, common with our users, answer DNS: 198.18.0.0/15 nearly all, fc00::/18
sing-box and Xray, fdfe:dcba:9876::/64 mihomo. Allowing them opens no private network: the first two are reserved for
benchmarks (RFC 2544, 5180) and not routed, fc00::/8 is unassigned (RFC 4193, 3.1), and a program invented the last.
"""


@dataclass(frozen=True)
class Config:
    """All settings, resolved once; immutable.

    Attributes:
        home: the state folder (ledger, result store, config.json).
        base_url: scheme, host and port, without a trailing slash.
        key: the API key, or None. Never shown.
        key_source: "environment", "file" or None.
        max_concurrency: limit of the account's concurrent orders.
        ledger: URL of the ledger's database; None: a file in the state folder. Never shown.
        run: name of a run whose orders share one budget across the ledger's processes; empty: none.
        max_credits_per_run: credit cap of one prompt's nodes, and of a named run's processes; None: no cap.
        max_orders_per_node: most orders of one node per prompt.
        allowed_result_networks: private networks (CIDR) that may serve results.
        results: folder or bucket URL of the result store; empty: in the state folder.
        result_store_bytes: cap of a result store in a folder.
        repeat_window_s: how long an order of unknown outcome is repeated with its key and body.
        conflict_wait_s: how long a 409 on a repeat means "the first is in flight".
        retry_budget_s: retry limit of one request.
        upload_confirm_age_s: age from which an upload is confirmed before use.
    """

    home: Path
    base_url: str = DEFAULT_BASE_URL
    key: Secret | None = None
    key_source: str | None = None
    max_concurrency: int = DEFAULT_CONCURRENCY
    ledger: Secret | None = None
    run: str = ""
    max_credits_per_run: int | None = None
    max_orders_per_node: int = MAX_ORDERS
    allowed_result_networks: tuple[str, ...] = FAKE_IP_NETWORKS
    results: str = ""
    result_store_bytes: int = 2 * 1024**3
    repeat_window_s: float = 12 * 3600.0
    conflict_wait_s: float = 60.0
    retry_budget_s: float = 120.0
    upload_confirm_age_s: float = 900.0

    @property
    def place(self) -> tuple[Path, Secret | None, str]:
        return self.home, self.ledger, self.results

    @property
    def key_hash(self) -> str:
        """SHA-256 (hex) of the key: all that the ledger stores of it."""
        return hashlib.sha256(self.require_key().reveal().encode("ascii")).hexdigest()

    @costs_nothing()
    def require_key(self) -> Secret:
        """Return the key. Raises `ConfigurationError` that says where to set it."""
        if self.key is None:
            raise ConfigurationError(
                "No Rivya API key is set.",
                hint=f"Set it under Settings > Rivya, or as {ENV_KEY} in the environment, "
                f'or as {{"api_key": "..."}} in {self.home / CONFIG_NAME}, then run again.',
                code="api_key_missing",
            )
        return self.key


@costs_nothing()
def load(env: Mapping[str, str] = os.environ, default_home: Path | None = None) -> Config:
    """Read the configuration. ``default_home`` applies without ``RIVYA_HOME``.

    Raises:
        ConfigurationError: names an invalid value, never shows a key.
    """
    home = state_folder(env, default_home)
    stored = _read(home / CONFIG_NAME)
    key, source = _find_key(env, stored, home)
    named_url = unquoted(env.get(ENV_BASE_URL, ""))
    if source == "environment" and "base_url" in stored and not named_url:
        _refuse_address_of_others(home)
    times: dict[str, Any] = {n: number(n, stored[n], 0, math.inf) for n in _TIMES if n in stored}
    concurrency: object = unquoted(env.get(ENV_CONCURRENCY, "")) or stored.get(
        "max_concurrency", DEFAULT_CONCURRENCY
    )
    return Config(
        home=home,
        base_url=normalise_base_url(named_url or stored.get("base_url", DEFAULT_BASE_URL)),
        key=key,
        key_source=source,
        max_concurrency=whole("max_concurrency", concurrency, 1, MAX_CONCURRENCY),
        ledger=_ledger(env, stored),
        run=_run(env),
        max_credits_per_run=_credit_cap(env, stored),
        max_orders_per_node=whole(
            "max_orders_per_node", stored.get("max_orders_per_node", MAX_ORDERS), 1, MOST_ORDERS_PER_NODE
        ),
        allowed_result_networks=_networks(stored),
        results=_results(env, stored, home),
        result_store_bytes=whole(
            "result_store_bytes", stored.get("result_store_bytes", 2 * 1024**3), 0, 2**60
        ),
        **times,
    )


def _refuse_address_of_others(home: Path) -> None:
    """Send no key of the environment to an address that another user of the machine configured."""
    if files.belongs_to_others(home) or files.belongs_to_others(home / CONFIG_NAME):
        raise ConfigurationError(
            f"{home / CONFIG_NAME} belongs to another user of this machine and names a base_url; "
            "the key in the environment is not sent there.",
            hint=f"Set {ENV_BASE_URL} in the environment too, or make the folder and the file your own.",
            code="base_url_of_another_user",
        )


_TIMES = ("repeat_window_s", "conflict_wait_s", "retry_budget_s", "upload_confirm_age_s")


@costs_nothing()
def state_folder(env: Mapping[str, str] = os.environ, default: Path | None = None) -> Path:
    """``RIVYA_HOME``, else ``default``, else in the user folder of the surrounding ComfyUI, else ``~/.rivya``.

    Raises:
        ConfigurationError: ``RIVYA_HOME`` is no path of this system, or the user has no home folder.
    """
    named = unquoted(env.get(ENV_HOME, ""))
    if named:
        return _named_folder(named, ENV_HOME, "the state folder")
    if default is not None:
        return default
    pack = Path(__file__).absolute().parent.parent
    if pack.parent.name == "custom_nodes" and (pack.parent.parent / "user").is_dir():
        return pack.parent.parent / "user" / "__rivya"
    return _own_folder() / ".rivya"


def _own_folder() -> Path:
    try:
        folder = Path.home()
        if folder.is_absolute():
            return folder
    except RuntimeError:
        pass
    raise ConfigurationError(
        "This user has no home folder, so there is no place for the state folder.",
        hint=f"Set {ENV_HOME} to the full path of a folder that this user may write.",
        code="state_folder",
    )


def _named_folder(named: str, setting: str, what: str) -> Path:
    """The absolute path that a setting names, for ``what``; expands ``~`` and a leading variable.

    Refuses unfinished expansions: taken literally they would make a new folder with an empty ledger, and buy again.
    """
    path = os.path.expandvars(named) if named[0] in "$%" else named
    problem = ""
    if path[0] in "$%":
        problem = "begins with a variable that is not set"
    elif path[0] in ANY_QUOTE or path[-1] in ANY_QUOTE:
        problem = "has a quote at its beginning or end"
    elif "://" in path or path.lower().startswith("file:"):
        problem = "is a URL"
    elif os.name == "posix" and re.match(r"[A-Za-z]:[\\/]|\\\\", path):
        problem = "is a path of Windows, and this is not Windows"
    elif any(ord(character) < 32 for character in path):
        problem = "holds a control character"
    else:
        try:
            return Path(path).expanduser().absolute()
        except (RuntimeError, OSError):
            problem = "begins with ~, and there is no such home folder"
    raise ConfigurationError(
        f"{setting} {problem}: {(named if named.isprintable() else ascii(named))[:200]}.",
        hint=f"Set {setting} to the full path of {what}, without quotes.",
        code="state_folder" if setting == ENV_HOME else "results_setting",
    )


def normalise_base_url(text: object) -> str:
    """Return the service's scheme, host and port; https, or http on loopback. Raises `ConfigurationError`."""
    if not isinstance(text, str):
        raise ConfigurationError("base_url in config.json is not text.", hint=_BASE_URL_HINT)
    try:
        parts = urlsplit(unquoted(text))
        host, port = parts.hostname or "", parts.port
    except ValueError:
        raise ConfigurationError("The Rivya base URL cannot be read.", hint=_BASE_URL_HINT) from None
    plain = parts.scheme == "http" and is_loopback_name(host)
    if not re.fullmatch(_HOST, host) or not (parts.scheme == "https" or plain):
        raise ConfigurationError(
            "The Rivya base URL is neither https nor http on this machine.", hint=_BASE_URL_HINT
        )
    if parts.username is not None or parts.query or parts.fragment or parts.path not in ("", "/"):
        raise ConfigurationError(
            "The Rivya base URL has more than scheme, host and port.", hint=_BASE_URL_HINT
        )
    shown = f"[{host}]" if ":" in host else host
    default_port = 443 if parts.scheme == "https" else 80
    return f"{parts.scheme}://{shown}" + ("" if port in (None, default_port) else f":{port}")


_HOST = r"[a-z0-9._:-]+"
_BASE_URL_HINT = f"Correct {ENV_BASE_URL} or base_url in config.json; without both it is {DEFAULT_BASE_URL}."


def is_loopback_name(host: str) -> bool:
    """Whether ``host`` is loopback without DNS: ``localhost``, 127.0.0.0/8 or ::1."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def clean_key(text: str, where: str) -> Secret | None:
    """The key without surrounding white space or quotes; None if empty. ``where`` names its origin in the error."""
    key = unquoted(text)
    if not key:
        return None
    if not all("!" <= c <= "~" and c not in ANY_QUOTE for c in key):
        raise ConfigurationError(
            f"The Rivya API key in {where} holds characters that cannot be part of a key.",
            hint="Copy the key again from rivya.ai; it begins with rvya_sk_ and has no spaces or quotes.",
            code="api_key_malformed",
        )
    if len(key) > 512:
        raise ConfigurationError(
            f"The Rivya API key in {where} is too long to be a key.", code="api_key_malformed"
        )
    return Secret(key)


@costs_nothing()
def key_status(env: Mapping[str, str] = os.environ, default_home: Path | None = None) -> dict[str, Any]:
    """Return whether a key is set, its source and its last four characters: all that is ever shown."""
    home = state_folder(env, default_home)
    key, source = _find_key(env, _read(home / CONFIG_NAME), home)
    return {"configured": key is not None, "source": source, "last4": key.reveal()[-4:] if key else None}


@costs_nothing()
def save_key(text: str, env: Mapping[str, str] = os.environ, default_home: Path | None = None) -> None:
    """Write the key to ``config.json`` (0600, atomic); other settings stay."""
    key = clean_key(text, "the settings")
    if key is None:
        raise ConfigurationError("The key is empty.", code="api_key_missing")
    _update({"api_key": key.reveal()}, state_folder(env, default_home))


@costs_nothing()
def remove_key(env: Mapping[str, str] = os.environ, default_home: Path | None = None) -> None:
    """Remove the key from ``config.json``, not from the environment."""
    _update({"api_key": None}, state_folder(env, default_home))


def _update(changes: Mapping[str, object], home: Path) -> None:
    stored = {**_read(home / CONFIG_NAME), **changes}
    kept = {name: value for name, value in stored.items() if value is not None}
    try:
        files.private_folder(home)
        files.write_atomic(home / CONFIG_NAME, json.dumps(kept, indent=2).encode())
    except OSError as error:
        raise ConfigurationError(
            f"{home / CONFIG_NAME} cannot be written: {error.strerror or error}.",
            hint=advice(home, error, home / CONFIG_NAME),
        ) from None


def _find_key(
    env: Mapping[str, str], stored: Mapping[str, Any], home: Path
) -> tuple[Secret | None, str | None]:
    key = clean_key(env.get(ENV_KEY, ""), ENV_KEY)
    if key is not None:
        return key, "environment"
    value = stored.get("api_key") or ""
    if not isinstance(value, str):
        raise ConfigurationError("api_key in config.json is not text.", code="api_key_malformed")
    key = clean_key(value, str(home / CONFIG_NAME))
    return key, "file" if key else None


def _read(path: Path) -> dict[str, Any]:
    try:
        raw = files.read_private(path, MAX_CONFIG_BYTES)
    except OSError as error:
        hint = "Correct the file or remove it."
        if isinstance(error, PermissionError):
            hint = advice(path.parent, error, path)
        raise ConfigurationError(f"{path} cannot be read: {error.strerror or error}.", hint=hint) from None
    if raw is None:
        return {}
    try:
        stored = json.loads(raw)
    except (ValueError, RecursionError):
        # The parser's message would quote the file, which holds the key.
        raise ConfigurationError(f"{path} is not JSON.", hint="Correct the file or remove it.") from None
    if not isinstance(stored, dict):
        raise ConfigurationError(
            f"{path} does not hold a JSON object.", hint="Correct the file or remove it."
        )
    return stored


def _results(env: Mapping[str, str], stored: Mapping[str, Any], home: Path) -> str:
    """The result store: folder, bucket URL, or empty for the state folder's own."""
    setting, value = ENV_RESULTS, unquoted(env.get(ENV_RESULTS, ""))
    if not value:
        setting, named = "results in config.json", stored.get("results") or ""
        if not isinstance(named, str):
            raise ConfigurationError(f"{setting} is not text.", hint=_RESULTS_HINT, code="results_setting")
        value = unquoted(named)
        # Paths in the file are relative to its folder, those in the environment to the working directory.
        if value and value[0] not in "~$%" and "://" not in value:
            value = os.path.join(home, value)
    if not value:
        return ""
    if not is_bucket(value):
        if "://" in value:
            raise ConfigurationError(
                f"{setting} is a URL of no bucket.", hint=_RESULTS_HINT, code="results_setting"
            )
        return str(_named_folder(value, setting, "a folder for the pictures"))
    try:
        return str(BucketUrl.read(value))
    except ValueError as error:
        # Do not show the value: a URL may hold a password.
        raise ConfigurationError(f"{setting} {error}.", hint=_RESULTS_HINT, code="results_setting") from None


_RESULTS_HINT = (
    f"Set {ENV_RESULTS} to a folder, or to s3://BUCKET/FOLDER, gs:// or az://; credentials go into the variables of "
    "that service, such as AWS_ACCESS_KEY_ID."
)


def _ledger(env: Mapping[str, str], stored: Mapping[str, Any]) -> Secret | None:
    named = unquoted(env.get(ENV_LEDGER, ""))
    if named:
        return ledger_url.read(named, ENV_LEDGER)
    value = stored.get("ledger")
    if value is None or value == "":
        return None
    return ledger_url.read(unquoted(value) if isinstance(value, str) else value, "ledger in config.json")


def _run(env: Mapping[str, str]) -> str:
    name = unquoted(env.get(ENV_RUN, ""))
    if len(name) > 200 or not name.isprintable():
        raise ConfigurationError(
            f"{ENV_RUN} is longer than 200 characters, or holds some that cannot be shown.",
            hint="Give the run a short name.",
            code="run_name",
        )
    return name


def _credit_cap(env: Mapping[str, str], stored: Mapping[str, Any]) -> int | None:
    named = unquoted(env.get(ENV_CREDIT_CAP, ""))
    value = named or stored.get("max_credits_per_run")
    name = ENV_CREDIT_CAP if named else "max_credits_per_run"
    return None if value is None else whole(name, value, 0, 2**53)


def _networks(stored: Mapping[str, Any]) -> tuple[str, ...]:
    value = stored.get("allowed_result_networks", list(FAKE_IP_NETWORKS))
    if not isinstance(value, list) or not all(isinstance(n, str) for n in value):
        raise ConfigurationError("allowed_result_networks in config.json is not a list of networks.")
    networks = tuple(unquoted(network) for network in value)
    for network in networks:
        try:
            ipaddress.ip_network(network)
        except ValueError:
            raise ConfigurationError(
                f"allowed_result_networks: {ascii(network)[:60]} is not a network such as 10.1.0.0/16."
            ) from None
    return networks
