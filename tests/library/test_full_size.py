"""A photo edited from the command line and from Python, at its own size: files, metadata, colour spaces."""

from __future__ import annotations

import subprocess
import sys
import warnings
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import rivya
from library.client import Client, environment
from pixels.making import RGBA, png, saved, wide_profile
from pixels.test_own_photos import large_jpeg
from rivya import fullsize
from rivya.errors import ValidationError
from rivya.images import decode
from rivya.images.pixels import eight_bits
from rivya.kontext import nearest_ratio
from rivya.stitching.placement import SIZES
from stitch.photos import cat, disc, in_form, scenery
from support.cases import slow_but

pytestmark = pytest.mark.heavy

SIZE = 451, 300
MASK = disc(*SIZE)
MAKE, TURN = 0x010F, 0x0112


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    place = tmp_path / "photos"
    place.mkdir()
    Image.fromarray((MASK * 255).astype(np.uint8)).save(place / "mask.png")
    return place


def shell(client: Client, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "rivya", *arguments],
        env=environment(client),
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=90,
    )


def test_the_command_line_gives_the_photo_back_with_its_metadata_and_upright(
    client: Client, service: Any, folder: Path
) -> None:
    stored, profile = cat(300, 451), wide_profile()  # lies on its side: shown, it is 451 wide
    exif = Image.Exif()
    exif[MAKE], exif[TURN] = "A camera", 6
    stored.save(folder / "photo.png", exif=exif.tobytes(), icc_profile=profile)
    done = shell(client, folder, "edit", "photo.png", "a red hat", "--mask", "mask.png", "-o", "hat.png")
    assert done.returncode == 0, done.stderr
    assert "451x300" in done.stdout
    with Image.open(folder / "hat.png") as result:
        result.load()
        assert result.size == SIZE
        assert result.getexif()[MAKE] == "A camera"
        assert result.getexif().get(TURN, 1) == 1
        assert result.info["icc_profile"] == profile
        pixels = np.asarray(result)
    upright = np.rot90(np.asarray(stored), -1)
    assert np.array_equal(pixels[MASK == 0], upright[MASK == 0])
    assert not np.array_equal(pixels[MASK > 0], upright[MASK > 0])
    assert len(service.tasks()) == 1


@pytest.mark.slow
def test_a_jpeg_comes_back_as_a_jpeg_of_its_size(client: Client, folder: Path) -> None:
    cat(*SIZE).save(folder / "photo.jpg", quality=95)
    done = shell(client, folder, "edit", "photo.jpg", "a red hat", "--keep-size", "--seed", "3")
    assert done.returncode == 0, done.stderr
    (name,) = (line.split()[0] for line in done.stdout.splitlines() if ".jpg" in line)
    with Image.open(folder / name) as result:
        assert (result.format, result.size) == ("JPEG", SIZE)


def test_python_gets_the_same_as_a_file_and_a_report(client: Client, folder: Path) -> None:
    photo = np.asarray(cat(*SIZE))
    Image.fromarray(photo).save(folder / "photo.png")
    made = rivya.edit("a red hat", folder / "photo.png", mask=MASK, config=client.config, seed=5)
    assert decode.decode(made.data).pixels.shape == photo.shape
    assert made.about["stitch"]["keep"] == "mask"
    again = rivya.edit("a red hat", folder / "photo.png", mask=MASK, config=client.config, seed=5)
    assert (again.source, again.data) == ("stored", made.data)


def test_a_mask_is_for_one_picture(client: Client) -> None:
    photo = np.asarray(cat(64, 48))
    with pytest.raises(ValidationError, match="one picture"):
        rivya.client.edit_all("a hat", [photo, photo], mask=MASK, config=client.config)


@pytest.mark.slow
def test_stitch_takes_files_of_any_editor(folder: Path) -> None:
    scene = cat(902, 600)
    scene.save(folder / "photo.png")
    scene.resize((1184, 880)).save(folder / "edit.webp", lossless=True)
    done = rivya.stitch(folder / "photo.png", (folder / "edit.webp").read_bytes(), feather=0)
    assert np.array_equal(done.image, np.asarray(scene))
    assert done.report["aligned"] is True


