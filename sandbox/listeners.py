"""The two listening sockets, which a fault may close for a while."""

from __future__ import annotations

import asyncio
import socket
import sys
from collections.abc import Coroutine
from typing import Any

import uvicorn

from .raw_http import Connection
from .settings import ORIGINS

HOST = "127.0.0.1"
"""Loopback only: any client can arm faults."""
BACKLOG = 1024


def bound_socket(port: int) -> socket.socket:
    """A loopback socket that reserves a port without listening: clients are refused. 0 takes a free port."""
    found = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    if sys.platform != "win32":  # there it would let two servers share a port
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    found.bind((HOST, port))
    return found


def listening(port: int) -> socket.socket:
    found = bound_socket(port)
    found.listen(BACKLOG)
    return found


class Listeners:
    """Opens and closes the listeners of a running server, which sets ``loop`` at its start."""

    def __init__(self, server: uvicorn.Server, ports: tuple[int, int]) -> None:
        self._server = server
        self._ports = ports
        self._held: list[socket.socket | None] = [None, None]
        self._closed_until = [0.0, 0.0]
        self._reopening: set[asyncio.Task[None]] = set()
        self.loop: asyncio.AbstractEventLoop | None = None

    def run(self, coroutine: Coroutine[Any, Any, None]) -> None:
        """Run `close` or `open` from another thread, and wait for it."""
        if self.loop is None:
            raise RuntimeError("the sandbox does not run")
        asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(10)

    async def close(self, seconds: float, origin: str) -> None:
        """Refuse connections to one origin for a while, and close its idle ones.

        A connection with a running request is closed after the response.
        """
        number, loop = ORIGINS.index(origin), asyncio.get_running_loop()
        if self._held[number] is None:
            self._server.servers[number].close()
            # Hold the port: another process's outgoing connection might take it.
            self._held[number] = bound_socket(self._ports[number])
        for connection in list(self._server.server_state.connections):
            if isinstance(connection, Connection) and connection.port == self._ports[number]:
                connection.shutdown()
        self._closed_until[number] = loop.time() + seconds
        reopening = loop.create_task(self._open_later(number, seconds))
        self._reopening.add(reopening)
        reopening.add_done_callback(self._reopening.discard)
        # The connections are gone two turns of the loop later; the caller must wait for that.
        await asyncio.sleep(0)
        await asyncio.sleep(0)

    async def _open_later(self, number: int, seconds: float) -> None:
        await asyncio.sleep(seconds)
        if asyncio.get_running_loop().time() >= self._closed_until[number]:
            await self._open(number)

    async def open(self) -> None:
        """Reopen every closed listener."""
        for number in range(len(ORIGINS)):
            await self._open(number)

    async def _open(self, number: int) -> None:
        held, self._held[number] = self._held[number], None
        if held is None or self._server.should_exit:
            return
        config, state = self._server.config, self._server.server_state

        def protocol() -> asyncio.Protocol:
            return Connection(config=config, server_state=state, app_state={})

        create = asyncio.get_running_loop().create_server
        self._server.servers[number] = await create(protocol, sock=held, backlog=BACKLOG)

    def release(self) -> None:
        for held in self._held:
            if held is not None:
                held.close()
