"""One event loop in a daemon thread for the life of the process, in which all orders run.

Entry: `engine.shared`."""

from __future__ import annotations

from .. import needed

needed.check()
