"""The same files and tensors through ComfyUI's own LoadImage and SaveImage: what both can do, both do alike.

Colour PNGs are the same pixels in every ComfyUI. Since 0.21 it reads files with PyAV (FFmpeg), which gives a grey PNG
and a lossless WebP about a level of 255 beside what is in the file, and spreads the colours of a JPEG differently.

ComfyUI's nodes run in a process of their own, on the folders of the test.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from rivya.images import encode, own
from support.comfy import comfyui_folder

from . import making as m
from .pack import tensors, to_batches

pytestmark = pytest.mark.slow

SAME_EVERYWHERE = ("rgb.png", "clear.png")
DEVTOOLS = Path(__file__).resolve().parents[2] / "devtools"

_RUN = """
import sys
from pathlib import Path
folder, work, devtools = sys.argv[1:4]
sys.path[:0] = [folder, devtools]
sys.argv = ["main.py", "--cpu", "--base-directory", work, "--disable-metadata"]
import launch_comfyui
launch_comfyui.declare_missing_operators()
launch_comfyui.stand_in_for_torchaudio()
import comfy.options
comfy.options.enable_args_parsing()
import utils.install_util
import numpy, torch, nodes
for path in sorted(Path(work, "input").glob("*.*")):
    image, mask = nodes.LoadImage().load_image(path.name)
    numpy.savez(Path(work, path.name + ".npz"), image=image.numpy(), mask=mask.numpy())
batch = Path(work, "batch.pt")
if batch.exists():
    nodes.SaveImage().save_images(torch.load(batch), "saved")
