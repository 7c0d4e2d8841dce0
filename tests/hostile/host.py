"""A server that behaves as a test says: over real sockets, byte by byte, in the test's own event loop."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

CERTIFICATES = Path(__file__).resolve().parent.parent / "network" / "certificates"

Answer = Callable[["Request", asyncio.StreamWriter], Awaitable[None]]


@dataclass
class Request:
    """One request as it came."""

    head: bytes
    body: bytes
    connection: int
    reader: asyncio.StreamReader = field(repr=False)

    async def gone(self) -> None:
        """Returns when the client has closed the connection."""
        await self.reader.read()

    @property
    def line(self) -> str:
        return self.head.split(b"\r\n")[0].decode("latin-1")

    @property
    def path(self) -> str:
        return self.line.split(" ")[1]

    @property
    def headers(self) -> dict[str, str]:
        lines = self.head.decode("latin-1").split("\r\n")[1:]
        return {
            name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)
        }


@dataclass
class Host:
    """Where it listens, and what it was sent. ``opened`` and ``closed`` count connections."""

    port: int
    address: str
    requests: list[Request] = field(default_factory=list)
    opened: int = 0
    closed: int = 0

    @property
    def url(self) -> str:
        return f"http://{self.address}:{self.port}"

    @property
    def open(self) -> int:
        return self.opened - self.closed


@contextlib.asynccontextmanager
async def serving(
    answer: Answer, *, address: str = "127.0.0.1", port: int = 0, certificate: str | None = None
) -> AsyncIterator[Host]:
    """A host that reads each request whole and then lets ``answer`` write whatever it likes."""
    tasks: set[asyncio.Task[None]] = set()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        host.opened += 1
        number = host.opened
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n"))[:-4]
                request = Request(head, b"", number, reader)
                request.body = await reader.readexactly(int(request.headers.get("content-length", 0)))
                host.requests.append(request)
                await answer(request, writer)
                await writer.drain()
                if writer.is_closing():
                    return
        except (OSError, EOFError, asyncio.LimitOverrunError, asyncio.CancelledError):
            return  # The client is gone, or the test is over.
        finally:
            host.closed += 1
            tasks.discard(task)
            writer.close()

    context = None
    if certificate is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(CERTIFICATES / certificate)
    host = Host(0, address)
    server = await asyncio.start_server(connected, address, port, ssl=context, backlog=1000, limit=2**20)
    host.port = server.sockets[0].getsockname()[1]
    try:
        yield host
    finally:
        server.close()
        for task in tuple(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def reply(body: bytes = b"{}", status: str = "200 OK", *headers: str) -> bytes:
    """A plain answer with a length."""
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers, "", ""]
    return "\r\n".join(lines).encode("latin-1") + body


def always(raw: bytes, *, close: bool = False) -> Answer:
    """Answers every request with the same bytes."""

    async def answer(request: Request, writer: asyncio.StreamWriter) -> None:
        writer.write(raw)
        if close:
            await writer.drain()
            writer.close()

    return answer


def endless(start: bytes, piece: bytes, pause_s: float = 0.0) -> Answer:
    """Writes ``start``, then ``piece`` for ever."""

    async def answer(request: Request, writer: asyncio.StreamWriter) -> None:
        writer.write(start)
        while not writer.is_closing():
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(pause_s)

    return answer


def reset(after: bytes = b"") -> Answer:
    """Writes something, then tears the connection down with a RST."""

    async def answer(request: Request, writer: asyncio.StreamWriter) -> None:
        writer.write(after)
        await writer.drain()
        await asyncio.sleep(0.05)
        writer.transport.abort()

    return answer
