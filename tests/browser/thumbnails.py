"""The thumbnails of the templates.

They show the photograph that goes in and the instruction that goes with it. What comes out is left to the service: no
picture here claims to be an edit. The photograph is ``web/sample.jpg``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from PIL import Image, ImageDraw, ImageFont, ImageOps

from .frontend import ROOT, TEMPLATES

SIDE = 512
GAP = 8
PAPER, INK, GOLD = (32, 32, 36), (236, 236, 236), (141, 105, 50)


def draw_all() -> None:
    photo = Image.open(ROOT / "web" / "sample.jpg").convert("RGB")
    for name, draw in THUMBNAILS.items():
        draw(photo).save(TEMPLATES / f"{name}.jpg", "JPEG", quality=86, optimize=True)


def _words(size: tuple[int, int], text: str, points: int = 34) -> Image.Image:
    """A tile of that size with a text in its middle, wrapped at word ends."""
    tile = Image.new("RGB", size, GOLD)
    draw, font = ImageDraw.Draw(tile), ImageFont.load_default(points)
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        lines[-1:] = [longer] if draw.textlength(longer, font) <= size[0] - 40 else [lines[-1], word]
    draw.multiline_text(
        (size[0] / 2, size[1] / 2), "\n".join(lines), INK, font, "mm", align="center", spacing=10
    )
    return tile


def _square(tiles: Sequence[Sequence[Callable[[tuple[int, int]], Image.Image]]]) -> Image.Image:
    """Rows of tiles that fill a square; each tile is drawn for the size that is left for it."""
    picture = Image.new("RGB", (SIDE, SIDE), PAPER)
    height = (SIDE - GAP * (len(tiles) - 1)) // len(tiles)
    for row, across in enumerate(tiles):
        width = (SIDE - GAP * (len(across) - 1)) // len(across)
        for column, tile in enumerate(across):
            picture.paste(tile((width, height)), (column * (width + GAP), row * (height + GAP)))
    return picture


def _fitted(photo: Image.Image) -> Callable[[tuple[int, int]], Image.Image]:
    return lambda size: ImageOps.fit(photo, size, centering=(0.4, 0.4))


def _region(photo: Image.Image) -> Callable[[tuple[int, int]], Image.Image]:
    """The photograph with a frame around a part of it."""

    def draw(size: tuple[int, int]) -> Image.Image:
        tile = ImageOps.fit(photo, size, centering=(0.4, 0.4))
        left, top = size[0] * 2 // 5, size[1] // 6
        ImageDraw.Draw(tile).rectangle(
            (left, top, left + size[0] // 3, top + size[1] // 2), outline=INK, width=4
        )
        return tile

    return draw


def _said(text: str, points: int = 34) -> Callable[[tuple[int, int]], Image.Image]:
    return lambda size: _words(size, text, points)


THUMBNAILS: dict[str, Callable[[Image.Image], Image.Image]] = {
    "Edit a photo": lambda photo: _square(
        [[_fitted(photo)], [_said("Make it a clear night with a big full moon")]]
    ),
    "Make a picture from text": lambda _: _square([[_said("A small wooden cabin at a mountain lake", 46)]]),
    "Four variations in a grid": lambda photo: _square(
        [[_fitted(photo)], [_said(number, 90) for number in "1234"]]
    ),
    "One instruction for many photos": lambda photo: _square(
        [
            [_fitted(photo), _fitted(ImageOps.mirror(photo))],
            [_said("Turn the pictures into watercolour paintings")],
        ]
    ),
    "Edit in two steps": lambda photo: _square(
        [[_fitted(photo)], [_said("1. Make it night", 30), _said("2. Add falling snow", 30)]]
    ),
    "Edit a region at full size": lambda photo: _square(
        [[_region(photo)], [_said("Only the region, all its pixels")]]
    ),
    "Edit in steps without drift": lambda photo: _square(
        [[_fitted(photo)], [_said("1", 90), _said("2", 90), _said("3", 90)]]
    ),
    "Before and after": lambda photo: _square([[_fitted(photo), _said("after", 46)]]),
    "Collect pictures you paid for": lambda _: _square(
        [[_said("Pictures that you paid for and never got", 46)]]
    ),
}