"""


def in_comfyui(
    work: Path, files: Mapping[str, bytes], batch: torch.Tensor | None = None
) -> dict[str, np.ndarray]:
    """IMAGE and MASK of each file as LoadImage gives them; ``batch`` goes through SaveImage."""
    for name in ("input", "output", "custom_nodes", "models", "user", "temp"):
        (work / name).mkdir()
    for name, data in files.items():
        (work / "input" / name).write_bytes(data)
    if batch is not None:
        torch.save(batch, work / "batch.pt")
    command = [sys.executable, "-c", _RUN, str(comfyui_folder()), str(work), str(DEVTOOLS)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=110, cwd=work)
    assert done.returncode == 0, done.stderr
    return {name: dict(np.load(work / f"{name}.npz")) for name in files}


def saved(image: Image.Image, form: str = "PNG", **options: object) -> bytes:
    image.save(file := BytesIO(), form, **options)
    return file.getvalue()


PHOTO = Image.fromarray(m.photo(61, 47, 7))
CLEAR = Image.fromarray(m.photo(61, 47, 5, channels=4))
PALETTE = PHOTO.quantize(32)
SIXTEEN = np.random.default_rng(1).integers(0, 65536, (47, 61, 1), np.uint32)
FRAMES = {"save_all": True, "append_images": [Image.fromarray(m.photo(61, 47, 8))], "duration": 50}
ONE_ORDER = {
    "palette.png": saved(PALETTE),
    "grey.png": saved(PHOTO.convert("L")),
    "bilevel.png": saved(PHOTO.convert("1")),
    "gamma.png": m.png_with(saved(PHOTO), (b"gAMA", (100_000).to_bytes(4, "big"))),
    "turned.png": m.png_with(saved(PHOTO), (b"eXIf", m.exif(6))),
    "16 of 8 bits.png": m.png(np.repeat(SIXTEEN // 257 * 257, 3, axis=2), m.RGB, 16),
    "ink.jpg": saved(PHOTO.convert("CMYK"), "JPEG"),
    "grey.jpg": saved(PHOTO.convert("L"), "JPEG"),
    "passes.jpg": saved(PHOTO, "JPEG", progressive=True),
    "animated.png": saved(PHOTO, **FRAMES),
    "animated.webp": saved(PHOTO, "WEBP", lossless=True, **FRAMES),
    "animated.gif": saved(PHOTO, "GIF", **FRAMES),
    "plain.bmp": saved(PHOTO, "BMP"),
    "ink.tif": saved(PHOTO.convert("CMYK"), "TIFF"),
}
COLOURS_ALONE = {
    "palette_alpha.png": saved(PALETTE, transparency=bytes([0, 100] + [255] * 30)),
    "palette_key.png": saved(PALETTE, transparency=3),
    "grey_alpha.png": saved(CLEAR.convert("LA")),
    "grey_key.png": saved(PHOTO.convert("L"), transparency=77),
    "key.png": saved(PHOTO, transparency=(1, 2, 3)),
    "clear.webp": saved(CLEAR, "WEBP", lossless=True, exact=True),
    "opaque.png": saved(PHOTO.convert("RGBA")),
}
OTHER_PIXELS = {
    "profile.png": m.png_with(saved(PHOTO), m.iccp(m.wide_profile())),
    "16_bits.png": m.png(SIXTEEN, m.GREY, 16),
    "16_bits_colour.png": m.png(np.repeat(SIXTEEN, 3, axis=2), m.RGB, 16),
}


def test_a_file_is_one_order_by_node_and_by_command_line_wherever_the_pixels_are_the_same(
    tmp_path: Path,
) -> None:
    """README says where they are not: transparency, colour profiles, 16 bits."""
    if "ImageSequence" not in (comfyui_folder() / "nodes.py").read_text("utf-8"):
        pytest.skip("this ComfyUI reads pictures with PyAV: test_two_decoders")
    files = {**ONE_ORDER, **COLOURS_ALONE, **OTHER_PIXELS}
    loaded = in_comfyui(tmp_path, files)
    for name, data in files.items():
        first, *_ = tensors.frames(torch.from_numpy(loaded[name]["image"]))
        by_node, by_command = first(), own.for_upload(own.read(data)).pixels
        same = encode.pixel_hash(by_node) == encode.pixel_hash(by_command)
        assert same == (name in ONE_ORDER), name
        if name not in OTHER_PIXELS:
            assert np.array_equal(by_node, by_command[..., :3]), name


def test_both_load_the_same_and_ours_is_saved_as_it_was_sent(tmp_path: Path) -> None:
    clear = m.photo(61, 47, 5, channels=4)
    files = {
        "rgb.png": m.saved(m.photo(61, 47, 1), "PNG"),
        "clear.png": m.saved(clear, "PNG"),
        "photo.jpg": m.saved(m.photo(61, 47, 2), "JPEG", quality=90),
        "turned.jpg": m.saved(m.photo(47, 61, 3), "JPEG", exif=b"Exif\0\0" + m.exif(6)),
        "lossless.webp": m.saved(m.photo(61, 47, 4), "WEBP", lossless=True),
        "grey.png": m.saved(m.photo(61, 47, 6, channels=1), "PNG"),
    }
    batches = to_batches(list(files.values()))
    loaded = in_comfyui(tmp_path, files, batches.images[0])
    assert len(batches.images) == 1
    for number, name in enumerate(files):
        theirs = torch.from_numpy(loaded[name]["image"][0])
        apart = (batches.images[0][number] - theirs).abs()
        if name.endswith(".jpg"):  # see test_two_decoders
            assert apart.mean() < 4 / 255, name
        else:
            assert apart.max() <= (0 if name in SAME_EVERYWHERE else 1.5 / 255), name
    assert torch.equal(batches.masks[0][1], torch.from_numpy(loaded["clear.png"]["mask"][0]))
    saved = sorted((tmp_path / "output").glob("saved*.png"))
    assert len(saved) == len(files)
    for number, path in enumerate(saved):
        sent = np.rint(batches.images[0][number].numpy() * np.float32(255)).astype(np.uint8)
        assert np.array_equal(np.asarray(Image.open(path)), sent)
    # And what LoadImage gives goes up as it is; for a colour PNG that is the pixels of the file.
    for name in ("rgb.png", "lossless.webp"):
        (frame,) = tensors.frames(torch.from_numpy(loaded[name]["image"]))
        uploaded = np.asarray(Image.open(BytesIO(encode.encode(frame()).data)))
        given = np.rint(loaded[name]["image"][0] * np.float32(255)).astype(np.uint8)
        assert np.array_equal(uploaded, given)
        if name in SAME_EVERYWHERE:
            assert np.array_equal(uploaded, np.asarray(Image.open(BytesIO(files[name])).convert("RGB")))
