"""The concurrency limit of an account over all hosts (AIMD, learned from 429), with a row per slot: a *place*.

This is `api.policy.AdaptiveLimit` for a shared ledger: a 429 to any host halves the limit, which then rises slowly.
Times are the database's. No commit waits for a disk: a limit lost in a crash is learned again.
"""

from __future__ import annotations

from dataclasses import dataclass

from .beats import SILENCE_S
from .database import Connection, Database

FIRST_LIMIT = 8.0
"""The first limit of an account: starting at the maximum, a fleet would begin with a burst of 429."""

BURST_S = 5.0
"""A 429 within this time of a halving belongs to the same burst, on any host."""

_TAKE = """
    WITH alive AS (SELECT id FROM holders WHERE beat_at > now() - make_interval(secs => ?))
    UPDATE places SET holder = ? WHERE scope = ? AND n = (
        SELECT p.n FROM places AS p JOIN bounds AS b ON b.scope = p.scope
        WHERE p.scope = ? AND p.n <= least(floor(b.most), ?) AND b.held_until <= now()
        AND (p.holder IS NULL OR p.holder NOT IN (SELECT id FROM alive))
        AND floor(b.most) > (SELECT count(*) FROM places WHERE scope = b.scope AND holder IN (SELECT id FROM alive))
        ORDER BY p.n LIMIT 1 FOR UPDATE OF p SKIP LOCKED
    ) RETURNING n
"""


@dataclass(frozen=True)
class Shared:
    """The shared state of an account.

    Attributes:
        most: the concurrency limit, 1 or more.
        hold_s: seconds until any host may send a new order.
    """

    most: float
    hold_s: float


class SharedPlaces:
    """The places of accounts in one ledger. Methods block and raise `LedgerError`.

    Args:
        me: the holder id that takes places.
    """

    def __init__(self, database: Database, me: str) -> None:
        self._database, self._me = database, me

    def take(self, scope: str, own_most: int) -> int | None:
        """Take a place and return its number; None if all are taken or the account is on hold. A dead holder's place is
        free.

        An order refused by a 429 keeps its place, also above the halved limit, and is sent again. It counts: otherwise
        new orders would fill the places below the limit, and the one sent again would be refused again.

        Args:
            own_most: the highest number to take.
        """

        def work(connection: Connection) -> int | None:
            taken = connection.execute(_TAKE, (SILENCE_S, self._me, scope, scope, own_most)).fetchone()
            return None if taken is None else int(taken["n"])

        return self._database.write(work, durable=False)

    def give_back(self, scope: str, number: int) -> None:
        self._database.write(
            lambda connection: connection.execute(
                "UPDATE places SET holder = NULL WHERE scope = ? AND n = ? AND holder = ?",
                (scope, number, self._me),
            ),
            durable=False,
        )

    def open(self, scope: str, own_most: int) -> Shared:
        """Create the limit and missing places of an account; its state."""

        def work(connection: Connection) -> None:
            connection.execute(
                "INSERT INTO bounds (scope, most, halved_at, held_until)"
                " VALUES (?, ?, to_timestamp(0), to_timestamp(0)) ON CONFLICT (scope) DO NOTHING",
                (scope, FIRST_LIMIT),
            )
            connection.execute(
                "INSERT INTO places (scope, n) SELECT ?, n FROM generate_series(1, ?) AS n"
                " ON CONFLICT (scope, n) DO NOTHING",
                (scope, own_most),
            )

        self._database.write(work, durable=False)
        return self.known(scope)

    def known(self, scope: str) -> Shared:
        """The account's state now."""
        (row,) = self._database.read(
            "SELECT most, greatest(0, extract(epoch FROM held_until - now()))::float8 AS hold_s"
            " FROM bounds WHERE scope = ?",
            (scope,),
        )
        return Shared(float(row["most"]), float(row["hold_s"]))

    def refused(self, scope: str, hold_s: float) -> Shared:
        """Record a 429: halve the limit once per burst; hold all hosts for ``hold_s`` seconds."""
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
        """Record accepted orders: the limit rises by one per full round of them, at most to ``own_most``."""
        self._database.write(
            lambda connection: connection.execute(
                "UPDATE bounds SET most = greatest(most, least(?, most + ? / most))"
                " WHERE scope = ? AND halved_at < now() - make_interval(secs => ?)",
                (own_most, float(orders), scope, BURST_S),
            ),
            durable=False,
        )
        return self.known(scope)
