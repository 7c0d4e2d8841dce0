"""The library for Python programs: edit pictures, collect what was paid for, ask for the credits.

    import rivya

    night = rivya.edit("make it night", "photo.jpg", save_to="night.jpg")
    print(night.task_id, night.credits, night.source)

Ledger and result store are those of the nodes, and so are the rules: the same inputs and the same seed give the same
picture again for no credits, and whatever is interrupted is resumed by the next call.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, wait
from dataclasses import replace
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any

import numpy as np

from . import config as configuration
from . import kontext, scalars
from .config import Config
from .edited import Edited as Edited
from .engine import engine
from .engine.jobs import Ticket
from .errors import (
    Charged,
    ConfigurationError,
    ImageError,
    RivyaError,
    RivyaTimeoutError,
    UnusableAnswerError,
    ValidationError,
)
from .images import decode
from .kontext import Identity, KontextParams
from .orders.order import Finished, Order, Reference
from .saving import places, settle
from .storage.results import ResultGone

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
        seed: names the picture, 0 to 2^64-1; another seed buys another.
        save_to: a file to save it in. It is refused before anything is sent if it cannot be written, and the picture
            counts as delivered only once it is there.
        options: as for `edit_all`.

    Raises:
        RivyaError: see `errors`; it says whether credits were charged and what to do.
    """
    if save_to is not None:
        options = {**options, **_into(save_to, image, options)}
    result = edit_all(prompt, [image], seed=seed, **options)[0]
    if isinstance(result, RivyaError):
        raise result
    return result


