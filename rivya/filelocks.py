"""Operating-system file locks under one face: `flock` where there is one, `msvcrt` on Windows.

A lock belongs to an open file and goes with the process that opened it, however that process ends. So a lock that
can be had proves that its owner is dead, which no clock and no process number can prove.
"""

from __future__ import annotations

import sys

if sys.platform == "win32":
    import msvcrt

    def try_lock(descriptor: int, *, shared: bool = False) -> bool:
        """Lock the open file if nobody else has it; Windows knows only exclusive locks."""
        try:
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True

else:
    import fcntl

    def try_lock(descriptor: int, *, shared: bool = False) -> bool:
        """Lock the open file if nobody has it in a way that excludes ours; never waits.

        A file system that cannot lock counts as "somebody has it": the safe side for every use here.
        """
        try:
            fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        except OSError:
            return False
        return True
