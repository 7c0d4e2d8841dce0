"""The pictures of the README and the help pages, made from what the tests run.

They are written only where ``RIVYA_MAKE_PICTURES`` is set: ``RIVYA_MAKE_PICTURES=1 python -m pytest tests/browser``.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image

from .frontend import ROOT

if TYPE_CHECKING:
    from .frontend import Frontend


def help_picture(frontend: Frontend, name: str, area: dict[str, float], width: int = 600) -> None:
    """Write a part of the page as a picture of the help pages."""
    _save_area(frontend, area, ROOT / "web" / "docs" / "images" / f"{name}.jpg", width)


def readme_picture(frontend: Frontend, name: str, area: dict[str, float], width: int = 1400) -> None:
    """Write a part of the page as a picture of the README."""
    _save_area(frontend, area, ROOT / "docs" / "images" / f"{name}.jpg", width)


def save(picture: Image.Image, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    picture.save(path, "JPEG", quality=84, optimize=True)


def _save_area(frontend: Frontend, area: dict[str, float], path: Path, width: int) -> None:
    raw = frontend.page.screenshot(clip=area)  # type: ignore[arg-type]  # Playwright names the four keys by a type
    picture = Image.open(io.BytesIO(raw)).convert("RGB")
    if picture.width > width:
        height = round(picture.height * width / picture.width)
        picture = picture.resize((width, height), Image.Resampling.LANCZOS)
    save(picture, path)
