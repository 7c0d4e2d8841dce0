"""Any number of rows: outcomes are yielded as orders end, with a bounded number in memory.

Entry: `job.BulkJob`.
"""

from __future__ import annotations

from .. import needed

needed.check()
