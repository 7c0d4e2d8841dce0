"""Makes picture files out of known samples, byte by byte where libraries would not do it; knows nothing of rivya."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from io import BytesIO

import numpy as np
from PIL import Image, ImageCms

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
GREY, RGB, PALETTE, GREY_ALPHA, RGBA = 0, 2, 3, 4, 6
CHANNELS = {GREY: 1, RGB: 3, PALETTE: 1, GREY_ALPHA: 2, RGBA: 4}
ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))


def photo(width: int, height: int, seed: int = 0, channels: int = 3) -> np.ndarray:
    """uint8 (height, width, channels): soft shapes, waves and a little noise, as in a photo."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (height // 48 + 2, width // 48 + 2, channels), np.uint8)
    layers = [
        np.asarray(
            Image.fromarray(coarse[..., i]).resize((width, height), Image.Resampling.BICUBIC), np.float32
        )
        for i in range(channels)
    ]
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    waves = 10 * np.sin(x / 7) + 8 * np.sin(y / 5 + x / 23)
    noisy = np.stack(layers, axis=-1) + waves[..., None] + rng.normal(0, 1.2, (height, width, channels))
    return np.rint(noisy.clip(0, 255)).astype(np.uint8)


def noise(width: int, height: int, seed: int = 0, channels: int = 3) -> np.ndarray:
    """uint8 (height, width, channels) that nothing compresses."""
    return np.random.default_rng(seed).integers(0, 256, (height, width, channels), np.uint8)


def chunk(kind: bytes, body: bytes = b"") -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def chunks_of(png: bytes) -> list[tuple[bytes, bytes]]:
    """The chunks of a PNG: (kind, body)."""
    found, at = [], 8
    while at < len(png):
        (length,) = struct.unpack_from(">I", png, at)
        found.append((png[at + 4 : at + 8], png[at + 8 : at + 8 + length]))
        at += 12 + length
    return found


def png_with(png: bytes, *extra: tuple[bytes, bytes], before: bytes = b"IDAT") -> bytes:
    """The same PNG with more chunks in front of the first of kind ``before``."""
    out, done = [PNG_SIGNATURE], False
    for kind, body in chunks_of(png):
        if kind == before and not done:
            out += [chunk(*each) for each in extra]
            done = True
        out.append(chunk(kind, body))
    return b"".join(out)


def _packed_rows(samples: np.ndarray, depth: int) -> list[bytes]:
    height = samples.shape[0]
    flat = samples.reshape(height, -1)
    if depth == 16:
        return [row.astype(">u2").tobytes() for row in flat]
    if depth == 8:
        return [row.astype(np.uint8).tobytes() for row in flat]
    bits = ((flat[..., None] >> np.arange(depth - 1, -1, -1)) & 1).astype(np.uint8).reshape(height, -1)
    return [row.tobytes() for row in np.packbits(bits, axis=1)]


def _paeth(a: int, b: int, c: int) -> int:
    p = a + b - c
    distances = abs(p - a), abs(p - b), abs(p - c)
    return (a, b, c)[distances.index(min(distances))]


def _filtered(rows: Sequence[bytes], step: int, filters: Sequence[int]) -> bytes:
    out, above = [], bytes(len(rows[0]))
    for number, row in enumerate(rows):
        kind = filters[number % len(filters)]
        line = bytearray([kind])
        for i, value in enumerate(row):
            a = row[i - step] if i >= step else 0
            c = above[i - step] if i >= step else 0
            guess = (0, a, above[i], (a + above[i]) // 2, _paeth(a, above[i], c))[kind]
            line.append(value - guess & 255)
        out.append(bytes(line))
        above = row
    return b"".join(out)


def png(
    samples: np.ndarray,
    colour: int,
    depth: int = 8,
    *,
    interlaced: bool = False,
    filters: Sequence[int] = (4, 1, 2, 3, 0),
    extra: Sequence[tuple[bytes, bytes]] = (),
    idat: int = 997,
) -> bytes:
    """A PNG of samples (height, width, channels), of 0 to 2**depth - 1; every filter takes its turn."""
    height, width = samples.shape[:2]
    channels = CHANNELS[colour]
    samples = samples.reshape(height, width, channels)
    step = max(1, channels * depth // 8)
    stream = b""
    for x, y, across, down in ADAM7 if interlaced else ((0, 0, 1, 1),):
        part = samples[y::down, x::across]
        if part.size:
            stream += _filtered(_packed_rows(part, depth), step, filters)
    packed = zlib.compress(stream)
    head = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, int(interlaced))
    parts = [PNG_SIGNATURE, chunk(b"IHDR", head), *(chunk(*each) for each in extra)]
    parts += [chunk(b"IDAT", packed[at : at + idat]) for at in range(0, len(packed), idat)]
    return b"".join([*parts, chunk(b"IEND")])


def saved(pixels: np.ndarray, form: str, **options: object) -> bytes:
    """What Pillow writes for uint8 pixels (height, width, 1, 3 or 4)."""
    file = BytesIO()
    Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels).save(file, form, **options)
    return file.getvalue()


