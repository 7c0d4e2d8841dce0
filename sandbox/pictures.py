"""The pictures: honest, visible, and the same for the same order.

An edit is the reference in two colours that come from the prompt, framed, with the prompt and the word SANDBOX
drawn in, so that a person sees at once that the reference arrived and that no model was at work. A picture from
text alone is a gradient with shapes, all of it drawn from the prompt. Nothing depends on time or chance.
"""

from __future__ import annotations

import colorsys
import textwrap
import threading
from collections import OrderedDict
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from hashlib import sha256
from io import BytesIO
from random import Random

from PIL import Image, ImageDraw, ImageFont, ImageOps

from .drift import drawn, drifted
from .models import picture_size

_REMEMBERED = 128
Colour = tuple[int, int, int]


@dataclass(frozen=True)
class PictureOrder:
    """All that a picture depends on.

    ``reference`` is the uploaded file, with its SHA-256 (None: text alone), ``take`` tells several equal orders apart,
    ``index`` the pictures of one order.
    """

    model: str
    prompt: str
    ratio: str
    format: str
    watermark: str
    reference: bytes | None
    reference_hash: str | None
    take: int
    index: int
    megapixels: float
    drift: int | None = None

    @property
    def identity(self) -> str:
        """A hash over everything."""
        words = (*self._words(), self.ratio, self.format, self.watermark, self.reference_hash)
        return sha256(repr(words).encode()).hexdigest()

    def colours(self) -> Random:
        """A source of numbers that only this order's words decide."""
        return Random(repr(self._words()))

    def _words(self) -> tuple[object, ...]:
        return self.model, self.prompt, self.take, self.index, self.megapixels


def render(order: PictureOrder) -> bytes:
    """The finished picture as PNG or JPEG bytes."""
    size = picture_size(order.ratio, order.megapixels)
    colours = order.colours()
    hue = colours.random()
    if order.reference is None:
        canvas = _from_text(size, hue, colours)
    elif order.drift is not None:
        canvas = drifted(_upright(order), size, drawn(order.drift, order.identity), _colour(hue, 0.8, 1.0))
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
    """Whether the bytes open as a picture (the header and, where the format has them, checksums)."""
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
    """A grey picture in a dark tone, a full one and a light one of its opposite."""
    return ImageOps.colorize(
        grey, _colour(hue, 0.8, 0.18), _colour(hue + 0.45, 0.2, 1.0), mid=_colour(hue + 0.06, 0.65, 0.72)
    )


def _from_reference(order: PictureOrder, size: tuple[int, int], hue: float) -> Image.Image:
    """The reference, cut to the size from its middle, in two colours with a breath of its own."""
    picture = ImageOps.fit(_upright(order), size, Image.Resampling.BICUBIC)
    return Image.blend(_two_colours(ImageOps.grayscale(picture), hue), picture, 0.25)


def _upright(order: PictureOrder) -> Image.Image:
    """The reference as it is shown, on white where it is transparent."""
    with Image.open(BytesIO(order.reference or b"")) as opened:
        upright = ImageOps.exif_transpose(opened)
        if upright.has_transparency_data:
            layer = upright.convert("RGBA")
            upright = Image.new("RGBA", layer.size, "white")
            upright.alpha_composite(layer)
        return upright.convert("RGB")


def _from_text(size: tuple[int, int], hue: float, colours: Random) -> Image.Image:
    """A gradient with circles, all from the prompt."""
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
    """Frame, title, prompt and watermark."""
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
    """The prompt on at most three lines."""
    plain = _on_one_line(prompt[:600])
    yield from textwrap.wrap(plain, max(8, int(columns)), max_lines=3, placeholder=" ...")


def _on_one_line(text: str) -> str:
    """The text with spaces for what the font cannot hold on one line of text."""
    return "".join(letter if letter.isprintable() else " " for letter in text)


@dataclass
class Gallery:
    """Makes pictures in threads, each once while it is remembered."""

    _workers: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(2, "sandbox-pictures"))
    _made: OrderedDict[str, Future[bytes]] = field(default_factory=OrderedDict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def picture(self, order: PictureOrder) -> Future[bytes]:
        """The picture of an order, made in a thread when it is asked for the first time."""
        identity = order.identity
        with self._lock:
            found = self._made.get(identity)
            if found is None:
                found = self._made[identity] = self._workers.submit(render, order)
            self._made.move_to_end(identity)
            while len(self._made) > _REMEMBERED:
                self._made.popitem(last=False)
            return found

    def close(self) -> None:
        """Let the threads go."""
        self._workers.shutdown(wait=False, cancel_futures=True)
