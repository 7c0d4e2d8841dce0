"""The body of one answer, taken in under a cap, also where it comes compressed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import aclosing
from io import BytesIO
from typing import cast
from zlib import MAX_WBITS, decompressobj
from zlib import error as zlib_error

from ..errors import Sent, UnusableAnswerError
from .network import httpx

_STEP_BYTES = 256 * 1024
_FREE_PIECES = 4096
_SMALLEST_PIECE = 64
_PIECES_IN_A_ROW = 64
_GZIP_OR_ZLIB = 32 + MAX_WBITS


class Body:
    """Collects chunks and ends with an error as soon as the cap is passed; memory stays below the cap and a bit.

    Requests ask for ``Accept-Encoding: identity``. An answer that comes compressed all the same is decompressed
    within the cap when it is gzip or deflate, and refused otherwise.
    """

    def __init__(self, what: str, cap: int, encoding: str | None = None, length: str | None = None) -> None:
        """``what`` names it in errors, ``encoding`` and ``length`` are the headers Content-Encoding and -Length.

        Raises:
            UnusableAnswerError: an unknown encoding, or a length that is beyond the cap.
        """
        self._what = what
        self._cap = cap
        self._kept = BytesIO()
        self._size = 0
        self._came = 0
        self._pieces = 0
        name = (encoding or "identity").strip().lower()
        if name not in ("identity", "", "gzip", "x-gzip", "deflate"):
            raise self._refused("comes in an encoding that was not asked for", "unusable_encoding")
        self._inflater = decompressobj(_GZIP_OR_ZLIB) if name not in ("identity", "") else None
        if length is not None and length.isdecimal() and int(length[:20]) > cap:
            raise self._too_large()

    async def take(self, response: httpx.Response, came: Callable[[int], None] = lambda size: None) -> bytes:
        """Take a whole body in; ``came`` is told the size of each chunk. Raises as `feed`, and what httpcore raises."""
        # httpx promises an iterator; what it gives is a generator, which can be closed.
        chunks = cast("AsyncGenerator[bytes, None]", response.aiter_raw())
        async with aclosing(chunks):
            async for chunk in chunks:
                for _ in self.feed(chunk):
                    await asyncio.sleep(0)
                came(len(chunk))
        return self.finish()

    def feed(self, chunk: bytes) -> Iterator[None]:
        """Take one chunk in; at each ``yield`` an event loop should do other things.

        Steps are at most 256 KiB of what compressed data expands to, or 64 chunks. Crumbs, which cost more to take
        apart than they bring, end it: thousands of chunks of less than 64 bytes on average.

        Raises:
            UnusableAnswerError: the cap is passed, or the compressed data is damaged.
        """
        self._pieces += 1
        self._came += len(chunk)
        if self._pieces > _FREE_PIECES and self._came < self._pieces * _SMALLEST_PIECE:
            raise self._refused("comes in crumbs", "answer_in_crumbs")
        if self._pieces % _PIECES_IN_A_ROW == 0:
            yield
        if self._inflater is None:
            self._keep(chunk)
            return
        while chunk and not self._inflater.eof:
            room = min(_STEP_BYTES, self._cap - self._size + 1)
            try:
                self._keep(self._inflater.decompress(chunk, room))
            except zlib_error:
                raise self._refused("is damaged: it cannot be decompressed", "unusable_encoding") from None
            chunk = self._inflater.unconsumed_tail
            yield

    def finish(self) -> bytes:
        """Everything that was taken in."""
        if self._inflater is not None and not self._inflater.eof:
            raise self._refused("was cut off before its compressed data ended", "unusable_encoding")
        return self._kept.getvalue()

    def so_far(self) -> bytes:
        """What was taken in up to now, for an answer whose status alone is enough."""
        return self._kept.getvalue()

    def _keep(self, data: bytes) -> None:
        self._size += len(data)
        if self._size > self._cap:
            raise self._too_large()
        self._kept.write(data)

    def _too_large(self) -> UnusableAnswerError:
        return self._refused(f"is larger than {self._cap} bytes", "answer_too_large")

    def _refused(self, why: str, code: str) -> UnusableAnswerError:
        return UnusableAnswerError(
            f"{self._what[:1].upper()}{self._what[1:]} {why}.", code=code, sent=Sent.MAYBE
        )