def _into(path: str | Path, image: Any, options: dict[str, Any]) -> dict[str, Any]:
    """Settle the file for one picture; the options that save it there."""
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
    seed: int = 0,
    variations: int = 1,
    timeout_s: float = 900.0,
    encoding: str = "auto",
    client_request_id: str = "",
    config: Config | None = None,
    on_progress: Callable[[int, int], None] | None = None,
    keep_size: bool = False,
    mask: Any = None,
    save_as: str = "",
    save: Callable[[int, Edited], object] | None = None,
    **params: Any,
) -> list[Edited | RivyaError]:
    """Edit several pictures at once; one result for each picture and variation, picture-major, failures as values.

    Args:
        images: see `edit`; None in it stands for text to image.
        variations: pictures for each image, 1 to 16.
        timeout_s: how long to wait for each picture once the service has accepted it.
        on_progress: called with (ended, all) whenever an order ends.
        keep_size: give the photo back at its own size, with only the edit in it: ``data`` is then a file of the photo's
            format with its metadata, and ``about["stitch"]`` says what was done.
        mask: where the edit may show: a path, the bytes of a file (white: there) or an array. That part alone is sent.
            Means ``keep_size``; for one picture.
        save_as: with ``keep_size``: ``png``, ``jpg`` or ``webp``; empty: the format of the photo.
        save: called with the place in the list and each picture, before it counts as delivered; see `collect`.
        params: fields of `kontext.KontextParams`: model, aspect_ratio, output_format ...
    """
    kontext.validate_prompt(prompt)
    kontext.validate_client_request_id(client_request_id)
    chosen = _params(params)
    used = config or configuration.load()
    used.require_key()
    seed = scalars.whole("seed", seed, 0, kontext.MAX_SEED)
    variations = scalars.whole("variations", variations, 1, kontext.MAX_VARIATIONS)
    timeout_s = scalars.number("timeout_s", timeout_s, 0, math.inf)
    if len(images) == 0:
        raise ValidationError("There is no picture to edit.")
    running = engine.shared()
    photos = _photos(images, mask, chosen.aspect_ratio, save_as) if keep_size or mask is not None else None
    references = _references(used, photos.sent if photos else images, encoding)
    wanted = [
        (number * variations + variation, reference)
        for number, reference in enumerate(references)
        if not isinstance(reference, RivyaError)
        for variation in range(variations)
    ]
    orders = [
        Order(_identity(prompt, chosen, seed, place % variations, reference), reference, client_request_id)
        for place, reference in wanted
    ]
    _stay_under_the_cap(used, orders)

    def deliver(number: int, edited: Edited) -> Edited:
        place = wanted[number][0]
        if photos is not None:
            edited = _at_full_size(photos, place // variations, edited)
        if save is not None:
            save(place, edited)
        return edited

    waited = iter(_wait(running.order(used, orders), timeout_s, on_progress, deliver))
    return [
        reference if isinstance(reference, RivyaError) else next(waited)
        for reference in references
        for _ in range(variations)
    ]


def _photos(images: Sequence[Any], mask: Any, shape: str, save_as: str) -> FullSize:
    from .fullsize import FullSize

    return FullSize(list(images), mask, shape, save_as)


def _at_full_size(photos: FullSize, number: int, result: Edited) -> Edited:
    """The photo with the result in it; a picture from text alone has no photo and stays as it is."""
    if photos.sent[number] is None:
        return result
    data, extension, report = photos.finished(number, result.data)
    more = tuple(photos.finished(number, each)[0] for each in result.more)
    about = {**result.about, "stitch": report}
    return replace(result, data=data, extension=extension, more=more, about=about)


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
    """Put an edit back into its original, at the size of the original. No network, no account.

    Args:
        original, edited: a path, the bytes of a file, or an array (height, width, 1, 3 or 4) of uint8, uint16 or
            float32; of any editor.
        placement: where the edit lies, if it is of a part of the original.
        mask: where the edit may show: a path, the bytes of a file (white: there) or an array.
        keep: what of the edit shows: ``auto``, ``mask``, ``changed``, ``mask and changed`` or ``all``.
        align, match_color: find where the edit lies; give it the colours of the original.
        feather: width of the soft edge in percent of the shorter side of the edited part, 0 to 10.

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
    """The pictures of these tasks; without any, all that were paid for and never delivered. Never spends.

    Args:
        save: called with each picture before it counts as delivered. A `RivyaError` that it raises, as `Edited.save`
            does, stands for that picture in the list, and the picture stays collectable. Anything else ends the call;
            that picture and those after it stay collectable.
    """
    timeout_s = scalars.number("timeout_s", timeout_s, 0, math.inf)
    used = config or configuration.load()
    used.require_key()
    named = (task_ids,) if isinstance(task_ids, str) else task_ids
    rows = engine.shared().collectable(used, named).result()
    fingerprints = dict.fromkeys(row.fingerprint for row in rows)

    def deliver(number: int, edited: Edited) -> Edited:
        if save is not None:
            save(edited)
        return edited

    return _wait([engine.shared().collect(used, each) for each in fingerprints], timeout_s, deliver=deliver)


def credits(config: Config | None = None) -> int:
    """What the account has now, in credits."""
    used = config or configuration.load()
    used.require_key()
    return engine.shared().credits(used).result()


def _wait(
    tickets: Sequence[Ticket],
    timeout_s: float,
    on_progress: Callable[[int, int], None] | None = None,
    deliver: Callable[[int, Edited], Edited] = lambda number, edited: edited,
) -> list[Edited | RivyaError]:
    """Wait for all and deliver them; orders out of time go on at the service and are left to a later call.

    Args:
        deliver: called with the number of its ticket and each picture; gives the picture of the list.
    """
    began, late = monotonic(), dict[int, RivyaError]()
    pending = {ticket.done for ticket in tickets}
    try:
        while pending:
            ended, pending = wait(pending, timeout=0.5, return_when=FIRST_COMPLETED)
            if ended and on_progress is not None:
                on_progress(len(tickets) - len(pending), len(tickets))
            for number, ticket in enumerate(tickets):
                since = ticket.progress.since
                late_now = since is not None and monotonic() - max(since, began) > timeout_s
                if late_now and ticket.done in pending:
                    late[number] = RivyaTimeoutError(
                        f"The picture was not ready within {timeout_s:g} s.",
                        task_id=ticket.progress.task_id,
                        charged=Charged.YES,
                    )
                    pending.discard(ticket.done)
    finally:
        for ticket in tickets:
            ticket.leave()
    outcomes = [late.get(number) or _outcome(ticket) for number, ticket in enumerate(tickets)]
    return _delivered(outcomes, deliver)


def _delivered(
    outcomes: Sequence[Finished | RivyaError], deliver: Callable[[int, Edited], Edited]
) -> list[Edited | RivyaError]:
    """Deliver each picture and note that; one that is not delivered at all of its places stays collectable."""
    results: list[Edited | RivyaError] = []
    finished = {each.fingerprint: each for each in outcomes if isinstance(each, Finished)}
    missing = Counter(each.fingerprint for each in outcomes if isinstance(each, Finished))
    try:
        for number, outcome in enumerate(outcomes):
            result = _edited(outcome) if isinstance(outcome, Finished) else outcome
            if isinstance(outcome, Finished) and isinstance(result, Edited):
                try:
                    result = deliver(number, result)
                    missing[outcome.fingerprint] -= 1
                except RivyaError as error:
                    result = error
            results.append(result)
    finally:
        done = [each for name, each in finished.items() if not missing[name]]
        engine.shared().delivered(done).result()
    return results


def _outcome(ticket: Ticket) -> Finished | RivyaError:
    error = ticket.done.exception()
    if error is None:
        return ticket.done.result()
    if isinstance(error, RivyaError):
        return error
    raise error


def _edited(finished: Finished) -> Edited | RivyaError:
    about = finished.about
    try:
        data, *more = finished.result.read()
    except ResultGone:
        return UnusableAnswerError(
            "The stored picture has vanished in this moment.",
            hint="Run again: it is fetched anew and costs nothing more.",
            task_id=about.get("task_id"),
            charged=Charged.YES,
        )
    return Edited(
        data=data,
        more=tuple(more),
        extension=finished.result.paths[0].suffix.lstrip("."),
        task_id=about.get("task_id"),
        credits=about.get("credits"),
        source=finished.source,
        about=about,
        kept=finished.result.paths[0],
    )


def _identity(
    prompt: str, params: KontextParams, seed: int, variation: int, reference: Reference | None
) -> Identity:
    return Identity(
        prompt=prompt,
        params=params,
        seed=seed,
        variation=variation,
        reference=reference.identity if reference else None,
        size=reference.size if reference else None,
    )


def _params(values: dict[str, Any]) -> KontextParams:
    try:
        chosen = KontextParams(**values)
    except TypeError:
        known = ", ".join(KontextParams.__dataclass_fields__)
        raise ValidationError(f"There is no such parameter; the parameters are {known}.") from None
    return chosen.validate()


def _stay_under_the_cap(config: Config, orders: Sequence[Order]) -> None:
    if config.max_credits_per_run is None:
        return
    price = sum(o.identity.params.credits for o in engine.shared().would_buy(config, orders).result())
    if price > config.max_credits_per_run:
        raise ConfigurationError(
            f"This run would spend {price} credits; max_credits_per_run allows {config.max_credits_per_run}.",
            hint="Order less at once, or raise the cap in config.json.",
            code="over_credit_cap",
        )


def _references(config: Config, images: Sequence[Any], encoding: str) -> list[Reference | RivyaError | None]:
    """Each picture uploaded, or why it could not be; None stands for text to image."""
    running = engine.shared()
    jobs = [running.reference(config, _loader(i), encoding) if i is not None else None for i in images]
    references: list[Reference | RivyaError | None] = []
    try:
        for job in jobs:
            try:
                references.append(job.result() if job is not None else None)
            except RivyaError as error:
                error.charged = Charged.NO  # an upload costs nothing
                references.append(error)
    finally:
        for job in jobs:
            if job is not None:
                job.cancel()
    return references


def _loader(image: Any) -> Callable[[], Any]:
    """What gives the pixels of ``image`` in a codec thread: uint8, (height, width, channels)."""

    def load() -> Any:
        if isinstance(image, np.ndarray):
            return image[:, :, None] if image.ndim == 2 else image
        try:
            data = image if isinstance(image, bytes) else Path(image).read_bytes()
        except OSError as error:
            raise ImageError(f"{Path(image).name} cannot be read: {error.strerror}.", hint="") from None
        pixels = decode.decode(data).pixels
        return (
            pixels if pixels.dtype == np.uint8 else ((pixels.astype(np.uint32) + 128) // 257).astype(np.uint8)
        )

    return load
