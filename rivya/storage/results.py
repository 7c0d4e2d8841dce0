"""What a result store does, in a folder or a bucket.

A store keeps the service's original bytes by order, whole or not at all: the manifest, written last, completes the
result. Scope and fingerprint alone find it, even without the ledger. Folder and bucket use the same names and
manifest, so that a plain copy moves a store.

All methods block; any thread and several processes may call them. Errors of disk or bucket are raised as
`LedgerError` with `charged` None: the store does not know what pictures cost.
"""

from __future__ import annotations

import hashlib
import json
import re
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from secrets import token_hex
from typing import Any, Protocol

MANIFEST = ".json"
MAX_MANIFEST = 1 << 20
IDENTITY = "rivya-results"
"""The file or object with the store's identity; only in places that a setting names."""
MAX_IDENTITY = 1 << 10
OURS = r"([0-9a-f]{40})(\.[0-9]+\.[a-z0-9]{1,8}|\.json|\.delivered)"
"""File names of this library in a result store."""

_EXTENSION = r"[a-z0-9]{1,8}"


class ResultGone(Exception):
    """A picture vanished or changed after its result was found: fetch it again by its task ID."""


@dataclass(frozen=True)
class StoredPicture:
    """One picture in the manifest.

    Attributes:
        name: in the store.
        size: in bytes.
        sha256: of its bytes, in hex.
    """

    name: str
    size: int
    sha256: str


@dataclass(frozen=True)
class StoredResult(ABC):
    """The pictures of one order, in the service's order.

    Attributes:
        pictures: at least one.
        about: metadata from `put` (task ID, credits ...).
    """

    pictures: tuple[StoredPicture, ...]
    about: dict[str, Any]

    @property
    @abstractmethod
    def locations(self) -> tuple[str, ...]:
        """The path or object URL of each picture."""

    @property
    def extension(self) -> str:
        """Of the first picture, without a dot."""
        return self.pictures[0].name.rpartition(".")[2]

    @abstractmethod
    def check(self) -> None:
        """Check that every picture is whole, as far as this store can without downloading it.

        Raises:
            ResultGone: a picture is missing or damaged.
        """

    def read(self) -> list[bytes]:
        """The bytes of every picture, verified by digest.

        Raises:
            ResultGone: a picture is missing or damaged.
            LedgerError: the store cannot be reached.
        """
        return [self._proved(number, picture) for number, picture in enumerate(self.pictures)]

    def _proved(self, number: int, picture: StoredPicture) -> bytes:
        data = self._fetch(number, picture)
        if data is None or digest(data) != picture.sha256:
            raise ResultGone(picture.name)
        return data

    @abstractmethod
    def _fetch(self, number: int, picture: StoredPicture) -> bytes | None:
        """The stored bytes; None if missing or too long."""


class ResultStore(Protocol):
    place: str
    """The folder or bucket URL, for messages. Without secrets."""

    remote: bool
    """Whether its methods wait for a network: they then run in threads of their own."""

    def put(
        self, scope: str, fingerprint: str, pictures: Sequence[tuple[bytes, str]], about: Mapping[str, Any]
    ) -> StoredResult:
        """Store the pictures, each ``(bytes, extension without dot)``, replacing earlier ones.

        Raises:
            LedgerError: the store refuses (disk full, for example) or cannot be reached; a partial write is no
            result.
        """
        ...

    def get(self, scope: str, fingerprint: str) -> StoredResult | None:
        """The result of this order, if names and sizes show it whole. `StoredResult.read` checks bytes.

        Raises:
            LedgerError: the store cannot be reached.
        """
        ...

    def mark_delivered(self, scope: str, fingerprint: str) -> None:
        """The pictures have just reached the user. Raises `LedgerError`."""
        ...

    def check_writable(self) -> None:
        """Check, before anything is bought, that pictures can be stored.

        Raises:
            LedgerError: ``store_unusable``; nothing was charged.
            ConfigurationError: a setting is wrong, or a package is missing.
        """
        ...

    def identity(self, known: str = "") -> str | None:
        """An ID that the store keeps, the same by whatever path it is reached.

        If it is missing it is written: ``known``, if the ledger knows it (a lifecycle rule may have removed it), else
        a new one. None for the folder in the state folder. Raises as `check_writable`.
        """
        ...


def identity_file(known: str = "") -> bytes:
    """The content of the identity file, with the known ID or a new one."""
    return f"{known or token_hex(16)}\n".encode()


def identity_in(data: bytes | None) -> str:
    return (data or b"").decode("ascii", "replace").strip()


def name_of(scope: str, fingerprint: str) -> str:
    """A result's name: a hash, safe for any fingerprint, different for every scope."""
    return digest(f"{scope}\n{fingerprint}".encode())[:40]


def described(name: str, pictures: Sequence[tuple[bytes, str]]) -> tuple[StoredPicture, ...]:
    """The manifest's entries; pictures as for `ResultStore.put`."""
    return tuple(
        StoredPicture(f"{name}.{number}.{_extension(extension)}", len(data), digest(data))
        for number, (data, extension) in enumerate(pictures)
    )


def encoded(pictures: Sequence[StoredPicture], about: Mapping[str, Any]) -> bytes:
    entries = [{"name": each.name, "size": each.size, "sha256": each.sha256} for each in pictures]
    manifest = {"version": 1, "stored_at": time.time(), "pictures": entries, "about": dict(about)}
    return json.dumps(manifest, ensure_ascii=False).encode()


def decoded(data: bytes | None) -> tuple[tuple[StoredPicture, ...], dict[str, Any]] | None:
    """Pictures and ``about`` of a manifest; None if it is none of this library's."""
    try:
        manifest = json.loads(data or b"")
        pictures = tuple(
            StoredPicture(_plain(each["name"]), int(each["size"]), str(each["sha256"]))
            for each in manifest["pictures"]
        )
        return (pictures, dict(manifest["about"])) if pictures else None
    except (KeyError, TypeError, ValueError, RecursionError):
        return None


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _extension(extension: str) -> str:
    return extension if re.fullmatch(_EXTENSION, extension) else "bin"


def _plain(name: object) -> str:
    """A picture's name from a manifest. ValueError for others: they could lead out of the store."""
    if not isinstance(name, str) or not re.fullmatch(OURS, name):
        raise ValueError("not a name of this store")
    return name
