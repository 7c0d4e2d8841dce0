"""Who is alive, where the ledger is shared by many hosts: each process tells the database every few seconds.

No lock can prove it: behind a pooler a session's locks outlive their client, and a process that is stopped keeps them.
A process may therefore be taken for dead that is not, and the rules of the ledger make that harmless. The clock is the
database's alone.
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
"""A holder that has said nothing for so long is dead. Both are the defaults of Procrastinate's workers."""

LONG_SILENCE_S = 600.0
"""After so long a silence nobody asks who was away."""

LIVING = "SELECT id FROM holders WHERE beat_at > now() - make_interval(secs => ?)"
_KEPT_S = 86400.0
_GOODBYE_S = 2.0


class BeatHolder:
    """One engine's proof of life: a row that it renews. See `holders.Holder`."""

    def __init__(self, ledger: Database, own: Database) -> None:
        """Take a new identity and say so.

        Args:
            ledger: the database, for what is asked of it.
            own: the same one over a connection of its own, so that a beat never waits for other work.

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
        """Whether the name is still ours: not after `close`, and not in a forked child."""
        return not self._closed.is_set() and self._process == os.getpid()

    def take(self, connection: Connection, order_id: int) -> bool:
        """Become the order's holder if it has none, is ours, or its holder is dead; else False.

        Whoever takes over must itself have been in touch with the database for as long as the silence lasts: after an
        outage of the database everybody looks dead to everybody.
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
        """Those of these holders that have lately said that they live."""
        if not others:
            return set()
        return {row["id"] for row in self._ledger.read(LIVING, (SILENCE_S,))} & set(others)

    def close(self) -> None:
        """Give the identity up: what it holds may be taken over from now on."""
        if not self.held:
            return
        self._closed.set()
        atexit.unregister(self.close)
        # Its thread says so, and may be waiting for a database that is gone: that must not delay the end of a process.
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
