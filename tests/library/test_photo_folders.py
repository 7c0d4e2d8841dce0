"""Folders of photos as they are: which files are edited, under which names, and what a second run costs."""

from __future__ import annotations

import hashlib
import os
import struct
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from library.client import Client, Run
from rivya.errors import ImageError
from rivya.images import decode, foreign
from support.cases import slow_but
from support.quick import picture

pytestmark = pytest.mark.heavy


def encoded(number: int, kind: str, **options: Any) -> bytes:
    file = BytesIO()
    Image.fromarray(picture(number, (48, 32))).save(file, kind, **options)
    return file.getvalue()


def put(folder: Path, *names: str) -> None:
    """Different pictures under these names, PNG or JPEG by their endings."""
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encoded(len(name) + sum(map(ord, name)), "PNG" if "png" in name.lower() else "JPEG"))


def names_in(folder: Path) -> set[str]:
    """All files but the list of results."""
    found = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    return found - {"results.jsonl"}


@pytest.fixture
def new_charges(service: Any, work: Path) -> Iterator[Any]:
    """How many orders were charged since the last call."""
    seen = len(service.charges())

    def count() -> int:
        nonlocal seen
        before, seen = seen, len(service.charges())
        return seen - before

    return count


def test_a_folder_as_cameras_and_file_managers_leave_it(shell: Run, work: Path, new_charges: Any) -> None:
    put(work / "in", "a.JPG", "b.jfif", "c.jpe", "d.PNG", "no_ending", "clip.THM", ".hidden.png", "sub/e.png")
    put(work / "in", ".trash/f.png", "@eaDir/a.JPG")
    (work / "in" / "really_png.jpg").write_bytes(encoded(1, "PNG"))
    (work / "in" / "._a.JPG").write_bytes(b"\0\5\x16\7" + bytes(200))
    (work / "in" / "sidecar.jpg").write_bytes(b"\0\5\x16\7" + bytes(200))
    (work / "in" / "photo.NEF").write_bytes(b"MM\0*" + bytes(200))
    (work / "in" / "film.jxl").write_bytes(b"\xff\x0a" + bytes(200))
    (work / "in" / "notes.txt").write_text("a list")
    done = shell("edit", "--batch", "in", "make it night", "-o", "out")
    assert done.returncode == 0, done.stderr
    wanted = {"a", "b", "c", "d", "no_ending", "really_png"}
    assert names_in(work / "out") == {f"{name}-0-0.jpg" for name in wanted}
    assert new_charges() == 6
    for told in ("photo.NEF: RAW", "3 x hidden", "(.txt)", "(.jxl)", "a thumbnail", "sidecar", "--recursive"):
        assert told in done.stderr


@pytest.mark.parametrize("name", slow_but(["TIFF", "BMP", "GIF", "AVIF", "HEIF"], "TIFF", "HEIF"))
def test_other_formats_are_one_order_with_the_same_pixels_as_png(
    shell: Run, work: Path, new_charges: Any, name: str
) -> None:
    if name == "HEIF":
        heif = pytest.importorskip("pillow_heif")
        file = BytesIO()
        heif.from_pillow(Image.fromarray(picture(7, (48, 32)))).save(file, quality=90)
        data, seen = file.getvalue(), np.asarray(heif.open_heif(file).to_pillow())
    else:
        data = encoded(7, name, **({"quality": 90} if name == "AVIF" else {}))
        seen = np.asarray(Image.open(BytesIO(data)).convert("RGB"))
    (work / "in").mkdir()
    (work / "in" / "photo.x").write_bytes(data)  # the content decides
    (work / "in" / "same").write_bytes(b"")
    Image.fromarray(seen).save(work / "in" / "same", "PNG")
    done = shell("edit", "--batch", "in", "make it night", "-o", "out")
    assert done.returncode == 0, done.stderr
    assert names_in(work / "out") == {"photo-0-0.jpg", "same-0-0.jpg"}
    assert new_charges() == 1
    alone = shell("edit", "in/photo.x", "make it night", "-o", "alone.jpg")
    assert "(stored, 0 credits" in alone.stdout


def test_a_heic_photo_keeps_its_size_as_png(shell: Run, work: Path) -> None:
    heif = pytest.importorskip("pillow_heif")
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "Camera"
    heif.from_pillow(Image.fromarray(picture(7, (48, 32)))).save(
        work / "c.heic", quality=90, exif=exif.tobytes()
    )
    done = shell("edit", "c.heic", "make it night", "--keep-size")
    assert done.returncode == 0, done.stderr
    with Image.open(work / "c-0-0.png") as saved:
        assert saved.size == (32, 48)
        assert saved.getexif()[0x010F] == "Camera"


