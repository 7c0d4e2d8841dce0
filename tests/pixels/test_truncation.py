"""A file that is cut or damaged is an error or the whole picture; never a grey lower half, never a crash."""

from __future__ import annotations

import tracemalloc
from contextlib import suppress
from io import BytesIO

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageFile

from rivya.errors import ImageError
from rivya.images import decode

from . import making as m

pytestmark = pytest.mark.heavy

SMALL = m.photo(31, 22)
FILES = {
    "png": m.saved(SMALL, "PNG"),
    "png interlaced 16 bit": m.png(
        np.random.default_rng(0).integers(0, 65536, (9, 9, 4), np.uint32), m.RGBA, 16, interlaced=True
    ),
    "png palette": m.png(
        np.random.default_rng(0).integers(0, 16, (9, 9, 1), np.uint32),
        m.PALETTE,
        4,
        extra=[(b"PLTE", m.noise(16, 1).tobytes()), (b"tRNS", bytes(range(16)))],
    ),
    "png with profile and exif": m.png_with(
        m.saved(SMALL, "PNG"), m.iccp(m.wide_profile()), (b"eXIf", m.exif(6))
    ),
    "jpeg": m.saved(SMALL, "JPEG", quality=92),
    "jpeg grey": m.saved(m.photo(31, 22, channels=1), "JPEG"),
    "jpeg restart": m.saved(SMALL, "JPEG", restart_marker_rows=1),
    "jpeg progressive": m.saved(SMALL, "JPEG", progressive=True),
    "jpeg with profile": m.jpeg_with(m.saved(SMALL, "JPEG"), *m.icc_segments(m.wide_profile(), 500)),
    "webp": m.saved(SMALL, "WEBP", lossless=True),
    "webp lossy": m.saved(SMALL, "WEBP", quality=80),
    "webp extended": m.saved(m.photo(31, 22, channels=4), "WEBP", quality=80, exif=m.exif(3)),
}


@pytest.fixture(params=[False, True], ids=["", "another pack loads truncated images"])
def _switch(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", request.param)


@pytest.mark.usefixtures("_switch")
@pytest.mark.parametrize("name", FILES)
def test_cut_anywhere_it_is_an_error_or_the_whole_picture(name: str) -> None:
    whole = decode.decode(FILES[name]).pixels
    refused = 0
    for end in range(len(FILES[name])):
        try:
            pixels = decode.decode(FILES[name][:end]).pixels
        except ImageError as error:
            assert error.code in ("image_empty", "not_a_picture", "image_truncated", "image_damaged")
            refused += 1
        else:
            assert np.array_equal(pixels, whole)
            assert end >= len(FILES[name]) - 12
    assert refused >= len(FILES[name]) - 12


@pytest.mark.parametrize(("name", "block"), [("jpeg", 16), ("jpeg grey", 8)])
def test_a_jpeg_cut_anywhere_and_given_an_end_marker_is_never_taken_for_whole(name: str, block: int) -> None:
    data = FILES[name]
    whole = decode.decode(data).pixels
    refused = 0
    for end in range(data.index(b"\xff\xda"), len(data) - 2):
        try:
            pixels = decode.decode(data[:end] + b"\xff\xd9").pixels
        except ImageError:
            refused += 1
        else:
            # Within the very last block, what is missing cannot be told from what is there.
            changed = np.argwhere((pixels != whole).any(axis=2))
            assert (changed >= np.array([22, 31]) // block * block - 1).all()
    assert refused > 60


@given(
    name=st.sampled_from(sorted(FILES)),
    edits=st.lists(
        st.tuples(st.integers(0, 2), st.integers(0, 4000), st.binary(min_size=1, max_size=12)), max_size=6
    ),
    right=st.booleans(),
)
@settings(deadline=None, max_examples=600)
def test_whatever_is_changed_in_a_file_only_named_errors_come_out(
    name: str, edits: list[tuple[int, int, bytes]], right: bool
) -> None:
    data = bytearray(FILES[name])
    for kind, at, new in edits:
        at %= len(data) or 1
        if kind == 0:
            data[at : at + len(new)] = new
        elif kind == 1:
            data[at:at] = new
        else:
            del data[at : at + len(new)]
    changed = bytes(data)
    if right and name.startswith("png"):
        # With checksums that are right again, more of the reader is reached.
        try:
            changed = m.PNG_SIGNATURE + b"".join(m.chunk(*each) for each in m.chunks_of(changed))
        except Exception:
            pass
    try:
        picture = decode.decode(changed)
    except ImageError as error:
        assert error.code != "unusable_image"
    else:
        assert picture.pixels.shape[2] in (3, 4)


@given(
    data=st.binary(max_size=300),
    start=st.sampled_from([b"", m.PNG_SIGNATURE, b"\xff\xd8\xff", b"RIFF    WEBP"]),
)
@settings(deadline=None, max_examples=400)
def test_any_bytes_at_all_are_refused_by_name(data: bytes, start: bytes) -> None:
    with pytest.raises(ImageError) as caught:
        decode.decode(start + data)
    assert caught.value.code != "unusable_image"
    assert caught.value.charged is None


def test_a_picture_beyond_the_caps_costs_no_memory() -> None:
    import struct
    import zlib

    head = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    bomb = m.PNG_SIGNATURE + m.chunk(b"IHDR", head) + m.chunk(b"IDAT", zlib.compress(bytes(30_000_000), 9))
    tracemalloc.start()
    try:
        with pytest.raises(ImageError):
            decode.decode(bomb)
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()


def test_a_stream_that_inflates_beyond_its_picture_is_not_inflated_beyond() -> None:
    import struct
    import zlib

    pixels = m.noise(64, 64)
    rows = b"".join(b"\0" + row.tobytes() for row in pixels)
    head = struct.pack(">IIBBBBB", 64, 64, 8, 2, 0, 0, 0)
    stream = zlib.compress(rows + bytes(200_000_000), 9)
    data = m.PNG_SIGNATURE + m.chunk(b"IHDR", head) + m.chunk(b"IDAT", stream) + m.chunk(b"IEND")
    tracemalloc.start()
    try:
        assert np.array_equal(decode.decode(data).pixels, pixels)
        assert tracemalloc.get_traced_memory()[1] < 2_000_000
    finally:
        tracemalloc.stop()


def test_pillows_own_limit_that_another_pack_has_lowered_changes_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pixels = m.photo(700, 600)
    files = {form: m.saved(pixels, form) for form in ("PNG", "JPEG")}
    expected = {form: np.asarray(Image.open(BytesIO(data)).convert("RGB")) for form, data in files.items()}
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 150_000)
    for form, data in files.items():
        assert np.array_equal(decode.decode(data).pixels, expected[form])


@pytest.mark.timeout(30)
@pytest.mark.parametrize("tail", [b"\x00", b"", b"\x00\xff"])
def test_a_long_run_of_marker_bytes_takes_no_longer_than_any_other(tail: bytes) -> None:
    """A search that tried each beginning anew would take minutes for this, and hold up everything meanwhile."""
    start = FILES["jpeg"].index(b"\xff\xda")
    for end in (len(FILES["jpeg"]) - 2, start + 14):
        with suppress(ImageError):
            decode.verify(FILES["jpeg"][:end] + b"\xff" * 400_000 + tail)
