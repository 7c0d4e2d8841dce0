"""Liveness in a shared ledger: each process writes a heartbeat to the database.

No lock can prove it: behind a pooler, a session's locks outlive the client, and a stopped process keeps its own. A
living process may thus be taken for dead; the ledger's rules make that harmless. Times are the database's.
"""

from __future__ import annotations

import atexit
import logging
import os
import threading
from collections.abc import Collection
from secrets import token_hex

from ..errors import LedgerError
from .database import Connection, Database

log = logging.getLogger("rivya")

BEAT_S = 10.0
SILENCE_S = 30.0
"""A holder without a heartbeat for this long is dead. Both are the defaults of Procrastinate's workers."""

LONG_SILENCE_S = 600.0
"""A holder silent for this long is dead even to a process that was away itself; see `BeatHolder.take`."""

LIVING = "SELECT id FROM holders WHERE beat_at > now() - make_interval(secs => ?)"
_KEPT_S = 86400.0
_GOODBYE_S = 2.0


class BeatHolder:
    """The heartbeat row of one engine. See `holders.Holder`."""

    def __init__(self, ledger: Database, own: Database) -> None:
        """Register a new identity.

        Args:
            ledger: the database.
            own: the same over a second connection, so that heartbeats never wait for other work.

        Raises:
            LedgerError: the database cannot be used.
        """
        self.id = f"{os.getpid()}-{token_hex(8)}"
        self._ledger, self._own = ledger, own
        self._process = os.getpid()
        self._closed, self._gone = threading.Event(), threading.Event()
        self._beat()
        own.write(
            lambda connection: connection.execute(
                "DELETE FROM holders WHERE beat_at < now() - make_interval(secs => ?)", (_KEPT_S,)
            ),
            durable=False,
        )
        threading.Thread(target=self._live, name="rivya-beats", daemon=True).start()
        atexit.register(self.close)

    @property
    def held(self) -> bool:
        return not self._closed.is_set() and self._process == os.getpid()

    def take(self, connection: Connection, order_id: int) -> bool:
        """See `Holder.take`. This process must itself have had contact with the database for `SILENCE_S`: after a
        database outage all holders look dead.
        """
        taken = connection.execute(
            "UPDATE orders SET holder = ? WHERE id = ? AND (holder IS NULL OR holder = ? OR NOT EXISTS ("
            " SELECT 1 FROM holders AS h WHERE h.id = orders.holder AND ("
            " h.beat_at > now() - make_interval(secs => ?)"
            " OR (h.beat_at > now() - make_interval(secs => ?) AND NOT EXISTS ("
            " SELECT 1 FROM holders AS me WHERE me.id = ? AND me.since <= now() - make_interval(secs => ?)"
            " AND me.beat_at > now() - make_interval(secs => ?))))))",
            (self.id, order_id, self.id, SILENCE_S, LONG_SILENCE_S, self.id, SILENCE_S, SILENCE_S),
        )
        return taken.rowcount == 1

    def living(self, others: Collection[str]) -> set[str]:
        if not others:
            return set()
        return {row["id"] for row in self._ledger.read(LIVING, (SILENCE_S,))} & set(others)

    def close(self) -> None:
        if not self.held:
            return
        self._closed.set()
        atexit.unregister(self.close)
        # The thread unregisters. It may be waiting for an unreachable database, which must not delay exit.
        self._gone.wait(_GOODBYE_S)

    def _live(self) -> None:
        while not self._closed.wait(BEAT_S):
            try:
                self._beat()
            except LedgerError as error:
                log.debug("%s", error.message)
                self._closed.wait(min(1.0, BEAT_S))
        try:
            self._own.write(
                lambda connection: connection.execute("DELETE FROM holders WHERE id = ?", (self.id,))
            )
        except LedgerError as error:
            log.debug("%s", error.message)
        self._own.close()
        self._gone.set()

    def _beat(self) -> None:
        self._own.write(
            lambda connection: connection.execute(
                "INSERT INTO holders AS h (id, beat_at, since) VALUES (?, now(), now()) ON CONFLICT (id) DO UPDATE"
                " SET since = CASE WHEN h.beat_at < now() - make_interval(secs => ?) THEN now() ELSE h.since END,"
                " beat_at = now()",
                (self.id, SILENCE_S * 5 / 6),
            ),
            durable=False,
        )
