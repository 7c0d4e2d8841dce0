"""A host that is cut off from the ledger, or stopped, for longer than the silence after which it is taken for dead."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from fleet.conftest import Start, Worker
from rivya.secret import Secret
from support.hosts import Namespaces, line_to
from support.postgres import Postgres

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600), pytest.mark.xdist_group("fleet")]

ORDERS = 50
AWAY_S = 60.0
AS_IN_USE = {"beat_s": 10.0, "silence_s": 30.0}


@pytest.fixture
def namespaces() -> Iterator[Callable[[int], Namespaces]]:
    made: list[Namespaces] = []

    def make(count: int) -> Namespaces:
        made.append(Namespaces(count))
        return made[-1]

    yield make
    for each in made:
        each.remove()


def settle(service: Any, *workers: Worker) -> list[str]:
    """Wait for all of them: one charge an order, every picture for everybody. Gives the sources of the first."""
    told = [worker.ended() for worker in workers]
    assert [each for ended in told for each in ended if "error" in each] == []
    assert [len(ended) for ended in told] == [ORDERS] * len(workers)
    assert all(each["size"] for ended in told for each in ended)
    assert len(service.charges()) == len(service.tasks()) == ORDERS
    return [each["source"] for each in told[0]]


def test_four_processes_in_two_network_namespaces_pay_once_for_equal_orders(
    start: Start,
    serve: Callable[..., Any],
    postgres: Postgres,
    namespaces: Callable[[int], Namespaces],
) -> None:
    service, hosts = serve(latency=0.5), namespaces(2)
    database = postgres.make_database()
    hosts.serve(postgres.port)
    hosts.bring(service.url)
    hosts.bring(service.results_url)
    workers = []
    for number in (0, 1):
        url = Secret(f"{postgres.url(database, host=hosts.address(number))}?sslmode=disable")
        workers += start(2, service, url, enter=hosts.enter(number), orders=ORDERS)
    settle(service, *workers)


def test_a_host_that_was_stopped_for_a_minute_shares_what_others_took_over(
    start: Start, serve: Callable[..., Any], database_url: Secret
) -> None:
    service = serve(latency=4.0)
    others = start(2, service, database_url, orders=ORDERS, **AS_IN_USE, waits=True)
    (stopped,) = start(1, service, database_url, orders=ORDERS, **AS_IN_USE)
    stopped.holds(4, database_url)
    stopped.process.send_signal(signal.SIGSTOP)
    for each in others:
        each.go()
    time.sleep(AWAY_S)
    stopped.process.send_signal(signal.SIGCONT)
    assert "resumed" in settle(service, *others, stopped)


@pytest.mark.parametrize("cable", [False, True], ids=["line that carries nothing", "cable of another host"])
def test_a_host_that_was_cut_off_from_the_ledger_for_a_minute_brings_its_pictures_home(
    start: Start,
    serve: Callable[..., Any],
    postgres: Postgres,
    namespaces: Callable[[int], Namespaces],
    cable: bool,
) -> None:
    service, database = serve(latency=4.0), postgres.make_database()
    near = Secret(postgres.url(database))
    if cable:
        hosts = namespaces(1)
        hosts.serve(postgres.port)
        hosts.bring(service.url)
        hosts.bring(service.results_url)
        far, enter = f"{postgres.url(database, host=hosts.address(0))}?sslmode=disable", hosts.enter(0)
    else:
        line = line_to(postgres.port)
        far, enter = postgres.url(database, port=line.port), []
    others = start(2, service, near, orders=ORDERS, **AS_IN_USE, waits=True)
    (apart,) = start(1, service, Secret(far), enter=enter, orders=ORDERS, **AS_IN_USE)
    apart.holds(4, near)
    hosts.set_cable(0, "down") if cable else line.cut()
    for each in others:
        each.go()
    time.sleep(AWAY_S)
    hosts.set_cable(0, "up") if cable else line.mend()
    assert "resumed" in settle(service, *others, apart)
    if not cable:
        line.end()
