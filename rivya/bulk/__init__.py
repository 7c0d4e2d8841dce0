"""Any number of pictures: rows come in, outcomes go out as they end, and a bounded number is in memory.

Entry: `job.BulkJob`."""

from __future__ import annotations

from .. import needed

needed.check()
