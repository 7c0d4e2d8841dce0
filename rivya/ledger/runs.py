"""Credits spent by a named run, over all processes that share the ledger."""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import ConfigurationError
from .database import Connection, Database


@dataclass(frozen=True)
class Spending:
    """What an order takes from a run's budget.

    Attributes:
        run: the run's name.
        credits: the order's price.
        most: the run's budget in credits; None: no limit.
    """

    run: str
    credits: int
    most: int | None


@dataclass(frozen=True)
class RunReport:
    """The orders that a named run bought; those bought earlier do not count.

    Attributes:
        spent: credits against the budget: charged, reserved, or perhaps charged.
        orders: number of orders by state name.
    """

    run: str
    spent: int
    orders: dict[str, int]


def reserve(database: Database, connection: Connection, order_id: int, spending: Spending) -> None:
    """Reserve an order's credits in its run's budget, in the transaction that inserts it.

    Raises:
        ConfigurationError: ``over_credit_cap``: the budget would be exceeded.
    """
    run, credits = spending.run, spending.credits
    database.make_table(connection, "runs")
    database.make_table(connection, "spendings")
    connection.execute("INSERT INTO runs (run, spent) VALUES (?, 0) ON CONFLICT (run) DO NOTHING", (run,))
    most = 2**62 if spending.most is None else spending.most
    taken = connection.execute(
        "UPDATE runs SET spent = spent + ? WHERE run = ? AND spent + ? <= ?", (credits, run, credits, most)
    )
    if taken.rowcount != 1:
        raise ConfigurationError(
            f"The limit of {most} credits of the run {run} is reached, so this picture was not ordered.",
            hint="Raise the limit and run the same again: what has been bought costs nothing more.",
            code="over_credit_cap",
        )
    connection.execute(
        "INSERT INTO spendings (order_id, run, credits) VALUES (?, ?, ?)", (order_id, run, credits)
    )


def give_back(database: Database, connection: Connection, order_id: int, *, remove: bool = False) -> None:
    """Return the credits of an order that cost nothing, in the transaction that records that.

    Args:
        remove: the order never existed, so the run does not list it either.
    """
    if not database.has_table(connection, "spendings"):
        return
    row = connection.execute("SELECT run, credits FROM spendings WHERE order_id = ?", (order_id,)).fetchone()
    if row is None:
        return
    connection.execute("UPDATE runs SET spent = spent - ? WHERE run = ?", (row["credits"], row["run"]))
    change = "DELETE FROM spendings" if remove else "UPDATE spendings SET credits = 0"
    connection.execute(f"{change} WHERE order_id = ?", (order_id,))


def report(database: Database, run: str) -> RunReport:
    """Only the newest attempt at each order counts."""

    def work(connection: Connection) -> RunReport:
        if not database.has_table(connection, "spendings"):
            return RunReport(run, 0, {})
        spent = connection.execute("SELECT spent FROM runs WHERE run = ?", (run,)).fetchone()
        states = connection.execute(
            "SELECT state, count(*) AS number FROM orders WHERE id IN (SELECT order_id FROM spendings WHERE run = ?)"
            " AND NOT EXISTS (SELECT 1 FROM orders AS o WHERE o.scope = orders.scope"
            " AND o.fingerprint = orders.fingerprint AND o.attempt > orders.attempt) GROUP BY state",
            (run,),
        ).fetchall()
        return RunReport(
            run, int(spent["spent"]) if spent else 0, {row["state"]: int(row["number"]) for row in states}
        )

    return database.write(work, durable=False)
