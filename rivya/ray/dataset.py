"""Edits a dataset's pictures."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .. import client, kontext, machines
from .. import config as configuration
from ..bucket_urls import is_bucket
from ..config import Config
from ..engine import engine
from ..errors import ValidationError, costs_nothing
from ..ledger.runs import RunReport
from ..machines import Machine
from ..secret import Secret
from . import cluster
from .workers import EditRows, Spec, mapped, new_name

log = logging.getLogger("rivya")


@costs_nothing()
def edit_dataset(
    ds: Any,
    *,
    prompt: str = "",
    prompt_column: str | None = None,
    image_column: str | None = "bytes",
    id_column: str | None = "path",
    seed: int = 0,
    variations: int = 1,
    max_credits: int | None = None,
    run: str = "",
    workers: tuple[int, int] = (1, 8),
    **params: Any,
) -> Any:
    """Edit the picture of each row of a dataset; returns one row per picture or failure.

    The row's columns stay. Added are ``rivya_image`` (the service's bytes), or ``rivya_path`` (its URL) if
    ``RIVYA_RESULTS`` is a bucket and photos do not keep their size; ``rivya_extension`` (jpg, png, webp),
    ``rivya_task_id``, ``rivya_credits`` (what this row has cost now), ``rivya_source`` (new, resumed, stored),
    ``rivya_error`` (empty: the picture is there), and ``rivya_name``, a unique file name without ending.

    A picture counts as delivered when Ray gets its row. Running the same job again costs nothing for earlier orders.

    Args:
        ds: a ``ray.data.Dataset``.
        prompt: for rows without one.
        prompt_column: if rows have their own.
        image_column: file bytes, a path or URL, or a uint8 array (height, width, 1, 3 or 4); None: text to image.
        id_column: a path or text whose last part begins ``rivya_name``.
        seed: names the pictures, 0 to 2^64-1.
        variations: pictures per row, 1 to 16.
        max_credits: limit for the whole job, required.
        run: names the budget, and the job for `report`; ``RIVYA_RUN`` if empty, else a new name per call.
        workers: least and most actors.
        params: as for `client.edit_each`.

    Raises:
        ValidationError: an option cannot be ordered, or ``max_credits`` is missing.
        ConfigurationError: a node cannot order, nodes differ in setup, or several share no ledger. Nothing was sent.
    """
    least, most = _workers(workers)
    if max_credits is None:
        raise ValidationError(
            "edit_dataset needs to know how much it may spend.",
            hint="Give max_credits=N: 4 credits for each picture, 8 with flux-kontext-max.",
            code="limit_missing",
        )
    options = {"seed": seed, "variations": variations, **params}
    _check(prompt, "-" if prompt_column else prompt, max_credits, options)
    nodes, salt = cluster.look_at_nodes()
    agreed = machines.agree(nodes)
    _warn_of_folders(nodes)
    full_size = bool(params.get("keep_size"))
    spec = Spec(
        prompt,
        options,
        run or configuration.load().run or new_name(),
        max_credits,
        agreed,
        salt,
        image_column,
        prompt_column,
        id_column,
        is_bucket(agreed.results) and not full_size,
    )
    log.info("Rivya: run %s on %d nodes", spec.run, len(nodes))
    return mapped(ds, EditRows, spec, least, most)


@costs_nothing()
def report(run: str = "", config: Config | None = None) -> RunReport:
    """A run's credits, and its orders by state, from the ledger.

    Args:
        run: its name; ``RIVYA_RUN`` if empty.
    """
    used = config or configuration.load()
    name = run or used.run
    if not name:
        raise ValidationError(f"Which run? Give its name, or set {configuration.ENV_RUN}.", hint="")
    return engine.shared().ledger(used).run_report(name)


def _warn_of_folders(nodes: list[Machine]) -> None:
    if len(nodes) > 1 and not all(each.results for each in nodes):
        log.warning(
            "Rivya: each node keeps its pictures in a folder of its own. Set %s to a bucket or a shared folder: a "
            "picture that was lost with a node is fetched again only as long as the service has it.",
            configuration.ENV_RESULTS,
        )


@costs_nothing()
def _check(default: str, prompt: str, max_credits: int, options: Mapping[str, Any]) -> None:
    """Raise `ValidationError` for options that cannot be ordered. Needs no key on this machine."""
    if wrong := sorted({"mask", "photos", "read"} & set(options)):
        raise ValidationError(f"edit_dataset has no parameter {wrong[0]}.", hint="")
    bare = Config(Path(), key=Secret("-"))
    kontext.validate_prompt(prompt)
    client.bulk_job(bare, default, max_credits=max_credits, **options)


@costs_nothing()
def _workers(workers: Any) -> tuple[int, int]:
    try:
        least, most = (int(each) for each in workers)
    except (TypeError, ValueError):
        least, most = 0, 0
    if not 1 <= least <= most:
        raise ValidationError("workers is a pair of whole numbers, least and most, from 1.", hint="")
    return least, most