def segment(marker: int, body: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(body) + 2) + body


def jpeg_with(jpeg: bytes, *segments: bytes) -> bytes:
    """The same JPEG with more segments right behind its first two bytes."""
    return jpeg[:2] + b"".join(segments) + jpeg[2:]


def exif(orientation: int, order: str = "<", padding: int = 0) -> bytes:
    """A TIFF block that names an orientation, with a large field before it if asked."""
    mark = b"II*\0" if order == "<" else b"MM\0*"
    entries = [struct.pack(f"{order}HHII", 0x010E, 2, padding, 38)] if padding else []
    entries.append(struct.pack(f"{order}HHIHH", 0x0112, 3, 1, orientation, 0))
    table = struct.pack(f"{order}H", len(entries)) + b"".join(entries) + bytes(4)
    return mark + struct.pack(f"{order}I", 8) + table + b"x" * padding


def riff(*parts: tuple[bytes, bytes]) -> bytes:
    """A WebP container of these chunks."""
    body = b"WEBP" + b"".join(
        kind + struct.pack("<I", len(data)) + data + b"\0" * (len(data) % 2) for kind, data in parts
    )
    return b"RIFF" + struct.pack("<I", len(body)) + body


def riff_chunks(webp: bytes) -> list[tuple[bytes, bytes]]:
    found, at = [], 12
    while at + 8 <= len(webp):
        (length,) = struct.unpack_from("<I", webp, at + 4)
        found.append((webp[at : at + 4], webp[at + 8 : at + 8 + length]))
        at += 8 + length + length % 2
    return found


def as_shown(stored: np.ndarray, orientation: int) -> np.ndarray:
    """A picture turned as EXIF's table of orientations says, in numpy's words."""
    turn = {
        1: lambda a: a,
        2: np.fliplr,
        3: lambda a: np.rot90(a, 2),
        4: np.flipud,
        5: lambda a: np.swapaxes(a, 0, 1),
        6: lambda a: np.rot90(a, -1),
        7: lambda a: np.rot90(np.swapaxes(a, 0, 1), 2),
        8: lambda a: np.rot90(a, 1),
    }
    return turn[orientation](stored)


def wide_profile() -> bytes:
    """An RGB profile that is clearly not sRGB: its red and blue have changed places."""
    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    table = {}
    for number in range(struct.unpack_from(">I", profile, 128)[0]):
        tag, offset, size = struct.unpack_from(">4sII", profile, 132 + 12 * number)
        table[tag] = offset, size
    (red, size), (blue, _) = table[b"rXYZ"], table[b"bXYZ"]
    profile[red : red + size], profile[blue : blue + size] = (
        profile[blue : blue + size],
        profile[red : red + size],
    )
    return bytes(profile)


def srgb_profile() -> bytes:
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def grey_profile(gamma: float) -> bytes:
    """A GRAY profile with a plain gamma curve, written by hand."""
    white = b"XYZ " + bytes(4) + struct.pack(">iii", 63190, 65536, 54061)
    curve = b"curv" + bytes(4) + struct.pack(">IH", 1, round(gamma * 256)) + bytes(2)
    text = b"desc" + bytes(4) + struct.pack(">I", 5) + b"grey\0" + bytes(78 + 1)
    parts = {b"desc": text, b"wtpt": white, b"kTRC": curve}
    at, table, body = 128 + 4 + 12 * len(parts), b"", b""
    for tag, part in parts.items():
        part += bytes(-len(part) % 4)
        table += tag + struct.pack(">II", at + len(body), len(part))
        body += part
    total = at + len(body)
    head = struct.pack(">I4sI4s4s4s", total, b"lcms", 0x02100000, b"mntr", b"GRAY", b"XYZ ")
    head += struct.pack(">6H", 2024, 1, 1, 0, 0, 0) + b"acsp" + bytes(28)
    head += struct.pack(">iii", 63190, 65536, 54061)
    head += bytes(128 - len(head))
    return head + struct.pack(">I", len(parts)) + table + body


def icc_segments(profile: bytes, size: int = 65519) -> list[bytes]:
    pieces = [profile[at : at + size] for at in range(0, len(profile), size)]
    return [
        segment(0xE2, b"ICC_PROFILE\0" + bytes([number, len(pieces)]) + piece)
        for number, piece in enumerate(pieces, start=1)
    ]


def iccp(profile: bytes) -> tuple[bytes, bytes]:
    return b"iCCP", b"profile\0\0" + zlib.compress(profile)
