"""Responses written to the connection directly, for what a well-behaved server never sends."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Any

from starlette.responses import Response
from uvicorn.protocols.http.h11_impl import H11Protocol


class Connection(H11Protocol):
    """uvicorn's protocol; the application finds it as ``scope["state"]["connection"]``."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.app_state = {**self.app_state, "connection": self}

    @property
    def port(self) -> int | None:
        return self.server[1] if self.server is not None else None


def head(response: Response) -> bytes:
    """Status line and headers as sent, with ``Connection: close``."""
    try:
        phrase = HTTPStatus(response.status_code).phrase
    except ValueError:
        phrase = "Sandbox"
    lines = [f"HTTP/1.1 {response.status_code} {phrase}".encode()]
    lines += [name + b": " + value for name, value in (*response.raw_headers, (b"connection", b"close"))]
    return b"\r\n".join(lines) + b"\r\n\r\n"


class RawConnection:
    """The transport under one request; after writing, the caller must `close` it."""

    def __init__(self, connection: Connection, receive: Callable[[], Awaitable[Any]]) -> None:
        self._transport = connection.transport
        self.receive = receive

    async def write(self, data: bytes) -> None:
        """Write, and wait while more than 64 KiB are buffered."""
        if data and not self._transport.is_closing():
            self._transport.write(data)
            # Polls the buffer: uvicorn owns the protocol and its flow control signals.
            while self._is_full():  # noqa: ASYNC110
                await asyncio.sleep(0.005)

    def _is_full(self) -> bool:
        return not self._transport.is_closing() and self._transport.get_write_buffer_size() > 65_536

    async def close(self, *, reset: bool = False) -> None:
        """Close the connection, or send a TCP reset, and wait until it is gone."""
        if reset:
            raw = self._transport.get_extra_info("socket")
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self._transport.abort()
        else:
            self._transport.close()
        while (await self.receive())["type"] != "http.disconnect":
            pass
