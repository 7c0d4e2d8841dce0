"""Connections kept open between requests.

httpcore's own pool looks at every connection for every request and hands one idle connection to several requests of
a burst, which then try again: with 500 requests at once that cost 12 ms of work for each. Here a connection belongs to
one request at a time, and taking one costs the same however many there are. What happens on a connection stays
httpcore's business, and so does setting it up, through a proxy or not.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncGenerator, Callable, Sequence
from typing import cast

import anyio
import httpcore

Connect = Callable[[httpcore.Origin], httpcore.AsyncConnectionInterface]


class Answer:
    """An answer whose body may be read once. `aclose` must follow, whatever happened to the reading."""

    def __init__(
        self, response: httpcore.Response, connection: httpcore.AsyncConnectionInterface, pool: Pool
    ) -> None:
        self._response = response
        self._connection = connection
        self._pool = pool

    @property
    def status(self) -> int:
        return self._response.status

    @property
    def headers(self) -> Sequence[tuple[bytes, bytes]]:
        return self._response.headers

    def chunks(self) -> AsyncGenerator[bytes, None]:
        """The body, piece by piece, as it comes."""
        # httpcore promises an iterator; what it gives is a generator, which can be closed.
        return cast("AsyncGenerator[bytes, None]", self._response.aiter_stream())

    async def aclose(self) -> None:
        """Keep the connection where the answer was read to its end, close it otherwise."""
        with anyio.CancelScope(shield=True):
            await self._response.aclose()
            await self._pool.put_back(self._connection)


class Pool:
    """The connections of one route. ``connect`` makes one, not yet connected, for an origin."""

    def __init__(self, connect: Connect) -> None:
        self._connect = connect
        self._idle: dict[tuple[bytes, bytes, int], deque[httpcore.AsyncConnectionInterface]] = {}
        self._origins: dict[httpcore.AsyncConnectionInterface, tuple[bytes, bytes, int]] = {}

    @property
    def counts(self) -> tuple[int, int]:
        """How many connections there are in all, and how many of them wait for a request."""
        return len(self._origins), sum(len(waiting) for waiting in self._idle.values())

    async def ask(self, request: httpcore.Request) -> Answer:
        """Send the request over a connection that nobody else uses meanwhile. Raises what httpcore raises."""
        origin = request.url.origin
        key = (origin.scheme, origin.host, origin.port)
        connection = await self._kept(key)
        if connection is None:
            connection = self._connect(origin)
            self._origins[connection] = key
        try:
            response = await connection.handle_async_request(request)
        except BaseException:
            with anyio.CancelScope(shield=True):
                await self._discard(connection)
            raise
        return Answer(response, connection, self)

    async def put_back(self, connection: httpcore.AsyncConnectionInterface) -> None:
        """Keep a connection for the next request of its origin, if it can take one."""
        key = self._origins.get(connection)
        if key is not None and connection.is_idle() and not connection.is_closed():
            self._idle.setdefault(key, deque()).append(connection)
        else:
            await self._discard(connection)

    async def aclose(self) -> None:
        """Close every connection, also those in use."""
        self._idle.clear()
        for connection in list(self._origins):
            await self._discard(connection)

    async def _kept(self, key: tuple[bytes, bytes, int]) -> httpcore.AsyncConnectionInterface | None:
        """The connection that was used last, if the other side has not closed it. The oldest ones run out."""
        waiting = self._idle.get(key)
        if waiting is None:
            return None
        while waiting and waiting[0].has_expired():
            await self._discard(waiting.popleft())
        while waiting:
            connection = waiting.pop()
            if connection.is_available() and not connection.has_expired():
                return connection
            await self._discard(connection)
        self._idle.pop(key, None)
        return None

    async def _discard(self, connection: httpcore.AsyncConnectionInterface) -> None:
        self._origins.pop(connection, None)
        await connection.aclose()
