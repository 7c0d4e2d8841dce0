"""What the orders of a named run have spent, over all processes that share the ledger."""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import ConfigurationError
from .database import Connection, Database


@dataclass(frozen=True)
class Spending:
    """What one order would take from the budget of a run.

    Attributes:
        run: the name of the run.
        credits: the price of the order.
        most: credits that the run may spend; None: any number.
    """

    run: str
    credits: int
    most: int | None


@dataclass(frozen=True)
class RunReport:
    """What became of the orders that a named run bought; what had been bought before is not among them.

    Attributes:
        spent: credits that count against the budget: charged, reserved, or perhaps charged.
        orders: how many orders are in each state, by its name.
    """

    run: str
    spent: int
    orders: dict[str, int]


def reserve(database: Database, connection: Connection, order_id: int, spending: Spending) -> None:
    """Count a new order, in the transaction that writes it down.

    Raises:
        ConfigurationError: ``over_credit_cap``: the run would spend more than it may.
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
    """Take an order that cost nothing off its run, in the transaction that notes it.

    Args:
        remove: the order never was, so that the run does not count it either.
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
    """What the orders of this run have come to."""

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
