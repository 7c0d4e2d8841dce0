"""A user's JPEG goes to the service as it is: the same pixels to any decoder, and nothing else of the file."""

from __future__ import annotations

from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from pixels import making as m
from rivya.images import own
from rivya.orders.uploads import packed

SECRET = b"N 51 30 26, W 0 7 39"
PHOTO = m.photo(83, 61)


def with_trailer(data: bytes) -> bytes:
    """As phones write it: a preview and a map of depth behind the picture."""
    return data + b"\xff\xd8" + SECRET + data[2:]


PLAIN = {
    "baseline": m.saved(PHOTO, "JPEG"),
    "progressive": m.saved(PHOTO, "JPEG", progressive=True),
    "optimized": m.saved(PHOTO, "JPEG", quality=98, subsampling=0, optimize=True),
    "restart markers": m.saved(PHOTO, "JPEG", restart_marker_rows=1),
    "RGB inside": m.saved(PHOTO, "JPEG", keep_rgb=True),
    "fill bytes": m.saved(PHOTO, "JPEG").replace(b"\xff\xdb", b"\xff\xff\xff\xdb", 1),
    "noise": m.saved(m.noise(640, 480), "JPEG", quality=100),
    "EXIF": m.saved(PHOTO, "JPEG", exif=b"Exif\0\0" + m.exif(1) + SECRET),
    "comment": m.saved(PHOTO, "JPEG", comment=SECRET),
    "profile of sRGB": m.saved(PHOTO, "JPEG", icc_profile=m.srgb_profile()),
    "IPTC, XMP, MPF": m.jpeg_with(
        m.saved(PHOTO, "JPEG"),
        m.segment(0xED, b"Photoshop 3.0\0" + SECRET),
        m.segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0" + SECRET),
        m.segment(0xE2, b"MPF\0" + SECRET),
        m.segment(0xEE, b"Adobe and more" + SECRET),
        m.segment(0xE0, b"JFXX\0\x13" + SECRET),
    ),
}
OTHERS = {
    "turned": m.saved(PHOTO, "JPEG", exif=b"Exif\0\0" + m.exif(6)),
    "another profile": m.saved(PHOTO, "JPEG", icc_profile=m.wide_profile()),
    "grey": m.saved(m.photo(83, 61, channels=1), "JPEG"),
    "no end marker": m.saved(PHOTO, "JPEG")[:-2],
    "a preview in JFIF": m.jpeg_with(
        m.saved(PHOTO, "JPEG")[:2] + m.saved(PHOTO, "JPEG")[20:],
        m.segment(0xE0, b"JFIF\0\1\1\0\0\1\0\1\1\1" + b"abc"),
    ),
    "PNG": m.saved(PHOTO, "PNG"),
}


def by_pillow(data: bytes) -> np.ndarray:
    return np.asarray(Image.open(BytesIO(data)).convert("RGB"))


@pytest.mark.parametrize("name", PLAIN)
def test_nothing_but_the_picture_goes_up(name: str) -> None:
    picture = own.for_upload(PLAIN[name])
    sent = packed(picture, "auto")
    assert (sent.mime, sent.encoding, sent.notes) == ("image/jpeg", "jpeg", ())
    assert np.array_equal(by_pillow(sent.data), by_pillow(PLAIN[name]))
    assert np.array_equal(by_pillow(sent.data), picture.pixels)
    shown = Image.open(BytesIO(sent.data))
    assert set(shown.info) <= {
        "jfif",
        "jfif_version",
        "jfif_unit",
        "jfif_density",
        "progressive",
        "progression",
        "adobe",
        "adobe_transform",
        "dpi",
    }
    assert SECRET not in sent.data
    assert sent.data.endswith(b"\xff\xd9")


@pytest.mark.parametrize("name", PLAIN)
def test_it_is_the_order_that_its_pixels_are(name: str) -> None:
    picture = own.for_upload(PLAIN[name])
    assert packed(picture, "auto").identity == packed(picture.pixels, "auto").identity
    assert packed(picture, "png").data == packed(picture.pixels, "png").data
    assert packed(picture, "jpeg").data == packed(picture, "auto").data


def test_what_stands_behind_the_picture_stays_here() -> None:
    assert packed(own.for_upload(with_trailer(PLAIN["baseline"])), "auto").data == PLAIN["baseline"]


@pytest.mark.parametrize("name", OTHERS)
def test_what_is_not_just_its_pixels_is_packed_anew(name: str) -> None:
    picture = own.for_upload(OTHERS[name])
    assert picture.jpeg is None
    assert packed(picture, "auto").mime == "image/png"


@pytest.mark.heavy
@pytest.mark.slow
def test_a_picture_whose_identity_depends_on_its_size_is_packed_as_before() -> None:
    pixels = m.photo(2200, 1500)
    picture = own.for_upload(m.saved(pixels, "JPEG"))
    assert picture.jpeg is not None
    assert packed(picture, "auto").data == packed(picture.pixels, "auto").data
