"""The server of both origins."""

from __future__ import annotations

import asyncio
import logging
import socket
import threading
from dataclasses import replace

import uvicorn

from .app import api_app, results_app
from .listeners import BACKLOG, Listeners, listening
from .middleware import Middleware
from .raw_http import Connection
from .service import Service
from .settings import Settings


class Sandbox(uvicorn.Server):
    """Both origins in one server. Its sockets listen from construction: the addresses are known before it runs."""

    def __init__(self, settings: Settings) -> None:
        self.ready = threading.Event()
        self.sockets = [listening(settings.port), listening(settings.results_port)]
        api_port, results_port = (listener.getsockname()[1] for listener in self.sockets)
        self.listeners = Listeners(self, (api_port, results_port))
        known = replace(settings, port=api_port, results_port=results_port)
        self.service = Service(known, self.listeners)
        logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)
        super().__init__(
            uvicorn.Config(
                Middleware(self.service, api_app(self.service), results_app(self.service)),
                http=Connection,
                ws="none",
                loop="asyncio",
                lifespan="off",
                log_config=None,
                access_log=False,
                server_header=False,
                timeout_keep_alive=120,
                backlog=BACKLOG,
            )
        )

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        self.listeners.loop = asyncio.get_running_loop()
        await super().startup(sockets)
        self.ready.set()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """End at once, without waiting for stalled or slow responses."""
        for connection in list(self.server_state.connections):
            connection.transport.abort()
        for task in list(self.server_state.tasks):
            task.cancel()
        self.listeners.release()
        self.service.gallery.close()
        self.force_exit = True
        await super().shutdown(sockets)
