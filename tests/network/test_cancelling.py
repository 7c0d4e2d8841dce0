"""A request is cancelled at every instant of its life, and leaves no connection behind."""

from __future__ import annotations

import asyncio
import contextlib
import functools
from collections.abc import AsyncIterator

import pytest

from hostile.host import always, reply, serving
from network.clients import PATIENT, connections, transport
from network.proxy import proxying, socks
from rivya.http.transport import Transport
from support.cases import slow_but

pytestmark = [pytest.mark.anyio, pytest.mark.heavy]

MOST_TURNS = 3000
"""More than any request takes: the sweep must reach the end of one."""

ENDED_IN_A_ROW = 5
"""A turn of the loop may take so long that much happens in it: one request that has ended does not end the sweep."""


class Lookup:
    """Gives the same addresses for each name, and remembers that it was asked."""

    def __init__(self, *addresses: str) -> None:
        self.addresses = addresses
        self.answered = False

    def __call__(self, host: str, port: int) -> list[str]:
        self.answered = True
        return list(self.addresses)


PROXIES = {
    "proxy": proxying,
    "tls proxy": functools.partial(proxying, certificate="server.pem"),
    "socks": socks,
}


class Gate:
    """Passes bytes on to a port and counts the TCP connections, those whose TLS never comes about included."""

    def __init__(self) -> None:
        self.port = 0
        self.opened = 0
        self.open = 0


@contextlib.asynccontextmanager
async def counting(port: int) -> AsyncIterator[Gate]:
    gate, tasks = Gate(), set()

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        writer.close()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tasks.add(asyncio.current_task())
        gate.opened += 1
        gate.open += 1
        back = None
        try:
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", port)
            back = asyncio.ensure_future(pump(far_reader, writer))
            await pump(reader, far_writer)
        finally:
            gate.open -= 1
            if back is not None:
                back.cancel()
            writer.close()

    server = await asyncio.start_server(connected, "127.0.0.1", 0, backlog=1000)
    gate.port = server.sockets[0].getsockname()[1]
    try:
        yield gate
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@contextlib.asynccontextmanager
async def reached(
    how: str, environment: pytest.MonkeyPatch, lookup: Lookup
) -> AsyncIterator[tuple[Gate, Transport]]:
    """A client whose connections, straight or to the proxy, go through a gate."""
    async with contextlib.AsyncExitStack() as stack:
        certificate = None if how == "http" else "server.pem"
        host = await stack.enter_async_context(serving(always(reply()), certificate=certificate))
        port = host.port
        if how in PROXIES:
            proxy = await stack.enter_async_context(PROXIES[how]())
            name, _, proxy_port = proxy.url.rpartition(":")
            gate = await stack.enter_async_context(counting(int(proxy_port)))
            environment.setenv("HTTPS_PROXY", f"{name}:{gate.port}")
        else:
            gate = await stack.enter_async_context(counting(host.port))
            port = gate.port
        base = f"http://localhost:{port}" if how == "http" else f"https://api.example:{port}"
        yield gate, await stack.enter_async_context(transport(base, resolver=lookup, timeouts=PATIENT))


async def turns(count: int) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def settled(gate: Gate, wanted: int) -> int:
    """The number of open connections, as soon as it is the wanted one, or after two seconds."""
    for _ in range(400):
        if gate.open == wanted:
            break
        await asyncio.sleep(0.005)
    return gate.open


async def cancelled_at_every_turn(
    gate: Gate, client: Transport, lookup: Lookup, *, kept: bool, twice: bool
) -> None:
    """Cancel a request at each turn of the loop from its start on, and at each from the lookup of the name on.

    The lookup takes a thread, and that more turns at one time than at another: counted from the start alone, the turns
    after it would be left out at random.

    Args:
        kept: the requests find a connection that is kept, else none.
    """

    async def ended_before(count: int, *, after_lookup: bool) -> bool:
        if not kept:
            await client.aclose()
        elif connections(client) != (1, 1):
            await client.exchange("GET", "/api/v1/credits")
        lookup.answered = False
        task = asyncio.create_task(client.exchange("GET", "/api/v1/credits"))
        while after_lookup and not (lookup.answered or task.done()):
            await turns(1)
        await turns(count)
        ended = task.done()
        task.cancel()
        if twice:
            await turns(1 + count % 3)
            task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        total, idle = connections(client)
        when = f"after {count} turns, {after_lookup=}"
        assert total == idle, when
        assert await settled(gate, idle) == idle, when
        return ended

    await client.exchange("GET", "/api/v1/credits")  # TLS settings and proxies are known from here on
    for count in range(MOST_TURNS):
        if await ended_before(count, after_lookup=False) or lookup.answered:
            break
    in_a_row = 0
    for count in range(MOST_TURNS):
        in_a_row = in_a_row + 1 if await ended_before(count, after_lookup=True) else 0
        if in_a_row == ENDED_IN_A_ROW:
            break
    else:
        pytest.fail("no request came to its end")
    assert gate.opened > 3


@pytest.mark.parametrize("twice", slow_but([False, True], False), ids=["once", "twice"])
@pytest.mark.parametrize("kept", [False, True], ids=["fresh", "kept"])
@pytest.mark.parametrize("how", slow_but(["http", "https", *PROXIES], "http", "https", "proxy"))
async def test_cancelling_at_any_turn_of_the_loop_leaves_no_connection_behind(
    how: str, kept: bool, twice: bool, environment: pytest.MonkeyPatch
) -> None:
    lookup = Lookup("127.0.0.1")
    async with reached(how, environment, lookup) as (gate, client):
        await cancelled_at_every_turn(gate, client, lookup, kept=kept, twice=twice)
        await client.aclose()
        assert await settled(gate, 0) == 0


@pytest.mark.parametrize("twice", [False, True], ids=["once", "twice"])
async def test_cancelling_while_two_addresses_are_tried_leaves_no_connection_behind(twice: bool) -> None:
    """Both answer; the one that is not used is closed, and so is the winner where nobody takes it any more."""
    lookup = Lookup("127.0.0.1", "127.0.0.2")
    async with (
        serving(always(reply())) as host,
        counting(host.port) as gate,
        transport(f"http://localhost:{gate.port}", resolver=lookup, timeouts=PATIENT) as client,
    ):
        await cancelled_at_every_turn(gate, client, lookup, kept=False, twice=twice)
