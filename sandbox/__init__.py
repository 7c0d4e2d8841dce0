"""A local stand-in for the Rivya service: for the demo, for tests, and for building graphs for free.

No real service is involved: it listens on loopback, its accounts are in memory, and its pictures are drawn, not made
by a model. ``python -m sandbox`` serves it until Ctrl-C; `running` serves it from a thread for a test, `spawned` from
a process of its own. What it takes is what the service documents, and nothing more; `sandbox.faults` lists the failures
that can be ordered.
"""

from .handle import Handle, LocalHandle, RemoteHandle, running, spawned

__all__ = ["Handle", "LocalHandle", "RemoteHandle", "running", "spawned"]
