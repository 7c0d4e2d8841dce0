"""Small data that unpacks to much."""

from __future__ import annotations

import zlib

GZIP, ZLIB = 31, 15


def bomb(megabytes: int, form: int = GZIP) -> bytes:
    """That many million zeros, packed. One million is packed once and repeated, so that this takes no time.

    The checksum at the end is not theirs: who unpacks all of it gets an error after the last zero.
    """
    packer = zlib.compressobj(9, zlib.DEFLATED, form)
    first, again = (packer.compress(bytes(1_000_000)) + packer.flush(zlib.Z_FULL_FLUSH) for _ in range(2))
    return first + again * (megabytes - 1) + packer.flush()
