"""``edit --batch`` on a Ray cluster."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import ray.data
import ray.util

from .. import machines
from ..bulk.pieces import Piece, read
from ..config import Config
from ..edited import Edited, Row
from ..engine import engine
from ..errors import RivyaError, ValidationError, costs_nothing
from . import cluster
from .workers import BatchRows, Spec, Told, mapped, new_name

_ROWS_A_BLOCK = 8
_MOST_BLOCKS = 10_000
_NOTED_AT_ONCE = 32


class RayJob:
    """`bulk.job.BulkJob.run` on a Ray cluster, for the command line.

    Args:
        address: ``auto``, ``local`` (a cluster that ends with this process) or ``ray://HOST:PORT``.
        options: of `client.bulk_job`.
        files: whether pictures are files of this machine.

    Raises:
        ConfigurationError: the cluster cannot be used; nothing was sent.
        ValidationError: ``files`` with a ``ray://`` address.
    """

    @costs_nothing()
    def __init__(
        self,
        address: str,
        config: Config,
        prompt: str,
        max_credits: int | None,
        options: Mapping[str, Any],
        *,
        files: bool,
    ) -> None:
        self._config = config
        is_client = address.startswith("ray://")
        if is_client and files:
            raise ValidationError(
                "The nodes of the cluster cannot reach the pictures of this machine.",
                hint="Put them into a bucket, or run the command on a node of the cluster with --ray auto.",
                code="usage",
            )
        cluster.join(address)
        nodes, salt = cluster.look_at_nodes()
        self._carries = files and len(nodes) > 1
        here = "this machine" if is_client else cluster.name_of(cluster.own_node())
        agreed = machines.agree([*nodes, machines.look(here, salt)])
        budget = "" if max_credits is None else config.run or new_name()
        self._spec = Spec(prompt, options, budget, max_credits, agreed, salt, read=read)

    def run(
        self, pieces: Iterable[Piece], save: Callable[[Row, Edited], object]
    ) -> Iterator[tuple[Row, Edited | RivyaError]]:
        given = {piece.number: piece for piece in pieces}
        if not given:
            return
        saved: list[tuple[str, str, int | None]] = []
        try:
            for line in self._edited(list(given.values())).iter_rows():
                told: Told = line["told"]
                row, outcome = Row(told.number, given[told.number], told.variation), told.outcome
                try:
                    if not isinstance(outcome, RivyaError):
                        save(row, outcome)
                        saved.extend([told.order] if told.order else [])
                except RivyaError as error:
                    outcome = error
                if len(saved) >= _NOTED_AT_ONCE:
                    self._note(saved)
                yield row, outcome
        finally:
            self._note(saved)

    def _note(self, saved: list[tuple[str, str, int | None]]) -> None:
        if saved:
            engine.shared().delivered_by_others(self._config, saved[:]).result()
            saved.clear()

    def _edited(self, pieces: list[Piece]) -> Any:
        rows = [{"piece": _absolute(piece)} for piece in pieces]
        blocks = max(1, min(-(-len(rows) // _ROWS_A_BLOCK), _MOST_BLOCKS))
        ds = ray.data.from_items(rows, override_num_blocks=blocks)
        if self._carries:
            # Ray gives each node a resource of this name.
            address = ray.util.get_node_ip_address()
            ds = ds.map(_with_bytes, num_cpus=0, resources={f"node:{address}": 0.001})
        return mapped(ds, BatchRows, self._spec, 1, 8)


def _absolute(piece: Piece) -> Piece:
    if piece.path is None or not isinstance(piece.values, Mapping):
        return piece
    return replace(piece, values={**piece.values, "image": piece.path.absolute()})


def _with_bytes(row: dict[str, Any]) -> dict[str, Any]:
    """The row with its picture's bytes, for other nodes. A failed read is reported there."""
    piece: Piece = row["piece"]
    try:
        if piece.path is None or not isinstance(piece.values, Mapping):
            return row
        values = {**piece.values, "image": Path(piece.values["image"]).read_bytes()}
    except OSError:
        return row
    return {"piece": replace(piece, values=values)}
