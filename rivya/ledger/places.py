"""How many orders of an account run at once over all hosts: a bound that learns from 429, and a row for each place.

Where one ledger is shared, `api.policy.AdaptiveLimit` is here once for all: halved when the service says "too many" to
any host, then slowly raised again. The clock is the database's. Nothing here is worth waiting for a disk: what a crash
takes back is learned anew.
"""

from __future__ import annotations

from dataclasses import dataclass

from .beats import SILENCE_S
from .database import Connection, Database

FIRST_BOUND = 8.0
"""Where an account begins: from its ceiling a fleet would begin with a burst of refusals."""

BURST_S = 5.0
"""Refusals within this time of a halving are of the same burst, whichever host they met."""


@dataclass(frozen=True)
class Shared:
    """What all hosts know of an account.

    Attributes:
        most: orders that may run at once, 1 or more.
        hold_s: seconds for which nobody should send a new order.
    """

    most: float
    hold_s: float


class SharedPlaces:
    """The places of accounts in one ledger. Methods block and raise `LedgerError`.

    Args:
        me: the holder under whose name places are taken.
    """

    def __init__(self, database: Database, me: str) -> None:
        self._database, self._me = database, me

    def take(self, scope: str, own_most: int) -> int | None:
        """The number of a free place, which is ours from now on; None while there is none.

        A place of a holder that is dead is free. Args: own_most: no place above this number is taken.
        """

        def work(connection: Connection) -> int | None:
            taken = connection.execute(
                "UPDATE places SET holder = ? WHERE scope = ? AND n = ("
                " SELECT p.n FROM places AS p JOIN bounds AS b ON b.scope = p.scope"
                " WHERE p.scope = ? AND p.n <= least(floor(b.most), ?) AND b.held_until <= now()"
                " AND (p.holder IS NULL OR NOT EXISTS (SELECT 1 FROM holders AS h WHERE h.id = p.holder"
                " AND h.beat_at > now() - make_interval(secs => ?)))"
                " ORDER BY p.n LIMIT 1 FOR UPDATE OF p SKIP LOCKED) RETURNING n",
                (self._me, scope, scope, own_most, SILENCE_S),
            ).fetchone()
            return None if taken is None else int(taken["n"])

        return self._database.write(work, durable=False)

    def give_back(self, scope: str, number: int) -> None:
        """Let others have the place."""
        self._database.write(
            lambda connection: connection.execute(
                "UPDATE places SET holder = NULL WHERE scope = ? AND n = ? AND holder = ?",
                (scope, number, self._me),
            ),
            durable=False,
        )

    def open(self, scope: str, own_most: int) -> Shared:
        """Make the bound and the places of an account, as far as they are not there; what is known of it."""

        def work(connection: Connection) -> None:
            connection.execute(
                "INSERT INTO bounds (scope, most, halved_at, held_until)"
                " VALUES (?, ?, to_timestamp(0), to_timestamp(0)) ON CONFLICT (scope) DO NOTHING",
                (scope, FIRST_BOUND),
            )
            connection.execute(
                "INSERT INTO places (scope, n) SELECT ?, n FROM generate_series(1, ?) AS n"
                " ON CONFLICT (scope, n) DO NOTHING",
                (scope, own_most),
            )

        self._database.write(work, durable=False)
        return self.known(scope)

    def known(self, scope: str) -> Shared:
        """What all hosts know of the account now."""
        (row,) = self._database.read(
            "SELECT most, greatest(0, extract(epoch FROM held_until - now()))::float8 AS hold_s"
            " FROM bounds WHERE scope = ?",
            (scope,),
        )
        return Shared(float(row["most"]), float(row["hold_s"]))

    def refused(self, scope: str, hold_s: float) -> Shared:
        """The service answered 429: halve the bound once a burst, and hold everybody for what it named, in seconds."""
        self._database.write(
            lambda connection: connection.execute(
                "UPDATE bounds SET held_until = greatest(held_until, now() + make_interval(secs => ?)),"
                " most = CASE WHEN halved_at < now() - make_interval(secs => ?)"
                " THEN greatest(1, most / 2) ELSE most END,"
                " halved_at = CASE WHEN halved_at < now() - make_interval(secs => ?) THEN now() ELSE halved_at END"
                " WHERE scope = ?",
                (hold_s, BURST_S, BURST_S, scope),
            ),
            durable=False,
        )
        return self.known(scope)

    def accepted(self, scope: str, orders: int, own_most: int) -> Shared:
        """So many orders got through: one place more for each full round of them, up to our own ceiling."""
        self._database.write(
            lambda connection: connection.execute(
                "UPDATE bounds SET most = greatest(most, least(?, most + ? / most))"
                " WHERE scope = ? AND halved_at < now() - make_interval(secs => ?)",
                (own_most, float(orders), scope, BURST_S),
            ),
            durable=False,
        )
        return self.known(scope)
