"""The pictures of a folder, by content, without sidecars, thumbnails and edits of its pictures."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path, PurePath
from typing import NamedTuple

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
"""Folders of systems and programs without photos of their own, in lower case."""

EDIT = re.compile(r"(.+)-(?:0|[1-9][0-9]{0,19})-(?:[0-9]|1[0-5])(?:-[2-9])?(?:_[0-9]+)?")
"""Names of saved edits: picture, seed, variation."""

NAMED_AT_MOST = 20
_REASONS_AT_MOST = 12
OPTION = "--edits-too edits it as well"


class File(NamedTuple):
    """A file by folder and name: a tenth of the memory of a path."""

    parent: Path
    name: str

    @property
    def path(self) -> Path:
        return self.parent / self.name


class _Paths(Iterable[Path]):
    """The paths of files, each made when it is asked for."""

    def __init__(self, files: Sequence[File]) -> None:
        self._files = files

    def __iter__(self) -> Iterator[Path]:
        return (each.path for each in self._files)


class Source(NamedTuple):
    """A picture to edit.

    Attributes:
        folder: its own, relative to the searched folder.
        stem: beginning of its edits' names, unique in its folder.
    """

    file: File
    folder: Path
    stem: str

    @property
    def path(self) -> Path:
        return self.file.path


@dataclass(frozen=True)
class Found:
    """The pictures of a folder in name order, and what was left out."""

    sources: tuple[Source, ...]
    left_out: tuple[LeftOut, ...]

    def told(self) -> list[str]:
        """Lines about what was left out: files that the user may have meant by name, the others by count."""
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
        recursive: also search its folders. Links to folders are not followed.
        target: where edits go; not searched, unless it is ``folder`` itself.
        origins: knows edits that were renamed.
        edits_too: include edits of pictures there.

    Raises:
        ValidationError: no folder, unreadable, or without pictures.
    """
    search = _Search(folder, recursive, target)
    files = list(search.pictures())
    left_out = list(search.left_out)
    if not edits_too:
        edits = _edits(files, origins)
        left_out += edits
        left = {each.path for each in edits}
        files = [file for file in files if not left or file.path not in left]
    found = Found(tuple(_sources(files, folder)), tuple(left_out))
    if not files:
        told = " ".join(found.told())
        raise ValidationError(
            f"{shown(folder)} holds no picture to edit. {told}".rstrip(), hint="", code="no_picture"
        )
    return found


class _Search:
    def __init__(self, root: Path, recursive: bool, target: Path | None) -> None:
        self._root, self._recursive = root, recursive
        self._target = os.path.realpath(target) if target is not None else ""
        self.left_out: list[LeftOut] = []

    def pictures(self) -> Iterator[File]:
        try:
            yield from self._of(self._root)
        except (OSError, ValueError) as error:
            raise ValidationError(
                f"{shown(self._root)}: {reason(error)}.", hint="Give a folder of pictures.", code="no_picture"
            ) from None

    def _of(self, folder: Path) -> Iterator[File]:
        folders = []
        for entry in _listed(folder):
            path = folder / entry.name
            if is_hidden(entry):
                self.left_out.append(LeftOut(path, "hidden"))
            elif entry.is_dir():
                folders.append(entry)
            elif (left_out := look_at(path)) is not None:
                self.left_out.append(left_out)
            else:
                yield File(folder, entry.name)
        for entry in folders:
            yield from self._of_folder(folder / entry.name, entry)

    def _of_folder(self, path: Path, entry: os.DirEntry[str]) -> Iterator[File]:
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


def _listed(folder: Path) -> list[os.DirEntry[str]]:
    with os.scandir(folder) as entries:
        return sorted(entries, key=lambda entry: entry.name)


def _edits(files: Sequence[File], origins: Origins | None) -> list[LeftOut]:
    """The files that are edits of others of them, by ``origins`` or by name."""
    known = origins.results_among(_Paths(files)) if origins is not None else {}
    edits = [LeftOut(path, f"an edit of a picture there ({OPTION})") for path in known]
    like_edits = [(file, named) for file in files if (named := EDIT.fullmatch(PurePath(file.name).stem))]
    pictures = _named(files, {(file.parent, named[1]) for file, named in like_edits})
    for file, named in like_edits:
        source = pictures.get((file.parent, named[1]))
        if source is not None and file.path not in known:
            why = f"by its name an edit of {shown(source)} ({OPTION})"
            edits.append(LeftOut(file.path, why, meant=True))
    return edits


def _named(files: Sequence[File], wanted: Collection[tuple[Path, str]]) -> dict[tuple[Path, str], str]:
    """The names of pictures whose edits would begin with a wanted stem, by folder and stem."""
    pictures: dict[tuple[Path, str], str] = {}
    for parent, name in files if wanted else ():
        for stem in (name, PurePath(name).stem):
            key = parent, derived(parent, stem).stem
            if key in wanted:
                pictures.setdefault(key, name)
    return pictures


def _sources(files: Sequence[File], root: Path) -> Iterator[Source]:
    """The pictures with their stems; those of a folder must be consecutive."""
    for parent, group in groupby(files, key=lambda file: file.parent):
        folder, taken = parent.relative_to(root), set[str]()
        for file in group:
            stem = next(stem for stem in stems(PurePath(file.name)) if stem.casefold() not in taken)
            taken.add(stem.casefold())
            yield Source(file, folder, stem)


def stems(path: PurePath) -> Iterator[str]:
    """Possible stems for a picture's edits: without its ending, with it, with a number."""
    yield path.stem
    yield path.name
    number = 2
    while True:
        yield f"{path.name}_{number}"
        number += 1