@pytest.mark.parametrize("channels", [3, 4])
@pytest.mark.slow
def test_a_png_of_16_bits_keeps_every_bit_outside_the_mask(channels: int) -> None:
    pixels = in_form(
        np.dstack([np.asarray(cat(*SIZE)), np.full(SIZE[::-1], 200, np.uint8)])[..., :channels], "uint16"
    )
    kind = {3: 2, 4: 6}[channels]
    file = png(pixels, kind, 16)
    photo = fullsize.read(file)
    assert np.array_equal(photo.pixels, pixels)
    done = rivya.stitch(file, np.asarray(scenery(1184, 880)), mask=MASK, align=False)
    written = fullsize.write(done.image, photo, "png")
    read = decode.decode(written).pixels
    assert read.dtype == np.uint16
    assert np.array_equal(read[MASK == 0], pixels[MASK == 0])
    assert not np.array_equal(read[MASK > 0], pixels[MASK > 0])
    with Image.open(BytesIO(written)) as opened:
        opened.load()


def test_an_edit_is_brought_into_the_colour_space_of_the_photo() -> None:
    # In this profile red and blue have changed places.
    edit = np.zeros((8, 8, 3), np.uint8)
    edit[..., 0] = 200
    moved = fullsize.in_profile(edit, wide_profile())
    assert moved[0, 0, 2] > 150 > moved[0, 0, 0]
    assert np.array_equal(fullsize.in_profile(edit, b"broken"), edit)


def test_an_answer_that_does_not_fit_is_given_as_it_is_since_it_was_paid_for() -> None:
    photos = fullsize.FullSize([np.asarray(cat(300, 200))], None, "auto")
    answer = png(np.zeros((400, 100, 3), np.uint8), 2)
    data, extension, report = photos.finished(0, answer)
    assert (data, extension) == (answer, "png")
    assert report["error"]["code"] == "edit_of_another_shape"
    assert report["error"]["charged"] == "yes"


@pytest.mark.slow
def test_an_answer_that_cannot_be_written_into_the_photo_is_given_as_it_is(folder: Path) -> None:
    # What a library raises of itself must not cost the picture: here pixels that no picture file can hold.
    answer = png(np.asarray(cat(1184, 880)), 2)
    for photo in (np.zeros((2, 3, 4, 5), np.uint8), folder / "no longer there.png", object()):
        photos = fullsize.FullSize([photo], None, "auto")
        data, extension, report = photos.finished(0, answer)
        assert (data, extension) == (answer, "png")
        assert report["error"]["charged"] == "yes"


@pytest.mark.parametrize(
    ("photo", "options", "says"),
    [
        (np.zeros((200, 300, 3), np.uint8), {"aspect_ratio": "9:16"}, "shape 9:16"),
        (np.zeros((200, 300, 3)), {}, "float64"),
    ],
)
def test_what_could_not_be_put_back_is_refused_before_anything_is_paid(
    client: Client, service: Any, photo: np.ndarray, options: dict[str, Any], says: str
) -> None:
    with pytest.raises(ValidationError, match=says):
        rivya.edit("a red hat", photo, keep_size=True, config=client.config, **options)
    assert not service.tasks()


def in_file(picture: Image.Image, form: str, **about: Any) -> bytes:
    file = BytesIO()
    picture.save(file, form, **about)
    return file.getvalue()


def turned(picture: Image.Image, **about: Any) -> bytes:
    """A JPEG whose EXIF turns it upright, of 200 x 300."""
    exif = Image.Exif()
    exif[MAKE], exif[TURN] = "A camera", 6
    exif.get_ifd(0x8769).update({0xA002: 300, 0xA003: 200, 0x9003: "2020:01:01 00:00:00"})
    return in_file(picture, "JPEG", exif=exif.tobytes(), **about)


def grey_of_16_bits(picture: Image.Image) -> bytes:
    return png(np.asarray(picture.convert("L")).astype(np.uint16)[..., None] * 257, 0, 16)


# Photos as they come from cameras, scanners and screens, made of a picture of 300 x 200.
ODD_PHOTOS: dict[str, Callable[[Image.Image], bytes]] = {
    "cmyk, turned": lambda cat: turned(cat.convert("CMYK")),
    "turned, profile": lambda cat: turned(cat, icc_profile=wide_profile()),
    "progressive": lambda cat: in_file(cat, "JPEG", progressive=True),
    "palette with transparency": lambda cat: in_file(cat.quantize(16), "PNG", transparency=3),
    "palette, profile": lambda cat: in_file(cat.quantize(16), "PNG", icc_profile=wide_profile()),
    "grey of 16 bits": grey_of_16_bits,
    "alpha, profile": lambda cat: in_file(cat.convert("RGBA"), "PNG", icc_profile=wide_profile()),
    "tiny": lambda cat: in_file(cat.resize((30, 20)), "JPEG"),
    "panorama": lambda cat: in_file(cat.resize((1200, 300)), "PNG"),
}