def test_what_the_installed_pillow_cannot_read_is_left_out_and_said(
    shell: Run, work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(foreign, "find_spec", lambda name: None)
    monkeypatch.setattr(foreign.features, "check", lambda name: False)
    put(work / "in", "a.png")
    (work / "in" / "b.avif").write_bytes(encoded(2, "AVIF"))
    (work / "in" / "c.heic").write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(90))
    done = shell("edit", "--batch", "in", "make it night", "-o", "out")
    assert done.returncode == 0, done.stderr
    assert "c.heic: HEIC is not taken" in done.stderr
    assert "b.avif: AVIF is not taken" in done.stderr
    assert names_in(work / "out") == {"a-0-0.jpg"}
    alone = shell("edit", "in/c.heic", "make it night")
    assert "pillow-heif" in alone.stderr
    assert "No credits were charged" in alone.stderr


@pytest.mark.parametrize("mode", ["1", "L", "P", "LA", "RGBA", "CMYK", "I;16"])
def test_a_tiff_of_any_mode_keeps_its_pixels_transparency_and_place(mode: str) -> None:
    image = Image.fromarray(picture(3, (48, 32)))
    if mode == "I;16":
        image = Image.fromarray((np.arange(32 * 48, dtype=np.uint16) * 37).reshape(32, 48))
    else:
        image = image.convert("RGBA" if mode == "LA" else "RGB").convert(mode)
    exif = Image.Exif()
    exif[0x0112] = 6
    file = BytesIO()
    image.save(file, "TIFF", exif=exif, compression="tiff_lzw")
    pixels = decode.decode(foreign.taken(file.getvalue())).pixels
    expected = np.asarray(
        image if mode == "I;16" else image.convert("RGBA" if mode in ("LA", "RGBA") else "RGB")
    )
    if expected.ndim == 2:
        expected = np.repeat(expected[..., None], 3, axis=2)
    turned = np.rot90(expected, -1) if pixels.shape[:2] != expected.shape[:2] else expected
    assert pixels.shape == turned.shape
    assert (pixels == turned).all()


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (encoded(1, "TIFF")[:-700], "image_damaged"),
        (encoded(1, "GIF")[:40], "image_damaged"),
        (encoded(1, "AVIF")[:200], "image_damaged"),
        (
            encoded(1, "BMP")[:18] + struct.pack("<ii", 60_000, 60_000) + encoded(1, "BMP")[26:],
            "image_too_large",
        ),
    ],
    ids=["TIFF", "GIF", "AVIF", "BMP"],
)
def test_a_damaged_file_of_another_format_is_refused_in_a_sentence(data: bytes, code: str) -> None:
    with pytest.raises(ImageError) as caught:
        foreign.taken(data)
    assert caught.value.code == code


def test_the_same_command_never_edits_its_own_results(shell: Run, work: Path, new_charges: Any) -> None:
    put(work / "in", "lake.png", "lake.jpg", "harbour.png")
    for seed, bought in (("0", 3), ("0", 0), ("0", 0), ("1", 3), ("0", 0), ("1", 0)):
        done = shell("edit", "--batch", "in", "make it night", "-o", "in", "--seed", seed)
        assert done.returncode == 0, done.stderr
        assert new_charges() == bought
    assert len(names_in(work / "in")) == 9
    assert "6 x an edit of a picture there" in done.stderr


