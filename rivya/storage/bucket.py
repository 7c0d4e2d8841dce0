"""The result store of a bucket, with the same names and order of writing as in a folder.

An object appears whole or not at all: a crash leaves only pictures without a manifest, which the next try overwrites.
There is no cap: a lifecycle rule may remove old objects, and a wanted picture is then fetched by its task ID. The
ledger knows which results were delivered, and when.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from ..bucket_urls import BucketUrl
from ..config import ENV_RESULTS
from ..errors import LedgerError
from ..objects import Bucket, BucketError
from .results import (
    IDENTITY,
    MANIFEST,
    MAX_IDENTITY,
    MAX_MANIFEST,
    StoredPicture,
    StoredResult,
    decoded,
    described,
    encoded,
    identity_file,
    identity_in,
    name_of,
)

_PUT_FOR_S, _LOOK_FOR_S = 30.0, 5.0
"""Seconds of retries: longer for writing a paid picture than for a lookup, which can be repeated."""
_PROBE = "rivya-probe"
_CHECKED_FOR_S = 60.0
"""How long a bucket counts as writable after a write."""


@dataclass(frozen=True)
class BucketResult(StoredResult):
    bucket: Bucket = field(repr=False, compare=False)

    @property
    def locations(self) -> tuple[str, ...]:
        return tuple(self.bucket.url.of(each.name) for each in self.pictures)

    def check(self) -> None:
        """Does nothing: `BucketStore.get` has compared sizes, and the bucket service preserves bytes."""

    def _fetch(self, number: int, picture: StoredPicture) -> bytes | None:
        with _explaining():
            return self.bucket.get(picture.name, picture.size)


class BucketStore:
    """The results of one ledger in a bucket; see `results.ResultStore`."""

    remote = True

    def __init__(self, url: BucketUrl) -> None:
        """Sends nothing. Raises `ConfigurationError` if obstore is not installed."""
        self.place = str(url)
        self._bucket = Bucket(url, ENV_RESULTS, tried_for_s=_PUT_FOR_S)
        self._quick = Bucket(url, ENV_RESULTS, tried_for_s=_LOOK_FOR_S)
        self._checking = threading.Lock()
        self._checked_at = float("-inf")

    def put(
        self, scope: str, fingerprint: str, pictures: Sequence[tuple[bytes, str]], about: Mapping[str, Any]
    ) -> BucketResult:
        name = name_of(scope, fingerprint)
        described_pictures = described(name, pictures)
        manifest = encoded(described_pictures, about)
        try:
            with _explaining():
                for (data, _), picture in zip(pictures, described_pictures, strict=True):
                    self._bucket.put(picture.name, data)
                if not self._bucket.put(f"{name}{MANIFEST}", manifest, create=True):
                    self._replace(f"{name}{MANIFEST}", described_pictures, manifest)
        except LedgerError:
            self._checked_at = float("-inf")  # check the bucket before the next purchase
            raise
        return BucketResult(described_pictures, dict(about), self._bucket)

    def _replace(self, name: str, pictures: tuple[StoredPicture, ...], manifest: bytes) -> None:
        """Replace a manifest, unless it lists the same pictures: another host was first."""
        there = decoded(self._bucket.get(name, MAX_MANIFEST))
        if there is None or there[0] != pictures:
            self._bucket.put(name, manifest)

    def get(self, scope: str, fingerprint: str) -> BucketResult | None:
        name = name_of(scope, fingerprint)
        with _explaining():
            found = decoded(self._quick.get(f"{name}{MANIFEST}", MAX_MANIFEST))
            if found is None:
                return None
            for picture in found[0]:
                there = self._quick.look(picture.name)
                if there is None or there.size != picture.size:
                    return None
        return BucketResult(*found, self._bucket)

    def mark_delivered(self, scope: str, fingerprint: str) -> None:
        """Does nothing: the ledger notes it."""

    def check_writable(self) -> None:
        """See `ResultStore.check_writable`: writes a small object, at most once a minute.

        That is the identity, rewritten unchanged, so that a lifecycle rule does not remove it before the pictures;
        without one, a probe.
        """
        with self._checking:
            if time.monotonic() - self._checked_at < _CHECKED_FOR_S:
                return
            with _explaining(before=True):
                data = self._quick.get(IDENTITY, MAX_IDENTITY)
                if data is not None:
                    self._quick.put(IDENTITY, data)
                else:
                    self._quick.put(_PROBE, b"")
                    with suppress(BucketError):  # the right to remove is not needed
                        self._quick.remove(_PROBE)
            self._checked_at = time.monotonic()

    def identity(self, known: str = "") -> str | None:
        self.check_writable()
        with _explaining(before=True):
            data = self._quick.get(IDENTITY, MAX_IDENTITY)
            if data is None:
                self._quick.put(IDENTITY, identity_file(known), create=True)
                data = self._quick.get(IDENTITY, MAX_IDENTITY)
        return identity_in(data)


@contextmanager
def _explaining(*, before: bool = False) -> Iterator[None]:
    """Turn a `BucketError` into a `LedgerError`.

    Args:
        before: nothing was bought yet; else the hint says that the picture can be fetched again.
    """
    try:
        yield
    except BucketError as error:
        again = "" if before else " Then run again: the picture is fetched again and costs nothing more."
        raise LedgerError(
            f"The result store cannot be used: {error.message}",
            hint=f"{error.hint}{again}",
            code="store_unusable",
            charged=None,
        ) from None
