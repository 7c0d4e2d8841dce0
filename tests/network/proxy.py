"""An HTTP proxy for tests: answers CONNECT, and plain requests too, which a client of ours should never make."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field


@dataclass
class Proxy:
    url: str
    heads: list[str] = field(default_factory=list)


@contextlib.asynccontextmanager
async def proxying(answer: bytes = b"HTTP/1.1 200 OK\r\n\r\n", *, cut: bool = False) -> AsyncIterator[Proxy]:
    """Sends every tunnel to the same port of 127.0.0.1, whatever the name; ``cut`` ends it right away."""
    tasks: set[asyncio.Task[None]] = set()

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        writer.close()

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
                await asyncio.gather(pump(reader, far_writer), pump(far_reader, writer))
        writer.close()

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    proxy = Proxy(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
    try:
        yield proxy
    finally:
        server.close()
        for task in tuple(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