def test_the_same_goes_for_the_folder_one_is_in(
    shell: Run, work: Path, new_charges: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(work, "lake.png", "sub/lake.png")
    for recursive, bought in (([], 1), ([], 0), (["--recursive"], 1), (["--recursive"], 0), ([], 0)):
        assert shell("edit", "--batch", ".", "make it night", "--variations", "2", *recursive).returncode == 0
        assert new_charges() == 2 * bought
    assert names_in(work) == {
        *("lake.png", "lake-0-0.jpg", "lake-0-1.jpg"),
        *("sub/lake.png", "sub/lake-0-0.jpg", "sub/lake-0-1.jpg"),
    }


def test_edits_are_known_by_any_name_and_where_they_lie_alone_they_are_pictures(
    shell: Run, work: Path, new_charges: Any
) -> None:
    put(work / "in", "lake.png")
    assert shell("edit", "in/lake.png", "make it night", "-o", "in/best of all.jpg").returncode == 0
    assert shell("edit", "in/lake.png", "a boat", "--keep-size", "-o", "in/boat").returncode == 0
    os.rename(work / "in" / "best of all.jpg", work / "in" / "a night")
    assert new_charges() == 2
    done = shell("edit", "--batch", "in", "make it night", "-o", "out")
    assert "2 x an edit" in done.stderr
    assert new_charges() == 0
    assert shell("edit", "--batch", "out", "add snow", "-o", "out").returncode == 0
    assert shell("edit", "--batch", "out", "add snow", "-o", "out").returncode == 0
    assert new_charges() == 1
    assert shell("edit", "--batch", "in", "make it night", "-o", "all", "--edits-too").returncode == 0
    assert new_charges() == 2


def test_collected_edits_are_edits_too(shell: Run, client: Client, work: Path, new_charges: Any) -> None:
    put(work, "lake.png")
    client.run(client.order("make it day", client.reference(77)))
    assert shell("collect").returncode == 0
    assert len(names_in(work)) == 2
    new_charges()
    assert shell("edit", "--batch", ".", "make it night").returncode == 0
    assert new_charges() == 1


def test_without_the_list_the_names_tell_and_that_is_said(shell: Run, work: Path, new_charges: Any) -> None:
    put(work / "in", "lake.png", "CON.png", "lake-2-0.jpg", f"{'n' * 250}.png", "2024-05-01.png", "2024.png")
    assert shell("edit", "--batch", "in", "x", "-o", "in").returncode == 0
    assert new_charges() == 5
    (work.parent / "state" / "saved.sqlite3").unlink()
    again = shell("edit", "--batch", "in", "x", "-o", "in")
    assert new_charges() == 0
    assert "lake-2-0.jpg: by its name an edit of lake.png" in again.stderr
    (work.parent / "state" / "saved.sqlite3").write_bytes(
        b"no database at all, but long enough to be looked at"
    )
    assert shell("edit", "--batch", "in", "x", "-o", "in").returncode == 0
    assert new_charges() == 0


def test_recursive_keeps_the_structure_and_leaves_the_target_alone(
    shell: Run, work: Path, new_charges: Any
) -> None:
    put(work / "in", "a.png", "one/a.png", "one/two/a.jpg", "Thumbs/a.png")
    (work / "in" / "loop").symlink_to(work / "in")
    for bought in (3, 0):
        done = shell("edit", "--batch", "in", "make it night", "-o", "in/out", "--recursive")
        assert done.returncode == 0, done.stderr
        assert new_charges() == bought
        (work.parent / "state" / "saved.sqlite3").unlink()
    assert names_in(work / "in" / "out") == {"a-0-0.jpg", "one/a-0-0.jpg", "one/two/a-0-0.jpg"}
    assert "a link to a folder" in done.stderr


def test_one_folder_in_the_way_of_the_structure_is_refused_before_anything_is_sent(
    shell: Run, work: Path, service: Any
) -> None:
    put(work / "in", "one/a.png", "b.png")
    (work / "out").mkdir()
    (work / "out" / "one").write_text("a file")
    before = len(service.requests())
    done = shell("edit", "--batch", "in", "make it night", "-o", "out", "--recursive")
    assert "one is a file" in done.stderr
    assert len(service.requests()) == before


@pytest.mark.parametrize("prepare", [lambda folder: None, Path.mkdir, lambda folder: folder.write_text("x")])
def test_a_folder_without_pictures_is_refused(shell: Run, work: Path, service: Any, prepare: Any) -> None:
    prepare(work / "in")
    before = len(service.requests())
    done = shell("edit", "--batch", "in", "make it night")
    assert done.returncode == 1
    assert "in" in done.stderr
    assert "Traceback" not in done.stderr
    assert len(service.requests()) == before


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="names of bytes")
def test_a_name_that_the_console_cannot_print_stops_nobody(
    process: Run, work: Path, new_charges: Any
) -> None:
    put(work / "in", "a.png", "照片.png", "b.png", "tab\there.png", "line\nend.png", "-o.png")
    (work / "in" / os.fsdecode(b"caf\xe9.png")).write_bytes(encoded(5, "PNG"))
    (work / "in" / "碎\x1b[31m.png").write_bytes(b"no picture")
    done = process("edit", "--batch", "in", "make it night", "-o", "出", PYTHONIOENCODING="cp1252")
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert len(names_in(work / "出")) == 7
    assert new_charges() == 7
    assert "\\u788e\\x1b[31m.png" in done.stderr
    assert "\x1b[31m" not in done.stderr
    assert len(done.stdout.splitlines()) == 7


def test_a_jpeg_goes_up_as_it_is_without_its_metadata_and_is_the_order_of_its_pixels(
    shell: Run, work: Path, service: Any, new_charges: Any
) -> None:
    bare = encoded(3, "JPEG")
    (work / "photo.jpg").write_bytes(encoded(3, "JPEG", exif=b"Exif\0\0II*\0\x08\0\0\0\0\0\0\0\0\0"))
    Image.open(BytesIO(bare)).save(work / "same.png")
    for name in ("photo.jpg", "same.png"):
        assert shell("edit", name, "make it night", "-o", "out").returncode == 0
    assert new_charges() == 1
    (upload,) = service.book()["uploads"]
    assert (upload["mime_type"], upload["sha256"]) == ("image/jpeg", hashlib.sha256(bare).hexdigest())
