"""A bulk job from rows to finished pictures: stream, full size, delivery.

A picture counts as delivered once the caller has saved it or asks for the next one. Until then it stays collectable.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from ..config import Config
from ..edited import Edited, Row, read_finished
from ..engine import engine
from ..errors import RivyaError, costs_nothing
from ..images import own
from ..images.decode import Picture
from ..orders.order import Finished
from ..plan import Wanted
from .budget import Budget
from .row_run import Priced, RowCollect, RowCount, RowRun, Work
from .rows import read
from .stream import RowTask, Stream

if TYPE_CHECKING:
    from ..fullsize import FullSize

T = TypeVar("T")

_NOTED_AT_ONCE = 32
"""Delivered pictures per note in the ledger."""


@dataclass(frozen=True)
class BulkJob:
    """What to do with rows.

    Attributes:
        default: values for what a row leaves out.
        timeout_s: seconds to wait for each picture after the service has accepted its order.
        encoding: of uploads; see `images.encode.encode`.
        max_credits: most that this job may spend; None: any number.
        full_size: from a row's picture to its photo, so that the edit is put back at full size; None: results stay as
            they are.
        read: from a row and ``default`` to what it asks for.
    """

    config: Config
    default: Wanted
    timeout_s: float = 900.0
    encoding: str = "auto"
    max_credits: int | None = None
    full_size: Callable[[Any], FullSize] | None = None
    read: Callable[[Any, Wanted], Wanted] = field(default=read)

    @classmethod
    @costs_nothing()
    def checked(cls, config: Config, default: Wanted, **options: Any) -> BulkJob:
        """A job whose default can be ordered. Its prompt may be blank, since rows may have their own.

        Raises:
            ValidationError: names the value that cannot be ordered.
            ConfigurationError: there is no key.
        """
        config.require_key()
        checked = replace(default, prompt=default.prompt or "-").checked()
        return cls(config, replace(checked, prompt=default.prompt), **options)

    def run(
        self, rows: Iterable[Any], save: Callable[[Row, Edited], object] | None = None
    ) -> Iterator[tuple[Row, Edited | RivyaError]]:
        """Order the rows; yield each row with its picture or error, as orders end.

        Args:
            save: called with each picture before it counts as delivered. Its `RivyaError` becomes the outcome.
        """
        return self._delivered(self._stream(rows, RowRun), save)

    def collect(
        self, fingerprints: Iterable[str], save: Callable[[Row, Edited], object] | None = None
    ) -> Iterator[tuple[Row, Edited | RivyaError]]:
        """As `run`, for orders that the ledger knows, by fingerprint. Never spends."""
        return self._delivered(self._stream(fingerprints, RowCollect), save)

    def prices(self, rows: Iterable[Any]) -> Iterator[tuple[Row, Priced | RivyaError]]:
        """What each order of the rows would cost now. Sends nothing that costs."""
        return self._stream(rows, RowCount)

    def _stream(
        self, rows: Iterable[Any], task: Callable[[Work, Callable[[int, T | RivyaError], None]], RowTask]
    ) -> Generator[tuple[Row, T | RivyaError], None, None]:
        work = self.work()
        return iter(Stream(work.engine, rows, partial(task, work), self.config.max_concurrency))

    def work(self) -> Work:
        return Work(
            engine.shared(),
            self.config,
            lambda given: self.read(given, self.default),
            self._load,
            self.encoding,
            self.timeout_s,
            Budget(self.max_credits),
        )

    def _delivered(
        self,
        outcomes: Generator[tuple[Row, Finished | RivyaError], None, None],
        save: Callable[[Row, Edited], object] | None,
    ) -> Iterator[tuple[Row, Edited | RivyaError]]:
        delivered = _Delivered()
        try:
            for row, outcome in outcomes:
                if isinstance(outcome, RivyaError):
                    yield row, outcome
                    continue
                try:
                    picture = self.finished(row.given, outcome)
                    if save is not None:
                        save(row, picture)
                except RivyaError as error:
                    delivered.never(outcome)
                    yield row, error
                    continue
                if save is not None:
                    delivered.note(outcome)
                yield row, picture
                if save is None:
                    delivered.note(outcome)
        finally:
            outcomes.close()
            delivered.write()

    def _load(self, image: Any) -> Picture:
        return loaded(image if self.full_size is None else self.full_size(image).sent(0))

    def finished(self, given: Any, outcome: Finished) -> Edited:
        """The picture of an order. Blocks.

        Raises:
            RivyaError: it cannot be read.
        """
        picture = read_finished(outcome)
        if self.full_size is None:
            return picture
        image = self.read(given, self.default).image
        return picture if image is None else _at_full_size(self.full_size(image), picture)


def _at_full_size(photo: FullSize, picture: Edited) -> Edited:
    data, extension, report = photo.finished(0, picture.data)
    more = tuple(photo.finished(0, each)[0] for each in picture.more)
    about = {**picture.about, "stitch": report}
    return replace(picture, data=data, extension=extension, more=more, about=about)


class _Delivered:
    """Notes delivered pictures in the ledger, several at a time.

    A picture that several rows want stays collectable if one of them failed to get it.
    """

    def __init__(self) -> None:
        self._waiting: list[Finished] = []
        self._missing: set[str] = set()

    def never(self, finished: Finished) -> None:
        self._missing.add(finished.fingerprint)

    def note(self, finished: Finished) -> None:
        self._waiting.append(finished)
        if len(self._waiting) >= _NOTED_AT_ONCE:
            self.write()

    def write(self) -> None:
        waiting = [each for each in self._waiting if each.fingerprint not in self._missing]
        self._waiting = []
        if waiting:
            engine.shared().delivered(waiting).result()


def loaded(image: Any) -> Picture:
    """The picture of a path, file bytes or an array, as uint8 for the upload.

    Raises:
        ImageError: no picture, or a damaged one.
    """
    import numpy as np

    if isinstance(image, np.ndarray):
        return Picture(image[:, :, None] if image.ndim == 2 else image, ())
    return own.for_upload(own.read(image))
