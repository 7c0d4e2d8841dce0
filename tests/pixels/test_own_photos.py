"""A user's own photo may be as large as cameras make them: it is made smaller while it is read, in little memory.

What strangers send stays under its caps: ``test_oddities`` and ``tests/hostile``.
"""

from __future__ import annotations

import json
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from rivya.errors import ImageError
from rivya.images import decode, encode, formats, own
from support.cases import slow_but

from . import making as m

pytestmark = pytest.mark.heavy

ROOT = Path(__file__).resolve().parents[2]


def large_png(width: int, height: int, colour: int, depth: int = 8) -> bytes:
    """A PNG of one row of noise, again and again."""
    row = m.noise(width * m.CHANNELS[colour] * depth // 8, 1, channels=1).tobytes()
    packer, same = zlib.compressobj(1), b"\2" + bytes(len(row))
    parts = [
        packer.compress(b"\0" + row),
        *(packer.compress(same) for _ in range(height - 1)),
        packer.flush(),
    ]
    head = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    return m.PNG_SIGNATURE + m.chunk(b"IHDR", head) + m.chunk(b"IDAT", b"".join(parts)) + m.chunk(b"IEND")


def large_jpeg(width: int, height: int, mode: str = "RGB", **options: object) -> bytes:
    """A JPEG of a gradient."""
    file = BytesIO()
    gradient = Image.linear_gradient("L").resize((width, height))
    (gradient if mode == "L" else Image.merge("RGB", [gradient] * 3)).save(file, "JPEG", **options)
    return file.getvalue()


PHOTOS: dict[str, tuple[Callable[[], bytes], tuple[int, int], int]] = {
    "jpeg of 108 megapixels": (lambda: large_jpeg(12_000, 9_000), (6_000, 4_500), 300),
    "jpeg of 200 megapixels, lying": (
        lambda: m.jpeg_with(large_jpeg(16_320, 12_240, "L"), m.segment(0xE1, b"Exif\0\0" + m.exif(6))),
        (3_060, 4_080),
        300,
    ),
    "png of 108 megapixels": (lambda: large_png(12_000, 9_000, m.RGB), (6_000, 4_500), 300),
}

_READ = """
import ctypes, json, sys
from pathlib import Path
from rivya.images import own
def resident(field):
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field)) / 1024
small, path = sys.argv[1:]
own.for_upload(own.read(small))
Path("/proc/self/clear_refs").write_text("5")
before = resident("VmRSS")
picture = own.for_upload(own.read(path))
peak = resident("VmHWM") - before
print(json.dumps([picture.pixels.shape, str(picture.pixels.dtype), picture.warnings, peak]))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("name", slow_but(PHOTOS, "jpeg of 200 megapixels, lying"))
def test_a_large_photo_is_made_smaller_in_little_memory_and_that_is_said(name: str, tmp_path: Path) -> None:
    make, size, most_mb = PHOTOS[name]
    photo, small = tmp_path / "photo", tmp_path / "small"
    photo.write_bytes(make())
    small.write_bytes(m.saved(m.photo(64, 64), "PNG"))
    with pytest.raises(ImageError, match="100 million pixels are taken"):
        decode.decode(photo.read_bytes())
    command = [sys.executable, "-c", _READ, str(small), str(photo)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=100, check=True)
    shape, dtype, warnings, peak = json.loads(done.stdout)
    assert (shape[1], shape[0], dtype) == (*size, "uint8")
    assert peak < most_mb + photo.stat().st_size / 1e6
    (said,) = warnings
    assert said.startswith("Made smaller")
    assert f"{size[0]}x{size[1]}" in said


def test_what_is_made_smaller_is_the_mean_of_its_pixels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(own, "MOST_PIXELS", 2_000)
    monkeypatch.setattr(own, "STRANGERS", formats.Limits(10**9, 10**9, 4_000))
    clear = m.photo(91, 61, channels=4)
    clear[..., 3] = 255
    expected = np.asarray(Image.fromarray(clear[..., :3]).reduce(2))
    files = {
        "RGBA": m.saved(clear, "PNG"),
        "16 bit": m.png(clear.astype(np.uint32) * 257, m.RGBA, 16),
        "interlaced": m.png(clear[..., :3], m.RGB, interlaced=True),
        "webp": m.saved(clear[..., :3], "WEBP", lossless=True),
        "jpeg": m.saved(clear[..., :3], "JPEG", quality=100, subsampling=0),
    }
    for name, data in files.items():
        pixels = own.for_upload(data).pixels
        assert pixels.shape[:2] == (31, 46), name
        off = np.abs(pixels[..., :3].astype(int) - expected)
        assert off.mean() < (2 if name == "jpeg" else 0.01), name


@pytest.mark.parametrize(("colour", "depth"), [(m.RGB, 8), (m.GREY_ALPHA, 8), (m.RGB, 16), (m.GREY, 16)])
def test_a_large_png_is_read_in_bands_to_the_same_pixels(
    colour: int, depth: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    samples = np.random.default_rng(1).integers(0, 2**depth, (150, 70, m.CHANNELS[colour]), np.uint32)
    data = m.png(samples, colour, depth, filters=(0, 2, 1), idat=7_001)
    whole = decode.decode(data).pixels
    monkeypatch.setattr("rivya.images.pixels._WHOLE_PIXELS", 1_000)
    monkeypatch.setattr("rivya.images.pixels._BAND_PIXELS", 1_000)
    assert np.array_equal(decode.decode(data).pixels, whole)
    stream = b"".join(body for kind, body in m.chunks_of(data) if kind == b"IDAT")
    short = zlib.compress(zlib.decompress(stream)[:-1])
    head = m.PNG_SIGNATURE + m.chunk(*m.chunks_of(data)[0])
    with pytest.raises(ImageError, match="cut off"):
        decode.decode(head + m.chunk(b"IDAT", short) + m.chunk(b"IEND"))
    with pytest.raises(ImageError, match="compressed samples"):
        decode.decode(head + m.chunk(b"IDAT", b"xxxx" + stream[4:]) + m.chunk(b"IEND"))


def test_a_picture_that_is_taken_from_strangers_stays_as_it_is() -> None:
    pixels = m.photo(300, 200)
    read = own.for_upload(m.saved(pixels, "PNG"))
    assert np.array_equal(read.pixels, pixels)
    assert read.warnings == ()
    assert encode.pixel_hash(read.pixels) == encode.pixel_hash(pixels)


def test_beyond_all_bounds_it_is_refused_and_a_smaller_copy_asked_for(tmp_path: Path) -> None:
    head = struct.pack(">IIBBBBB", 100_000, 100_000, 8, 2, 0, 0, 0)
    bomb = m.PNG_SIGNATURE + m.chunk(b"IHDR", head) + m.chunk(b"IDAT", bytes(99)) + m.chunk(b"IEND")
    with pytest.raises(ImageError, match="100000x100000") as caught:
        own.for_upload(bomb)
    assert "smaller copy" in caught.value.hint
    sparse = tmp_path / "sparse.png"
    with sparse.open("wb") as file:
        file.truncate(formats.OWN.bytes + 1)
    with pytest.raises(ImageError, match="bytes") as caught:
        own.read(sparse)
    assert "smaller copy" in caught.value.hint
