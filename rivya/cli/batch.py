"""The command ``edit --batch``: edit the pictures of a folder, bucket or table; save each as it ends.

``results.jsonl`` beside the pictures gets one line per picture. Running the same command again continues: no picture
is bought or saved twice. A bucket stores a hash of the request with each object: for such rows neither source nor
picture is downloaded again.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

from .. import client, kontext
from ..bulk.pieces import Piece, read
from ..bulk.row_run import Priced
from ..config import Config
from ..edited import Edited, Row
from ..errors import RivyaError, ValidationError, costs_nothing
from ..objects import BucketError
from ..plan import Wanted
from ..saving import places, settle
from ..saving.origins import Origins, digest_of
from ..saving.places import shown
from .printing import Tally
from .source import look
from .target import BucketTarget, FolderTarget, Found, ResultsList, Target, target_of

FREE_ORDERS = kontext.MAX_ORDERS
"""New orders that need no ``--max-credits``: as many as one node may place."""

_LOOKED_AHEAD = 16
"""Rows checked at once for existing pictures in the target."""


class Batch:
    """One run of the command.

    Args:
        prompt: for rows that have none.
        options: of `client.bulk_job`, for rows that set nothing else.
    """

    def __init__(
        self, arguments: argparse.Namespace, config: Config, prompt: str, options: Mapping[str, Any]
    ) -> None:
        self._arguments = arguments
        self._target: Target = target_of(arguments.output)
        self._origins = Origins(config.home)
        self._pieces = look(arguments, self._origins)
        if not prompt.strip() and not (self._pieces.table and "prompt" in self._pieces.table.columns):
            kontext.validate_prompt(prompt)
        self._job = client.bulk_job(config, prompt, max_credits=arguments.max_credits, read=read, **options)
        self._options = {name: options.get(name) for name in ("keep_size", "save_as")}
        self._runs: Callable[..., Iterator[tuple[Row, Edited | RivyaError]]] = self._job.run
        if arguments.ray is not None and not arguments.dry_run:
            from ..ray.batch import RayJob

            given = (arguments.ray, config, prompt, arguments.max_credits, options)
            self._runs = RayJob(*given, files=self._pieces.bucket is None).run

    def run(self, extensions: tuple[str, ...], *, keeps_size: bool) -> int:
        """Order, wait and save. Return the exit status: 0 only if every picture was saved.

        Args:
            extensions: of the pictures, if known.
            keeps_size: whether pictures keep the size of their photos.

        Raises:
            RivyaError: nothing can be ordered; no request was sent.
        """
        if self._arguments.dry_run:
            return self._count(extensions)
        photos = (each.path for each in (self._pieces.found or ()) if keeps_size)
        room = settle.room(extensions, photos)
        wanted = len(self._pieces) * self._job.default.variations
        try:
            self._target.settle(self._pieces.folders(), room, wanted)
            self._ask_for_a_limit(wanted, extensions)
            with self._target.results() as results:
                return self._edit(results, wanted, extensions)
        finally:
            self._target.undo()

    def _edit(self, results: ResultsList, wanted: int, extensions: tuple[str, ...]) -> int:
        """Order, wait and save ``wanted`` pictures (more if rows set variations)."""
        files: dict[tuple[int, int], tuple[str, ...]] = {}
        lines: dict[tuple[int, int], list[str]] = {}
        telling, over = threading.Lock(), threading.Event()

        def save(row: Row, edited: Edited) -> None:
            piece: Piece = row.given
            if edited.about.get("encoding") and isinstance(
                self._target, FolderTarget
            ):  # text-to-image results are no edits
                self._origins.note((edited.data, *edited.more), piece.path)
            key, wish = (piece.number, row.variation), read(piece, self._job.default)
            files[key], lines[key] = self._target.save(
                piece.folder,
                piece.stem,
                _tail(wish, row.variation),
                edited,
                self._made(piece, wish, row.variation),
            )

        with Tally(wanted, as_json=self._arguments.json) as tally, ExitStack() as stack:

            def tell(record: dict[str, Any], said: Sequence[str]) -> None:
                with telling:
                    if not over.is_set():
                        results.add(record)
                        tally.ended(record, said)

            def is_there(piece: Piece, found: Sequence[Found]) -> bool:
                for variation, (name, task) in enumerate(found):
                    tell(_there_record(piece, variation, name, task), [f"{shown(name)}  (is there)"])
                return not over.is_set()

            stack.callback(over.set)
            for row, result in self._runs(self._not_there(is_there, extensions), save):
                key = row.given.number, row.variation
                failure = [places.shown_lines(f"{row.given.source}: {result}")]
                tell(self._record(row, result, files.pop(key, ())), lines.pop(key, failure))
        return tally.status

    def _not_there(
        self, is_there: Callable[[Piece, Sequence[Found]], bool], extensions: Sequence[str]
    ) -> Iterator[Piece]:
        """Yield the rows whose pictures no earlier run has saved.

        Args:
            is_there: called with each other row, in the thread that reads rows; False stops.
        """
        if not isinstance(self._target, BucketTarget):
            yield from self._pieces
            return
        with ThreadPoolExecutor(_LOOKED_AHEAD, "rivya-target") as pool:
            for piece, found in _ahead(pool, self._pieces, lambda piece: self._look(piece, extensions)):
                if found is None:
                    yield piece
                elif not is_there(piece, found):
                    return

    def _look(self, piece: Piece, extensions: Sequence[str]) -> list[Found] | None:
        """Return the saved picture of each variation; None if one is missing or unknown."""
        found = []
        try:
            wish = read(piece, self._job.default)
            for variation in range(wish.variations):
                made = self._made(piece, wish, variation)
                tail = _tail(wish, variation)
                one = made and self._target.there(piece.folder, piece.stem, tail, made, extensions)
                if not one:
                    return None
                found.append(one)
        except (RivyaError, BucketError):
            return None  # the order reports the error
        return found

    def _made(self, piece: Piece, wish: Wanted, variation: int) -> str:
        """Return a hash of the request and its source picture; empty where the source's state is unknown."""
        state = piece.state
        if wish.image is None:
            state = "text"
        elif piece.path is not None:
            state = _state_of(piece.path)
        if not state:
            return ""
        asked = [state, wish.prompt, asdict(wish.params), wish.seed, variation, self._options]
        return hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()

    def _record(self, row: Row, result: Edited | RivyaError, files: Sequence[str]) -> dict[str, Any]:
        """Return the row's line of ``results.jsonl``."""
        piece: Piece = row.given
        record: dict[str, Any] = {"row": piece.number, "source": piece.source, "variation": row.variation}
        if isinstance(result, RivyaError):
            error = result.as_dict()
            known = {"task_id": result.task_id, "credits": result.credits or 0, "status": "failed"}
            return {**record, "file": None, **known, "seconds": None, "error": error}
        return {
            **record,
            "file": files[0] if files else None,
            "task_id": result.task_id,
            "credits": result.credits if result.source == "new" else 0,
            "status": result.source,
            "seconds": result.about.get("seconds"),
            "error": None,
        }

    @costs_nothing()
    def _ask_for_a_limit(self, most: int, extensions: Sequence[str]) -> None:
        """Refuse to buy more than `FREE_ORDERS` pictures without a credit limit."""
        table = self._pieces.table
        at_least = table is not None and "variations" in table.columns
        if self._job.max_credits is not None or (most <= FREE_ORDERS and not at_least):
            return
        new: dict[str, int] = {}
        for _, priced in self._job.prices(self._not_there(lambda piece, found: True, extensions)):
            if isinstance(priced, Priced) and priced.credits:
                new[priced.fingerprint] = priced.credits
            if len(new) > FREE_ORDERS:
                price = most * max(new.values())
                raise ValidationError(
                    f"More than {FREE_ORDERS} new pictures would be bought: up to {most:,}, for {price:,} credits.",
                    hint=f"Say how much may be spent: --max-credits {price}. To count exactly: --dry-run.",
                    code="limit_missing",
                )

    def _count(self, extensions: Sequence[str]) -> int:
        """Print what a run would order and cost. Sends nothing that could cost."""
        prices: dict[str, int] = {}
        pictures, failures = 0, []
        there: list[int] = []

        def is_there(piece: Piece, found: Sequence[Found]) -> bool:
            there.append(len(found))
            return True

        for row, priced in self._job.prices(self._not_there(is_there, extensions)):
            pictures += 1
            if isinstance(priced, RivyaError):
                failures.append(f"{row.given.source}: {priced}")
            else:
                prices[priced.fingerprint] = priced.credits
        new, credits = sum(map(bool, prices.values())), sum(prices.values())
        bought, pictures = len(prices) - new + sum(there), pictures + sum(there)
        if self._arguments.json:
            counted = {"pictures": pictures, "new": new, "credits": credits, "bought": bought}
            print(json.dumps({**counted, "failed": len(failures)}))
        else:
            counted_pictures = f"{pictures:,} picture{'s' if pictures != 1 else ''}"
            print(f"{counted_pictures}: {new:,} to buy for {credits:,} credits, {bought:,} bought before.")
        for each in failures:
            print(places.shown_lines(each), file=sys.stderr)
        return 1 if failures else 0


