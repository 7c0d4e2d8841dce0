"""A search for secrets, byte by byte, in everything that a ComfyUI leaves behind or tells anybody."""

from __future__ import annotations

import base64
import io
import json
import urllib.error
import urllib.request
import zlib
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

from PIL import Image

from support.comfy import RivyaComfyUI

_open = urllib.request.build_opener(urllib.request.ProxyHandler({})).open

TOLD = (
    "/history", "/queue", "/prompt", "/object_info", "/settings", "/users", "/system_stats", "/extensions",
    "/internal/logs", "/internal/logs/raw", "/i18n", "/userdata?dir=.&recurse=true", "/features", "/embeddings",
)  # fmt: skip
"""What ComfyUI answers to anybody who asks."""


def disguises(secret: str) -> dict[str, bytes]:
    """The spellings under which a text may lie somewhere: plain, encoded, split over a base64 boundary, reversed."""
    raw = secret.encode()
    found = {
        "plain": raw,
        "hex": raw.hex().encode(),
        "percent": quote(secret, safe="").encode(),
        "utf-16": secret.encode("utf-16-le"),
        "json": json.dumps(secret)[1:-1].encode(),
        "reversed": raw[::-1],
        # Most of it is enough, and a log may cut the rest.
        "half": raw[len(raw) // 2 :],
    }
    for shift in range(3):
        # The first and last group depend on what stands around.
        found[f"base64 {shift}"] = base64.b64encode(b"x" * shift + raw)[4:-4]
    return found


def artefacts(comfy: RivyaComfyUI, websocket: list[str | bytes]) -> Iterator[tuple[str, bytes]]:
    """(name, bytes) of everything: files, metadata of pictures, answers, messages, the process's arguments."""
    for path in sorted(comfy.base.rglob("*")):
        if path.is_file() and "custom_nodes" not in path.relative_to(comfy.base).parts:
            data = path.read_bytes()
            yield f"file {path.relative_to(comfy.base)}", data
            yield from _inside(path, data)
    for place in TOLD:
        try:
            with _open(comfy.url + place, timeout=30) as answer:
                yield f"answer {place}", answer.read() + str(answer.headers).encode()
        except urllib.error.HTTPError as error:
            yield f"answer {place}", error.read()
    for number, message in enumerate(websocket):
        yield f"message {number}", message.encode() if isinstance(message, str) else message
    for path in Path("/proc", str(comfy.child.process.pid)).glob("cmdline"):
        yield "arguments", path.read_bytes()


def _inside(path: Path, data: bytes) -> Iterator[tuple[str, bytes]]:
    """Metadata of a picture, which may lie in it compressed."""
    if path.suffix.lower() not in (".png", ".webp", ".jpg", ".jpeg"):
        return
    with Image.open(io.BytesIO(data)) as picture:
        picture.load()
        about = {**picture.info, "exif": dict(picture.getexif())}
    yield f"metadata {path.name}", repr(about).encode()
    for start in range(len(data) - 2):
        if data[start : start + 2] in (b"\x78\x9c", b"\x78\x01", b"\x78\xda") and len(data) < 10**6:
            try:
                yield f"stream in {path.name}", zlib.decompressobj().decompress(data[start:], 10**6)
            except zlib.error:
                continue


def found(secrets: dict[str, str], places: dict[str, bytes]) -> list[str]:
    """Each place where a secret lies, in whatever spelling."""
    return [
        f"{name}, {spelling}, in {place}: ...{data[max(0, at - 60) : at + 20]!r}"
        for name, secret in secrets.items()
        for spelling, needle in disguises(secret).items()
        for place, data in places.items()
        if (at := data.find(needle)) >= 0
    ]
