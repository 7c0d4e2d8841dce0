"""A host that is cut off from the ledger, or stopped, for longer than the silence after which it is taken for dead."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import pytest

from fleet.conftest import Start, Worker
from rivya.secret import Secret
from support.hosts import Namespaces, line_to
from support.postgres import Postgres

pytestmark = [pytest.mark.long, pytest.mark.timeout(600), pytest.mark.xdist_group("fleet")]

ORDERS = 50
AWAY_S = 60.0
AS_IN_USE = {"beat_s": 10.0, "silence_s": 30.0}


@dataclass
class Way:
    """One host's way to the ledger.

    Attributes:
        enter: words before a command that run it on that host.
    """

    url: Secret
    enter: Sequence[str]
    cut: Callable[[], None]
    mend: Callable[[], None]


@pytest.fixture
def late() -> Iterator[ExitStack]:
    """What is to be done at the end."""
    with ExitStack() as stack:
        yield stack


def hosts(late: ExitStack, count: int, server: Postgres, service: Any) -> Namespaces:
    """Namespaces whose cables lead to the database alone."""
    made = Namespaces(count)
    late.callback(made.remove)
    made.serve(server.port)
    for url in (service.url, service.results_url):
        made.bring(url)
    return made


def cable(late: ExitStack, server: Postgres, database: str, service: Any) -> Way:
    made = hosts(late, 1, server, service)
    return Way(
        url_of(made, 0, server, database),
        made.enter(0),
        lambda: made.set_cable(0, "down"),
        lambda: made.set_cable(0, "up"),
    )


def line(late: ExitStack, server: Postgres, database: str, service: Any) -> Way:
    made = line_to(server.port)
    late.callback(made.end)
    return Way(Secret(server.url(database, port=made.port)), (), made.cut, made.mend)


def url_of(made: Namespaces, number: int, server: Postgres, database: str) -> Secret:
    return Secret(f"{server.url(database, host=made.address(number))}?sslmode=disable")


def settle(service: Any, *workers: Worker) -> list[list[str]]:
    """Wait for all of them: one charge an order, every picture for everybody. Gives the sources, by worker."""
    told = [worker.ended() for worker in workers]
    assert [each for ended in told for each in ended if "error" in each] == []
    assert [len(ended) for ended in told] == [ORDERS] * len(workers)
    assert all(each["size"] for ended in told for each in ended)
    assert len(service.charges()) == len(service.tasks()) == ORDERS
    return [[each["source"] for each in ended] for ended in told]


def test_four_processes_in_two_network_namespaces_pay_once_for_equal_orders(
    start: Start, serve: Callable[..., Any], postgres: Postgres, late: ExitStack
) -> None:
    service, database = serve(latency=0.5), postgres.make_database()
    made = hosts(late, 2, postgres, service)
    workers = []
    for number in (0, 1):
        url = url_of(made, number, postgres, database)
        workers += start(2, service, url, enter=made.enter(number), orders=ORDERS)
    settle(service, *workers)


def away(start: Start, service: Any, ledger: Secret, apart: Worker, leave: Any, come_back: Any) -> None:
    """A host leaves for a minute with orders under way, while others have the same orders."""
    others = start(2, service, ledger, orders=ORDERS, **AS_IN_USE)
    apart.holds(4, ledger)
    leave()
    time.sleep(AWAY_S)
    come_back()
    first, second, _ = settle(service, *others, apart)
    assert "resumed" in first + second


def test_a_host_that_was_stopped_for_a_minute_shares_what_others_took_over(
    start: Start, serve: Callable[..., Any], database_url: Secret
) -> None:
    service = serve(latency=8.0)
    (stopped,) = start(1, service, database_url, orders=ORDERS, **AS_IN_USE)
    signalled = stopped.process.send_signal
    away(
        start,
        service,
        database_url,
        stopped,
        lambda: signalled(signal.SIGSTOP),
        lambda: signalled(signal.SIGCONT),
    )


@pytest.mark.parametrize("way", [line, cable], ids=["line that carries nothing", "cable of another host"])
def test_a_host_that_was_cut_off_from_the_ledger_for_a_minute_brings_its_pictures_home(
    start: Start, serve: Callable[..., Any], postgres: Postgres, late: ExitStack, way: Callable[..., Way]
) -> None:
    service, database = serve(latency=8.0), postgres.make_database()
    far = way(late, postgres, database, service)
    (apart,) = start(1, service, far.url, enter=far.enter, orders=ORDERS, **AS_IN_USE)
    away(start, service, Secret(postgres.url(database)), apart, far.cut, far.mend)
