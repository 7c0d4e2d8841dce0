"""A local stand-in for the Rivya service, for the demo, for tests, and for building graphs free of charge.

It listens on loopback, keeps accounts in memory and draws pictures without a model. It accepts only what the service
documents. ``python -m sandbox`` serves it until Ctrl-C, `running` from a thread, `spawned` from a process of its own;
`sandbox.faults` lists the failures that tests can arm.
"""

from .client import Handle, LocalHandle, RemoteHandle, running, spawned

__all__ = ["Handle", "LocalHandle", "RemoteHandle", "running", "spawned"]