def _state_of(path: Path) -> str:
    digest = digest_of(path)
    try:
        return f"{digest[0]}/{digest[1].hex()}/{path.stat().st_mtime_ns}" if digest else ""
    except OSError:
        return ""


def _tail(wish: Wanted, variation: int) -> str:
    return f"-{wish.seed}-{variation}"


def _there_record(piece: Piece, variation: int, name: str, task: str) -> dict[str, Any]:
    """Return the ``results.jsonl`` line of a picture saved earlier."""
    return {
        "row": piece.number,
        "source": piece.source,
        "variation": variation,
        "file": name,
        "task_id": task or None,
        "credits": 0,
        "status": "stored",
        "seconds": None,
        "error": None,
    }


def _ahead(
    pool: ThreadPoolExecutor, pieces: Iterable[Piece], look: Callable[[Piece], list[Found] | None]
) -> Iterator[tuple[Piece, list[Found] | None]]:
    """Yield each piece with its ``look`` result, in order, looking `_LOOKED_AHEAD` pieces ahead."""
    under_way: deque[tuple[Piece, Future[list[Found] | None]]] = deque()
    for piece in pieces:
        under_way.append((piece, pool.submit(look, piece)))
        if len(under_way) > _LOOKED_AHEAD:
            first, looked = under_way.popleft()
            yield first, looked.result()
    for first, looked in under_way:
        yield first, looked.result()
