"""The library for Python programs: edit pictures, collect paid ones, read the balance.

    import rivya

    night = rivya.edit("make it night", "photo.jpg", save_to="night.jpg")
    print(night.task_id, night.credits, night.source)

Ledger, result store and rules are those of the nodes: the same inputs and seed return the same picture for no
credits, and the next call resumes interrupted orders.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import config as configuration
from . import kontext, plan, scalars
from .bulk import rows as bulk_rows
from .bulk.job import BulkJob
from .bulk.row_run import Priced
from .config import Config
from .edited import Edited as Edited
from .edited import Row
from .engine import engine
from .errors import Charged, RivyaError, ValidationError, costs_nothing
from .kontext import KontextParams
from .plan import Wanted
from .saving import places, settle

if TYPE_CHECKING:
    from .fullsize import FullSize
    from .stitching import Placement, Stitched

Image = "str | Path | bytes | np.ndarray[Any, Any]"


def edit(
    prompt: str, image: Any = None, *, seed: int = 0, save_to: str | Path | None = None, **options: Any
) -> Edited:
    """Edit one picture as ``prompt`` says; without ``image``, make one from the prompt alone.

    Args:
        image: a path, the bytes of a file, or a uint8 array of shape (height, width, 1, 3 or 4).
        seed: identifies the picture, 0 to 2^64-1; another seed buys another picture.
        save_to: output file; refused before any request if unwritable. Only a saved picture counts as delivered.
        options: as for `edit_all`.

    Raises:
        RivyaError: says whether credits were charged and what to do.
    """
    if save_to is not None:
        options = {**options, **_into(save_to, image, options)}
    result = edit_all(prompt, [image], seed=seed, **options)[0]
    if isinstance(result, RivyaError):
        raise result
    return result


@costs_nothing()
def _into(path: str | Path, image: Any, options: dict[str, Any]) -> dict[str, Any]:
    """Check the output file; return the options that save there."""
    full_size = bool(options.get("keep_size")) or options.get("mask") is not None
    given = [Path(each) for each in (image, options.get("mask")) if isinstance(each, (str, Path))]
    asked = "png" if options.get("output_format") == "png" else "jpg"
    if full_size:
        asked = options.get("save_as") or places.extension_asked(path)
    extensions = (asked,) if asked else ()
    settle.Settled().file(path, extensions, given, settle.room(extensions, given if full_size else ()))
    return {"save": lambda number, edited: edited.save(path), **({"save_as": asked} if full_size else {})}


def edit_all(
    prompt: str,
    images: Sequence[Any],
    *,
    variations: int = 1,
    mask: Any = None,
    on_progress: Callable[[int, int], None] | None = None,
    save: Callable[[int, Edited], object] | None = None,
    config: Config | None = None,
    **options: Any,
) -> list[Edited | RivyaError]:
    """Edit several pictures at once; return one result per picture and variation, picture-major, failures as values.

    Args:
        images: see `edit`; None stands for text to image.
        variations: per image, 1 to 16.
        mask: where the edit may show: a path, the bytes of a file (white: there) or an array. For one picture;
            implies ``keep_size``. Only that part is uploaded.
        on_progress: called with (ended, all) when an order ends.
        save: called with result index and picture before it counts as delivered; see `collect`.
        options: as for `edit_each`, but the configuration sets the cap (``max_credits_per_run``).
    """
    kontext.validate_prompt(prompt)
    if len(images) == 0:
        raise ValidationError("There is no picture to edit.", charged=Charged.NO)
    used = config or configuration.load()
    job = bulk_job(
        used, prompt, variations=variations, mask=mask, photos=images, read=bulk_rows.picture_alone, **options
    )
    variations = job.default.variations
    _stay_under_the_cap(job, images)
    results: dict[int, Edited | RivyaError] = {}

    def place_of(row: Row) -> int:
        return row.number * variations + row.variation

    def save_row(row: Row, edited: Edited) -> None:
        if save is not None:
            save(place_of(row), edited)

    wanted = len(images) * variations
    for ended, (row, result) in enumerate(job.run(images, save_row), 1):
        results[place_of(row)] = result
        if on_progress is not None:
            on_progress(ended, wanted)
    return [results[place] for place in range(wanted)]


def edit_each(
    rows: Iterable[Any],
    prompt: str = "",
    *,
    max_credits: int | None = None,
    config: Config | None = None,
    **options: Any,
) -> Iterator[Edited | RivyaError]:
    """Edit any number of pictures; yield each result as it ends, with its ``row``. Failures are values.

    Memory is bounded: the iterable may be endless or slow. Ending the iteration stops buying; the same rows again
    cost nothing once bought. A picture counts as delivered once the caller asks for the next.

    Args:
        rows: paths, bytes of files, arrays (see `edit`), None for text to image, or dicts of ``image``, ``prompt``,
            ``seed``, ``variations`` and fields of `kontext.KontextParams`. Read in a separate thread.
        prompt: for rows without one.
        max_credits: most to spend; rows beyond it fail with ``over_credit_cap``, at no cost.
        options: defaults of rows: ``seed``, ``variations`` (1 to 16), fields of `kontext.KontextParams`.
            For all rows: ``timeout_s`` of each order from its acceptance by the service; ``encoding``,
            ``client_request_id``; ``keep_size``: the photo at its own size with only the edit in it (``data``: a
            file of the photo's format with its metadata; ``about["stitch"]``: the report); ``save_as``, with
            ``keep_size``: ``png``, ``jpg`` or ``webp``; empty: the photo's format.

    Raises:
        ValidationError: names an invalid option. Rows raise nothing.
        ConfigurationError: no key is set.
    """
    used = config or configuration.load()
    job = bulk_job(used, prompt, max_credits=max_credits, **options)
    return _with_rows(job.run(rows))


def _with_rows(results: Iterator[tuple[Row, Edited | RivyaError]]) -> Iterator[Edited | RivyaError]:
    for row, result in results:
        if isinstance(result, RivyaError):
            result.row = row
            yield result
        else:
            yield replace(result, row=row)


@costs_nothing()
def bulk_job(
    config: Config,
    prompt: str,
    *,
    seed: int = 0,
    variations: int = 1,
    client_request_id: str = "",
    keep_size: bool = False,
    mask: Any = None,
    photos: Sequence[Any] | None = None,
    save_as: str = "",
    timeout_s: float = 900.0,
    encoding: str = "auto",
    max_credits: int | None = None,
    read: Callable[[Any, Wanted], Wanted] = bulk_rows.read,
    **params: Any,
) -> BulkJob:
    """Return the job of `edit_all`, `edit_each` or the command line; options as for `edit_each`.

    Args:
        photos: all pictures, if known in advance, as a mask requires; None: rows may set their own ratio.
        read: returns a row's request.

    Raises:
        ValidationError: an invalid option.
    """
    try:
        chosen = KontextParams(**params)
    except TypeError:
        known = ", ".join(KontextParams.__dataclass_fields__)
        raise ValidationError(f"There is no such parameter; the parameters are {known}.") from None
    if max_credits is not None:
        max_credits = scalars.whole("max_credits", max_credits, 0, 2**53)
    limits = [each for each in (max_credits, config.max_credits_per_run) if each is not None]
    most = min(limits, default=None)
    return BulkJob.checked(
        replace(config, max_credits_per_run=most) if config.run else config,
        Wanted(None, prompt, chosen, seed, variations, client_request_id),
        timeout_s=scalars.number("timeout_s", timeout_s, 0, math.inf),
        encoding=encoding,
        max_credits=most,
        full_size=_full_size(photos, mask, chosen.aspect_ratio, save_as)
        if keep_size or mask is not None
        else None,
        read=read,
    )


def _full_size(
    photos: Sequence[Any] | None, mask: Any, shape: str, save_as: str
) -> Callable[[Any], FullSize]:
    from .fullsize import FullSize

    if mask is not None:
        masked = FullSize(list(photos or ()), mask, shape, save_as)
        return lambda image: masked
    FullSize([None], None, shape, save_as)
    asked = "auto" if photos is None else shape
    return lambda image: FullSize([image], None, asked, save_as)


@costs_nothing()
def stitch(
    original: Any,
    edited: Any,
    *,
    placement: Placement | None = None,
    mask: Any = None,
    keep: str = "auto",
    align: bool = True,
    match_color: bool = True,
    feather: float = 1.0,
) -> Stitched:
    """Put an edit back into its original, at the original's size. No network, no account.

    Args:
        original, edited: a path, the bytes of a file, or an array (height, width, 1, 3 or 4) of uint8, uint16 or
            float32; from any editor.
        placement: where the edit lies, if it covers part of the original.
        mask: where the edit may show: a path, the bytes of a file (white: there) or an array.
        keep: what part of the edit shows: ``auto``, ``mask``, ``changed``, ``mask and changed`` or ``all``.
        align, match_color: align the edit; give it the original's colours.
        feather: width of the soft edge in percent of the edited part's shorter side, 0 to 10.

    Raises:
        ValidationError: pixels, mask or placement do not fit.
        ImageError: a file is no picture.
    """
    from . import fullsize, stitching

    photo = fullsize.read(original)
    return stitching.stitch(
        photo.pixels,
        fullsize.in_profile(fullsize.as_seen(edited), photo.profile),
        placement=placement,
        mask=None if mask is None else fullsize.read_mask(mask),
        options=stitching.Options(keep, align, match_color, feather),
    )


def collect(
    task_ids: Sequence[str] = (),
    *,
    timeout_s: float = 900.0,
    config: Config | None = None,
    save: Callable[[Edited], object] | None = None,
) -> list[Edited | RivyaError]:
    """Return the pictures of these tasks; by default all paid and never delivered ones. Never spends.

    Args:
        save: called with each picture before it counts as delivered. A `RivyaError` that it raises, as `Edited.save`
            does, replaces that picture in the list; other exceptions end the call. Unsaved pictures stay
            collectable.
    """
    timeout_s = scalars.number("timeout_s", timeout_s, 0, math.inf)
    used = config or configuration.load()
    used.require_key()
    named = (task_ids,) if isinstance(task_ids, str) else task_ids
    found = engine.shared().collectable(used, named).result()
    fingerprints = list(dict.fromkeys(each.fingerprint for each in found))
    job = BulkJob(used, Wanted(None, "", KontextParams()), timeout_s=timeout_s)
    results = dict[int, "Edited | RivyaError"]()
    for row, result in job.collect(fingerprints, lambda row, edited: save(edited) if save else None):
        results[row.number] = result
    return [results[number] for number in range(len(fingerprints))]


def credits(config: Config | None = None) -> int:
    """Return the account's balance in credits."""
    used = config or configuration.load()
    used.require_key()
    return engine.shared().credits(used).result()


@costs_nothing()
def _stay_under_the_cap(job: BulkJob, images: Sequence[Any]) -> None:
    """Refuse a run above the configured credit cap before any request."""
    cap, wanted = job.max_credits, job.default
    if cap is None or len(images) * wanted.variations * wanted.params.credits <= cap:
        return
    told = [outcome for _, outcome in job.prices(images)]
    plan.stay_under_the_cap(
        {each.fingerprint: each.credits for each in told if isinstance(each, Priced)}, cap
    )
