"""Slow links: a TCP proxy that lets only so many bits a second through, each way, for all its connections together."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

_CHUNK = 16 * 1024


class _Lane:
    """One direction of a link: bytes leave one after the other, whoever they belong to."""

    def __init__(self, bits_per_s: float) -> None:
        self._bytes_per_s = bits_per_s / 8
        self._free_at = 0.0

    async def carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Carry one connection's bytes until it ends."""
        loop = asyncio.get_running_loop()
        try:
            while chunk := await reader.read(_CHUNK):
                self._free_at = max(self._free_at, loop.time()) + len(chunk) / self._bytes_per_s
                await asyncio.sleep(self._free_at - loop.time())
                writer.write(chunk)
                await writer.drain()
        except ConnectionError:
            pass
        finally:
            writer.close()


class Link:
    """A link between the client and any number of origins; `through` gives the near end of one of them."""

    def __init__(self, bits_per_s: float, loop: asyncio.AbstractEventLoop) -> None:
        self._up, self._down = _Lane(bits_per_s), _Lane(bits_per_s)
        self._loop = loop

    def through(self, origin: str) -> str:
        """The URL under which an http origin is reached over this link."""
        return asyncio.run_coroutine_threadsafe(self._listen(origin), self._loop).result(10)

    async def _listen(self, origin: str) -> str:
        far = urlsplit(origin)

        async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            far_reader, far_writer = await asyncio.open_connection(far.hostname, far.port)
            await asyncio.gather(self._up.carry(reader, far_writer), self._down.carry(far_reader, writer))

        # A small window, so that what is under way lies on the link and not in a buffer.
        server = await asyncio.start_server(connected, "127.0.0.1", 0, limit=_CHUNK)
        return f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


@contextmanager
def link(bits_per_s: float) -> Iterator[Link]:
    """A link with a thread of its own."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="link", daemon=True)
    thread.start()
    try:
        yield Link(bits_per_s, loop)
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(5)
