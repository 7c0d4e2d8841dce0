"""Pixels beside ComfyUI's own helpers: ``python dev.py bench --pixels``.

Both sides work on the same tensors and files, in one run, turn by turn, so that a busy machine slows both. Times are
the shortest of several: what else runs on the machine can only add to them. Peak memory is measured in fresh
processes.

| row | ours | beside |
| --- | --- | --- |
| encode | tensor -> bytes of the upload | ``tensor_to_base64_string`` |
| decode | bytes of a result -> tensor | ``bytesio_to_image_tensor`` |
| size | bytes sent | base64 of the PNG that ComfyUI sends |
| memory | peak while 8 pictures of 4 MP are decoded | size of the result |
| threads | 8 pictures of 4 MP encoded by two threads | 8 times one |

The picture is made here: soft shapes, waves and sensor noise, which is about as hard to pack as a photo.
"""

from __future__ import annotations

import argparse
import base64
import ctypes
import gc
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from io import BytesIO
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from devtools.launch_comfyui import declare_missing_operators

ROOT = Path(__file__).resolve().parent.parent
SIZES = {"1 MP": 1024, "4 MP": 2048}
BATCH = 8
TARGETS = {"encode": 0.25, "decode": 0.9, "size": 0.78, "memory": 1.25, "threads": 0.6}


