"""Any number of rows, with a bounded number in memory. Entry: `job.BulkJob`."""

from __future__ import annotations

from .. import needed

needed.check()
