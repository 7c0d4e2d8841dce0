"""Read a response body under a size cap, also when compressed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping
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
    """Collects chunks; raises beyond the cap, which also bounds memory.

    Requests ask for ``Accept-Encoding: identity``, yet gzip and deflate are decompressed, within the cap.
    """

    def __init__(self, what: str, cap: int, headers: Mapping[str, str]) -> None:
        """``what`` names the body in errors; ``headers`` are the response's, names in lower case.

        Raises:
            UnusableAnswerError: an unknown encoding, or a length beyond the cap.
        """
        self._what = what
        self._cap = cap
        self._kept = BytesIO()
        self._size = 0
        self._came = 0
        self._pieces = 0
        encoding = headers.get("content-encoding", "").strip().lower()
        if encoding not in ("identity", "", "gzip", "x-gzip", "deflate"):
            raise self._refused("comes in an encoding that was not asked for", "unusable_encoding")
        self._inflater = decompressobj(_GZIP_OR_ZLIB) if encoding not in ("identity", "") else None
        length = headers.get("content-length", "")
        if length.isdecimal() and int(length[:20]) > cap:
            raise self._too_large()

    async def take(self, response: httpx.Response, came: Callable[[int], None] = lambda size: None) -> bytes:
        """Read a whole body; ``came`` gets the size of each chunk. Raises as `feed`, and httpcore's errors."""
        # typed as an iterator by httpx, but a generator, which can be closed
        chunks = cast("AsyncGenerator[bytes, None]", response.aiter_raw())
        async with aclosing(chunks):
            async for chunk in chunks:
                for _ in self.feed(chunk):
                    await asyncio.sleep(0)
                came(len(chunk))
        return self.finish()

    def feed(self, chunk: bytes) -> Iterator[None]:
        """Add a chunk; at each ``yield`` the event loop should run other tasks.

        A step is at most 256 KiB of decompressed data, or 64 chunks. Thousands of chunks below 64 bytes on average
        are refused: they cost too much.

        Raises:
            UnusableAnswerError: cap passed, chunks too small, or compressed data damaged.
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
        if self._inflater is not None and not self._inflater.eof:
            raise self._refused("was cut off before its compressed data ended", "unusable_encoding")
        return self._kept.getvalue()

    def so_far(self) -> bytes:
        """The bytes so far, for a response whose status suffices."""
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
