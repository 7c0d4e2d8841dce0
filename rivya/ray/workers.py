"""The actors that run on the nodes, each with its own engine."""

from __future__ import annotations

import re
import time
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import PurePath
from secrets import token_hex
from typing import Any

import ray.data

from .. import client, machines
from .. import config as configuration
from ..bulk import rows as bulk_rows
from ..bulk.pieces import Piece
from ..bulk.singles import Singles
from ..config import Config
from ..edited import Edited
from ..errors import RivyaError, ValidationError, costs_nothing
from ..machines import Machine
from ..orders.order import Finished
from ..plan import Wanted
from ..saving import places
from . import cluster

_CALLS_AN_ACTOR = 4
"""Blocks that an actor processes at once, so that its orders do not run dry; Ray limits concurrency per block."""


@dataclass(frozen=True)
class Spec:
    """The settings of every actor. Ray stores them, so they hold no key and no ledger URL.

    Attributes:
        options: of `client.bulk_job`.
        run, max_credits: the budget, which the ledger keeps over all actors; empty and None: none.
        agreed: setup of the nodes when the job began; compared under ``salt``.
        image_column, prompt_column, id_column: column names; None: no such column.
        as_paths: return locations of pictures, not bytes.
    """

    prompt: str
    options: Mapping[str, Any]
    run: str
    max_credits: int | None
    agreed: Machine
    salt: str
    image_column: str | None = None
    prompt_column: str | None = None
    id_column: str | None = None
    as_paths: bool = False
    read: Callable[[Any, Wanted], Wanted] = field(default=bulk_rows.read)


def mapped(ds: Any, worker: type[Worker], spec: Spec, least: int, most: int) -> Any:
    return ds.flat_map(
        worker,
        fn_constructor_args=(spec,),
        # Actors mostly wait; reserving CPUs could halt a cluster that has lost a node.
        num_cpus=0,
        compute=ray.data.ActorPoolStrategy(
            min_size=least,
            max_size=most,
            max_tasks_in_flight_per_actor=2 * _CALLS_AN_ACTOR,
            max_concurrent_calls_per_actor=_CALLS_AN_ACTOR,
        ),
    )


class Worker:
    """An actor: one job on its process's engine. An error that prevents ordering is the outcome of all its rows."""

    def __init__(self, spec: Spec) -> None:
        self._spec = spec
        self._refused: RivyaError | None = None
        try:
            here = machines.look(cluster.name_of(cluster.own_node()), spec.salt)
            machines.agree([spec.agreed, here])
            job = client.bulk_job(_config(spec), spec.prompt, read=spec.read, **spec.options)
            self._singles = Singles(job)
        except RivyaError as error:
            self._refused = error

    async def _outcomes(self, given: Any) -> list[Finished | RivyaError]:
        if self._refused is not None:
            return [self._refused.about()]
        return await self._singles.outcomes(given)


class EditRows(Worker):
    async def __call__(self, row: dict[str, Any]) -> AsyncIterator[dict[str, Any]]:
        try:
            given = self._given(row)
        except RivyaError as error:
            yield {**row, **self._failed(error)}
            return
        for outcome in await self._outcomes(given):
            for added in await self._added(row, given, outcome):
                yield {**row, **added}

    @costs_nothing()
    def _given(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """What the row asks for. A row without its picture must not become text to image."""
        spec, given = self._spec, dict[str, Any]()
        if spec.image_column is not None:
            image = _value(row, spec.image_column)
            if image is None or (isinstance(image, (str, bytes)) and not image):
                raise ValidationError(
                    f"The column {spec.image_column} of this row is empty.", hint="", code="no_picture"
                )
            given["image"] = image
        if spec.prompt_column is not None:
            given["prompt"] = _value(row, spec.prompt_column)
        return given

    async def _added(
        self, row: Mapping[str, Any], given: Any, outcome: Finished | RivyaError
    ) -> list[dict[str, Any]]:
        if isinstance(outcome, RivyaError):
            return [self._failed(outcome)]
        if self._spec.as_paths:
            pictures: list[bytes | str] = list(outcome.result.locations)
            extension = outcome.result.extension
        else:
            edited = await self._singles.picture(given, outcome)
            if isinstance(edited, RivyaError):
                return [self._failed(edited)]
            pictures, extension = [edited.data, *edited.more], edited.extension
        self._singles.delivered(outcome)
        about, name = outcome.about, self._named(row, outcome.fingerprint)
        return [
            {
                **self._columns(picture, name if number == 1 else f"{name}-{number}"),
                "rivya_extension": extension,
                "rivya_task_id": about.get("task_id") or "",
                "rivya_credits": (about.get("credits") or 0)
                if outcome.source == "new" and number == 1
                else 0,
                "rivya_source": outcome.source,
            }
            for number, picture in enumerate(pictures, 1)
        ]

    def _failed(self, error: RivyaError) -> dict[str, Any]:
        return {
            **self._columns("" if self._spec.as_paths else b"", ""),
            "rivya_task_id": error.task_id or "",
            "rivya_credits": error.credits or 0,
            "rivya_error": " ".join(str(error).split()),
        }

    def _columns(self, picture: bytes | str, name: str) -> dict[str, Any]:
        """All columns, of the same type in each row: Ray's blocks must not differ."""
        shown = "rivya_path" if self._spec.as_paths else "rivya_image"
        empty = {"extension": "", "task_id": "", "credits": 0, "source": "", "error": "", "name": name}
        return {shown: picture, **{f"rivya_{each}": value for each, value in empty.items()}}

    def _named(self, row: Mapping[str, Any], fingerprint: str) -> str:
        called = row.get(self._spec.id_column) if self._spec.id_column is not None else None
        stem = re.sub(r"[^\w.-]+", "_", PurePath(str(called)).stem)[:80] if called else ""
        return f"{stem or 'picture'}-{fingerprint[:16]}"


@dataclass(frozen=True)
class Told:
    """The outcome of one variation of a piece.

    Attributes:
        number: of the piece.
        order: scope, fingerprint and row in the ledger, to note the delivery; None: no picture.
    """

    number: int
    variation: int
    outcome: Edited | RivyaError
    order: tuple[str, str, int | None] | None


class BatchRows(Worker):
    """Runs the pieces of ``edit --batch``; yields `Told`.

    Pictures count as delivered once the command line has saved them.
    """

    async def __call__(self, row: dict[str, Any]) -> AsyncIterator[dict[str, Any]]:
        piece: Piece = row["piece"]
        for variation, outcome in enumerate(await self._outcomes(piece)):
            told: Edited | RivyaError
            order = None
            if isinstance(outcome, RivyaError):
                told = outcome
            else:
                order = (outcome.scope, outcome.fingerprint, outcome.row_id)
                told = await self._singles.picture(piece, outcome)
            yield {"told": Told(piece.number, variation, told, order)}


def _value(row: Mapping[str, Any], column: str) -> Any:
    if column not in row:
        there = ", ".join(places.shown(each) for each in list(row)[:20])
        raise ValidationError(f"There is no column {column}; the columns are {there}.", code="no_column")
    return row[column]


def _config(spec: Spec) -> Config:
    config = configuration.load()
    limits = [each for each in (spec.max_credits, config.max_credits_per_run) if each is not None]
    return replace(config, run=spec.run or config.run, max_credits_per_run=min(limits, default=None))


def new_name() -> str:
    return f"ray-{time.strftime('%Y%m%d-%H%M%S')}-{token_hex(3)}"
