"""The ledger in PostgreSQL: what it says when it cannot be used, who lives, and what becomes of a lost connection."""

from __future__ import annotations

import json
import logging
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hostile.leaks import found
from network.clients import everything_about
from rivya import config as configuration
from rivya import ledger_url
from rivya.errors import ConfigurationError, LedgerError, RivyaError
from rivya.ledger import beats, schema
from rivya.ledger.ledger import Ledger, OrderRow, OrderState
from rivya.ledger.opening import open_ledger
from rivya.ledger.postgres import PostgresDatabase, raise_schema, translated
from rivya.ledger.runs import Spending
from rivya.secret import Secret
from support.postgres import PASSWORD, PgBouncer, Postgres, opened

pytestmark = pytest.mark.heavy

Prepare = Callable[..., OrderRow]


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
    assert error.__cause__ is error.__context__ is None


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
    ledger._holder._beat = lambda: None  # type: ignore[attr-defined]


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


def test_the_password_of_the_url_is_shown_nowhere(
    postgres: Postgres, tmp_path: Path, caplog: pytest.LogCaptureFixture, prepare: Prepare
) -> None:
    caplog.set_level(logging.DEBUG)
    told: dict[str, bytes] = {}
    for name, config in planted(postgres, tmp_path).items():
        assert config.ledger is not None
        told[f"config {name}"] = f"{config!r} {vars(config)} {ledger_url.shown(config.ledger)}".encode()
        try:
            holder, ledger = open_ledger(config)
            prepare(ledger)
            holder.close()
            ledger.close()
        except RivyaError as error:
            told[f"error {name}"] = f"{error} {error.as_dict()} {everything_about(error)}".encode()
    assert len(told) == 9
    told["log"] = caplog.text.encode()
    told |= {str(path): path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert not found({"the password": PASSWORD}, told)


def planted(postgres: Postgres, home: Path) -> dict[str, configuration.Config]:
    """Configurations with a password in the URL; no frame of the test itself holds it."""
    urls = {
        "used": postgres.url(postgres.make_database()),
        "no database": postgres.url("none_such"),
        "no server": postgres.url("x", port=1),
        "no TLS": postgres.url("x") + "?sslmode=require",
        "unreadable": postgres.url("x") + "?nonsense=1",
    }
    return {
        name: configuration.load({"RIVYA_LEDGER": url, "RIVYA_HOME": str(home)}) for name, url in urls.items()
    }


@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        ("mysql://u:planted@h/db", "is no URL of a PostgreSQL database"),
        ("postgresql://u:plan#ted@h/db", "has a character in its password"),
        ("postgresql://u:plan/ted@h/db", "has a character in its password"),
        ("postgresql://u:plan@ted@h/db", "has a character in its password"),
        ("postgresql://u:plan ted@h/db", "holds a space"),
        ("ledger.sqlite3", "is no URL of a PostgreSQL database"),
    ],
)
def test_a_wrong_url_is_refused_by_name_and_not_shown(tmp_path: Path, value: str, sentence: str) -> None:
    for env, stored in (({"RIVYA_LEDGER": value}, {}), ({}, {"ledger": value})):
        (tmp_path / "config.json").write_text(json.dumps(stored))
        with pytest.raises(ConfigurationError, match=sentence) as caught:
            configuration.load({"RIVYA_HOME": str(tmp_path), **env})
        assert caught.value.message.startswith("RIVYA_LEDGER" if env else "ledger in config.json")
        assert "RIVYA_LEDGER" in caught.value.hint
        assert "plan" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "env", "mode"),
    [
        ("postgresql://u@db.example.com/x", {}, "verify-full"),
        ("postgresql://u@db.example.com/x?sslmode=require", {}, None),
        ("postgresql://u@db.example.com/x", {"PGSSLMODE": "disable"}, None),
        ("postgresql://u@127.0.0.1:5433/x", {}, None),
        ("postgresql://u@[::1]/x", {}, None),
        ("postgresql://u@localhost,db.example.com/x", {}, "verify-full"),
        ("postgresql:///x", {}, None),
        ("postgresql:///x?host=/run/postgresql", {}, None),
        ("postgresql:///x?host=10.0.0.5", {}, "verify-full"),
        ("postgresql:///x", {"PGHOST": "10.0.0.5"}, "verify-full"),
        ("postgresql:///?service=fleet", {}, "verify-full"),
    ],
)
def test_a_server_elsewhere_must_prove_who_it_is(url: str, env: dict[str, str], mode: str | None) -> None:
    assert ledger_url.security(Secret(url), env).get("sslmode") == mode


def test_without_psycopg_the_setting_and_the_command_that_installs_it_are_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    config = configuration.load({"RIVYA_LEDGER": "postgresql://h/x", "RIVYA_HOME": str(tmp_path)})
    with pytest.raises(ConfigurationError, match="RIVYA_LEDGER names a PostgreSQL database") as caught:
        open_ledger(config)
    assert "psycopg[binary]" in caught.value.hint


def test_a_worker_needs_no_right_to_change_tables(postgres: Postgres, prepare: Prepare) -> None:
    database = postgres.make_database()
    opened(Secret(postgres.url(database)))._holder.close()
    role = f"worker_{database}"
    postgres.run(f"CREATE ROLE {role} LOGIN PASSWORD '{PASSWORD}'", "postgres")
    for right in (
        f"GRANT USAGE ON SCHEMA rivya TO {role}",
        f"GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA rivya TO {role}",
        f"REVOKE INSERT, UPDATE, DELETE ON rivya.schema FROM {role}",
    ):
        postgres.run(right, database)
    ledger = opened(Secret(postgres.url(database, user=role)))
    row = prepare(ledger, spending=Spending("night", 4, 100))
    assert ledger.take(row.id)
    ledger.submitted(row.id, task_id="task_1", reserved_credits=4)
    ledger.stored(row.id)
    assert ledger.note_once("results", "here") == "here"
    assert ledger.places is not None
    ledger.places.open("s", 4)
    assert ledger.places.take("s", 4) == 1


def test_a_database_that_is_gone_does_not_delay_the_end_of_a_process(database_url: Secret) -> None:
    ledger = opened(database_url)
    own = ledger._holder._own  # type: ignore[attr-defined]
    with own._lock:  # as while it waits for an answer that never comes
        started = time.monotonic()
        ledger._holder.close()
        assert time.monotonic() - started < 5.0
    assert not ledger._holder.held
