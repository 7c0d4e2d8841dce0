"""Encode pictures to edit; upload each once per account while the upload lives."""

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
"""Concurrent uploads; they share one uplink, so that more would only slow each."""

PACKED_BYTES = 64 * 1024**2
"""Maximum bytes of encoded pictures kept for the next run."""


def reference_from(encoded: Encoded, pixel_hash: str, width: int, height: int) -> Reference:
    """The reference of an encoded picture, not uploaded."""
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
    """The reference before encoding, without bytes; None if encoding may change the identity."""
    from ..images import encode

    pixels = getattr(picture, "pixels", picture)
    if not _fits_raw(pixels):
        return None
    height, width = pixels.shape[:2]
    return Reference(encode.pixel_hash(pixels), width, height, b"", "", "", "", "")


def _fits_raw(pixels: Any) -> bool:
    """Whether encoding keeps the identity: it does unless it scales down, which never happens at this size."""
    from ..images import encode

    return bool(pixels.nbytes <= encode.LIMIT_BYTES * 0.9)


def packed(picture: Any, encoding: str, identity: str | None = None) -> Reference:
    """Encode a picture; its reference, not uploaded. For a codec thread.

    A JPEG file is sent as it is, without metadata: exact, smaller and faster than PNG.

    Args:
        picture: an `images.decode.Picture`, whose warnings become notes, or pixels.
        identity: its `pixel_hash`, if known.
    """
    from ..images import encode

    pixels = getattr(picture, "pixels", picture)
    height, width = pixels.shape[:2]
    jpeg = getattr(picture, "jpeg", None)
    as_it_is = encoding in ("auto", "jpeg") and _fits_raw(pixels)
    if as_it_is and jpeg is not None and len(jpeg) <= encode.LIMIT_BYTES:
        encoded = encode.Encoded(jpeg, "jpeg", width, height)
    else:
        encoded = encode.encode(pixels, encoding)
    encoded = replace(encoded, notes=(*getattr(picture, "warnings", ()), *encoded.notes))
    return reference_from(encoded, identity or encode.pixel_hash(pixels), width, height)


class PackedReferences:
    """The references encoded last, for the next run of a graph. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: OrderedDict[tuple[str, str], Reference] = OrderedDict()

    def reference(self, load: Callable[[], Any], encoding: str) -> Reference:
        """Hash the pixels from ``load``; encode them unless cached. For a codec thread."""
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
    """Runs a blocking call on ledger or result store in a thread."""

    async def __call__(self, work: Callable[..., T], *args: Any, **options: Any) -> T: ...


class Uploader:
    """Uploads of one account: known ones from the ledger, new ones through the Files API.

    Args:
        state: its ledger records uploads.
        scope: returns the account's scope.
        disk: runs a ledger call in a thread.
        storage: runs a result store call in a thread.
        confirm_age_s: seconds after which an order confirms an upload before it relies on it.
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
        """One lock per content: a batch uploads equal pictures once."""
        return self._locks.setdefault(reference.content_hash, asyncio.Lock())

    async def known_or_new(self, reference: Reference) -> UploadRow:
        """The upload in the ledger, without a request, else a new one."""
        async with self._lock(reference):
            return await self._find(reference) or await self._upload(reference)

    async def fresh(self, reference: Reference) -> UploadRow:
        """An upload for an order to rely on: an old one is confirmed, and made again if gone."""
        async with self._lock(reference):
            row = await self._find(reference)
            if row is None or await self._is_gone(row, self._confirm_age_s):
                return await self._upload(reference)
            return row

    async def again(self, reference: Reference) -> UploadRow:
        async with self._lock(reference):
            return await self._upload(reference)

    async def is_gone(self, reference: Reference) -> bool:
        """Whether the service no longer has this upload, or the ledger has none."""
        row = await self._find(reference)
        return row is None or await self._is_gone(row, 0.0)

    async def _find(self, reference: Reference) -> UploadRow | None:
        return await self._disk(self._ledger.find_upload, await self._scope(), reference.content_hash)

    async def _is_gone(self, row: UploadRow, max_age_s: float) -> bool:
        """Ask the service about an upload last seen more than ``max_age_s`` ago."""
        if row.file_id is None or 0 <= time.time() - row.confirmed_at < max_age_s:
            return False
        scope = await self._scope()
        try:
            await self._api.retrieve_file(row.file_id)
        except NotFoundError:
            await self._disk(self._ledger.drop_upload, scope, row.content_hash)
            return True
        except PermissionDeniedError:
            # A key may order without the right to read files. If this one is gone, the order is refused.
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
