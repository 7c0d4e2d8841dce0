"""Files as they are met in the world, made here: each is read exactly, or refused by name."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from rivya.errors import ImageError
from rivya.images import decode

from . import making as m

PHOTO = m.photo(48, 36)
ALPHA = m.photo(48, 36, channels=4)
PNG = m.saved(PHOTO, "PNG")
JPEG = m.saved(PHOTO, "JPEG", quality=92)
WEBP = m.saved(PHOTO, "WEBP", lossless=True)
LOSSY = m.saved(PHOTO, "WEBP", quality=80)


def by_pillow(data: bytes, mode: str = "RGB") -> np.ndarray:
    return np.asarray(Image.open(BytesIO(data)).convert(mode))


def exif_of(size: int) -> bytes:
    return m.exif(6, padding=size)


def upright(pixels: np.ndarray) -> np.ndarray:
    return np.rot90(pixels, -1)


def png_of(width: int, height: int) -> tuple[bytes, np.ndarray]:
    pixels = m.noise(width, height)
    return m.saved(pixels, "PNG"), pixels


def idat_of_pieces(size: int) -> bytes:
    stream = b"".join(body for kind, body in m.chunks_of(PNG) if kind == b"IDAT")
    head = next(body for kind, body in m.chunks_of(PNG) if kind == b"IHDR")
    pieces = [m.chunk(b"IDAT", stream[at : at + size]) for at in range(0, len(stream), size)]
    return b"".join([m.PNG_SIGNATURE, m.chunk(b"IHDR", head), *pieces, m.chunk(b"IEND")])


def short_palette() -> tuple[bytes, np.ndarray]:
    """Indices that the palette does not have are black."""
    samples = np.arange(16, dtype=np.uint32).reshape(4, 4, 1)
    colours = m.noise(10, 1)[0]
    table = np.zeros((16, 3), np.uint8)
    table[:10] = colours
    return m.png(samples, m.PALETTE, 4, extra=[(b"PLTE", colours.tobytes())]), table[samples[..., 0]]


def long_transparency() -> tuple[bytes, np.ndarray]:
    samples = np.arange(4, dtype=np.uint32).reshape(2, 2, 1)
    colours = m.noise(4, 1)[0]
    extra = [(b"PLTE", colours.tobytes()), (b"tRNS", bytes(range(40, 60)))]
    table = np.dstack([colours[None], np.array([[40, 41, 42, 43]], np.uint8)])[0]
    return m.png(samples, m.PALETTE, 2, extra=extra), table[samples[..., 0]]


def thumbnail_inside() -> bytes:
    small = m.saved(m.photo(16, 12), "JPEG")
    return m.jpeg_with(JPEG, m.segment(0xE1, b"Exif\0\0" + m.exif(1) + small))


def adobe_rgb_marker() -> bytes:
    return m.jpeg_with(JPEG, m.segment(0xEE, b"Adobe" + struct.pack(">HHHB", 100, 0, 0, 1)))


def jfif_density(density: int) -> bytes:
    at = JPEG.index(b"JFIF\0")
    return JPEG[: at + 8] + struct.pack(">HH", density, density) + JPEG[at + 12 :]


def fill_bytes() -> bytes:
    at = JPEG.index(b"\xff\xdb")
    return JPEG[:at] + b"\xff" * 9 + JPEG[at:]


def webp_extended(*parts: tuple[bytes, bytes], flags: int = 0) -> bytes:
    head = bytes([flags, 0, 0, 0]) + (47).to_bytes(3, "little") + (35).to_bytes(3, "little")
    return m.riff((b"VP8X", head), *m.riff_chunks(WEBP), *parts)


GREY16 = np.random.default_rng(2).integers(0, 65536, (11, 13, 2), np.uint32)
WIDE16 = np.random.default_rng(2).integers(0, 65536, (11, 13, 4), np.uint32)

# name: (file, expected pixels, words of a warning or "")
READ: dict[str, Callable[[], tuple[bytes, np.ndarray, str]]] = {
    "1x1": lambda: (*png_of(1, 1), ""),
    "1x9000": lambda: (*png_of(1, 9000), ""),
    "9000x1": lambda: (*png_of(9000, 1), ""),
    "1x9000 jpeg": lambda: ((d := m.saved(m.photo(1, 9000), "JPEG")), by_pillow(d), ""),
    "9000x1 webp": lambda: (m.saved(a := m.noise(9000, 1), "WEBP", lossless=True), a, ""),
    "longest side": lambda: (*png_of(65_535, 1), ""),
    "png with bytes behind it": lambda: (PNG + b"\0" * 5000, PHOTO, ""),
    "png with a line break behind it": lambda: (PNG + b"\r\n", PHOTO, ""),
    "jpeg with bytes behind it": lambda: (JPEG + bytes(range(7)) * 99, by_pillow(JPEG), ""),
    "jpeg with a second picture behind it": lambda: (
        JPEG + m.saved(PHOTO[::-1], "JPEG"),
        by_pillow(JPEG),
        "",
    ),
    "webp with bytes behind it": lambda: (WEBP + b"\n\0\0", PHOTO, ""),
    "png without its end marker": lambda: (PNG[:-12], PHOTO, "end marker"),
    "png with half an end marker": lambda: (PNG[:-5], PHOTO, "end marker"),
    "jpeg without its end marker": lambda: (JPEG[:-2], by_pillow(JPEG), "end marker"),
    "jpeg with half an end marker": lambda: (JPEG[:-1], by_pillow(JPEG), "end marker"),
    "png in pieces of one byte": lambda: (idat_of_pieces(1), PHOTO, ""),
    "png with empty pieces": lambda: (m.png_with(PNG, (b"IDAT", b""), (b"IDAT", b"")), PHOTO, ""),
    "png with a large text": lambda: (m.png_with(PNG, (b"tEXt", b"Comment\0" + b"x" * 3_000_000)), PHOTO, ""),
    "png with a text that inflates without end": lambda: (
        m.png_with(PNG, (b"zTXt", b"bomb\0\0" + zlib.compress(bytes(60_000_000), 9))),
        PHOTO,
        "",
    ),
    "png with a text whose checksum is wrong": lambda: (
        m.png_with(PNG, (b"tEXt", b"Comment\0abc")).replace(b"Comment\0abc", b"Comment\0abd"),
        PHOTO,
        "",
    ),
    "png with parts nobody knows": lambda: (m.png_with(PNG, (b"prVt", b"\1\2\3"), (b"juNk", b"")), PHOTO, ""),
    "png of gamma and white point": lambda: (
        m.png_with(PNG, (b"gAMA", struct.pack(">I", 100_000)), (b"cHRM", bytes(32))),
        PHOTO,
        "",
    ),
    "png of zero resolution": lambda: (m.png_with(PNG, (b"pHYs", bytes(9))), PHOTO, ""),
    "png with a background colour": lambda: (m.png_with(PNG, (b"bKGD", bytes(6))), PHOTO, ""),
    "png with a suggested palette": lambda: (m.png_with(PNG, (b"PLTE", bytes(30))), PHOTO, ""),
    "png with huge exif": lambda: (m.png_with(PNG, (b"eXIf", exif_of(3_000_000))), upright(PHOTO), ""),
    "png with exif behind its samples": lambda: (
        m.png_with(PNG, (b"eXIf", m.exif(6)), before=b"IEND"),
        upright(PHOTO),
        "",
    ),
    "png with broken exif": lambda: (m.png_with(PNG, (b"eXIf", b"II*\0\xff\xff\xff\xff")), PHOTO, ""),
    "png with exif of orientation 9": lambda: (m.png_with(PNG, (b"eXIf", m.exif(9))), PHOTO, ""),
    "png with a broken profile": lambda: (m.png_with(PNG, m.iccp(b"no profile" * 30)), PHOTO, "profile"),
    "png with a profile that does not inflate": lambda: (
        m.png_with(PNG, (b"iCCP", b"x\0\0no zlib")),
        PHOTO,
        "profile",
    ),
    "png with a profile for grey": lambda: (m.png_with(PNG, m.iccp(m.grey_profile(1.8))), PHOTO, "profile"),
    "png with a profile that inflates without end": lambda: (
        m.png_with(PNG, m.iccp(bytes(50_000_000))),
        PHOTO,
        "profile",
    ),
    "png with an alpha that is opaque": lambda: (
        m.saved(a := np.dstack([PHOTO, np.full((36, 48), 255, np.uint8)]), "PNG"),
        a,
        "",
    ),
    "png with half a colour for transparency": lambda: (
        m.png_with(PNG, (b"tRNS", b"\0\1")),
        PHOTO,
        "transparency",
    ),
    "png of a palette too short": lambda: (*short_palette(), ""),
    "png of more transparency than palette": lambda: (*long_transparency(), ""),
    "png of 16 bit grey with alpha": lambda: (
        m.png(GREY16, m.GREY_ALPHA, 16),
        np.dstack([GREY16[..., :1]] * 3 + [GREY16[..., 1:]]).astype(np.uint16),
        "",
    ),
    "png of 16 bit colour with alpha, interlaced": lambda: (
        m.png(WIDE16, m.RGBA, 16, interlaced=True),
        WIDE16.astype(np.uint16),
        "",
    ),
    "jpeg with huge exif": lambda: (
        m.jpeg_with(JPEG, *[m.segment(0xE1, b"Exif\0\0" + exif_of(60_000))] * 20),
        upright(by_pillow(JPEG)),
        "",
    ),
    "jpeg with a thumbnail inside": lambda: (thumbnail_inside(), by_pillow(JPEG), ""),
    "jpeg of zero resolution": lambda: (jfif_density(0), by_pillow(JPEG), ""),
    "jpeg with fill bytes": lambda: (fill_bytes(), by_pillow(JPEG), ""),
    "jpeg with an Adobe marker": lambda: ((d := adobe_rgb_marker()), by_pillow(d), ""),
    "jpeg without JFIF": lambda: ((d := JPEG[:2] + JPEG[20:]), by_pillow(d), ""),
    "jpeg with a comment of 60 kB": lambda: (
        m.jpeg_with(JPEG, m.segment(0xFE, b"c" * 60_000)),
        by_pillow(JPEG),
        "",
    ),
    "jpeg with half a profile": lambda: (
        m.jpeg_with(JPEG, m.icc_segments(m.wide_profile(), 200)[0]),
        by_pillow(JPEG),
        "profile",
    ),
    "jpeg with a profile for CMYK": lambda: (
        m.jpeg_with(JPEG, *m.icc_segments(m.wide_profile().replace(b"RGB XYZ ", b"CMYKXYZ "))),
        by_pillow(JPEG),
        "profile",
    ),
    "jpeg that ends in mid grey": lambda: (
        (d := m.saved(np.concatenate([PHOTO, np.full((32, 48, 3), 128, np.uint8)]), "JPEG")),
        by_pillow(d),
        "",
    ),
    "jpeg all mid grey": lambda: (
        (d := m.saved(np.full((40, 40, 1), 128, np.uint8), "JPEG")),
        by_pillow(d),
        "",
    ),
    "lossy webp": lambda: (LOSSY, by_pillow(LOSSY), ""),
    "lossy webp with alpha": lambda: ((d := m.saved(ALPHA, "WEBP", quality=70)), by_pillow(d, "RGBA"), ""),
    "extended webp with parts nobody knows": lambda: (webp_extended((b"ABCD", b"12345")), PHOTO, ""),
    "webp that says alpha and has none": lambda: (
        webp_extended(flags=0x10),
        np.dstack([PHOTO, np.full((36, 48), 255, np.uint8)]),
        "",
    ),
    "webp with a broken profile": lambda: (
        m.saved(PHOTO, "WEBP", lossless=True, icc_profile=b"broken" * 9),
        PHOTO,
        "profile",
    ),
}


@pytest.mark.parametrize("name", READ)
def test_read_exactly(name: str) -> None:
    data, expected, words = READ[name]()
    picture = decode.decode(data)
    assert picture.pixels.dtype == expected.dtype
    assert np.array_equal(picture.pixels, expected)
    assert [words in warning for warning in picture.warnings] == ([True] if words else [])


def corrupted_at(data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 0x55]) + data[at + 1 :]


def grey_lower_half(**options: object) -> bytes:
    """A JPEG whose second half is missing, with an end marker all the same."""
    whole = m.saved(m.photo(160, 160), "JPEG", **options)
    return whole[: len(whole) * 2 // 3] + b"\xff\xd9"


def ihdr(width: int, height: int, depth: int = 8, colour: int = 2, rest: bytes = b"\0\0\0") -> bytes:
    head = struct.pack(">IIBB", width, height, depth, colour) + rest
    return (
        m.PNG_SIGNATURE
        + m.chunk(b"IHDR", head)
        + m.chunk(b"IDAT", zlib.compress(bytes(99)))
        + m.chunk(b"IEND")
    )


def jpeg_of(width: int, height: int, marker: int = 0xC0, depth: int = 8, channels: int = 3) -> bytes:
    at = next(i for i in range(len(JPEG)) if JPEG[i : i + 2] == b"\xff\xc0")
    return (
        JPEG[: at + 1] + struct.pack(">BHBHHB", marker, 17, depth, height, width, channels) + JPEG[at + 10 :]
    )


def many_scans() -> bytes:
    """A progressive JPEG of 5000x5000 that goes over itself 200 times."""
    small = m.saved(m.photo(64, 64), "JPEG", progressive=True)
    at = small.index(b"\xff\xc2")
    big = small[: at + 5] + struct.pack(">HH", 5000, 5000) + small[at + 9 :]
    last = big.rindex(b"\xff\xda")
    return big[:-2] + big[last:-2] * 200 + b"\xff\xd9"


def zip_archive() -> bytes:
    import zipfile

    file = BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("payload.js", "alert(1)")
    return file.getvalue()


def zip_in_a_png_text() -> bytes:
    """The archive lies in a text part; its comment reaches over the rest of the PNG."""
    archive = zip_archive()
    head, tail = PNG[:-12], PNG[-12:]
    with_comment = archive[:-2] + struct.pack("<H", 4 + len(tail))
    return head + m.chunk(b"teXt", with_comment) + tail


REFUSED: dict[str, tuple[Callable[[], bytes], str, str]] = {
    "nothing": (lambda: b"", "image_empty", "empty"),
    "an HTML page": (
        lambda: b"<!DOCTYPE html><html><body>502</body></html>",
        "not_a_picture",
        "an HTML page",
    ),
    "an HTML page behind white space": (lambda: b"\xef\xbb\xbf \n<HTML>", "not_a_picture", "an HTML page"),
    "an SVG": (
        lambda: b'<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg"/>',
        "not_a_picture",
        "an SVG",
    ),
    "XML": (lambda: b"<?xml version='1.0'?><Error><Code>AccessDenied</Code></Error>", "not_a_picture", "XML"),
    "JSON": (lambda: b' {"error": "expired"}', "not_a_picture", "JSON"),
    "text": (lambda: b"Not found", "not_a_picture", "text"),
    "white space": (lambda: b"   \n", "not_a_picture", "white space"),
    "zeros": (lambda: bytes(1000), "not_a_picture", "something else"),
    "a GIF": (lambda: m.saved(PHOTO, "GIF"), "not_a_picture", "a GIF"),
    "a BMP": (lambda: m.saved(PHOTO, "BMP"), "not_a_picture", "a BMP"),
    "a TIFF": (lambda: m.saved(PHOTO, "TIFF"), "not_a_picture", "a TIFF"),
    "a PDF": (lambda: b"%PDF-1.7\n", "not_a_picture", "a PDF"),
    "a ZIP": (zip_archive, "not_a_picture", "ZIP"),
    "gzip": (lambda: b"\x1f\x8b\x08\0\0", "not_a_picture", "gzip"),
    "an AVIF": (lambda: b"\0\0\0\x1cftypavif" + bytes(20), "not_a_picture", "AVIF"),
    "a WAV in the same container as WebP": (lambda: b"RIFF\x24\0\0\0WAVEfmt ", "not_a_picture", "something"),
    "the first bytes of a PNG": (lambda: PNG[:6], "not_a_picture", "first bytes"),
    "a PNG's signature": (lambda: PNG[:8], "image_truncated", "cut off"),
    "a PNG cut in its samples": (lambda: PNG[: len(PNG) // 2], "image_truncated", "cut off"),
    "a PNG whose stream ends early": (lambda: ihdr(64, 64), "image_truncated", "cut off"),
    "a PNG with a flipped bit": (lambda: corrupted_at(PNG, len(PNG) // 2), "image_damaged", "checksum"),
    "a PNG of no zlib stream": (
        lambda: (
            m.PNG_SIGNATURE + m.chunk(b"IHDR", PNG[16:29]) + m.chunk(b"IDAT", b"xxxx" * 9) + m.chunk(b"IEND")
        ),
        "image_damaged",
        "compressed",
    ),
    "a PNG of an unknown filter": (
        lambda: (
            m.PNG_SIGNATURE
            + m.chunk(b"IHDR", struct.pack(">IIBBBBB", 2, 2, 8, 2, 0, 0, 0))
            + m.chunk(b"IDAT", zlib.compress(b"\x09" * 14))
            + m.chunk(b"IEND")
        ),
        "image_damaged",
        "samples",
    ),
    "a PNG without a palette": (lambda: ihdr(2, 2, 8, 3), "image_damaged", "palette"),
    "a PNG of 3 bits": (lambda: ihdr(2, 2, 3, 0), "image_damaged", "header"),
    "a PNG of another compression": (lambda: ihdr(2, 2, rest=b"\1\0\0"), "image_damaged", "header"),
    "a PNG of two headers": (lambda: m.png_with(PNG, (b"IHDR", PNG[16:29])), "image_damaged", "two headers"),
    "a PNG of a phone's own form": (
        lambda: m.png_with(PNG, (b"CgBI", b"\x50\0\x20\2"), before=b"IHDR"),
        "image_unsupported",
        "CgBI",
    ),
    "a PNG without width": (lambda: ihdr(0, 5), "image_damaged", "0x5"),
    "a PNG of 20000x20000": (lambda: ihdr(20_000, 20_000), "image_too_large", "20000x20000"),
    "a PNG of 65536x1": (lambda: ihdr(65_536, 1), "image_too_large", "65536x1"),
    "a PNG of four thousand million a side": (
        lambda: ihdr(2**32 - 1, 2**32 - 1),
        "image_too_large",
        "million",
    ),
    "a PNG of too many parts": (
        lambda: m.PNG_SIGNATURE + m.chunk(b"IHDR", PNG[16:29]) + m.chunk(b"juNk") * 100_001,
        "image_damaged",
        "parts",
    ),
    "a JPEG's first bytes": (lambda: JPEG[:3], "image_truncated", "cut off"),
    "a JPEG of a header and no more": (lambda: JPEG[:200], "image_truncated", "cut off"),
    "a JPEG cut in its samples": (lambda: JPEG[: len(JPEG) * 2 // 3], "image_truncated", "cut off"),
    "a JPEG with a grey lower half": (grey_lower_half, "image_truncated", "cut off"),
    "a grey JPEG with a grey lower half": (
        lambda: (w := m.saved(m.photo(160, 160, channels=1), "JPEG"))[: len(w) // 2] + b"\xff\xd9",
        "image_truncated",
        "cut off",
    ),
    "a progressive JPEG without its end": (
        lambda: m.saved(PHOTO, "JPEG", progressive=True)[:-2],
        "image_truncated",
        "cut off",
    ),
    "a JPEG of two headers": (
        lambda: m.jpeg_with(JPEG, m.segment(0xC0, struct.pack(">BHHB", 8, 9, 9, 3) + bytes(9))),
        "image_damaged",
        "two headers",
    ),
    "a JPEG of 12 bits": (lambda: jpeg_of(48, 36, marker=0xC1, depth=12), "image_unsupported", "12 bit"),
    "a lossless JPEG": (lambda: jpeg_of(48, 36, marker=0xC3), "image_unsupported", "SOF3"),
    "a JPEG of two channels": (lambda: jpeg_of(48, 36, channels=2), "image_damaged", "2 channels"),
    "a JPEG that keeps its height to itself": (lambda: jpeg_of(48, 0), "image_damaged", "48x0"),
    "a JPEG of 65535x65535": (lambda: jpeg_of(65_535, 65_535), "image_too_large", "65535x65535"),
    "a JPEG that says it is larger": (lambda: jpeg_of(480, 360), "image_truncated", "cut off"),
    "a JPEG of endless scans": (many_scans, "image_too_large", "times"),
    "a JPEG of no table": (
        lambda: JPEG.replace(JPEG[(at := JPEG.index(b"\xff\xdb")) : at + 69], b""),
        "image_damaged",
        "samples",
    ),
    "a WebP's first bytes": (lambda: WEBP[:12], "image_truncated", "cut off"),
    "a WebP cut in its samples": (lambda: WEBP[:-100], "image_truncated", "cut off"),
    "a WebP cut and its length set right": (
        lambda: m.riff((b"VP8L", m.riff_chunks(WEBP)[0][1][:-200])),
        "image_damaged",
        "samples",
    ),
    "a lossy WebP cut and its length set right": (
        lambda: m.riff((b"VP8 ", m.riff_chunks(LOSSY)[0][1][:-200])),
        "image_damaged",
        "samples",
    ),
    "a WebP of 16384x16384": (
        lambda: m.riff((b"VP8L", struct.pack("<BI", 0x2F, 0x3FFF | 0x3FFF << 14) + bytes(30))),
        "image_too_large",
        "16384x16384",
    ),
    "a WebP canvas of 16777216 a side": (
        lambda: m.riff((b"VP8X", bytes(4) + b"\xff" * 6), *m.riff_chunks(WEBP)),
        "image_too_large",
        "16777216",
    ),
    "a WebP canvas of another size than its picture": (
        lambda: m.riff((b"VP8X", bytes(4) + b"\x09\0\0\x09\0\0"), *m.riff_chunks(WEBP)),
        "image_damaged",
        "samples",
    ),
    "a WebP of nothing known": (lambda: m.riff((b"VP9 ", bytes(40))), "image_damaged", "header"),
    "a PNG with a web page behind it": (lambda: PNG + b"\n<html><body>", "image_polyglot", "another kind"),
    "a JPEG that is a PDF too": (
        lambda: m.jpeg_with(JPEG, m.segment(0xFE, b"%PDF-1.4\n1 0 obj")),
        "image_polyglot",
        "another kind",
    ),
    **{
        f"a JPEG with a program between two end markers, {len(filling)} apart": (
            lambda filling=filling: JPEG + b"\x7fELF\2\1\1" + filling + b"\xff\xd9",
            "image_polyglot",
            "another kind",
        )
        for filling in (b"", b"\0")
    },
    "a JPEG with an archive behind it": (lambda: JPEG + zip_archive(), "image_polyglot", "another kind"),
    "a JPEG with an archive far behind it": (
        lambda: JPEG + bytes(9000) + zip_archive(),
        "image_polyglot",
        "another kind",
    ),
    "a JPEG with an archive and padding behind it": (
        lambda: JPEG + bytes(9000) + zip_archive() + bytes(9),
        "image_polyglot",
        "another kind",
    ),
    "a PNG with an archive inside": (zip_in_a_png_text, "image_polyglot", "another kind"),
    "a WebP with an archive behind it": (lambda: WEBP + zip_archive(), "image_polyglot", "another kind"),
    "a WebP with a program behind it": (lambda: WEBP + b"\x7fELF\2\1\1", "image_polyglot", "another kind"),
    "a file beyond the byte cap": (lambda: PNG + bytes(64 * 1024 * 1024), "image_too_large", "bytes"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused_by_name(name: str) -> None:
    make, code, words = REFUSED[name]
    data = make()
    with pytest.raises(ImageError) as caught:
        decode.decode(data)
    assert caught.value.code == code
    assert words in caught.value.message
    with pytest.raises(ImageError):
        decode.verify(data)


def test_there_are_as_many_oddities_as_promised() -> None:
    assert len(READ) + len(REFUSED) >= 40
