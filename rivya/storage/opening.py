"""Chooses the configured result store, and compares it with the one in the ledger."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from ..bucket_urls import BucketUrl, is_bucket
from ..config import ENV_RESULTS, Config
from ..errors import ConfigurationError
from .folder import NAME, FolderStore
from .results import IDENTITY, ResultStore, StoredResult

log = logging.getLogger("rivya")

_NOTE = "results"


class Notes(Protocol):
    """The ledger's notes beside its orders; see `ledger.Ledger`."""

    def note(self, name: str) -> str | None:
        """The note of this name, if any."""
        ...

    def note_once(self, name: str, text: str) -> str:
        """Note ``text``, unless there is a note of this name; returns the note that holds."""
        ...


def open_store(config: Config) -> ResultStore:
    """The configured store. Touches no disk or bucket.

    Raises:
        ConfigurationError: it is a bucket, and obstore is not installed.
    """
    if not config.results:
        if config.ledger is not None:
            log.warning(
                "Rivya: the ledger is shared, and %s is not set: the pictures of this computer stay on it. Others "
                "fetch them again from Rivya, as long as it has them.",
                ENV_RESULTS,
            )
        return FolderStore(config.home, config.result_store_bytes)
    store: ResultStore
    if is_bucket(config.results):
        from .bucket import BucketStore

        store = BucketStore(BucketUrl.read(config.results))
    else:
        store = FolderStore(config.home, config.result_store_bytes, chosen=Path(config.results))
    earlier = config.home / NAME
    if not earlier.is_dir() or earlier.resolve() == Path(store.place):
        return store
    return _WithEarlier(store, FolderStore(config.home, config.result_store_bytes))


class _WithEarlier:
    """A store, plus the state folder's store from before the setting, whose results are still found."""

    def __init__(self, store: ResultStore, earlier: FolderStore) -> None:
        self._store, self._earlier = store, earlier
        self.place, self.remote = store.place, store.remote

    def put(
        self, scope: str, fingerprint: str, pictures: Sequence[tuple[bytes, str]], about: Mapping[str, Any]
    ) -> StoredResult:
        return self._store.put(scope, fingerprint, pictures, about)

    def get(self, scope: str, fingerprint: str) -> StoredResult | None:
        # The folder first: it costs no request.
        return self._earlier.get(scope, fingerprint) or self._store.get(scope, fingerprint)

    def mark_delivered(self, scope: str, fingerprint: str) -> None:
        if self._earlier.get(scope, fingerprint) is None:
            self._store.mark_delivered(scope, fingerprint)

    def check_writable(self) -> None:
        self._store.check_writable()

    def identity(self, known: str = "") -> str | None:
        return self._store.identity(known)


def agree_on_place(notes: Notes, store: ResultStore) -> None:
    """Make sure that all processes on this ledger use the same store. The first process decides.

    Raises:
        ConfigurationError: ``results_elsewhere``: the ledger remembers another store; nothing was sent.
        LedgerError: the ledger or the store cannot be used.
    """
    kept = notes.note(_NOTE) or ""
    identity, _, place = kept.partition(" ")
    own = store.identity(identity if place == store.place else "")
    if own is not None and not kept:
        identity, _, place = notes.note_once(_NOTE, f"{own} {store.place}").partition(" ")
    if identity == (own or ""):
        return
    set_to = (
        f"{ENV_RESULTS} names {store.place}, which is another one" if own else f"{ENV_RESULTS} is not set"
    )
    raise ConfigurationError(
        f"The pictures of this ledger are kept in {place}, and {set_to}.",
        hint=f"Set {ENV_RESULTS} to {place}. To go on elsewhere, copy all of it there, with the file {IDENTITY}; "
        f"if it is lost, make this file there, with the line {identity} in it.",
        code="results_elsewhere",
    )
