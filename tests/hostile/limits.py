"""What an attack may cost: time and memory, measured around it."""

from __future__ import annotations

import contextlib
import time
import tracemalloc
from collections.abc import Iterator


@contextlib.contextmanager
def within(seconds: float, megabytes: float) -> Iterator[None]:
    """Fails where the block took longer or held more memory at its peak, server of the test included."""
    began = time.monotonic()
    tracemalloc.start()
    try:
        yield
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    took = time.monotonic() - began
    assert took < seconds, f"{took:.1f} s"
    assert peak < megabytes * 1e6, f"{peak / 1e6:.1f} MB"
