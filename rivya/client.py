"""The library for Python programs: edit pictures, collect what was paid for, ask for the credits.

    import rivya

    night = rivya.edit("make it night", "photo.jpg")
    night.save("night.jpg")
    print(night.task_id, night.credits, night.source)

Ledger and result store are those of the nodes, and so are the rules: the same inputs and the same seed give the same
picture again for no credits, and whatever is interrupted is resumed by the next call.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, wait
from dataclasses import dataclass, field, replace
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any

import numpy as np

from . import config as configuration
from . import kontext
from .config import Config
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
from .storage.results import ResultGone

if TYPE_CHECKING:
    from .fullsize import FullSize
    from .stitching import Placement, Stitched

Image = "str | Path | bytes | np.ndarray[Any, Any]"


@dataclass(frozen=True)
class Edited:
    """One finished picture.

    Attributes:
        data: the service's original bytes; with ``keep_size`` the photo with the edit in it.
        extension: "jpg", "png" or "webp", without a dot, by what the bytes are.
        task_id, credits, source: its task, what it cost, and whether it is "new", "resumed" or "stored".
        about: the same and more (seconds, model, aspect_ratio, encoding, notes, request_id).
        more: further pictures, where the task made several.
    """

    data: bytes = field(repr=False)
    extension: str
    task_id: str | None
    credits: int | None
    source: str
    about: dict[str, Any] = field(repr=False)
    more: tuple[bytes, ...] = field(default=(), repr=False)

    def save(self, path: str | Path) -> Path:
        """Write the original bytes; a path without an ending gets the right one. Further pictures go beside it."""
        target = Path(path)
        if not target.suffix:
            target = target.with_suffix(f".{self.extension}")
        target.write_bytes(self.data)
        for number, data in enumerate(self.more, 2):
            free_path(target.with_stem(f"{target.stem}-{number}"), data).write_bytes(data)
        return target


def free_path(path: Path, data: bytes) -> Path:
    """The path, or the next one beside it that does not hold something else: nothing is overwritten."""
    number, free = 1, path
    while free.exists() and free.read_bytes() != data:
        number += 1
        free = path.with_stem(f"{path.stem}_{number}")
    return free


def edit(prompt: str, image: Any = None, *, seed: int = 0, **options: Any) -> Edited:
    """Edit one picture as ``prompt`` says; without ``image``, make one from the prompt alone.

    Args:
        image: a path, the bytes of a file, or a uint8 array of shape (height, width, 1, 3 or 4).
        seed: names the picture; another seed buys another.
        options: as for `edit_all`.

    Raises:
        RivyaError: see `errors`; it says whether credits were charged and what to do.
    """
    result = edit_all(prompt, [image], seed=seed, **options)[0]
    if isinstance(result, RivyaError):
        raise result
    return result


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
        params: fields of `kontext.KontextParams`: model, aspect_ratio, output_format ...
    """
    kontext.validate_prompt(prompt)
    kontext.validate_client_request_id(client_request_id)
    chosen = _params(params)
    used = config or configuration.load()
    used.require_key()
    _within_limits(seed, variations, len(images))
    running = engine.shared()
    photos = _photos(images, mask, chosen.aspect_ratio, save_as) if keep_size or mask is not None else None
    references = _references(used, photos.sent if photos else images, encoding)
    orders = [
        Order(_identity(prompt, chosen, seed, variation, reference), reference, client_request_id)
        for reference in references
        if not isinstance(reference, RivyaError)
        for variation in range(variations)
    ]
    _stay_under_the_cap(used, orders)
    waited = iter(_wait(running.order(used, orders), timeout_s, on_progress))
    results = [
        reference if isinstance(reference, RivyaError) else next(waited)
        for reference in references
        for _ in range(variations)
    ]
    if photos is None:
        return results
    return [_at_full_size(photos, number // variations, each) for number, each in enumerate(results)]


def _photos(images: Sequence[Any], mask: Any, shape: str, save_as: str) -> FullSize:
    from .fullsize import FullSize

    return FullSize(list(images), mask, shape, save_as)


def _at_full_size(photos: FullSize, number: int, result: Edited | RivyaError) -> Edited | RivyaError:
    """The photo with the result in it; a picture from text alone has no photo and stays as it is."""
    if isinstance(result, RivyaError) or photos.sent[number] is None:
        return result
    data, extension, report = photos.finished(number, result.data)
    return replace(result, data=data, extension=extension, more=(), about={**result.about, "stitch": report})


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
        save: called with each picture before it counts as delivered. What it raises ends the call; that picture and
            those after it stay collectable.
    """
    used = config or configuration.load()
    used.require_key()
    named = (task_ids,) if isinstance(task_ids, str) else task_ids
    rows = engine.shared().collectable(used, named).result()
    fingerprints = dict.fromkeys(row.fingerprint for row in rows)
    return _wait([engine.shared().collect(used, each) for each in fingerprints], timeout_s, save=save)


def credits(config: Config | None = None) -> int:
    """What the account has now, in credits."""
    used = config or configuration.load()
    used.require_key()
    return engine.shared().credits(used).result()


def _wait(
    tickets: Sequence[Ticket],
    timeout_s: float,
    on_progress: Callable[[int, int], None] | None = None,
    save: Callable[[Edited], object] | None = None,
) -> list[Edited | RivyaError]:
    """Wait for all, mark them delivered; orders out of time go on at the service and are left to a later call."""
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
    results = [_edited(each) if isinstance(each, Finished) else each for each in outcomes]
    delivered: list[Finished] = []
    try:
        for outcome, result in zip(outcomes, results, strict=True):
            if isinstance(outcome, Finished) and isinstance(result, Edited):
                if save is not None:
                    save(result)
                delivered.append(outcome)
    finally:
        engine.shared().delivered(delivered).result()
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
    chosen.validate()
    return chosen


def _within_limits(seed: int, variations: int, images: int) -> None:
    for name, value, low, high in (
        ("seed", seed, 0, kontext.MAX_SEED),
        ("variations", variations, 1, kontext.MAX_VARIATIONS),
    ):
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            raise ValidationError(
                f"{name} is {ascii(value)[:60]}; it must be a whole number, {low} to {high}."
            )
    if images == 0:
        raise ValidationError("There is no picture to edit.")


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
