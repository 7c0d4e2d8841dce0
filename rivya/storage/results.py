"""The pictures that were paid for: what a result store does, wherever it keeps them.

A store keeps the service's original bytes by order, whole or not at all. Pictures are written first and the manifest
last: it makes the result whole. A result is found by scope and fingerprint alone, so that it answers although the
ledger was lost. Names and manifest are the same in a folder and in a bucket, so that a plain copy moves a store.

All methods block, may be called from any thread and by several processes at once. What the disk or the service of a
bucket refuses is a `LedgerError` with `charged` None: the store does not know what its pictures cost.
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
"""The file or object that tells one store from every other; only in places that a setting names."""
MAX_IDENTITY = 1 << 10
OURS = r"([0-9a-f]{40})(\.[0-9]+\.[a-z0-9]{1,8}|\.json|\.delivered)"
"""Names of this library's files in a result store."""

_EXTENSION = r"[a-z0-9]{1,8}"


class ResultGone(Exception):
    """A stored picture has vanished or changed since the result was found: fetch it again by its task id."""


@dataclass(frozen=True)
class StoredPicture:
    """One picture, as the manifest describes it.

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
        about: what was put with them (task id, credits ...).
    """

    pictures: tuple[StoredPicture, ...]
    about: dict[str, Any]

    @property
    @abstractmethod
    def locations(self) -> tuple[str, ...]:
        """Where each picture lies, as a program can open it: a path, or the URL of an object."""

    @property
    def extension(self) -> str:
        """Of the first picture, without a dot."""
        return self.pictures[0].name.rpartition(".")[2]

    @abstractmethod
    def check(self) -> None:
        """Make sure that every picture is there whole, as well as this store can tell without sending it anywhere.

        Raises:
            ResultGone: a picture is missing or damaged.
        """

    def read(self) -> list[bytes]:
        """The bytes of every picture, proved to be those that were stored.

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
        """The bytes under the name of a picture; None where there are none, or too many."""


class ResultStore(Protocol):
    """Where the results of one ledger are kept."""

    place: str
    """What a person calls it: a folder, or the URL of a bucket. Without secrets."""

    remote: bool
    """Whether its methods wait for a network: they then run in threads of their own."""

    def put(
        self, scope: str, fingerprint: str, pictures: Sequence[tuple[bytes, str]], about: Mapping[str, Any]
    ) -> StoredResult:
        """Store the pictures, each ``(bytes, extension without dot)``, in place of what was there.

        Raises:
            LedgerError: the store refuses, or cannot be reached; what is there of it is no result.
        """
        ...

    def get(self, scope: str, fingerprint: str) -> StoredResult | None:
        """The result of this order, if it is there whole: by names and sizes. `StoredResult.read` looks at bytes.

        Raises:
            LedgerError: the store cannot be reached, so that nobody knows.
        """
        ...

    def mark_delivered(self, scope: str, fingerprint: str) -> None:
        """The pictures have just reached the user. Raises `LedgerError`."""
        ...

    def check_writable(self) -> None:
        """Make sure that pictures can be stored, before anything is bought.

        Raises:
            LedgerError: ``store_unusable``; the store refuses; nothing was charged.
            ConfigurationError: a setting is wrong, or a package is missing.
        """
        ...

    def identity(self, known: str = "") -> str | None:
        """What tells this store from every other, whatever path leads to it.

        It is written there if it is missing: ``known``, if the ledger knows it (a rule of a bucket may remove what is
        old), else a new one. None for the folder in the state folder, which needs no telling. Raises as
        `check_writable`.
        """
        ...


def identity_file(known: str = "") -> bytes:
    """What an identity is written as: the one that is known, or a new one."""
    return f"{known or token_hex(16)}\n".encode()


def identity_in(data: bytes | None) -> str:
    """The identity that was written; whatever stands there is one."""
    return (data or b"").decode("ascii", "replace").strip()


def name_of(scope: str, fingerprint: str) -> str:
    """The name of a result: safe whatever a fingerprint holds, different for every scope."""
    return digest(f"{scope}\n{fingerprint}".encode())[:40]


def described(name: str, pictures: Sequence[tuple[bytes, str]]) -> tuple[StoredPicture, ...]:
    """What the manifest says of pictures, each ``(bytes, extension without dot)``."""
    return tuple(
        StoredPicture(f"{name}.{number}.{_extension(extension)}", len(data), digest(data))
        for number, (data, extension) in enumerate(pictures)
    )


def encoded(pictures: Sequence[StoredPicture], about: Mapping[str, Any]) -> bytes:
    """The manifest of a result."""
    entries = [{"name": each.name, "size": each.size, "sha256": each.sha256} for each in pictures]
    manifest = {"version": 1, "stored_at": time.time(), "pictures": entries, "about": dict(about)}
    return json.dumps(manifest, ensure_ascii=False).encode()


def decoded(data: bytes | None) -> tuple[tuple[StoredPicture, ...], dict[str, Any]] | None:
    """Pictures and ``about`` of a manifest; None for what is no manifest of this library."""
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
    """A picture's name out of a manifest; anything that could lead elsewhere is refused with ValueError."""
    if not isinstance(name, str) or not re.fullmatch(OURS, name):
        raise ValueError("not a name of this store")
    return name
