"""The pictures of a bucket, by their names. Every pass lists them again, with a thousand in memory."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath

from ..bucket_urls import BucketUrl
from ..errors import ValidationError
from ..objects import Bucket, BucketError, Listed
from ..saving.places import shown
from .find import ASIDE, EDIT, NAMED_AT_MOST, OPTION, stems
from .kinds import by_name


@dataclass(frozen=True)
class BucketSource:
    """A picture to edit.

    Attributes:
        url: of the object.
        folder: its own, relative to the searched prefix.
        stem: beginning of its edits' names, unique in its folder.
        state: changes with its bytes; empty if the service does not tell.
    """

    url: str
    folder: PurePosixPath
    stem: str
    state: str


class BucketPictures:
    """The pictures under a URL, as `find.find`, except that names alone decide what an object holds.

    Args:
        target: where edits go; not searched, unless it is the URL itself.
    """

    def __init__(
        self, url: BucketUrl, setting: str, *, recursive: bool, target: BucketUrl | None, edits_too: bool
    ) -> None:
        """List it once.

        Raises:
            ValidationError: it cannot be listed, or holds no picture.
            ConfigurationError: obstore is not installed.
        """
        self._bucket, self._recursive = Bucket(url, setting), recursive
        self._target = _inside(url, target)
        self._left_out: Counter[str] = Counter()
        self._named: list[str] = []
        self._edited: frozenset[tuple[PurePosixPath, str]] = frozenset()
        """Pictures that have edits beside them, as these name them."""
        self._like_edits: set[str] | None = set() if _is_same_bucket(url, target) else None
        """Names as edits have them, which were there before: this run may write more of them while it lists."""
        self._count = 0
        self._look(edits_too)

    def _look(self, edits_too: bool) -> None:
        wanted: set[tuple[PurePosixPath, str]] = set()
        for path, _ in self._pictures(self._leave_out):
            self._count += 1
            named = EDIT.fullmatch(path.stem)
            if named and self._like_edits is not None:
                self._like_edits.add(str(path))
            if named and not edits_too:
                wanted.add((path.parent, named[1]))
        if wanted:
            there = {
                (path.parent, name) for path, _ in self._pictures() for name in (path.stem, path.name)
                if (path.parent, name) in wanted
            }  # fmt: skip
            self._edited = frozenset(there)
            edits = sum(self._is_edit(path) for path, _ in self._pictures())
            self._count -= edits
            self._left_out[f"by its name an edit of a picture there ({OPTION})"] += edits
        if not self._count:
            told = " ".join(self.told())
            raise ValidationError(
                f"{self._bucket.url} holds no picture to edit. {told}".rstrip(), hint="", code="no_picture"
            )

    def __len__(self) -> int:
        """The number of pictures at the first listing."""
        return self._count

    def __iter__(self) -> Iterator[BucketSource]:
        """All pictures. Raises `ValidationError` if listing fails."""
        stems = _Stems()
        for path, listed in self._pictures():
            if not self._is_edit(path):
                state = f"{listed.etag}/{listed.size}" if listed.etag else ""
                yield BucketSource(self._bucket.url.of(listed.name), path.parent, stems.of(path), state)

    def told(self) -> list[str]:
        counts = ", ".join(f"{count} x {why}" for why, count in self._left_out.most_common(12) if count)
        return [*self._named, *([f"Left out: {counts}."] if counts else [])]

    def _is_edit(self, path: PurePosixPath) -> bool:
        named = EDIT.fullmatch(path.stem)
        if named is None:
            return False
        is_new = self._like_edits is not None and str(path) not in self._like_edits
        return is_new or (path.parent, named[1]) in self._edited

    def _pictures(
        self, leave_out: Callable[[str, str, bool], None] | None = None
    ) -> Iterator[tuple[PurePosixPath, Listed]]:
        try:
            for listed in self._bucket.listed():
                path = PurePosixPath(listed.name)
                why = self._why_not(path)
                if why is None:
                    yield path, listed
                elif leave_out is not None:
                    leave_out(listed.name, *why)
        except BucketError as error:
            raise ValidationError(error.message, hint=error.hint, code="bucket_unusable") from None

    def _why_not(self, path: PurePosixPath) -> tuple[str, bool] | None:
        folders = path.parent.parts
        if self._target and folders[: len(self._target)] == self._target:
            return "in the folder of the edits", False
        if any(each.startswith(".") or each.lower() in ASIDE for each in folders):
            return "in a folder of thumbnails or of the system", False
        if folders and not self._recursive:
            return "in a folder (--recursive edits its pictures)", False
        return by_name(path.name)

    def _leave_out(self, name: str, why: str, meant: bool) -> None:
        if meant and len(self._named) < NAMED_AT_MOST:
            self._named.append(f"{shown(name)}: {why}")
        else:
            self._left_out[why] += 1


def _inside(url: BucketUrl, target: BucketUrl | None) -> tuple[str, ...]:
    """The folders from one URL down to another; empty if it is not below."""
    if target is None or not _is_same_bucket(url, target):
        return ()
    outer, inner = (tuple(filter(None, each.prefix.split("/"))) for each in (url, target))
    return inner[len(outer) :] if inner[: len(outer)] == outer else ()


def _is_same_bucket(url: BucketUrl, target: BucketUrl | None) -> bool:
    return target is not None and (target.scheme, target.bucket) == (url.scheme, url.bucket)


class _Stems:
    """Stems for edits: without the ending, else with it, else with a number.

    Buckets list names in order, so that names which could collide are consecutive: they agree up to the first dot.
    Only such runs are remembered, one for each open folder.
    """

    def __init__(self) -> None:
        self._runs: dict[PurePosixPath, tuple[str, set[str]]] = {}

    def of(self, path: PurePosixPath) -> str:
        for folder in [each for each in self._runs if each != path.parent and each not in path.parents]:
            del self._runs[folder]
        begins = path.name.partition(".")[0]
        run, taken = self._runs.get(path.parent, ("", set()))
        if run != begins:
            taken = set()
        self._runs[path.parent] = begins, taken
        stem = next(name for name in stems(path) if name not in taken)
        taken.add(stem)
        return stem
