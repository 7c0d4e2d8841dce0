"""The pictures: equal orders with equal ``take`` get equal pictures.

An edit is the reference in two colours derived from the prompt, framed, with the prompt and the word SANDBOX: it
shows that the reference arrived and no model was used. Without a reference it is a gradient with circles.
"""

from __future__ import annotations

import colorsys
import textwrap
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from io import BytesIO
from random import Random

from PIL import Image, ImageDraw, ImageFont, ImageOps

from .drift import drawn, drifted
from .models import picture_size

Colour = tuple[int, int, int]


@dataclass(frozen=True)
class PictureOrder:
    """Everything that a picture depends on.

    ``reference`` is the uploaded file (None: text alone), ``take`` tells equal orders apart, ``index`` the pictures
    of one order.
    """

    model: str
    prompt: str
    ratio: str
    format: str
    watermark: str
    reference: bytes | None
    take: int
    index: int
    megapixels: float
    drift: int | None = None

    def colours(self) -> Random:
        """A generator seeded by the order without reference, ratio, format and watermark."""
        return Random(repr((*self.words, self.megapixels)))

    @property
    def words(self) -> tuple[str, str, int, int]:
        """Identifies the order apart from its reference."""
        return self.model, self.prompt, self.take, self.index


def render(order: PictureOrder) -> bytes:
    size = picture_size(order.ratio, order.megapixels)
    colours = order.colours()
    hue = colours.random()
    if order.reference is None:
        canvas = _from_text(size, hue, colours)
    elif order.drift is not None:
        drift = drawn(order.drift, order.words)
        canvas = drifted(_upright(order), size, drift, _colour(hue, 0.8, 1.0))
    else:
        canvas = _from_reference(order, size, hue)
    if order.reference is None or order.drift is None:
        _draw_words(canvas, order, hue)
    target = BytesIO()
    if order.format == "png":
        canvas.save(target, "PNG", compress_level=1)
    else:
        canvas.save(target, "JPEG", quality=90)
    return target.getvalue()


def is_readable(data: bytes) -> bool:
    """Whether the bytes open as an image (header, and checksums if the format has them)."""
    try:
        with Image.open(BytesIO(data)) as picture:
            picture.verify()
    except Exception:
        return False
    return True


def _colour(hue: float, saturation: float, value: float) -> Colour:
    red, green, blue = colorsys.hsv_to_rgb(hue % 1.0, saturation, value)
    return round(red * 255), round(green * 255), round(blue * 255)


def _two_colours(grey: Image.Image, hue: float) -> Image.Image:
    return ImageOps.colorize(
        grey, _colour(hue, 0.8, 0.18), _colour(hue + 0.45, 0.2, 1.0), mid=_colour(hue + 0.06, 0.65, 0.72)
    )


def _from_reference(order: PictureOrder, size: tuple[int, int], hue: float) -> Image.Image:
    """The reference's centre in two colours, blended with a quarter of the original."""
    picture = ImageOps.fit(_upright(order), size, Image.Resampling.BICUBIC)
    return Image.blend(_two_colours(ImageOps.grayscale(picture), hue), picture, 0.25)


def _upright(order: PictureOrder) -> Image.Image:
    """The reference with its EXIF orientation, transparent parts on white."""
    with Image.open(BytesIO(order.reference or b"")) as opened:
        upright = ImageOps.exif_transpose(opened)
        if upright.has_transparency_data:
            layer = upright.convert("RGBA")
            upright = Image.new("RGBA", layer.size, "white")
            upright.alpha_composite(layer)
        return upright.convert("RGB")


def _from_text(size: tuple[int, int], hue: float, colours: Random) -> Image.Image:
    grey = Image.linear_gradient("L").rotate(colours.choice((0, 90, 180, 270))).resize(size)
    canvas = _two_colours(grey, hue)
    draw = ImageDraw.Draw(canvas)
    for _ in range(12):
        radius = colours.uniform(0.03, 0.16) * min(size)
        x, y = colours.uniform(0, size[0]), colours.uniform(0, size[1])
        fill = _colour(hue + colours.uniform(-0.1, 0.5), colours.uniform(0.3, 0.8), colours.uniform(0.4, 1.0))
        draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=fill)
    return canvas


def _draw_words(canvas: Image.Image, order: PictureOrder, hue: float) -> None:
    width, height = canvas.size
    draw = ImageDraw.Draw(canvas)
    edge = max(2, min(canvas.size) // 48)
    text_height = max(8, min(canvas.size) // 28)
    font = ImageFont.load_default(text_height)
    made = "edited picture" if order.reference is not None else "picture from text"
    lines = [
        f"SANDBOX: {made}, no real service",
        *_wrapped(order.prompt, (width - 4 * edge) / text_height * 1.9),
    ]
    if order.take or order.index:
        lines[0] += f" ({order.take + 1}.{order.index + 1})"
    draw.rectangle((0, 0, width - 1, height - 1), outline=_colour(hue + 0.5, 0.7, 0.95), width=edge)
    top = height - edge - len(lines) * text_height * 1.3 - edge
    draw.rectangle((edge, top, width - 1 - edge, height - 1 - edge), fill=_colour(hue, 0.6, 0.12))
    for number, line in enumerate(lines):
        draw.text(
            (2 * edge, top + edge / 2 + number * text_height * 1.3), line, font=font, fill=(255, 255, 255)
        )
    if order.watermark:
        mark = _on_one_line(order.watermark[:60])
        span = draw.textlength(mark, font=font)
        place = (width - 2 * edge - span, 2 * edge)
        draw.text(place, mark, font=font, fill=(255, 255, 255), stroke_width=2, stroke_fill=(0, 0, 0))


def _wrapped(prompt: str, columns: float) -> Iterator[str]:
    plain = _on_one_line(prompt[:600])
    yield from textwrap.wrap(plain, max(8, int(columns)), max_lines=3, placeholder=" ...")


def _on_one_line(text: str) -> str:
    return "".join(letter if letter.isprintable() else " " for letter in text)


class Gallery:
    """Draws pictures in threads and caches the last 128."""

    def __init__(self) -> None:
        self._workers = ThreadPoolExecutor(2, "sandbox-pictures")
        self._drawn = lru_cache(maxsize=128)(lambda order: self._workers.submit(render, order))

    def picture(self, order: PictureOrder) -> Future[bytes]:
        """The picture of an order, drawn in a thread at the first call."""
        return self._drawn(order)

    def close(self) -> None:
        self._workers.shutdown(wait=False, cancel_futures=True)