def main(argv: Sequence[str]) -> int:
    """Measure, print a table, write ``pixels.json`` if a folder is given. 1 if a target is missed and asked for."""
    parser = argparse.ArgumentParser(prog="python dev.py bench --pixels", description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, metavar="FOLDER", help="write pixels.json there")
    parser.add_argument("--repeat", type=int, default=7, help="measurements of each row (default: 7)")
    parser.add_argument("--strict", action="store_true", help="end with 1 if a target is missed")
    parser.add_argument("--peak-of", choices=("PNG", "JPEG", "WEBP"), help=argparse.SUPPRESS)
    options = parser.parse_args(argv)
    if options.peak_of:
        print(json.dumps(_peak(options.peak_of)))
        return 0
    rows = [
        *_encode_rows(options.repeat),
        *_decode_rows(options.repeat),
        *_memory_rows(),
        _thread_row(max(3, options.repeat // 2)),
    ]
    about = _about()
    _print(rows, about)
    if options.out:
        options.out.mkdir(parents=True, exist_ok=True)
        (options.out / "pixels.json").write_text(json.dumps({"about": about, "rows": rows}, indent=1) + "\n")
    return 1 if options.strict and any(row["ratio"] > row["target"] for row in rows if "target" in row) else 0


# --- what is measured --------------------------------------------------------------------------------


def _encode_rows(repeat: int) -> list[dict[str, Any]]:
    import torch

    core, tensors, images = _core(), _pack("nodes.tensors"), _pack("rivya.images.encode")
    rows = []
    for name, side in SIZES.items():
        image = torch.from_numpy(_photo(side).astype(np.float32) / np.float32(255))[None]

        def ours(image: Any = image) -> bytes:
            (frame,) = tensors.frames(image)
            pixels = frame()
            images.pixel_hash(pixels)
            return images.encode(pixels).data

        def theirs(image: Any = image) -> str:
            return core.tensor_to_base64_string(image)

        sent, base64_png = len(ours()), len(theirs())
        assert np.array_equal(_read(ours()), _read(base64.b64decode(theirs())))
        rows.append(_row("encode", f"encode {name} photo", "ms", *_turns(ours, theirs, repeat)))
        rows.append(_row("size", f"size {name} photo", "MB", sent / 1e6, base64_png / 1e6))
    return rows


def _decode_rows(repeat: int) -> list[dict[str, Any]]:
    import torch

    core = _core()
    rows = []
    for name, side in SIZES.items():
        for form in ("PNG", "JPEG", "WEBP"):
            data = _file(_photo(side), form)

            def ours(data: bytes = data) -> Any:
                return _unpack([data]).images[0]

            def theirs(data: bytes = data) -> Any:
                return core.bytesio_to_image_tensor(BytesIO(data))

            assert torch.equal(ours(), theirs()[..., :3])
            # The service gives PNG and JPEG; WebP is shown, and is no target.
            kind = "decode" if form != "WEBP" else ""
            rows.append(_row(kind, f"decode {name} {form}", "ms", *_turns(ours, theirs, repeat)))
    return rows


def _memory_rows() -> list[dict[str, Any]]:
    rows = []
    for form in ("PNG", "JPEG", "WEBP"):
        command = [sys.executable, "-c", _RUN_PEAK, form]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, env=os.environ)
        measured = json.loads(done.stdout.splitlines()[-1])
        kind = "memory" if form != "WEBP" else ""
        rows.append(
            _row(kind, f"peak memory, {BATCH} x 4 MP {form}", "MB", measured["peak"], measured["result"])
        )
        rows.append(
            _row("", f"... of ComfyUI's list and cat, {form}", "MB", measured["core"], measured["result"])
        )
    return rows


def _thread_row(repeat: int) -> dict[str, Any]:
    import torch

    tensors, images = _pack("nodes.tensors"), _pack("rivya.images.encode")
    pictures = np.stack([_photo(2048, seed) for seed in range(BATCH)])
    frames = tensors.frames(torch.from_numpy(pictures).float().div_(255))

    def one(frame: Callable[[], Any]) -> int:
        pixels = frame()
        images.pixel_hash(pixels)
        return len(images.encode(pixels).data)

    def all_of_them(workers: int) -> None:
        with ThreadPoolExecutor(workers) as pool:
            list(pool.map(one, frames))

    alone, both = _turns(lambda: one(frames[0]), lambda: all_of_them(2), repeat)
    return _row("threads", f"encode {BATCH} x 4 MP, 2 threads", "ms", both, BATCH * alone)


_RUN_PEAK = "import sys; from benchmarks.pixels import main; sys.exit(main(['--peak-of', sys.argv[1]]))"


def _unpack(files: list[bytes]) -> Any:
    """What the nodes give for these files, decoded one after the other."""
    import torch

    plan = _pack("nodes.tensors").Plan(files)
    for number in range(len(plan.places)):
        plan.decode(number)
    return plan.finish("cpu", torch.float32)


def _peak(form: str) -> dict[str, float]:
    """Peak of resident memory beyond what was there before, in MB: of ours, then of a list and ``torch.cat``."""
    import torch

    core = _core()
    files = [_file(_photo(2048, seed), form) for seed in range(BATCH)]
    small = _file(_photo(64), form)
    _unpack([small])
    core.bytesio_to_image_tensor(BytesIO(small))
    before = _reset_peak()
    batches = _unpack(files)
    peak = _resident("VmHWM") - before
    result = batches.images[0].numel() * batches.images[0].element_size() / 1e6
    del batches
    before = _reset_peak()
    both = torch.cat([core.bytesio_to_image_tensor(BytesIO(data), mode="RGB") for data in files])
    theirs = _resident("VmHWM") - before
    del both
    return {"peak": peak, "core": theirs, "result": result}


def _reset_peak() -> float:
    """Let the peak begin anew (Linux, glibc); gives what is resident now, in MB."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")
    return _resident("VmRSS")


def _resident(field: str) -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field)) * 1024 / 1e6


def _turns(ours: Callable[[], Any], theirs: Callable[[], Any], repeat: int) -> tuple[float, float]:
    """The shortest time of each in ms, measured turn by turn."""
    times: tuple[list[float], list[float]] = ([], [])
    for _ in range(repeat):
        for call, found in zip((ours, theirs), times, strict=True):
            start = time.perf_counter()
            call()
            found.append((time.perf_counter() - start) * 1e3)
    return min(times[0]), min(times[1])


# --- what it is measured on --------------------------------------------------------------------------


def _photo(side: int, seed: int = 0) -> np.ndarray:
    """uint8 (side, side, 3)."""
    from PIL import Image

    rng = np.random.default_rng(seed)
    coarse = rng.normal(128, 60, (side // 64 + 2, side // 64 + 2, 3)).clip(0, 255).astype(np.uint8)
    soft = np.asarray(Image.fromarray(coarse).resize((side, side), Image.Resampling.BICUBIC), np.float32)
    y, x = np.mgrid[0:side, 0:side].astype(np.float32)
    waves = 12 * np.sin(x / 7) + 9 * np.sin(y / 5 + x / 23)
    noisy = soft + waves[..., None] + rng.normal(0, 1.2, soft.shape)
    return np.rint(noisy.clip(0, 255)).astype(np.uint8)


def _file(pixels: np.ndarray, form: str) -> bytes:
    """As a service would give it: PNG as libraries write it by default, JPEG and WebP of good quality."""
    from PIL import Image

    options: dict[str, Any] = {"JPEG": {"quality": 95, "subsampling": 0}, "WEBP": {"quality": 90}}.get(
        form, {}
    )
    file = BytesIO()
    Image.fromarray(pixels).save(file, form, **options)
    return file.getvalue()


def _read(data: bytes) -> np.ndarray:
    from PIL import Image

    return np.asarray(Image.open(BytesIO(data)))


# --- whose code is measured --------------------------------------------------------------------------


def _pack(name: str) -> ModuleType:
    """A module of the pack, inside a package as ComfyUI would make it, but without its nodes."""
    _folder("rivya_bench", ROOT)
    _folder("rivya_bench.nodes", ROOT / "nodes")
    return import_module(f"rivya_bench.{name}")


def _folder(package: str, path: Path) -> None:
    """A package of the modules in ``path``, whose own ``__init__.py`` is not run."""
    if package not in sys.modules:
        module = ModuleType(package)
        module.__path__ = [str(path)]
        sys.modules[package] = module


def _core() -> ModuleType:
    """ComfyUI's helpers for its API nodes, from the folder that ``COMFYUI_DIR`` names."""
    folder = os.environ.get("COMFYUI_DIR")
    if not folder:
        raise SystemExit("COMFYUI_DIR must name a folder of ComfyUI.")
    name = "comfy_api_nodes.util.conversions"
    if name not in sys.modules:
        declare_missing_operators()
        # In front of everything while it is imported: ComfyUI has modules of common names, "nodes" among them.
        paths, arguments = list(sys.path), list(sys.argv)
        sys.path.insert(0, folder)
        sys.argv = [sys.argv[0], "--cpu"]
        try:
            import_module("comfy.options").enable_args_parsing()
            # The helpers alone: their package would bring in the whole server.
            _folder("comfy_api_nodes.util", Path(folder, "comfy_api_nodes", "util"))
            import_module(name)
        finally:
            sys.path[:], sys.argv[:] = paths, arguments
    return sys.modules[name]


# --- what comes out ----------------------------------------------------------------------------------


def _row(kind: str, name: str, unit: str, ours: float, theirs: float) -> dict[str, Any]:
    row = {
        "name": name,
        "unit": unit,
        "ours": round(ours, 3),
        "beside": round(theirs, 3),
        "ratio": ours / theirs,
    }
    return {**row, "target": TARGETS[kind]} if kind else row


def _about() -> dict[str, Any]:
    import PIL
    import torch
    from PIL import features

    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    return {
        "python": platform.python_version(),
        "pillow": PIL.__version__,
        "zlib": features.version("zlib"),
        "numpy": np.__version__,
        "torch": torch.__version__,
        "cores": os.cpu_count(),
        "load": load,
    }


def _print(rows: list[dict[str, Any]], about: dict[str, Any]) -> None:
    print("  ".join(f"{key} {value}" for key, value in about.items()))
    print(f"{'':38} {'ours':>10} {'beside':>10} {'ratio':>7} {'target':>7}")
    for row in rows:
        target = f"{row['target']:7.2f}" if "target" in row else "      -"
        missed = "  missed" if "target" in row and row["ratio"] > row["target"] else ""
        numbers = f"{row['ours']:10.2f} {row['beside']:10.2f} {row['ratio']:7.3f}"
        print(f"{row['name']:38} {numbers} {target}  {row['unit']}{missed}")
    ratios = [row["ratio"] / row["target"] for row in rows if "target" in row]
    print(f"\nratio to target, middle of {len(ratios)} rows: {statistics.median(ratios):.2f}")
