"""The sandbox as one test sees it: what happened since the test began, and nothing of what came before."""

from __future__ import annotations

import urllib.request
from typing import Any

_open = urllib.request.build_opener(urllib.request.ProxyHandler({})).open


class Watched:
    """A handle of the sandbox that counts from now on; everything else is the handle's own.

    ``tasks()``, ``uploads()``, ``requests()`` and ``charges()`` hold what came since this object was made.
    """

    def __init__(self, handle: Any) -> None:
        self._handle = handle
        book = handle.book()
        self._seen = {
            name: len(book[name]) for name in ("tasks", "uploads", "requests", "entries", "violations")
        }

    def __getattr__(self, name: str) -> Any:
        return getattr(self._handle, name)

    def _new(self, name: str) -> list[dict[str, Any]]:
        return list(self._handle.book()[name][self._seen[name] :])

    def tasks(self) -> list[dict[str, Any]]:
        """Accepted orders, in order of acceptance."""
        return self._new("tasks")

    def uploads(self) -> list[dict[str, Any]]:
        return self._new("uploads")

    def requests(self, endpoint: str | None = None) -> list[dict[str, Any]]:
        return [found for found in self._new("requests") if endpoint in (None, found["endpoint"])]

    def charges(self) -> list[int]:
        """Credits that were taken for good, charge by charge."""
        return [entry["credits"] for entry in self._new("entries") if entry["kind"] == "charge"]

    def violations(self) -> list[dict[str, Any]]:
        """What a client must never do, and did."""
        return self._new("violations")

    def uploaded(self, upload: dict[str, Any]) -> bytes:
        """The bytes of an upload, as the service keeps them."""
        with _open(upload["url"], timeout=30) as answer:
            return bytes(answer.read())
