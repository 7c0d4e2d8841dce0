"""Settles where to save before anything is sent: makes folders, refuses what cannot be written."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from secrets import token_hex
from shutil import disk_usage

from ..errors import costs_nothing
from .places import ENDINGS, FORMATS, RESERVED, Place, named, reason, refused, shown
from .write import TEMPORARY, create, sweep, sync

_PROBE_BYTES = 4096
_ROOM = {"jpg": 250_000}
_MOST_ROOM = 1_000_000
_LARGER = 4
"""How much larger than its photo's file an edit of the same size may be, about: it is saved with less loss, or none."""


@dataclass
class Settled:
    """The folders made before anything is sent."""

    made: list[Path] = field(default_factory=list)

    @costs_nothing()
    def folder(self, folder: Path, room: int) -> Path:
        """Make a folder and test that files can be written there.

        Args:
            room: bytes that will be needed.

        Raises:
            SavingError: they cannot.
        """
        for each in (folder, *folder.parents):
            if os.path.exists(each) and not os.path.isdir(each):
                raise refused(f"{shown(each)} is a file; nothing can be saved in it.")
        try:
            self._make(folder)
            sweep(folder)
            _try_writing(folder)
        except (OSError, ValueError) as error:
            raise refused(f"Nothing can be saved in {shown(folder)}: {reason(error)}.") from None
        free = _free(folder)
        if free is not None and free < room:
            raise refused(
                f"The disk of {shown(folder)} has {_size(free)} left, and about {_size(room)} are needed.",
                "Make room there, or save elsewhere with -o.",
            )
        return folder

    @costs_nothing()
    def file(self, path: str | Path, extensions: Iterable[str], sources: Iterable[Path], room: int) -> Place:
        """Settle a file that the user names.

        Args:
            extensions: possible formats of the picture; empty: any.
            sources: files that must not be replaced.
            room: bytes that will be needed.

        Raises:
            SavingError: its ending names another format, it is a source, or it cannot be written.
        """
        place, allowed = named(path), tuple(extensions)
        _check_ending(place, allowed)
        name = place.name if place.ending else f"{place.stem}.{(allowed or ('jpg',))[0]}"
        target = place.folder / name
        if os.name == "nt" and RESERVED.match(name):
            raise refused(f"{shown(target)} is a name that Windows keeps for a device.")
        self.folder(Path(os.path.realpath(target)).parent if os.path.islink(target) else place.folder, room)
        if os.path.lexists(target) and place.ending:
            _check_replacing(target, sources)
        else:
            _try_name(target)
        return place

    def undo(self) -> None:
        """Remove the folders that were made and are still empty."""
        for folder in reversed(self.made):
            with suppress(OSError):
                folder.rmdir()

    def _make(self, folder: Path) -> None:
        missing = [each for each in (folder, *folder.parents) if not os.path.lexists(each)]
        folder.mkdir(parents=True, exist_ok=True)
        self.made += reversed(missing)


def room(extensions: tuple[str, ...], photos: Iterable[Path] = ()) -> int:
    """About how many bytes one picture will need.

    Args:
        extensions: possible formats.
        photos: the photo that the edit is put back into, if any.
    """
    sizes = (_LARGER * found.st_size for each in photos if (found := _found(each)) is not None)
    return max(chain((_ROOM.get(each, _MOST_ROOM) for each in extensions or ("",)), sizes))


def _found(path: Path) -> os.stat_result | None:
    try:
        return path.stat()
    except (OSError, ValueError):
        return None


def _check_ending(place: Place, allowed: tuple[str, ...]) -> None:
    ending = place.ending.lower()
    wanted = ENDINGS.get(ending)
    if not ending or (wanted and (not allowed or wanted in allowed)):
        return
    names = " or ".join(FORMATS[each] for each in allowed or FORMATS)
    raise refused(
        f"{shown(place.name)}: the picture will be {names}, and the name says otherwise.",
        f"End the name in .{(allowed or ('jpg',))[0]}, or leave the ending out.",
    )


def _check_replacing(target: Path, sources: Iterable[Path]) -> None:
    """Refuse to replace a special file, a source, or a file that cannot be written."""
    if any(_is_same(target, source) for source in sources):
        raise refused(
            f"{shown(target)} is what is to be edited; it would be replaced by its edit.",
            "Give another name with -o.",
        )
    try:
        found = target.stat()
    except FileNotFoundError:
        return  # a dangling link
    except OSError as error:
        raise refused(f"{shown(target)} cannot be written: {reason(error)}.") from None
    if not stat.S_ISREG(found.st_mode):
        raise refused(f"{shown(target)} is no ordinary file.")
    try:
        with target.open("r+b"):
            pass
    except OSError as error:
        raise refused(f"{shown(target)} cannot be written: {reason(error)}.") from None


def _try_writing(folder: Path) -> None:
    """Write a small file and remove it: nothing else shows rights, quotas and read-only disks."""
    probe = folder / TEMPORARY.format(token_hex(6))
    descriptor = create(probe)
    try:
        os.write(descriptor, bytes(_PROBE_BYTES))
        sync(descriptor)
    finally:
        os.close(descriptor)
        probe.unlink(missing_ok=True)


def _try_name(target: Path) -> None:
    """Create an empty file and remove it: disks may refuse odd names."""
    try:
        os.close(create(target))
        target.unlink()
    except FileExistsError:
        return
    except (OSError, ValueError) as error:
        raise refused(f"{shown(target)} cannot be written: {reason(error)}.") from None


def _is_same(one: Path, other: Path) -> bool:
    try:
        return os.path.samefile(one, other)
    except OSError:
        return False


def _free(folder: Path) -> int | None:
    try:
        usage = disk_usage(folder)
    except OSError:
        return None
    return usage.free if usage.total else None


def _size(count: int) -> str:
    return f"{count / 1e6:.1f} MB" if count >= 100_000 else f"{count / 1e3:.0f} kB"
