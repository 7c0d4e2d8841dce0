"""One finished picture."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from . import commands
from .errors import Charged, SavingError, UnusableAnswerError
from .orders.order import Finished
from .saving import places, write
from .storage.results import ResultGone

logger = logging.getLogger("rivya")


@dataclass(frozen=True)
class Row:
    """The origin of a bulk job's result.

    Attributes:
        number: of the row, from 0.
        given: the row itself.
        variation: from 0.
    """

    number: int
    given: Any = field(repr=False)
    variation: int = 0


@dataclass(frozen=True)
class Edited:
    """One finished picture.

    Attributes:
        data: the service's bytes; with ``keep_size`` the photo with the edit in it.
        extension: "jpg", "png" or "webp", by the bytes.
        task_id, credits, source: its task, its cost, and "new", "resumed" or "stored".
        about: the same and more (seconds, model, aspect_ratio, encoding, notes, request_id).
        more: further pictures of the task.
        kept: path or object URL in the result store.
        home: the state folder.
        row: of a bulk job.
    """

    data: bytes = field(repr=False)
    extension: str
    task_id: str | None
    credits: int | None
    source: str
    about: dict[str, Any] = field(repr=False)
    more: tuple[bytes, ...] = field(default=(), repr=False)
    kept: Path | str | None = field(default=None, repr=False)
    home: Path | None = field(default=None, repr=False)
    row: Row | None = field(default=None, repr=False)

    def save(self, path: str | Path) -> Path:
        """Write the picture to this file, further pictures beside it; return the actual path.

        Makes folders. Corrects a missing or wrong extension. Replaces only a file of exactly this name.

        Raises:
            SavingError: it cannot be written; says where the picture is kept.
        """
        place = places.named(path)
        saved, *_ = self.save_at(place)
        if note := places.corrected(place, saved):
            logger.warning("%s", note)
        return saved

    def save_at(self, place: places.Place) -> tuple[Path, ...]:
        try:
            return tuple(
                write.write(place, data, number, otherwise=self.extension)
                for number, data in enumerate((self.data, *self.more), 1)
            )
        except (OSError, ValueError) as error:
            raise self.not_saved(places.shown(place.folder / place.name), places.reason(error)) from None

    def not_saved(self, where: str, reason: str) -> SavingError:
        """Return the error of an unwritable picture: its cost, where it is kept, how to get it."""
        new = self.source == "new"
        cost = f" ({self.credits} credits)" if self.credits is not None else ""
        kept = f" is kept in {places.shown(self.kept)}" if self.kept else " is kept in the result store"
        collect = (
            commands.own("collect", self.task_id, "-o", "FOLDER", home=self.home) if self.task_id else ""
        )
        collected = f", or run {collect}" if collect else ""
        return SavingError(
            f"{where} cannot be written: {reason}."
            + ("" if new else " The picture was paid for before; this run has cost nothing."),
            hint=f"The picture{cost}{kept}. Save it elsewhere, or make room, by the same command again{collected}: "
            "neither costs anything more.",
            task_id=self.task_id,
            charged=Charged.YES if new else None,
            credits=self.credits if new else 0,
        )


def read_finished(finished: Finished) -> Edited:
    """Read a finished order from the result store.

    Raises:
        UnusableAnswerError: its files are missing.
        LedgerError: the store is unreachable.
    """
    about = finished.about
    try:
        data, *more = finished.result.read()
    except ResultGone:
        raise UnusableAnswerError(
            "The stored picture has vanished in this moment.",
            hint="Run again: it is fetched anew and costs nothing more.",
            task_id=about.get("task_id"),
            charged=Charged.YES,
        ) from None
    kept = finished.result.locations[0]
    return Edited(
        data=data,
        more=tuple(more),
        extension=finished.result.extension,
        task_id=about.get("task_id"),
        credits=about.get("credits"),
        source=finished.source,
        about=about,
        kept=Path(kept) if "://" not in kept else kept,
        home=finished.state.home,
    )
