"""The ledger that a configuration names, and this process's holder in it."""

from __future__ import annotations

from ..config import Config
from .holders import FileHolder, Holder
from .ledger import Ledger


def open_ledger(config: Config) -> tuple[Holder, Ledger]:
    """The holder and the ledger. Blocks.

    Raises:
        LedgerError: the folder or the database cannot be used.
        ConfigurationError: the database needs a package that is not installed.
    """
    holder = FileHolder(config.home)
    return holder, Ledger(config.home, holder)