@pytest.mark.parametrize(
    "name",
    slow_but(ODD_PHOTOS, "cmyk, turned"),
)
def test_every_photo_comes_back_as_it_was_but_for_the_edit(name: str) -> None:
    file = ODD_PHOTOS[name](cat(300, 200))
    before = fullsize.read(file)
    height, width = before.pixels.shape[:2]
    size = SIZES[nearest_ratio(width, height)]
    seen = fullsize.as_seen(file)
    edit = Image.fromarray(seen if seen.dtype == np.uint8 else eight_bits(seen))
    edit = edit.convert("RGB").resize(size)
    edit.paste((200, 30, 30), (size[0] // 3, size[1] // 3, size[0] // 2, size[1] // 2))
    data, extension, report = fullsize.FullSize([file], None, "auto").finished(0, in_file(edit, "PNG"))
    assert "error" not in report
    with Image.open(BytesIO(file)) as given, Image.open(BytesIO(data)) as made:
        assert (made.size, made.format) == ((width, height), given.format)
        assert made.info.get("icc_profile") == given.info.get("icc_profile")
        if "turned" in name:
            exif = made.getexif()
            assert (exif[MAKE], exif[TURN]) == ("A camera", 1)
            camera = exif.get_ifd(0x8769)
            assert (camera[0xA002], camera[0xA003], camera[0x9003]) == (200, 300, "2020:01:01 00:00:00")
    if extension == "png":
        after = fullsize.read(data).pixels
        assert after.dtype == before.pixels.dtype
        same = (after == before.pixels).all(-1)
        assert 0.85 < same.mean() < 0.99


def test_a_photo_of_a_hundred_megapixels_keeps_its_metadata() -> None:
    # Pillow warns of pictures beyond 89 megapixels; where warnings are errors, as here, the block was lost.
    exif = Image.Exif()
    exif[MAKE] = "A camera"
    file = in_file(Image.new("L", (10_000, 10_000), "grey"), "PNG", exif=exif.tobytes(), compress_level=1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert fullsize.upright_exif(decode.inspect(file)) == exif.tobytes()


@pytest.mark.slow
def test_a_photo_of_108_megapixels_is_sent_smaller_which_is_said_and_keeps_its_size_where_asked(
    client: Client, folder: Path
) -> None:
    (folder / "photo.jpg").write_bytes(large_jpeg(12_000, 9_000, "L"))
    done = shell(client, folder, "edit", "photo.jpg", "a red hat", "-o", "hat.jpg")
    assert done.returncode == 0, done.stderr
    assert "from 12000x9000 to 6000x4500" in done.stdout
    assert fullsize.read(folder / "photo.jpg").pixels.shape == (9_000, 12_000, 3)


@pytest.mark.slow
def test_what_a_format_cannot_keep_of_the_photo_is_said() -> None:
    clear = np.dstack([scenery(200, 160), np.full((160, 200), 255, np.uint8)])
    opaque = png(clear.astype(np.uint32), RGBA)
    clear[:40, :40, 3] = 0
    wide = png(clear.astype(np.uint32) * 257, RGBA, 16)
    answer = saved(np.asarray(cat(200, 160)), "PNG")
    lost = {"webp": ["8 of its 16 bits"], "jpg": ["transparency", "8 of its 16 bits"], "png": []}
    for photo, extension, words in [(opaque, "jpg", []), *((wide, each, lost[each]) for each in lost)]:
        edited = fullsize.FullSize([photo], None, "auto", extension).finished(0, answer)
        notes = [note for note in edited[2]["notes"] if note.startswith("Saved")]
        assert len(notes) == len(words)
        assert all(word in note for word, note in zip(words, notes, strict=True))
    long = saved(np.full((410, 16_400, 1), 90, np.uint8), "PNG")
    flat = saved(np.full((25, 1_000, 3), 90, np.uint8), "PNG")
    assert fullsize.FullSize([long], None, "auto", "webp").finished(0, flat)[1] == "png"
