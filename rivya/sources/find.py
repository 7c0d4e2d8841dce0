"""The pictures of a folder, by content, without sidecars, thumbnails and edits of its pictures."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from itertools import count
from pathlib import Path, PurePath
from typing import NamedTuple

from ..errors import ValidationError
from ..saving.origins import Origins
from ..saving.places import derived, reason, shown
from .kinds import is_hidden, look_at

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


class Source(NamedTuple):
    """A picture to edit.

    Attributes:
        folder: its own, relative to the searched folder.
        stem: beginning of its edits' names, unique in its folder.
    """

    path: Path
    folder: Path
    stem: str


class _Listed(NamedTuple):
    """The names of files in one folder, in order."""

    folder: Path
    names: Sequence[str]


class _Folder(NamedTuple):
    """The pictures of one folder. Of each its name alone is kept, 80 bytes.

    Attributes:
        relative: the folder, relative to the searched one.
        stems: of pictures whose name without its ending is taken, by name.
    """

    listed: _Listed
    relative: Path
    stems: Mapping[str, str]

    def sources(self) -> Iterator[Source]:
        for name in self.listed.names:
            path = self.listed.folder / name
            yield Source(path, self.relative, self.stems.get(name) or path.stem)


class Sources:
    """Pictures in name order, each made when it is asked for."""

    def __init__(self, folders: Iterable[_Folder]) -> None:
        self._folders = tuple(folders)

    def __iter__(self) -> Iterator[Source]:
        for each in self._folders:
            yield from each.sources()

    def __len__(self) -> int:
        return sum(len(each.listed.names) for each in self._folders)

    @property
    def folders(self) -> list[Path]:
        """The folders of the pictures, relative to the searched one."""
        return [each.relative for each in self._folders]


class _LeftOut:
    """What is not edited: the first files that the user may have meant by name, the others by count."""

    def __init__(self) -> None:
        self._named: list[str] = []
        self._counts: Counter[str] = Counter()
        self._more = 0

    def add(self, path: Path, why: str, meant: bool = False) -> None:
        if not meant:
            self._counts[why] += 1
        elif len(self._named) < NAMED_AT_MOST:
            self._named.append(f"{shown(path)}: {why}")
        else:
            self._more += 1

    def told(self) -> list[str]:
        """Lines for people."""
        counted = Counter({**self._counts, "not named here": self._more}).most_common(_REASONS_AT_MOST)
        counts = ", ".join(f"{count} x {why}" for why, count in counted if count)
        return [*self._named, *([f"Left out: {counts}."] if counts else [])]


class Found(NamedTuple):
    """The pictures of a folder, and lines about what was left out."""

    sources: Sources
    told: list[str]


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
    left_out = _LeftOut()
    listed = list(_Search(folder, recursive, target, left_out).pictures())
    if not edits_too:
        listed = list(_without(listed, _edits(listed, origins, left_out)))
    told = left_out.told()
    if not listed:
        raise ValidationError(
            f"{shown(folder)} holds no picture to edit. {' '.join(told)}".rstrip(), hint="", code="no_picture"
        )
    folders = (_Folder(each, each.folder.relative_to(folder), _other_stems(each.names)) for each in listed)
    return Found(Sources(folders), told)


class _Search:
    def __init__(self, root: Path, recursive: bool, target: Path | None, left_out: _LeftOut) -> None:
        self._root, self._recursive = root, recursive
        self._target = os.path.realpath(target) if target is not None else ""
        self._left_out = left_out

    def pictures(self) -> Iterator[_Listed]:
        """The pictures of each folder that has some."""
        try:
            yield from self._of(self._root)
        except (OSError, ValueError) as error:
            raise ValidationError(
                f"{shown(self._root)}: {reason(error)}.", hint="Give a folder of pictures.", code="no_picture"
            ) from None

    def _of(self, folder: Path) -> Iterator[_Listed]:
        names, folders = self._entries(folder)
        pictures = tuple(name for name in names if self._is_picture(folder / name))
        del names
        if pictures:
            yield _Listed(folder, pictures)
        for entry in folders:
            yield from self._of_folder(folder / entry.name, entry)

    def _entries(self, folder: Path) -> tuple[list[str], list[os.DirEntry[str]]]:
        """The names of files and the entries of folders, in order. An entry takes five times the memory of a name."""
        names, folders = [], []
        with os.scandir(folder) as entries:
            for entry in entries:
                if is_hidden(entry):
                    self._left_out.add(folder / entry.name, "hidden")
                elif entry.is_dir():
                    folders.append(entry)
                else:
                    names.append(entry.name)
        return sorted(names), sorted(folders, key=lambda entry: entry.name)

    def _is_picture(self, path: Path) -> bool:
        why = look_at(path)
        if why is not None:
            self._left_out.add(path, *why)
        return why is None

    def _of_folder(self, path: Path, entry: os.DirEntry[str]) -> Iterator[_Listed]:
        if why := self._why_not(path, entry):
            self._left_out.add(path, why)
            return
        try:
            yield from self._of(path)
        except OSError as error:
            self._left_out.add(path, f"cannot be read: {reason(error)}", meant=True)

    def _why_not(self, path: Path, entry: os.DirEntry[str]) -> str:
        if entry.name.lower() in ASIDE:
            return "a folder of thumbnails or of the system"
        if not self._recursive:
            return "a folder (--recursive edits its pictures)"
        if entry.is_symlink():
            return "a link to a folder"
        return "the folder of the edits" if os.path.realpath(path) == self._target else ""


class _Paths(Iterable[Path]):
    """The paths of files, each made when it is asked for."""

    def __init__(self, listed: Iterable[_Listed]) -> None:
        self._listed = listed

    def __iter__(self) -> Iterator[Path]:
        return (folder / name for folder, names in self._listed for name in names)


def _edits(listed: Sequence[_Listed], origins: Origins | None, left_out: _LeftOut) -> set[int]:
    """The positions of files that are edits of others of them, by ``origins`` or by name."""
    files = _Paths(listed)
    edits = origins.results_among(files) if origins is not None else set[int]()
    like_edits: list[tuple[int, Path, str]] = []
    for position, path in enumerate(files):
        if position in edits:
            left_out.add(path, f"an edit of a picture there ({OPTION})")
        elif named := EDIT.fullmatch(path.stem):
            like_edits.append((position, path, named[1]))
    pictures = _named(files, {(path.parent, stem) for _, path, stem in like_edits})
    for position, path, stem in like_edits:
        source = pictures.get((path.parent, stem))
        if source is not None:
            left_out.add(path, f"by its name an edit of {shown(source)} ({OPTION})", meant=True)
            edits.add(position)
    return edits


def _named(files: Iterable[Path], wanted: Collection[tuple[Path, str]]) -> dict[tuple[Path, str], str]:
    """The names of pictures whose edits would begin with a wanted stem, by folder and stem."""
    pictures: dict[tuple[Path, str], str] = {}
    for path in files if wanted else ():
        for stem in (path.name, path.stem):
            key = path.parent, derived(path.parent, stem).stem
            if key in wanted:
                pictures.setdefault(key, path.name)
    return pictures


def _without(listed: Iterable[_Listed], positions: Collection[int]) -> Iterator[_Listed]:
    """The files without those of these positions, and without folders that are empty then."""
    number = count()
    for each in listed:
        if names := tuple(name for name in each.names if next(number) not in positions):
            yield _Listed(each.folder, names)


def _other_stems(names: Iterable[str]) -> dict[str, str]:
    """The stems of the files in a folder whose name without its ending is taken, by name."""
    others: dict[str, str] = {}
    taken: set[str] = set()
    for name in names:
        path = PurePath(name)
        stem = next(stem for stem in stems(path) if stem.casefold() not in taken)
        taken.add(stem.casefold())
        if stem != path.stem:
            others[name] = stem
    return others


def stems(path: PurePath) -> Iterator[str]:
    """Possible stems for a picture's edits: without its ending, with it, with a number."""
    yield path.stem
    yield path.name
    number = 2
    while True:
        yield f"{path.name}_{number}"
        number += 1
