"""An event loop in a daemon thread of the process, which runs all orders.

Entry: `engine.shared`.
"""

from __future__ import annotations

from .. import needed

needed.check()
