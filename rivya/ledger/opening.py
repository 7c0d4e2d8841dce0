"""Open the configured ledger and a holder for this process."""

from __future__ import annotations

from ..config import Config
from .beats import BeatHolder
from .holders import FileHolder, Holder
from .ledger import Ledger
from .postgres import PostgresDatabase


def open_ledger(config: Config) -> tuple[Holder, Ledger]:
    """The holder and the ledger. Blocks.

    Raises:
        LedgerError: folder or database cannot be used.
        ConfigurationError: the database needs a package that is not installed.
    """
    if config.ledger is None:
        files = FileHolder(config.home)
        return files, Ledger(config.home, files)
    database = PostgresDatabase(config.ledger, patience_s=config.retry_budget_s)
    beats = BeatHolder(database, PostgresDatabase(config.ledger, patience_s=0.0))
    return beats, Ledger(database, beats)
