"""Sockets, the server, and the listener that a fault may close."""

from __future__ import annotations

import asyncio
import logging
import socket
import sys
from dataclasses import replace
from typing import Any

import uvicorn

from .app import api_app, results_app
from .front import Front
from .service import Service
from .settings import Settings
from .wire import Connection

HOST = "127.0.0.1"
"""Loopback only: whoever can reach the sandbox can order faults."""
_BACKLOG = 1024


def _listening(port: int) -> socket.socket:
    """A socket that listens on loopback from now on, before anyone accepts; port 0 takes a free one."""
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    if sys.platform != "win32":  # there it would let two servers share a port
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind((HOST, port))
    listener.listen(_BACKLOG)
    return listener


class Sandbox(uvicorn.Server):
    """Both origins in one server. The sockets are bound at once, so that the addresses are known before it runs."""

    def __init__(self, settings: Settings) -> None:
        self.sockets = [_listening(settings.port), _listening(settings.results_port)]
        api_port, results_port = (listener.getsockname()[1] for listener in self.sockets)
        self.service = Service(
            replace(settings, port=api_port, results_port=results_port), self.close_listener
        )
        front = Front(self.service, api_app(self.service), results_app(self.service))
        logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)
        super().__init__(
            uvicorn.Config(
                front,
                http=Connection,
                ws="none",
                loop="asyncio",
                lifespan="off",
                log_config=None,
                access_log=False,
                server_header=False,
                timeout_keep_alive=120,
                timeout_graceful_shutdown=1,
                backlog=_BACKLOG,
            )
        )
        self._loop: asyncio.AbstractEventLoop
        self._closed_until = 0.0
        self._reopening: set[asyncio.Task[None]] = set()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start to listen, and keep the loop for orders from other threads."""
        self._loop = asyncio.get_running_loop()
        await super().startup(sockets)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """End at once: nothing that is stalled or dripping is waited for."""
        for connection in list(self.server_state.connections):
            connection.transport.abort()
        for task in list(self.server_state.tasks):
            task.cancel()
        self.service.gallery.close()
        await super().shutdown(sockets)

    def close_listener(self, seconds: float) -> None:
        """Refuse connections to the API origin for a while; from any thread."""
        if _running_loop() is self._loop:
            self._close_now(seconds)
        else:
            asyncio.run_coroutine_threadsafe(self._close_soon(seconds), self._loop).result(10)

    async def _close_soon(self, seconds: float) -> None:
        self._close_now(seconds)

    def _close_now(self, seconds: float) -> None:
        self.servers[0].close()
        for connection in list(self.server_state.connections):
            if isinstance(connection, Connection) and connection.port == self.service.settings.port:
                connection.shutdown()
        self._closed_until = max(self._closed_until, self._loop.time() + seconds)
        reopening = self._loop.create_task(self._listen_again(seconds))
        self._reopening.add(reopening)
        reopening.add_done_callback(self._reopening.discard)

    async def _listen_again(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
        if self.should_exit or self.servers[0].is_serving() or self._loop.time() < self._closed_until:
            return
        config, state = self.config, self.server_state

        def protocol() -> asyncio.Protocol:
            return Connection(config=config, server_state=state, app_state={})

        listener = _listening(self.service.settings.port)
        self.servers[0] = await self._loop.create_server(protocol, sock=listener, backlog=config.backlog)


def _running_loop() -> Any:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None
