"""Proxies for tests: SOCKS, and HTTP, which answers plain requests too, as a client of ours should never make them."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from hostile.host import CERTIFICATES


@dataclass
class Proxy:
    url: str
    heads: list[str] = field(default_factory=list)


@contextlib.asynccontextmanager
async def proxying(
    answer: bytes = b"HTTP/1.1 200 OK\r\n\r\n", *, cut: bool = False, certificate: str | None = None
) -> AsyncIterator[Proxy]:
    """Sends every tunnel to the same port of 127.0.0.1, whatever the name; ``cut`` ends it right away.

    With a ``certificate`` it speaks TLS, as ``other.example``.
    """
    tasks: set[asyncio.Task[None]] = set()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        with contextlib.suppress(OSError, EOFError, asyncio.CancelledError):
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            proxy.heads.append(head)
            writer.write(answer)
            await writer.drain()
            if not cut and b" 200 " in answer and head.startswith("CONNECT"):
                port = int(head.split(" ")[1].rpartition(":")[2])
                far_reader, far_writer = await asyncio.open_connection("127.0.0.1", port)
                await asyncio.gather(_pump(reader, far_writer), _pump(far_reader, writer))
        writer.close()

    context = None
    if certificate is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(CERTIFICATES / certificate)
    server = await asyncio.start_server(connected, "127.0.0.1", 0, ssl=context)
    base = "http://127.0.0.1" if certificate is None else "https://other.example"
    proxy = Proxy(f"{base}:{server.sockets[0].getsockname()[1]}")
    try:
        yield proxy
    finally:
        server.close()
        for task in tuple(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@contextlib.asynccontextmanager
async def socks(login: tuple[str, str] | None = None) -> AsyncIterator[Proxy]:
    """A SOCKS5 proxy (RFC 1928, 1929) that takes names, and sends every tunnel to the same port of 127.0.0.1.

    Its ``heads`` are ``name:port`` of each tunnel, with ``user:password@`` in front where ``login`` asks for one.
    """
    proxy = Proxy("")

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, EOFError):
            version, methods = await reader.readexactly(2)
            offered = await reader.readexactly(methods)
            chosen = 2 if login else 0
            if version != 5 or chosen not in offered:
                writer.write(b"\x05\xff")
                return writer.close()
            writer.write(bytes([5, chosen]))
            said = ""
            if login:
                _, length = await reader.readexactly(2)
                user = (await reader.readexactly(length)).decode()
                password = (await reader.readexactly((await reader.readexactly(1))[0])).decode()
                said = f"{user}:{password}@"
                writer.write(bytes([1, 0 if (user, password) == login else 1]))
            _, _, _, kind, length = await reader.readexactly(5)
            name = (await reader.readexactly(length)).decode()
            port = int.from_bytes(await reader.readexactly(2), "big")
            proxy.heads.append(f"{said}{name}:{port}")
            assert kind == 3
            writer.write(b"\x05\x00\x00\x01" + bytes(6))
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", port)
            await asyncio.gather(_pump(reader, far_writer), _pump(far_reader, writer))
        return writer.close()

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    proxy.url = f"socks5://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield proxy
    finally:
        server.close()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    writer.close()
