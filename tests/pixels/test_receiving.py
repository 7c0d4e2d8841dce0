"""What the service returns is what the graph gets: every mode, depth, orientation and profile, exactly.

Expectations come from the samples that the files were made of, by numpy; from Pillow's own reading for JPEG, whose
decoder is libjpeg's; from littlecms for profiles. None come from the code under test.
"""

from __future__ import annotations

from collections.abc import Callable
from io import BytesIO

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms

from rivya.images import decode

from . import making as m

SIZES = [(1, 1), (7, 5), (33, 18), (3, 64)]
DEPTHS = [(m.GREY, d) for d in (1, 2, 4, 8, 16)] + [(m.PALETTE, d) for d in (1, 2, 4, 8)]
DEPTHS += [(colour, d) for colour in (m.RGB, m.GREY_ALPHA, m.RGBA) for d in (8, 16)]


def samples_of(colour: int, depth: int, width: int, height: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.integers(0, 2**depth, (height, width, m.CHANNELS[colour]), np.uint32)


def meaning(samples: np.ndarray, colour: int, depth: int, palette: np.ndarray) -> np.ndarray:
    """RGB or RGBA of these samples, as the PNG specification has it."""
    if colour == m.PALETTE:
        return palette[samples[..., 0]]
    wide = np.uint16 if depth == 16 else np.uint8
    scaled = (samples.astype(np.uint64) * np.iinfo(wide).max // (2**depth - 1)).astype(wide)
    grey, alpha = scaled[..., :1], scaled[..., 1:]
    return {
        m.GREY: lambda: np.repeat(grey, 3, axis=2),
        m.GREY_ALPHA: lambda: np.concatenate([np.repeat(grey, 3, axis=2), alpha], axis=2),
    }.get(colour, lambda: scaled)()


def as_floats(pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
    """RGB as float32 value/255 or value/65535, and 1 - alpha."""
    unit = pixels.astype(np.float32) / np.float32(np.iinfo(pixels.dtype).max)
    return unit[..., :3], np.float32(1) - unit[..., 3] if pixels.shape[2] == 4 else None


def check(data: bytes, expected: np.ndarray) -> None:
    """Both ways of decoding give ``expected`` (integers, RGB or RGBA), to the bit."""
    picture = decode.decode(data)
    assert picture.pixels.dtype == expected.dtype
    assert np.array_equal(picture.pixels, expected)
    out = np.full((*expected.shape[:2], 3), np.nan, np.float32)
    mask = np.zeros(expected.shape[:2], np.float32)
    warnings = decode.decode_into(data, out, mask)
    rgb, transparent = as_floats(expected)
    assert out.tobytes() == rgb.tobytes()
    assert np.array_equal(mask, np.zeros_like(mask) if transparent is None else transparent)
    assert warnings == picture.warnings
    header = decode.inspect(data)
    assert (header.height, header.width) == expected.shape[:2]
    assert header.alpha == (expected.shape[2] == 4)
    assert decode.verify(data) == header.extension


@pytest.mark.parametrize("interlaced", [False, True], ids=["plain", "interlaced"])
@pytest.mark.parametrize(("colour", "depth"), DEPTHS)
def test_every_kind_of_png_comes_out_as_it_was_made(colour: int, depth: int, interlaced: bool) -> None:
    palette = np.random.default_rng(9).integers(0, 256, (2 ** min(depth, 8), 3), np.uint8)
    extra = [(b"PLTE", palette.tobytes())] if colour == m.PALETTE else []
    for width, height in SIZES:
        samples = samples_of(colour, depth, width, height)
        data = m.png(samples, colour, depth, interlaced=interlaced, extra=extra)
        check(data, meaning(samples, colour, depth, palette))


@pytest.mark.parametrize("interlaced", [False, True], ids=["plain", "interlaced"])
@pytest.mark.parametrize(
    ("colour", "depth"), [each for each in DEPTHS if each[0] in (m.GREY, m.RGB, m.PALETTE)]
)
def test_png_transparency_by_colour_or_palette(colour: int, depth: int, interlaced: bool) -> None:
    samples = samples_of(colour, depth, 21, 13)
    samples[4:7, 5:9] = samples[0, 0]
    palette = np.random.default_rng(9).integers(0, 256, (2 ** min(depth, 8), 3), np.uint8)
    if colour == m.PALETTE:
        alphas = np.random.default_rng(8).integers(0, 256, len(palette) // 2 + 1, np.uint8)
        extra = [(b"PLTE", palette.tobytes()), (b"tRNS", alphas.tobytes())]
        table = np.full((len(palette), 4), 255, np.uint8)
        table[:, :3] = palette
        table[: len(alphas), 3] = alphas
        expected = table[samples[..., 0]]
    else:
        extra = [(b"tRNS", samples[0, 0].astype(">u2").tobytes())]
        opaque = meaning(samples, colour, depth, palette)
        alpha = np.where((samples == samples[0, 0]).all(axis=2), 0, np.iinfo(opaque.dtype).max)
        expected = np.concatenate([opaque, alpha[..., None].astype(opaque.dtype)], axis=2)
    check(m.png(samples, colour, depth, interlaced=interlaced, extra=extra), expected)


@pytest.mark.slow
def test_pictures_of_many_bands_are_put_together_row_by_row() -> None:
    for channels in (3, 4):
        pixels = m.photo(1100, 700, channels=channels)
        check(m.saved(pixels, "PNG"), pixels)
    wide = np.random.default_rng(3).integers(0, 65536, (40, 9000, 3), np.uint32)
    check(m.png(wide, m.RGB, 16, filters=(0, 2), idat=1 << 20), wide.astype(np.uint16))
    grey = m.photo(900, 1300, channels=1)
    Image.fromarray(grey[..., 0]).save(file := BytesIO(), "PNG")
    check(file.getvalue(), np.repeat(grey, 3, axis=2))
    large = m.photo(1300, 900)
    check(m.saved(large, "WEBP", lossless=True, quality=0, method=0), large)


@pytest.mark.heavy
@given(
    colour_depth=st.sampled_from(DEPTHS),
    width=st.integers(1, 30),
    height=st.integers(1, 30),
    interlaced=st.booleans(),
    filters=st.lists(st.integers(0, 4), min_size=1, max_size=8),
    idat=st.integers(1, 200),
    seed=st.integers(0, 99),
)
@settings(deadline=None, max_examples=150)
def test_any_png_of_any_filters_and_pieces(
    colour_depth: tuple[int, int],
    width: int,
    height: int,
    interlaced: bool,
    filters: list[int],
    idat: int,
    seed: int,
) -> None:
    colour, depth = colour_depth
    samples = samples_of(colour, depth, width, height, seed)
    palette = np.random.default_rng(seed).integers(0, 256, (2 ** min(depth, 8), 3), np.uint8)
    extra = [(b"PLTE", palette.tobytes())] if colour == m.PALETTE else []
    data = m.png(samples, colour, depth, interlaced=interlaced, filters=filters, extra=extra, idat=idat)
    check(data, meaning(samples, colour, depth, palette))


JPEGS: dict[str, Callable[[], bytes]] = {
    "4:4:4": lambda: m.saved(m.photo(83, 61), "JPEG", quality=95, subsampling=0),
    "4:2:0": lambda: m.saved(m.photo(83, 61), "JPEG", quality=80, subsampling=2),
    "progressive": lambda: m.saved(m.photo(83, 61), "JPEG", progressive=True),
    "optimised": lambda: m.saved(m.photo(83, 61), "JPEG", optimize=True),
    "grey": lambda: m.saved(m.photo(83, 61, channels=1), "JPEG"),
    "grey progressive": lambda: m.saved(m.photo(83, 61, channels=1), "JPEG", progressive=True),
    "restart markers": lambda: m.saved(m.photo(83, 61), "JPEG", restart_marker_rows=1),
    "RGB inside": lambda: m.saved(m.photo(83, 61), "JPEG", keep_rgb=True),
    "large": lambda: m.saved(m.photo(1400, 900), "JPEG", quality=90),
}


@pytest.mark.parametrize("kind", JPEGS)
def test_jpegs_are_what_libjpeg_makes_of_them(kind: str) -> None:
    data = JPEGS[kind]()
    check(data, np.asarray(Image.open(BytesIO(data)).convert("RGB")))


def cmyk_jpeg(pixels: np.ndarray, **options: object) -> bytes:
    """Pillow stores CMYK inverted, with Adobe's marker, as all programs do."""
    file = BytesIO()
    Image.fromarray(pixels, "CMYK").save(file, "JPEG", quality=95, **options)
    return file.getvalue()


def ink_to_light(cmyk: np.ndarray) -> np.ndarray:
    """RGB of CMYK without a profile."""
    left = 255 - cmyk.astype(np.float64)
    return left[..., :3] * left[..., 3:] / 255


@pytest.mark.parametrize(
    "ink", [(0, 0, 0, 0), (255, 0, 0, 0), (0, 255, 255, 0), (0, 0, 0, 255), (40, 90, 160, 70)]
)
def test_cmyk_without_a_profile(ink: tuple[int, ...]) -> None:
    flat = np.full((24, 32, 4), ink, np.uint8)
    pixels = decode.decode(cmyk_jpeg(flat)).pixels
    assert np.abs(pixels.astype(np.float64) - ink_to_light(flat)).max() <= 2


def test_ycck_is_turned_back_into_cmyk() -> None:
    ink = (40, 90, 160, 70)
    stored = 255 - np.array(ink[:3], np.float64)
    # Adobe's YCCK: the inverted inks as YCbCr, black as it is; all of it stored inverted.
    red, green, blue = stored
    y = 0.299 * red + 0.587 * green + 0.114 * blue
    cb, cr = (blue - y) / 1.772 + 128, (red - y) / 1.402 + 128
    planes = [np.full((16, 16), round(value), np.uint8) for value in (255 - y, 255 - cb, 255 - cr)]
    # The same four planes once more as CMYK; then the marker is told that they are YCCK.
    planes.append(np.full((16, 16), ink[3], np.uint8))
    data = cmyk_jpeg(np.stack(planes, axis=-1))
    adobe = data.index(b"Adobe")
    assert data[adobe + 11] == 0
    ycck = data[: adobe + 11] + b"\x02" + data[adobe + 12 :]
    expected = np.asarray(Image.open(BytesIO(ycck)).convert("RGB"))
    check(ycck, expected)
    inks = np.asarray(Image.open(BytesIO(ycck)))[0, 0].astype(int)
    assert np.abs(expected[0, 0] - ink_to_light(inks[None])).max() <= 1


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("order", ["<", ">"])
def test_the_orientation_of_exif_is_applied(orientation: int, order: str) -> None:
    block = m.exif(orientation, order)
    for pixels in (m.photo(29, 19), m.photo(29, 19, channels=4)):
        shown = m.as_shown(pixels, orientation)
        check(m.png_with(m.saved(pixels, "PNG"), (b"eXIf", block)), shown)
        check(m.png_with(m.saved(pixels, "PNG"), (b"eXIf", block), before=b"IEND"), shown)
        check(m.saved(pixels, "WEBP", lossless=True, exact=True, exif=block), shown)
        check(m.saved(pixels, "WEBP", lossless=True, exact=True, exif=b"Exif\0\0" + block), shown)
    interlaced = m.noise(29, 19)
    data = m.png(interlaced, m.RGB, interlaced=True, extra=[(b"eXIf", block)])
    check(data, m.as_shown(interlaced, orientation))
    jpeg = m.saved(m.photo(40, 24), "JPEG", exif=b"Exif\0\0" + block)
    stored = np.asarray(Image.open(BytesIO(jpeg)).convert("RGB"))
    check(jpeg, m.as_shown(stored, orientation))


def by_littlecms(pixels: np.ndarray, mode: str, profile: bytes) -> np.ndarray:
    image = Image.fromarray(pixels[..., 0] if mode == "L" else pixels, mode)
    source = ImageCms.ImageCmsProfile(BytesIO(profile))
    return np.asarray(
        ImageCms.profileToProfile(image, source, ImageCms.createProfile("sRGB"), outputMode="RGB")
    )


def test_profiles_are_converted_to_srgb() -> None:
    profile = m.wide_profile()
    pixels = m.photo(700, 500)
    expected = by_littlecms(pixels, "RGB", profile)
    assert np.abs(expected.astype(int) - pixels).max() > 20
    check(m.png_with(m.saved(pixels, "PNG"), m.iccp(profile)), expected)
    check(m.saved(pixels, "WEBP", lossless=True, icc_profile=profile), expected)
    jpeg = m.jpeg_with(m.saved(pixels, "JPEG"), *m.icc_segments(profile, 300))
    plain = np.asarray(Image.open(BytesIO(jpeg)).convert("RGB"))
    check(jpeg, by_littlecms(plain, "RGB", profile))


def test_a_profile_leaves_transparency_alone() -> None:
    pixels = m.photo(60, 50, channels=4)
    expected = np.dstack(
        [by_littlecms(np.ascontiguousarray(pixels[..., :3]), "RGB", m.wide_profile()), pixels[..., 3]]
    )
    check(m.png_with(m.saved(pixels, "PNG"), m.iccp(m.wide_profile())), expected)


def test_a_palette_has_its_profile_applied_to_its_colours() -> None:
    palette = m.noise(16, 1)[0]
    samples = samples_of(m.PALETTE, 4, 30, 20)
    extra = [m.iccp(m.wide_profile()), (b"PLTE", palette.tobytes())]
    expected = by_littlecms(palette[samples[..., 0]], "RGB", m.wide_profile())
    check(m.png(samples, m.PALETTE, 4, extra=extra), expected)


@pytest.mark.parametrize("gamma", [1.0, 1.8, 2.2])
def test_grey_profiles_are_converted_too(gamma: float) -> None:
    grey = m.photo(50, 40, channels=1)
    data = m.png_with(m.saved(grey, "PNG"), m.iccp(m.grey_profile(gamma)))
    check(data, by_littlecms(grey, "L", m.grey_profile(gamma)))


def test_a_profile_that_says_srgb_leaves_every_value_as_it_is() -> None:
    pixels = m.photo(256, 200)
    check(m.png_with(m.saved(pixels, "PNG"), m.iccp(m.srgb_profile())), pixels)
    wide = np.random.default_rng(1).integers(0, 65536, (20, 30, 3), np.uint32)
    check(m.png(wide, m.RGB, 16, extra=[m.iccp(m.srgb_profile())]), wide.astype(np.uint16))


def test_16_bits_with_another_profile_are_converted_at_8_and_that_is_said() -> None:
    wide = np.random.default_rng(1).integers(0, 65536, (20, 30, 4), np.uint32)
    narrow = np.rint(wide / 257).astype(np.uint8)
    data = m.png(wide, m.RGBA, 16, extra=[m.iccp(m.wide_profile())])
    expected = np.dstack(
        [by_littlecms(np.ascontiguousarray(narrow[..., :3]), "RGB", m.wide_profile()), narrow[..., 3]]
    )
    check(data, expected)
    assert any("16 bits" in warning for warning in decode.decode(data).warnings)


def test_a_cmyk_jpeg_with_a_profile_goes_through_it() -> None:
    profile = cmyk_profile()
    inks = np.asarray(Image.fromarray(m.photo(64, 48)).convert("CMYK"))
    data = cmyk_jpeg(np.ascontiguousarray(inks), icc_profile=profile)
    stored = np.asarray(Image.open(BytesIO(data)))
    check(data, by_littlecms(stored, "CMYK", profile))
    assert decode.decode(data).warnings == ()


def cmyk_profile() -> bytes:
    """A CMYK profile of the smallest table there can be: 2 points each way, to Lab, by A2B0."""
    import struct

    white = b"XYZ " + bytes(4) + struct.pack(">iii", 63190, 65536, 54061)
    text = b"desc" + bytes(4) + struct.pack(">I", 4) + b"ink\0" + bytes(79)
    lut = b"mft1" + bytes(4) + bytes([4, 3, 2, 0]) + struct.pack(">9i", 65536, 0, 0, 0, 65536, 0, 0, 0, 65536)
    lut += bytes(range(256)) * 4
    for corner in range(16):
        cyan, magenta, yellow, black = (corner >> shift & 1 for shift in (3, 2, 1, 0))
        light = 255 - 70 * cyan - 75 * magenta - 20 * yellow
        lut += bytes(
            [max(0, light // (1 + 5 * black)), 128 - 40 * cyan + 60 * magenta, 128 + 80 * yellow - 40 * cyan]
        )
    lut += bytes(range(256)) * 3
    parts = {b"desc": text, b"wtpt": white, b"A2B0": lut}
    at, table, body = 128 + 4 + 12 * len(parts), b"", b""
    for tag, part in parts.items():
        part += bytes(-len(part) % 4)
        table += tag + struct.pack(">II", at + len(body), len(part))
        body += part
    head = struct.pack(">I4sI4s4s4s", at + len(body), b"lcms", 0x02100000, b"prtr", b"CMYK", b"Lab ")
    head += struct.pack(">6H", 2024, 1, 1, 0, 0, 0) + b"acsp" + bytes(28)
    head += struct.pack(">iii", 63190, 65536, 54061)
    return head + bytes(128 - len(head)) + struct.pack(">I", len(parts)) + table + body


def test_animations_give_their_first_frame_and_say_so() -> None:
    frames = [Image.fromarray(m.photo(60, 40, seed)) for seed in range(3)]
    for form, options in (("PNG", {}), ("WEBP", {"lossless": True, "quality": 0})):
        file = BytesIO()
        frames[0].save(file, form, save_all=True, append_images=frames[1:], duration=50, **options)
        picture = decode.decode(file.getvalue())
        assert np.array_equal(picture.pixels[..., :3], np.asarray(frames[0]))
        assert any("animated" in warning for warning in picture.warnings)
