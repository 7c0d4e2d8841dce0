"""Several hosts on one ledger: one charge for each order, every picture for everybody, whoever dies."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from fleet.conftest import Start, Worker, wait_for_tasks
from library.client import Client
from rivya.engine import engine
from rivya.ledger import beats
from rivya.ledger.ledger import Ledger
from rivya.ledger.places import FIRST_LIMIT
from rivya.orders import run, submit
from rivya.secret import Secret
from support.postgres import PgBouncer, Postgres, opened
from support.quick import QuickAccount

pytestmark = [pytest.mark.timeout(300), pytest.mark.xdist_group("fleet")]


def charges(service: Any) -> int:
    return len(service.charges())


def outcomes(workers: list[Worker]) -> list[dict[str, Any]]:
    return [told for worker in workers for told in worker.ended()]


def failed(told: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [each for each in told if "error" in each]


@pytest.mark.slow
@pytest.mark.parametrize("pooled", [False, True], ids=["direct", "pooler"])
def test_four_processes_with_fifty_equal_orders_pay_fifty(
    start: Start, serve: Callable[..., Any], postgres: Postgres, request: pytest.FixtureRequest, pooled: bool
) -> None:
    pooler: PgBouncer | None = request.getfixturevalue("pgbouncer") if pooled else None
    url = postgres.url(postgres.make_database(), port=pooler.port if pooler else None)
    service = serve(latency=0.5)
    told = outcomes(start(4, service, Secret(url), orders=50))
    assert failed(told) == []
    assert len(told) == 200
    assert charges(service) == 50


def test_what_a_killed_host_had_under_way_another_one_brings_home(
    start: Start, serve: Callable[..., Any], database_url: Secret
) -> None:
    service, at_once = serve(), int(FIRST_LIMIT)
    service.fault("create", "latency", seconds=300.0, times=None)
    (dead,) = start(1, service, database_url, orders=12)
    dead.holds(at_once, database_url)
    (alive,) = start(1, service, database_url, orders=12)
    dead.kill()
    service.clear_faults()
    service.finish_tasks()
    told = alive.ended()
    assert failed(told) == []
    assert charges(service) == 12
    assert Counter(each["source"] for each in told) == {"resumed": at_once, "new": 12 - at_once}


_MINUTE = [pytest.mark.long, pytest.mark.timeout(600)]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("away_s", "pooled"),
    [
        pytest.param(8, False, id="8"),
        pytest.param(60, False, id="60", marks=_MINUTE),
        pytest.param(60, True, id="60, pooler", marks=_MINUTE),
    ],
)
def test_a_crash_of_the_database_under_load_loses_nothing(
    start: Start, serve: Callable[..., Any], away_s: int, pooled: bool
) -> None:
    with ExitStack() as late:
        server = Postgres()
        late.callback(server.remove)
        port = None
        if pooled:
            pooler = PgBouncer(server)
            late.callback(pooler.remove)
            port = pooler.port
        service = serve(latency=1.0)
        url = Secret(server.url("postgres", port=port))
        # As in use: 10 s between two beats, 30 s of silence.
        workers = start(4, service, url, orders=50, beat_s=10.0, silence_s=30.0)
        wait_for_tasks(service, 10)
        server.stop()
        time.sleep(away_s)
        server.start()
        told = outcomes(workers)
    assert failed(told) == []
    assert (len(told), charges(service)) == (200, 50)


@pytest.fixture
def brisk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(beats, "BEAT_S", 0.3)
    monkeypatch.setattr(beats, "SILENCE_S", 1.5)
    monkeypatch.setattr(engine, "Account", _Patient)
    monkeypatch.setattr(submit, "_CONFLICT_PAUSE_S", 0.2)
    monkeypatch.setattr(run, "_SHARED_CHECK_S", 0.1)


class _Patient(QuickAccount):
    read_s = 30.0
    total_s = 30.0


@pytest.mark.parametrize("rejects", [False, True], ids=["replays", "rejects repeats"])
def test_a_host_that_was_taken_for_dead_and_hears_late_shares_its_picture(
    brisk: None, serve: Callable[..., Any], database_url: Secret, tmp_path: Path, rejects: bool
) -> None:
    """The beats of the first do not arrive and its answer is late; the second takes over and sends the same order."""
    service = serve(reject_repeats=rejects)
    common = {"ledger": database_url, "conflict_wait_s": 20.0, "retry_budget_s": 20.0}
    first = Client(tmp_path / "first", service.url, service.key, **common)
    second = Client(tmp_path / "second", service.url, service.key, **common)
    service.fault("create", "stall", when="after", seconds=6.0, times=1)
    first.state.holder._beat = lambda: None  # type: ignore[attr-defined]
    (slow,) = first.tickets(first.order())
    until = time.monotonic() + 20
    while not service.tasks():
        assert time.monotonic() < until
        time.sleep(0.02)
    time.sleep(2.0)
    (quick,) = second.tickets(second.order())
    pictures = [ticket.result(60).result.read() for ticket in (slow, quick)]
    assert pictures[0] == pictures[1]
    assert (len(service.tasks()), charges(service)) == (1, 1)
    assert len(service.requests("create")) > 1  # it was taken over, and sent again
    (row,) = first.rows()
    assert row.state.value == "stored"


def test_an_order_that_was_refused_after_it_was_taken_over_is_left_to_its_new_holder(
    brisk: None, serve: Callable[..., Any], database_url: Secret, tmp_path: Path
) -> None:
    """Not charged: that not be said by one whose order another host may be buying."""
    service = serve()
    common = {"ledger": database_url, "retry_budget_s": 20.0}
    first = Client(tmp_path / "first", service.url, service.key, **common)
    second = Client(tmp_path / "second", service.url, service.key, **common)
    service.fault("create", "status", status=422, when="before", times=1)
    slowed = threading.Event()
    discard = first.ledger.discard

    def late(order_id: int) -> bool:
        assert second.ledger._database.write(
            lambda connection: connection.execute("UPDATE orders SET holder = ?", (second.state.holder.id,))
        )
        slowed.set()
        return discard(order_id)

    first.ledger.discard = late  # type: ignore[method-assign]
    (slow,) = first.tickets(first.order())
    assert slowed.wait(20)
    (quick,) = second.tickets(second.order())
    assert slow.result(30).result.read() == quick.result(30).result.read()
    assert charges(service) == 1


@pytest.mark.parametrize("shared", [True, False], ids=["two hosts", "one host"])
@pytest.mark.slow
def test_two_processes_of_a_named_run_spend_what_it_may_and_no_more(
    start: Start, serve: Callable[..., Any], request: pytest.FixtureRequest, shared: bool
) -> None:
    service = serve()
    url = request.getfixturevalue("database_url") if shared else None
    env = {"RIVYA_RUN": "night", "RIVYA_MAX_CREDITS_PER_RUN": "160"}
    told = outcomes(start(2, service, url, env=env, orders=80))
    assert charges(service) == 40
    assert {each["error"] for each in failed(told)} == {"over_credit_cap"}
    assert {each["charged"] for each in failed(told)} == {"no"}
    assert len(told) - len(failed(told)) >= 40


@pytest.mark.slow
def test_twelve_processes_share_what_an_account_may_do(
    start: Start, serve: Callable[..., Any], database_url: Secret
) -> None:
    service = serve(latency=2.0, max_open=4)
    told = outcomes(start(12, service, database_url, orders=4, seed_of_its_own=True))
    refusals = [each for each in service.requests("create") if each["status"] == 429]
    assert failed(told) == []
    assert (len(told), charges(service)) == (48, 48)
    assert len(refusals) <= 16


def _end_the_hold(ledger: Ledger) -> None:
    ledger._database.write(
        lambda connection: connection.execute(
            "UPDATE bounds SET held_until = now(), halved_at = to_timestamp(0)"
        )
    )


def test_places_are_bounded_and_those_of_the_dead_are_free(database_url: Secret, brisk: None) -> None:
    first, second = opened(database_url), opened(database_url)
    assert first.places is not None
    assert second.places is not None
    for book in (first, second):
        assert book.places.open("s", 64).most == FIRST_LIMIT  # type: ignore[union-attr]
    taken = [book.places.take("s", 64) for _ in range(4) for book in (first, second)]  # type: ignore[union-attr]
    assert sorted(filter(None, taken)) == list(range(1, 9))
    assert first.places.take("s", 64) is None
    second.places.give_back("s", 1)  # of the other host: nothing happens
    assert first.places.take("s", 64) is None
    first._holder.close()
    assert {second.places.take("s", 64) for _ in range(4)} == {1, 3, 5, 7}
    assert second.places.refused("s", 3.0).most == 4.0
    known = second.places.refused("s", 3.0)  # of the same burst
    assert known.most == 4.0
    assert 2.0 < known.hold_s <= 3.0
    for number in range(1, 9):
        second.places.give_back("s", number)
    assert second.places.take("s", 64) is None  # everybody is held
    _end_the_hold(second)
    assert [second.places.take("s", 64) for _ in range(5)] == [1, 2, 3, 4, None]
    assert second.places.accepted("s", 8, 64).most == 6.0
    assert second.places.accepted("s", 600, 64).most == 64.0
    assert second.places.accepted("s", 600, 8).most == 64.0


def test_a_new_order_does_not_take_the_turn_of_those_that_were_refused_before_it(
    database_url: Secret, brisk: None
) -> None:
    ledger = opened(database_url)
    places = ledger.places
    assert places is not None
    places.open("s", 64)
    assert [places.take("s", 64) for _ in range(8)] == list(range(1, 9))
    assert places.refused("s", 0.0).most == 4.0
    _end_the_hold(ledger)
    for number in range(1, 5):  # those that the service had taken; 5 to 8 were refused and will be sent again
        places.give_back("s", number)
        assert places.take("s", 64) is None
    places.give_back("s", 5)
    assert [places.take("s", 64) for _ in range(2)] == [1, None]
