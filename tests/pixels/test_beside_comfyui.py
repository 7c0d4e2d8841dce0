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
import torch
from PIL import Image

from rivya.images import encode
from support.comfy import comfyui_folder

from . import making as m
from .pack import tensors

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
    batches = tensors.to_batches(list(files.values()))
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
