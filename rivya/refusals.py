"""What users can do about an unusable state folder: its owner, mode and disk."""

from __future__ import annotations

import errno
import os
import shlex
import stat
from pathlib import Path

FULL = (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC))
"""Error numbers of a full disk or quota."""

MAKE_WRITABLE = "Make the state folder writable, or choose another one with RIVYA_HOME."
FREE_SPACE = "Free some space on that disk, then run again."


def advice(home: Path, error: Exception, *places: Path) -> str:
    """Return what to do about ``error``, one sentence.

    Args:
        home: the state folder.
        error: an `OSError` names its file; for others the first of ``places`` that refuses is named.
        places: files and folders in ``home`` to be used.
    """
    number = error.errno if isinstance(error, OSError) else None
    if number in FULL:
        return FREE_SPACE
    if number == errno.EROFS or any(_read_only(place) for place in (*places, home)):
        return "Its disk is mounted read-only: choose another state folder with RIVYA_HOME."
    if os.name != "posix" or number not in (errno.EACCES, errno.EPERM, None):
        return MAKE_WRITABLE
    named = [Path(error.filename)] if isinstance(error, OSError) and isinstance(error.filename, str) else []
    for place in (*named, *places, home):
        culprit = _refusing(place)
        if culprit is not None:
            return _whose(home, culprit)
    return MAKE_WRITABLE


def refuses(place: Path) -> bool:
    """Whether this process may not change or make ``place``."""
    return os.name == "posix" and _refusing(place) is not None


def _refusing(place: Path) -> Path | None:
    """``place`` or the folder above it that denies access."""
    for path in (place, *place.parents):
        if not os.path.lexists(path):
            continue
        wanted = os.W_OK | os.X_OK if path.is_dir() else os.R_OK | os.W_OK
        return None if os.access(path, wanted) else path
    return None


def _read_only(place: Path) -> bool:
    statvfs = getattr(os, "statvfs", None)
    try:
        return statvfs is not None and bool(statvfs(place).f_flag & os.ST_RDONLY)
    except OSError:
        return False


def _whose(home: Path, culprit: Path) -> str:
    """The path's owner and the command that helps; never one that changes paths above the state folder."""
    try:
        found = os.lstat(culprit)
    except OSError:
        return MAKE_WRITABLE
    inside = culprit == home or home in culprit.parents
    if found.st_uid == os.geteuid():
        if not inside:
            return f"Your rights to {culprit} do not allow it: choose another state folder with RIVYA_HOME."
        return (
            f"Its mode ({stat.S_IMODE(found.st_mode):04o}) does not let you write: run "
            f"chmod -R u+rwX {shlex.quote(str(home))}, or choose another state folder with RIVYA_HOME."
        )
    owner, own = _name(found.st_uid), _name(os.geteuid())
    says = f"{culprit} belongs to the user {owner}, and this program runs as {own}"
    if not inside:
        return f"{says}: choose a state folder of your own with RIVYA_HOME."
    return (
        f"{says}: run sudo chown -R {os.geteuid()} {shlex.quote(str(home))}, "
        "or choose another state folder with RIVYA_HOME."
    )


def _name(uid: int) -> str:
    import pwd  # not on Windows

    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)
