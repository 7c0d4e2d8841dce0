"""Checks that a fleet's machines share account, ledger and place for pictures.

Each machine reads its own environment and reports no secret: of the key, a digest with a salt drawn for this check.
"""

from __future__ import annotations

import hmac
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from secrets import token_hex

from . import config as configuration
from . import ledger_url
from .config import Config
from .errors import ConfigurationError, RivyaError, costs_nothing
from .ledger.opening import open_ledger
from .storage.opening import agree_on_place, open_store

_NOTE = "ledger"
"""Name of the note in a shared ledger that holds its random identity."""

_PATIENCE_S = 5.0
"""Retry limit for an unreachable ledger: other machines wait for the answer, and no order runs yet."""


@dataclass(frozen=True)
class Machine:
    """How one machine is set up.

    Attributes:
        name: for people; the same name is the same machine.
        base_url: the address of the service.
        key: digest of the key.
        ledger: identity of its ledger.
        shared: whether machines can share that ledger.
        results: `Config.results`.
        problem: message, hint and code of the error that prevents orders; None: none.
    """

    name: str
    base_url: str = ""
    key: str = ""
    ledger: str = ""
    shared: bool = False
    results: str = ""
    problem: tuple[str, str, str] | None = None


def look(name: str, salt: str) -> Machine:
    """Return how this machine is set up. Opens a shared ledger; sends nothing to the service. Raises nothing."""
    try:
        config = configuration.load()
        key = config.require_key().reveal()
        digest = hmac.digest(salt.encode(), key.encode(), "sha256").hex()
        shared = config.ledger is not None
        return Machine(name, config.base_url, digest, _ledger_of(config), shared, config.results)
    except RivyaError as error:
        return Machine(name, problem=(error.message, error.hint, error.code))


def _ledger_of(config: Config) -> str:
    """Return a ledger's identity; tries a shared one and its place for pictures."""
    if config.ledger is None:
        return os.path.realpath(config.home)
    holder, ledger = open_ledger(replace(config, retry_budget_s=_PATIENCE_S))
    try:
        identity = ledger.note_once(_NOTE, token_hex(16))
        store = open_store(config)
        agree_on_place(ledger, store)
        store.check_writable()
        return f"{identity} {ledger_url.shown(config.ledger)}"
    finally:
        holder.close()
        ledger.close()


@costs_nothing()
def agree(machines: Sequence[Machine]) -> Machine:
    """Check that work may be spread over these machines; return the first.

    Raises:
        ConfigurationError: one cannot order, or they differ; nothing was sent.
    """
    for each in machines:
        if each.problem is not None:
            message, hint, code = each.problem
            hint = f"{hint} Settings count in the environment of each node, before ray starts there.".strip()
            raise ConfigurationError(f"{each.name}: {message}", hint=hint, code=code)
    first, *others = machines
    several = len({each.name for each in machines})
    alone = next((each for each in machines if not each.shared), None)
    if several > 1 and alone is not None:
        raise ConfigurationError(
            f"There are {several} nodes, and the ledger of {alone.name} is a file on it: if it dies, the pictures that "
            "it has paid for are lost.",
            hint=f"Set {configuration.ENV_LEDGER} to the same postgresql://USER@HOST/DATABASE on all of them, and "
            f"{configuration.ENV_RESULTS} to the same bucket or shared folder; or use one node.",
            code="ledger_not_shared",
        )
    for name, setting, why in _ALIKE:
        for each in others:
            if getattr(each, name) != getattr(first, name):
                raise ConfigurationError(
                    f"{setting} is not the same on {first.name} and {each.name}: {why}.",
                    hint=f"Set {setting} to the same value on all nodes.",
                    code="nodes_differ",
                )
    return first


_ALIKE = (
    ("base_url", configuration.ENV_BASE_URL, "one of them would order elsewhere"),
    ("key", configuration.ENV_KEY, "what one account has bought, the other would buy again"),
    ("shared", configuration.ENV_LEDGER, "what stands in one ledger, the other would buy again"),
    (
        "ledger",
        f"{configuration.ENV_LEDGER} or {configuration.ENV_HOME}",
        "what stands in one ledger, the other would buy again",
    ),
)
