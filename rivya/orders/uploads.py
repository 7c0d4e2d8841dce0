"""Encode the pictures to be edited, and upload each once per account, for as long as the upload lives."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Protocol, TypeVar
from weakref import WeakValueDictionary

from .. import kontext
from ..api.endpoints import Api
from ..errors import NotFoundError, PermissionDeniedError
from ..ledger.ledger import UploadRow
from .order import Reference, Workspace

if TYPE_CHECKING:
    from ..images.encode import Encoded

log = logging.getLogger("rivya")

T = TypeVar("T")

MAX_UPLOADS = 4
"""Uploads under way at once; they share one uplink, so that more would only make each of them slower."""

PACKED_BYTES = 64 * 1024**2
"""Most bytes of packed pictures that are kept in memory for the next run."""


def reference_from(encoded: Encoded, pixel_hash: str, width: int, height: int) -> Reference:
    """The reference for an encoded picture; not yet uploaded."""
    content_hash = hashlib.sha256(encoded.data).hexdigest()
    return Reference(
        identity=f"{pixel_hash}/{encoded.transformation}" if encoded.transformation else pixel_hash,
        width=width,
        height=height,
        data=encoded.data,
        content_hash=content_hash,
        name=f"reference-{content_hash[:12]}.{encoded.extension}",
        mime=encoded.mime,
        encoding=encoded.encoding,
        notes=encoded.notes,
    )


def unpacked(picture: Any) -> Reference | None:
    """The reference of a picture before it is packed, without bytes; None where packing may change its identity."""
    from ..images import encode

    pixels = getattr(picture, "pixels", picture)
    if not _fits_raw(pixels):
        return None
    height, width = pixels.shape[:2]
    return Reference(encode.pixel_hash(pixels), width, height, b"", "", "", "", "")


def _fits_raw(pixels: Any) -> bool:
    """Whether the picture keeps its identity: it changes only when it is made smaller, and such a one never is."""
    from ..images import encode

    return bool(pixels.nbytes <= encode.LIMIT_BYTES * 0.9)


def packed(picture: Any, encoding: str, identity: str | None = None) -> Reference:
    """The reference of a picture, packed; not yet uploaded. For a codec thread.

    A JPEG file goes up as it is, without its metadata: it is exact, and smaller and sooner there than as PNG.

    Args:
        picture: an `images.decode.Picture`, whose warnings become notes, or its pixels alone.
        identity: the `pixel_hash` of the picture, if it is known.
    """
    from ..images import encode

    pixels = getattr(picture, "pixels", picture)
    height, width = pixels.shape[:2]
    jpeg = getattr(picture, "jpeg", None)
    as_it_is = encoding in ("auto", "jpeg") and _fits_raw(pixels)
    if as_it_is and jpeg is not None and len(jpeg) <= encode.LIMIT_BYTES:
        encoded = encode.encoded_jpeg(jpeg, width, height)
    else:
        encoded = encode.encode(pixels, encoding)
    encoded = replace(encoded, notes=(*getattr(picture, "warnings", ()), *encoded.notes))
    return reference_from(encoded, identity or encode.pixel_hash(pixels), width, height)


class PackedReferences:
    """The references packed last: a second run of a graph packs none of its pictures again. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: OrderedDict[tuple[str, str], Reference] = OrderedDict()

    def reference(self, load: Callable[[], Any], encoding: str) -> Reference:
        """Hash the pixels that ``load`` gives, and pack them unless that was done lately. For a codec thread."""
        from ..images import encode

        pixels = load()
        key = (encode.pixel_hash(pixels), encoding)
        with self._lock:
            known = self._kept.get(key)
        if known is None:
            known = packed(pixels, encoding, key[0])
        with self._lock:
            self._kept[key] = known
            self._kept.move_to_end(key)
            while sum(len(each.data) for each in self._kept.values()) > PACKED_BYTES and len(self._kept) > 1:
                self._kept.popitem(last=False)
        return known


class Disk(Protocol):
    """Runs a call that blocks on the disk, or on the result store, in a thread."""

    async def __call__(self, work: Callable[..., T], *args: Any, **options: Any) -> T:
        """Return what ``work`` returns."""
        ...


class Uploader:
    """The uploads of one account: known ones from the ledger, new ones through the Files API.

    Args:
        state: its ledger knows the uploads.
        scope: gives the account's scope in the ledger.
        disk: runs a ledger call in a thread.
        confirm_age_s: an upload that was last seen longer ago is confirmed before an order relies on it, seconds.
    """

    def __init__(
        self,
        api: Api,
        state: Workspace,
        scope: Callable[[], Awaitable[str]],
        disk: Disk,
        storage: Disk,
        *,
        confirm_age_s: float,
    ) -> None:
        self._api = api
        self._state, self._ledger = state, state.ledger
        self._scope = scope
        self._disk, self._storage = disk, storage
        self._confirm_age_s = confirm_age_s
        self._slots = asyncio.Semaphore(MAX_UPLOADS)
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    def _lock(self, reference: Reference) -> asyncio.Lock:
        """One lock for each content, so that the same picture in a batch goes up once."""
        return self._locks.setdefault(reference.content_hash, asyncio.Lock())

    async def known_or_new(self, reference: Reference) -> UploadRow:
        """The upload of these bytes: from the ledger without a request, else made now."""
        async with self._lock(reference):
            return await self._find(reference) or await self._upload(reference)

    async def fresh(self, reference: Reference) -> UploadRow:
        """An upload that an order may rely on: one of some age is confirmed first, and made again if it is gone."""
        async with self._lock(reference):
            row = await self._find(reference)
            if row is None or await self._is_gone(row, self._confirm_age_s):
                return await self._upload(reference)
            return row

    async def again(self, reference: Reference) -> UploadRow:
        """Upload these bytes although an upload of them is known."""
        async with self._lock(reference):
            return await self._upload(reference)

    async def is_gone(self, reference: Reference) -> bool:
        """Whether the service says now that it does not have this upload (any more)."""
        row = await self._find(reference)
        return row is None or await self._is_gone(row, 0.0)

    async def _find(self, reference: Reference) -> UploadRow | None:
        return await self._disk(self._ledger.find_upload, await self._scope(), reference.content_hash)

    async def _is_gone(self, row: UploadRow, max_age_s: float) -> bool:
        """Ask the service about an upload that was last seen longer ago than ``max_age_s``."""
        if row.file_id is None or 0 <= time.time() - row.confirmed_at < max_age_s:
            return False
        scope = await self._scope()
        try:
            await self._api.retrieve_file(row.file_id)
        except NotFoundError:
            await self._disk(self._ledger.drop_upload, scope, row.content_hash)
            return True
        except PermissionDeniedError:
            # A key may order without the right to look at files; should this one be gone, the order is told so.
            return False
        await self._disk(self._ledger.confirm_upload, scope, row.content_hash)
        return False

    async def _upload(self, reference: Reference) -> UploadRow:
        scope = await self._scope()
        await self._storage(self._state.check_writable)
        async with self._slots:
            file = await self._api.upload_file(
                reference.data, name=reference.name, mime=reference.mime, model=kontext.DEFAULT_MODEL
            )
        log.info("uploaded %s (%.1f MB)", reference.name, len(reference.data) / 1e6)
        return await self._disk(
            self._ledger.save_upload,
            scope,
            reference.content_hash,
            file_id=file.id,
            url=file.url,
            duration_token=file.duration_token,
            mime=reference.mime,
            name=reference.name,
        )
