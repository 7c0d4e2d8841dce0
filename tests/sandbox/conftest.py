"""A sandbox for every test, and a plain HTTP client of it: no part of the library under test elsewhere."""

from __future__ import annotations

import io
import json
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import cache
from typing import Any

import httpx
import pytest
from PIL import Image

import sandbox

ORDER = {"model": "flux-kontext-pro", "prompt": "Make it winter"}


def picture(colour: str = "teal", size: tuple[int, int] = (96, 64), form: str = "PNG") -> bytes:
    """A small picture file with a diagonal, so that mirrored or turned results would show."""
    image = Image.linear_gradient("L").resize(size).convert("RGB")
    image.paste(colour, (0, 0, size[0] // 2, size[1] // 2))
    target = io.BytesIO()
    image.save(target, form)
    return target.getvalue()


@cache
def web() -> httpx.Client:
    """A client for whatever needs no key; made once, because each costs a TLS context."""
    return httpx.Client(trust_env=False, verify=False)


class Client:
    """The service's endpoints, one call each, over real connections."""

    def __init__(self, handle: sandbox.Handle, key: str | None = None) -> None:
        self.handle = handle
        self.http = httpx.Client(base_url=handle.url, timeout=10, trust_env=False, verify=False)
        self.key = {"Authorization": f"Bearer {key or handle.key}"}

    def get(self, path: str) -> httpx.Response:
        return self.http.get(path, headers=self.key)

    def upload(
        self, data: bytes | None = None, mime_type: str = "image/png", **fields: Any
    ) -> httpx.Response:
        """POST /api/v1/files; a field of None is left out."""
        chosen = {"kind": "image", "model": "flux-kontext-pro", **fields}
        form = {name: value for name, value in chosen.items() if value is not None}
        file = ("reference.png", picture() if data is None else data, mime_type)
        return self.http.post("/api/v1/files", headers=self.key, files={"file": file}, data=form)

    def create(self, body: Any = ORDER, key: str | None = None, **headers: str) -> httpx.Response:
        """POST /api/v1/generations; ``body`` is bytes, or a value that is sent as JSON."""
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        sent = {"Content-Type": "application/json", **self.key, **headers}
        if key is not None:
            sent["Idempotency-Key"] = key
        return self.http.post("/api/v1/generations", headers=sent, content=content)

    def edit(self, **params: Any) -> dict[str, Any]:
        """An order with a fresh reference."""
        file = self.upload().json()
        item = {"url": file["url"], "kind": "image", "name": file["name"], "mimeType": file["mime_type"]}
        return {**ORDER, "params": {**params, "referenceMediaItems": [item]}}

    def task(self, task_id: str) -> dict[str, Any]:
        found: dict[str, Any] = self.get(f"/api/v1/generations/{task_id}").json()
        return found

    def finished(self, body: Any = ORDER, key: str | None = None) -> dict[str, Any]:
        """Create a task and poll it to its end."""
        task_id = self.create(body, key).json()["id"]
        end = time.monotonic() + 10
        while (found := self.task(task_id))["status"] in ("queued", "processing"):
            assert time.monotonic() < end, "the task does not end"
            time.sleep(0.01)
        return found

    def credits(self) -> int:
        return int(self.get("/api/v1/credits").json()["current_credits"])


@pytest.fixture
def start() -> Iterator[Callable[..., Client]]:
    """Starts sandboxes with options of the test's own; pictures are tiny unless it says otherwise."""
    with ExitStack() as stack:

        def starter(**options: Any) -> Client:
            chosen = {"megapixels": 0.02, **options}
            client = Client(stack.enter_context(sandbox.running(**chosen)))
            stack.callback(client.http.close)
            return client

        yield starter


@pytest.fixture(scope="session")
def _shared() -> Iterator[sandbox.Handle]:
    with sandbox.running(megapixels=0.02) as handle:
        yield handle


@pytest.fixture
def client(_shared: sandbox.Handle) -> Iterator[Client]:
    """A client of a sandbox that has just begun; without options."""
    _shared.reset()
    client = Client(_shared)
    yield client
    client.http.close()
    assert _shared.book()["errors"] == []
