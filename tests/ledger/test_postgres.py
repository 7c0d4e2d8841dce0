"""The ledger in PostgreSQL: what it says when it cannot be used, who lives, and what becomes of a lost connection."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from rivya.errors import LedgerError, RivyaError
from rivya.ledger import beats, schema
from rivya.ledger.beats import BeatHolder
from rivya.ledger.ledger import Ledger, OrderRow, OrderState
from rivya.ledger.postgres import PostgresDatabase, raise_schema, translated
from rivya.secret import Secret
from support.postgres import PASSWORD, PgBouncer, Postgres

Prepare = Callable[..., OrderRow]


def opened(url: Secret, patience_s: float = 20.0) -> Ledger:
    database = PostgresDatabase(url, patience_s=patience_s)
    return Ledger(database, BeatHolder(database, PostgresDatabase(url, patience_s=0.0)))


def refusal(url: str) -> RivyaError:
    with pytest.raises(RivyaError) as caught:
        opened(Secret(url))
    return caught.value


def test_tables_lie_in_a_schema_of_their_own() -> None:
    assert (
        translated("SELECT x FROM orders WHERE scope IN (SELECT scope FROM scopes) AND orders.id = ?")
        == "SELECT x FROM rivya.orders WHERE scope IN (SELECT scope FROM rivya.scopes) AND orders.id = %s"
    )
    assert translated("INSERT INTO runs (a) VALUES (?) ON CONFLICT (a) DO UPDATE SET a = 1").startswith(
        "INSERT INTO rivya.runs (a) VALUES (%s)"
    )


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"password": "wrong"}, "refuses this user or password"),
        ({"database": "none_such"}, "is no database of that server"),
        ({"port": 1}, "does not answer"),
        ({"more": "?sslmode=require"}, "is not offered over TLS"),
        ({"host": "nowhere.invalid"}, "names a host that is not found"),
        ({"more": "?nonsense=1"}, "has a URL that cannot be read"),
        ({"user": "worker"}, "gives this role too few rights"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_database_that_cannot_be_used_says_why_and_names_the_setting(
    postgres: Postgres, change: dict[str, Any], sentence: str
) -> None:
    database = postgres.make_database()
    if change.get("user") == "worker":
        postgres.run(f"CREATE ROLE worker LOGIN PASSWORD '{PASSWORD}'", "postgres")
    more, host = change.pop("more", ""), change.pop("host", "127.0.0.1")
    url = postgres.url(**{"database": database, **change}).replace("127.0.0.1", host) + more
    error = refusal(url)
    assert sentence in error.message
    assert "RIVYA_LEDGER" in error.hint or "ledger init" in error.hint
    assert error.charged is None
    assert PASSWORD not in str(error) + repr(error.as_dict())
    assert error.__cause__ is None
    assert error.__suppress_context__


def test_a_schema_that_is_not_ours_is_left_alone(postgres: Postgres) -> None:
    database = postgres.make_database()
    for sql in ("CREATE SCHEMA rivya", "CREATE TABLE rivya.mine (a int)"):
        postgres.run(sql, database)
    assert "is not of this pack" in refusal(postgres.url(database)).message


def test_a_newer_schema_is_used_if_it_says_so_and_else_refused(postgres: Postgres) -> None:
    database = postgres.make_database()
    url = Secret(postgres.url(database))
    PostgresDatabase(url, patience_s=0.0).read("SELECT 1 FROM orders")
    postgres.run("UPDATE rivya.schema SET version = 99", database)
    PostgresDatabase(url, patience_s=0.0).read("SELECT 1 FROM orders")
    postgres.run("UPDATE rivya.schema SET compatible_from = 99", database)
    error = refusal(url.reveal())
    assert (error.code, "Update the pack" in error.hint) == ("ledger_too_new", True)


def test_hosts_that_start_at_once_raise_the_schema_once(database_url: Secret) -> None:
    failed: list[Exception] = []

    def start() -> None:
        try:
            PostgresDatabase(database_url, patience_s=5.0).read("SELECT 1 FROM orders")
        except Exception as error:
            failed.append(error)

    threads = [threading.Thread(target=start) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []


def test_a_later_step_is_taken_by_a_database_that_has_rows(
    postgres: Postgres, database_url: Secret, prepare: Prepare
) -> None:
    import psycopg
    from psycopg.rows import dict_row

    ledger = opened(database_url)
    row = prepare(ledger)
    with psycopg.connect(database_url.reveal(), autocommit=True, row_factory=dict_row) as connection:
        steps = (*schema.SHARED_STEPS, "ALTER TABLE rivya.orders ADD COLUMN later TEXT")
        raise_schema(connection, "", steps)
        raise_schema(connection, "", steps)
    assert ledger.get(row.id) == row


@pytest.fixture
def brisk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(beats, "BEAT_S", 0.3)
    monkeypatch.setattr(beats, "SILENCE_S", 1.5)


def fall_silent(ledger: Ledger) -> None:
    """The process goes on, and its beats do not arrive any more."""
    ledger._holder._closed.set()  # type: ignore[attr-defined]


def soon(check: Callable[[], bool], patience_s: float = 15.0) -> float:
    started = time.monotonic()
    while not check():
        assert time.monotonic() - started < patience_s
        time.sleep(0.05)
    return time.monotonic() - started


def test_an_order_of_one_who_says_nothing_is_taken_over_after_the_silence(
    brisk: None, database_url: Secret, prepare: Prepare
) -> None:
    dead, living = opened(database_url), opened(database_url)
    row = prepare(dead)
    assert not living.take(row.id)
    fall_silent(dead)
    assert soon(lambda: living.take(row.id)) > 0.8


def test_who_was_away_itself_takes_nothing_over_yet(
    brisk: None, database_url: Secret, prepare: Prepare, postgres: Postgres
) -> None:
    first, second = opened(database_url), opened(database_url)
    row = prepare(first)
    soon(lambda: time.monotonic() > 0 and second._holder.held)
    time.sleep(2.0)  # both have been in touch for longer than the silence
    # As after an outage: nobody could say anything for a while, and the one comes back before the other.
    fall_silent(first)
    second._database.write(
        lambda connection: connection.execute(
            "UPDATE holders SET beat_at = beat_at - make_interval(secs => 5)"
        )
    )
    assert not second.take(row.id)
    assert soon(lambda: second.take(row.id)) > 0.8


def test_an_orderly_end_frees_at_once(database_url: Secret, prepare: Prepare) -> None:
    first, second = opened(database_url), opened(database_url)
    row = prepare(first)
    assert not second.take(row.id)
    first._holder.close()
    assert second.take(row.id)


def test_a_restart_of_the_database_is_waited_for(prepare: Prepare) -> None:
    server = Postgres()  # one of its own, since all sessions of it are cut off
    try:
        ledger = opened(Secret(server.url("postgres")))
        row = prepare(ledger)
        server.stop()
        threading.Timer(2.0, server.start).start()
        ledger.submitted(row.id, task_id="task_1", reserved_credits=4)
        assert ledger.get(row.id).state is OrderState.SUBMITTED  # type: ignore[union-attr]
        server.stop()
        impatient = opened_again(ledger, 0.3)
        with pytest.raises(LedgerError, match="does not answer") as caught:
            impatient.get(row.id)
        assert caught.value.code == "ledger_unreachable"
    finally:
        server.remove()


def opened_again(ledger: Ledger, patience_s: float) -> Ledger:
    ledger._database._patience_s = patience_s  # type: ignore[attr-defined]
    return ledger


def test_nothing_lives_in_the_session(postgres: Postgres, pgbouncer: PgBouncer, prepare: Prepare) -> None:
    """In transaction mode each transaction may meet another session of the pool."""
    database = postgres.make_database()
    url = Secret(postgres.url(database, port=pgbouncer.port))
    ledgers = [opened(url) for _ in range(8)]
    failed: list[Exception] = []

    def work(number: int) -> None:
        try:
            for turn in range(10):
                row = prepare(ledgers[number], f"f{number}-{turn}")
                ledgers[number].submitted(row.id, task_id=f"t{row.id}", reserved_credits=4)
                ledgers[number].stored(row.id)
        except Exception as error:
            failed.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    assert len(ledgers[0].uncollected("s")) == 80
    assert postgres.run("SELECT count(*) AS n FROM pg_prepared_statements", database) == [{"n": 0}]
