"""What other programs write beside the pixels: orientation in every place that Pillow reads, and words in metadata."""

from __future__ import annotations

import zlib
from io import BytesIO

import numpy as np
import pytest
from PIL import Image, ImageOps

from pixels import making as m
from rivya.images import decode

PNG = m.saved(m.photo(24, 16), "PNG")
BLOCK = m.exif(6)
RAW = b"\nexif\n%8d\n%s\n" % (len(BLOCK), BLOCK.hex().encode())
XMP = b'<x tiff:Orientation="8"/>'
JPEG_XMP = m.segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0" + XMP)
TURNED = {
    "tEXt": m.png_with(PNG, (b"tEXt", b"Raw profile type exif\0" + RAW)),
    "zTXt": m.png_with(PNG, (b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(RAW))),
    "iTXt": m.png_with(PNG, (b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + XMP)),
    "packed iTXt": m.png_with(PNG, (b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + zlib.compress(XMP))),
    "behind the samples": m.png_with(PNG, (b"tEXt", b"Raw profile type exif\0" + RAW), before=b"IEND"),
    "JPEG": m.jpeg_with(m.saved(m.photo(24, 16), "JPEG"), JPEG_XMP),
}


@pytest.mark.parametrize("name", TURNED)
def test_a_picture_is_turned_as_pillow_turns_it(name: str) -> None:
    with Image.open(BytesIO(TURNED[name])) as opened:
        shown = np.asarray(ImageOps.exif_transpose(opened).convert("RGB"))
    assert shown.shape[:2] == (24, 16)
    assert np.array_equal(decode.decode(TURNED[name]).pixels, shown)


@pytest.mark.parametrize(
    "words", [b"<html><script>", b"<?php echo", b"<svg >", b"how to read %PDF-1.7 files"]
)
def test_words_in_metadata_make_no_polyglot(words: bytes) -> None:
    decode.verify(m.png_with(PNG, (b"tEXt", b"prompt\0" + words)))
    decode.verify(m.jpeg_with(m.saved(m.photo(24, 16), "JPEG"), m.segment(0xFE, words)))


def test_the_signature_of_an_archive_without_a_directory_makes_no_polyglot() -> None:
    decode.verify(PNG + b"PK\5\6" + bytes(18))
    decode.verify(m.png_with(PNG, (b"tEXt", b"prompt\0how PK\5\6 ends a ZIP"), before=b"IEND"))
