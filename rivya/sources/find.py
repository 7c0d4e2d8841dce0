"""The pictures of a folder: by content, without sidecars, thumbnails and the edits of pictures that lie there too."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath

from ..errors import ValidationError
from ..saving.origins import Origins
from ..saving.places import derived, reason, shown
from .kinds import LeftOut, is_hidden, look_at

ASIDE = frozenset(
    (
        *("@eadir", ".@__thumb", "#recycle", "$recycle.bin", "system volume information", "lost+found"),
        *("__macosx", "thumbnails", "thumbs"),
    )
)
"""Folders in which systems and programs keep what is no photo of its own, in lower case."""

EDIT = re.compile(r"(.+)-(?:0|[1-9][0-9]{0,19})-(?:[0-9]|1[0-5])(?:-[2-9])?(?:_[0-9]+)?")
"""Names that edits get when they are saved in a folder: that of the picture, seed, variation."""

NAMED_AT_MOST = 20
_REASONS_AT_MOST = 12
OPTION = "--edits-too edits it as well"


@dataclass(frozen=True)
class Source:
    """A picture to edit.

    Attributes:
        folder: its own, relative to the folder that was searched.
        stem: what the names of its edits begin with, unlike that of every other picture of its folder.
    """

    path: Path
    folder: Path
    stem: str


@dataclass(frozen=True)
class Found:
    """The pictures of a folder, in the order of their names, and what was left out."""

    sources: tuple[Source, ...]
    left_out: tuple[LeftOut, ...]

    def told(self) -> list[str]:
        """Lines that say what was left out: each file that somebody may have meant, the others by their number."""
        named = [each for each in self.left_out if each.meant]
        lines = [f"{shown(each.path)}: {each.reason}" for each in named[:NAMED_AT_MOST]]
        rest = Counter(each.reason for each in self.left_out if not each.meant)
        rest["not named here"] = len(named[NAMED_AT_MOST:])
        counts = ", ".join(f"{count} x {why}" for why, count in rest.most_common(_REASONS_AT_MOST) if count)
        return [*lines, *([f"Left out: {counts}."] if counts else [])]


def find(
    folder: Path,
    *,
    recursive: bool = False,
    target: Path | None = None,
    origins: Origins | None = None,
    edits_too: bool = False,
) -> Found:
    """The pictures of a folder.

    Args:
        recursive: those of the folders in it, too. Links to folders are not followed.
        target: where edits go; it is not searched, unless it is ``folder`` itself.
        origins: knows edits that have other names than they were given.
        edits_too: also the edits of pictures that lie there.

    Raises:
        ValidationError: it is no folder, cannot be read, or holds no picture.
    """
    search = _Search(folder, recursive, target)
    paths = list(search.pictures())
    left_out = list(search.left_out)
    if not edits_too:
        edits = _edits(paths, origins)
        left_out += edits
        left = {each.path for each in edits}
        paths = [path for path in paths if path not in left]
    found = Found(tuple(_sources(paths, folder)), tuple(left_out))
    if not paths:
        told = " ".join(found.told())
        raise ValidationError(
            f"{shown(folder)} holds no picture to edit. {told}".rstrip(), hint="", code="no_picture"
        )
    return found


class _Search:
    """One walk through a folder."""

    def __init__(self, root: Path, recursive: bool, target: Path | None) -> None:
        self._root, self._recursive = root, recursive
        self._target = os.path.realpath(target) if target is not None else ""
        self.left_out: list[LeftOut] = []

    def pictures(self) -> Iterator[Path]:
        """The pictures, a folder after the other."""
        try:
            yield from self._of(self._root)
        except (OSError, ValueError) as error:
            raise ValidationError(
                f"{shown(self._root)}: {reason(error)}.", hint="Give a folder of pictures.", code="no_picture"
            ) from None

    def _of(self, folder: Path) -> Iterator[Path]:
        with os.scandir(folder) as entries:
            listed = sorted(entries, key=lambda entry: entry.name)
        folders = []
        for entry in listed:
            path = folder / entry.name
            if is_hidden(entry):
                self.left_out.append(LeftOut(path, "hidden"))
            elif entry.is_dir():
                folders.append(entry)
            elif (left_out := look_at(path)) is not None:
                self.left_out.append(left_out)
            else:
                yield path
        for entry in folders:
            yield from self._of_folder(folder / entry.name, entry)

    def _of_folder(self, path: Path, entry: os.DirEntry[str]) -> Iterator[Path]:
        if why := self._why_not(path, entry):
            self.left_out.append(LeftOut(path, why))
            return
        try:
            yield from self._of(path)
        except OSError as error:
            self.left_out.append(LeftOut(path, f"cannot be read: {reason(error)}", meant=True))

    def _why_not(self, path: Path, entry: os.DirEntry[str]) -> str:
        if entry.name.lower() in ASIDE:
            return "a folder of thumbnails or of the system"
        if not self._recursive:
            return "a folder (--recursive edits its pictures)"
        if entry.is_symlink():
            return "a link to a folder"
        return "the folder of the edits" if os.path.realpath(path) == self._target else ""


def _edits(paths: Sequence[Path], origins: Origins | None) -> list[LeftOut]:
    """Those that are edits of others of them: as the list of edits knows, or by their names alone."""
    pictures: dict[tuple[Path, str], Path] = {}
    for path in paths:
        for stem in (path.name, path.stem):
            pictures.setdefault((path.parent, derived(path.parent, stem).stem), path)
    known = origins.results_among(paths) if origins is not None else {}
    edits = [LeftOut(path, f"an edit of a picture there ({OPTION})") for path in known]
    for path in paths:
        named = EDIT.fullmatch(path.stem)
        source = pictures.get((path.parent, named[1])) if named else None
        if source is not None and path not in known:
            why = f"by its name an edit of {shown(source.name)} ({OPTION})"
            edits.append(LeftOut(path, why, meant=True))
    return edits


def _sources(paths: Sequence[Path], root: Path) -> Iterator[Source]:
    taken: set[tuple[Path, str]] = set()
    for path in paths:
        stem = next(name for name in stems(path) if (path.parent, name.casefold()) not in taken)
        taken.add((path.parent, stem.casefold()))
        yield Source(path, path.parent.relative_to(root), stem)


def stems(path: PurePath) -> Iterator[str]:
    """Names for the edits of a picture: without its ending, else with it."""
    yield path.stem
    yield path.name
    number = 2
    while True:
        yield f"{path.name}_{number}"
        number += 1
