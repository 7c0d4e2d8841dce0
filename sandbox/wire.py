"""Answers written to the connection by hand, for what a well-behaved server would never send."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol

Receive = Callable[[], Awaitable[Any]]


class Connection(H11Protocol):
    """uvicorn's protocol, which gives the application its own connection as ``scope["state"]["connection"]``."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.app_state = {**self.app_state, "connection": self}

    @property
    def port(self) -> int | None:
        """The port of the origin that the client connected to."""
        return self.server[1] if self.server is not None else None


@dataclass(frozen=True)
class Answer:
    """One whole HTTP answer."""

    status: int
    headers: tuple[tuple[bytes, bytes], ...]
    body: bytes

    def with_headers(self, added: dict[str, str]) -> Answer:
        """The same with headers set, whether they were there or not."""
        fresh = tuple((name.lower().encode(), value.encode("latin-1")) for name, value in added.items())
        names = {name for name, _ in fresh}
        kept = tuple(pair for pair in self.headers if pair[0].lower() not in names)
        return Answer(self.status, kept + fresh, self.body)

    def with_body(self, body: bytes) -> Answer:
        """The same with another body, and the length that belongs to it."""
        return Answer(self.status, self.headers, body).with_headers({"content-length": str(len(body))})

    def head(self) -> bytes:
        """Status line and headers as they go over the wire."""
        try:
            phrase = HTTPStatus(self.status).phrase
        except ValueError:
            phrase = "Sandbox"
        lines = [f"HTTP/1.1 {self.status} {phrase}".encode()]
        lines += [name + b": " + value for name, value in (*self.headers, (b"connection", b"close"))]
        return b"\r\n".join(lines) + b"\r\n\r\n"


class Wire:
    """The transport under one request; whoever writes here must `close` at the end."""

    def __init__(self, connection: Connection, receive: Receive) -> None:
        self._transport = connection.transport
        self._receive = receive

    async def write(self, data: bytes) -> None:
        """Hand bytes to the system, waiting while more than 64 KiB are held back."""
        if data and not self._transport.is_closing():
            self._transport.write(data)
            # uvicorn owns the protocol and with it the transport's own signals, so the buffer is watched.
            while self._is_full():  # noqa: ASYNC110
                await asyncio.sleep(0.005)

    def _is_full(self) -> bool:
        return not self._transport.is_closing() and self._transport.get_write_buffer_size() > 65_536

    async def close(self, *, reset: bool = False) -> None:
        """Close the connection (with a TCP reset, if asked for) and wait until it is gone."""
        if reset:
            raw = self._transport.get_extra_info("socket")
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self._transport.abort()
        else:
            self._transport.close()
        while (await self._receive())["type"] != "http.disconnect":
            pass
