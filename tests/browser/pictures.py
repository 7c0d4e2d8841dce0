"""The pictures of the README, the help pages and the templates, made from what the tests run.

They are written only where ``RIVYA_MAKE_PICTURES`` is set: ``RIVYA_MAKE_PICTURES=1 python -m pytest tests/browser``.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image, ImageOps

from .frontend import ROOT, TEMPLATES

if TYPE_CHECKING:
    from .frontend import Frontend

SIDE = 512
BACKGROUND = (32, 32, 36)
GAP = 6


def thumbnail(name: str, frontend: Frontend, entry: dict[str, Any]) -> None:
    """Write a template's thumbnail: the photo and what became of it, in a square."""
    photo = Image.open(frontend.server.base / "input" / "example.png").convert("RGB")
    made = {
        node: [_picture(frontend, reference) for reference in output.get("images", [])]
        for node, output in sorted(entry["outputs"].items(), key=lambda item: int(item[0]))
    }
    results = [picture for found in made.values() for picture in found]
    if name == "Edit a photo":
        square = _beside(photo, results[0])
    elif name == "One instruction for many photos":
        square = _grid([photo, ImageOps.mirror(photo), *results])
    elif name == "Edit in two steps":
        square = _grid([photo, *results], columns=3)
    else:
        square = ImageOps.pad(results[0], (SIDE, SIDE), color=BACKGROUND)
    save(square, TEMPLATES / f"{name}.jpg")


def help_picture(frontend: Frontend, name: str, area: dict[str, float], width: int = 900) -> None:
    """Write a part of the page as a picture of the help pages."""
    _save_area(frontend, area, ROOT / "web" / "docs" / "images" / f"{name}.jpg", width)


def readme_picture(frontend: Frontend, name: str, area: dict[str, float], width: int = 1400) -> None:
    """Write a part of the page as a picture of the README."""
    _save_area(frontend, area, ROOT / "docs" / "images" / f"{name}.jpg", width)


def save(picture: Image.Image, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    picture.save(path, "JPEG", quality=84, optimize=True)


def _save_area(frontend: Frontend, area: dict[str, float], path: Path, width: int) -> None:
    raw = frontend.page.screenshot(clip=area)  # type: ignore[arg-type]
    picture = Image.open(io.BytesIO(raw)).convert("RGB")
    if picture.width > width:
        height = round(picture.height * width / picture.width)
        picture = picture.resize((width, height), Image.Resampling.LANCZOS)
    save(picture, path)


def _picture(frontend: Frontend, reference: dict[str, str]) -> Image.Image:
    return Image.open(io.BytesIO(frontend.server.file(reference))).convert("RGB")


def _beside(before: Image.Image, after: Image.Image) -> Image.Image:
    """The left half of one picture and the right half of the other."""
    left, right = (ImageOps.fit(picture, (SIDE, SIDE)) for picture in (before, after))
    half = SIDE // 2
    left.paste(right.crop((half, 0, SIDE, SIDE)), (half, 0))
    left.paste(BACKGROUND, (half - GAP // 2, 0, half + GAP // 2, SIDE))
    return left


def _grid(pictures: list[Image.Image], columns: int = 2) -> Image.Image:
    """The pictures in rows, each filling its cell."""
    rows = -(-len(pictures) // columns)
    width, height = (SIDE - GAP * (columns - 1)) // columns, (SIDE - GAP * (rows - 1)) // rows
    square = Image.new("RGB", (SIDE, SIDE), BACKGROUND)
    for index, picture in enumerate(pictures):
        row, column = divmod(index, columns)
        cell = ImageOps.fit(picture, (width, height))
        square.paste(cell, (column * (width + GAP), row * (height + GAP)))
    return square
