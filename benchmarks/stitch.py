"""How well edits are put back: ``python dev.py bench --stitch``.

Pairs with a known drift (`drift`) from the photographs that come with ComfyUI's templates, all seeded. Beside ours runs
what the best known tool does: SIFT features and a robust homography of OpenCV. Times are CPU time of one thread.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import json
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from rivya.stitching import Options, Placement, blobs, stitch
from rivya.stitching.placement import SIZES, bounds, choose, cropped
from rivya.stitching.raster import TRIANGLE, blurred, resampled
from rivya.stitching.register import register

from . import drift

Array = np.ndarray[Any, Any]
Row = dict[str, Any]

PHOTOS = (
    *("depth_controlnet-1", "depth_t2i_adapter-1", "flux_canny_model_example-1", "flux_depth_lora_example-1"),
    *("flux_dev_checkpoint_example-1", "flux_fill_inpaint_example-1", "flux_fill_outpaint_example-1"),
    *("flux_schnell-1", "inpaint_model_outpainting-1", "sdxl_simple_example-1", "2_pass_pose_worship-1"),
    *("embedding_example-1", "gligen_textbox_example-1", "sd3.5_simple_example-1", "sd3.5_large_blur-1"),
)
CASES = (
    ("small", "mild", 0.2),
    ("mid", "mild", 0.2),
    ("mid", "mild", 0.4),
    ("mid", "night", 0.2),
    ("mid", "sepia", 0.2),
    ("mid", "night", 0.4),
    ("small", "sepia", 0.4),
    ("none", "mild", 0.2),
)


def main(argv: Sequence[str]) -> int:
    """Measure, print a table; 1 if a target is missed and asked for."""
    parser = argparse.ArgumentParser(prog="python dev.py bench --stitch", description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a fifth of the cases")
    parser.add_argument("--strict", action="store_true", help="end with 1 if a target is missed")
    parser.add_argument("--out", type=Path, metavar="FOLDER", help="write stitch.json there")
    parser.add_argument("--peak", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args(argv)
    if options.peak:
        print(json.dumps(_peak()))
        return 0
    photos, few = photographs(), 5 if options.quick else 1
    parts: list[Callable[[], list[Row]]] = [
        lambda: _exact(photos),
        lambda: _there_and_back(photos),
        lambda: _cost(photos),
        lambda: [_memory()],
        lambda: _seam(photos, 12 // min(few, 3)),
        lambda: _changes(photos, 40 // few),
        lambda: [_unrelated(photos, 50 // few)],
        lambda: _geometry(photos, 200 // few),
    ]
    rows: list[Row] = []
    for part in parts:
        for row in part():
            rows.append(row)
            missed = "  MISSED" if row["met"] is False else ""
            print(f"{row['what']:66} {row['value']:>10}  {row['target']}{missed}", flush=True)
    if options.out:
        options.out.mkdir(parents=True, exist_ok=True)
        (options.out / "stitch.json").write_text(json.dumps(rows, indent=1) + "\n", "utf-8")
    return 1 if options.strict and any(row["met"] is False for row in rows) else 0


def _row(what: str, value: float, target: str = "", met: bool | None = None) -> Row:
    return {
        "what": what,
        "value": f"{value:.3f}".rstrip("0").rstrip("."),
        "target": target,
        "met": None if met is None else bool(met),
    }


def photographs() -> list[Image.Image]:
    """The photographs, 1024 x 1024."""
    found = {}
    for package in ("comfyui_workflow_templates_media_image", "comfyui_workflow_templates_media_other"):
        spec = find_spec(package)
        for folder in spec.submodule_search_locations or [] if spec else []:
            found.update({path.stem: path for path in Path(folder).rglob("*.webp")})
    photos = [Image.open(found[name]).convert("RGB") for name in PHOTOS if name in found]
    if len(photos) < 8:
        raise SystemExit("The pictures of ComfyUI's templates are not installed here.")
    return photos


def pair(photos: list[Image.Image], number: int) -> drift.Pair:
    """One of the pairs whose corners are measured, by its number from 0 on."""
    amount, tone, share = CASES[number % len(CASES)]
    scene, other = photos[number % len(photos)], photos[(number * 7 + 3) % len(photos)]
    if other is scene:
        other = photos[(number + 1) % len(photos)]
    size = list(SIZES.values())[number // 3 % len(SIZES)]
    return drift.make(scene, other, size, seed=number, amount=amount, tone=tone, share=share)


def _geometry(photos: list[Image.Image], count: int) -> list[Row]:
    ours, theirs, worse, times, their_times, agreements = [], [], [], [], [], []
    for number in range(count):
        case = pair(photos, number)
        original, edited = _floats(case.original), _floats(case.edited)
        began = time.process_time()
        found = register(original, case.place, edited, case.place)
        times.append(time.process_time() - began)
        ours.append(drift.corner_error(found.frame, case.frame, case.place))
        worse.append(ours[-1] - drift.corner_error(case.place, case.frame, case.place))
        agreements.append(found.agreement if found.aligned else 0.0)
        began = time.process_time()
        theirs.append(_sift(case))
        their_times.append(time.process_time() - began)
    rows = [
        _row(
            f"corner error of {count} pairs, median, px of 1024",
            statistics.median(ours),
            "<= 0.3",
            statistics.median(ours) <= 0.3,
        ),
        _row("... worst", max(ours), "<= 1.0", max(ours) <= 1.0),
        _row("... worse than not aligning by at most", max(0.0, *worse), "<= 0.3", max(worse) <= 0.3),
        _row("... smallest agreement", min(agreements)),
        _row(
            "registration, CPU seconds, median",
            statistics.median(times),
            "<= 0.8",
            statistics.median(times) <= 0.8,
        ),
    ]
    known = [error for error in theirs if error is not None]
    if known:
        rows += [
            _row("SIFT homography beside it: median", statistics.median(known)),
            _row("... worst", max(known)),
            _row("... not found", len(theirs) - len(known)),
            _row("... CPU seconds, median", statistics.median(their_times)),
        ]
    return rows


def _sift(case: drift.Pair) -> float | None:
    """The corner error of a homography from SIFT features; None where OpenCV is not there or finds none."""
    try:
        import cv2
    except ImportError:
        return None
    cv2.setNumThreads(1)
    sift = cv2.SIFT_create(5000)
    height, width = case.edited.shape[:2]
    points = [
        sift.detectAndCompute(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), None)
        for image in (case.edited, case.original)
    ]
    if any(found[1] is None for found in points):
        return None
    matches = cv2.BFMatcher().knnMatch(points[0][1], points[1][1], k=2)
    good = [two[0] for two in matches if len(two) == 2 and two[0].distance < 0.75 * two[1].distance]
    if len(good) < 8:
        return None
    from_points = np.float32([points[0][0][one.queryIdx].pt for one in good])
    to_points = np.float32([points[1][0][one.trainIdx].pt for one in good])
    found, _ = cv2.findHomography(from_points, to_points, cv2.USAC_MAGSAC, 2.0)
    if found is None:
        return None
    corners = np.float32(
        [[[-0.5, -0.5], [width - 0.5, -0.5], [width - 0.5, height - 0.5], [-0.5, height - 0.5]]]
    )
    (moved,) = cv2.perspectiveTransform(corners, found) + 0.5
    left, top, right, bottom = case.frame.edges()
    true = np.array([[left, top], [right, top], [right, bottom], [left, bottom]])
    return float(np.abs(moved - true).max() * 1024 / max(case.place.width, case.place.height))


def _unrelated(photos: list[Image.Image], count: int) -> Row:
    refused, sizes, highest = 0, list(SIZES.values()), 0.0
    for number in range(count):
        one = number % len(photos)
        other = (one + 1 + number // len(photos) * 3) % len(photos)
        case = drift.make(photos[one], photos[one], sizes[number % 6], seed=number, share=0)
        stranger = drift.make(photos[other], photos[other], sizes[number % 6], seed=number, share=0)
        found = register(_floats(case.original), case.place, _floats(stranger.edited), case.place)
        refused += not found.aligned
        highest = max(highest, found.agreement)
    return _row(
        f"of {count} unrelated pairs not aligned (agreement up to {highest:.3f})",
        refused,
        ">= 96 %",
        refused >= 0.96 * count,
    )


def _seam(photos: list[Image.Image], count: int) -> list[Row]:
    """A patch of another photo, then a drift of colours over the picture: what does the ring inside the mask get?"""
    ours, means = [], []
    for number in range(count):
        rng = np.random.default_rng(number)
        original = _floats(np.asarray(photos[number % len(photos)]))
        content = _floats(np.asarray(photos[(number + 5) % len(photos)]))
        y, x = np.mgrid[0:1024, 0:1024]
        away = np.hypot(x - rng.uniform(350, 670), y - rng.uniform(350, 670))
        mask, edit = (away < 224).astype(np.float32), (away < 250).astype(np.float32)
        true = original + edit[..., None] * (content - original)
        slope = rng.uniform(-14, 14, (2, 1, 1, 3)) / 255
        field = slope[0] * (x / 512 - 1)[..., None] + slope[1] * (y / 512 - 1)[..., None]
        gains, offsets = rng.uniform(0.94, 1.06, 3), rng.uniform(-0.02, 0.02, 3)
        answer = drift.as_answered(true * gains + offsets + field, rng)
        ring = (mask > 0) & ~blobs.shrunk(mask > 0, 6)
        done = stitch(original, answer, mask=mask, options=Options(feather=0), layer=False)
        ours.append(_smooth_error(done.image - true, mask, ring))
        edited, outside = _floats(answer), edit == 0
        scale = original[outside].std(0) / edited[outside].std(0)
        reinhard = (edited - edited[outside].mean(0)) * scale + original[outside].mean(0)
        means.append(_smooth_error(reinhard - true, mask, ring))
    middle = statistics.median(ours)
    return [
        _row(
            f"seam of {count} pairs: error in a ring of 6 px, levels, median", middle, "<= 1.5", middle <= 1.5
        ),
        _row(
            "... share of what mean and deviation leave",
            middle / statistics.median(means),
            "<= 0.5",
            middle <= statistics.median(means) / 2,
        ),
    ]


def _smooth_error(error: Array, mask: Array, ring: Array) -> float:
    shown = mask[..., None]
    smooth = blurred(error.astype(np.float32) * shown, 1) / (blurred(shown, 1) + 1e-6)
    return float(np.abs(smooth)[ring].mean() * 255)


def _changes(photos: list[Image.Image], count: int) -> list[Row]:
    """Recall over the pixels of all replaced parts; false marks over the pixels that are no part and not beside one."""
    hit = whole = false = free = 0
    for number in range(count):
        scene, other = photos[number % len(photos)], photos[(number * 7 + 4) % len(photos)]
        share = (0.2, 0.05, 0.4, 0.0, 0.02)[number % 5]
        size = list(SIZES.values())[number // 3 % 6]
        case = drift.make(scene, other, size, seed=number, share=share)
        done = stitch(case.original, case.edited, options=Options(feather=0), layer=False)
        height, width = case.original.shape[:2]
        window = case.place.seen_from(case.frame, *size)
        true = resampled(_plane(case.changed), window, (width, height), TRIANGLE)[..., 0] > 0.5
        left, top, right, bottom = (round(edge) for edge in case.frame.edges())
        has = np.zeros_like(true)
        has[max(0, top + 2) : max(0, bottom - 2), max(0, left + 2) : max(0, right - 2)] = True
        shown = done.mask > 0.5
        hit, whole = hit + int((shown & true & has).sum()), whole + int((true & has).sum())
        apart = has & ~blobs.grown(true, 8)
        false, free = false + int((shown & apart).sum()), free + int(apart.sum())
    return [
        _row(f"changed pixels found in {count} pairs, share", hit / whole, ">= 0.98", hit / whole >= 0.98),
        _row("... others taken for changed", false / free, "<= 0.01", false / free <= 0.01),
    ]


def _exact(photos: list[Image.Image]) -> list[Row]:
    """Values outside the mask; a resized copy; three edits in a row."""
    wrong = drifted = 0
    scene = photos[2]
    case = drift.make(scene, photos[5], (1184, 880), seed=2)
    for kind in (np.uint8, np.uint16, np.float32):
        original = case.original.astype(kind) * (257 if kind is np.uint16 else 1)
        original = original / np.float32(255) if kind is np.float32 else original
        done = stitch(original, case.edited, layer=False)
        wrong += int((done.image[done.mask == 0] != original[done.mask == 0]).sum())
    large = scene.resize((4000, 4000), Image.Resampling.BICUBIC)
    copy = np.asarray(large.resize((1024, 1024), Image.Resampling.LANCZOS))
    same = stitch(np.asarray(large), copy, layer=False).image
    first = image = np.asarray(scene)
    touched = np.zeros(first.shape[:2], bool)
    y, x = np.mgrid[0:1024, 0:1024]
    for number in range(3):
        mask = (np.hypot(x - 200 - 300 * number, y - 500) < 120).astype(np.float32)
        answer = drift.as_answered(_floats(image) * 0.96 + 0.01, np.random.default_rng(number))
        image = stitch(image, answer, mask=mask, layer=False).image
        touched |= mask > 0
    drifted = int((image[~touched] != first[~touched]).sum())
    return [
        _row("values changed outside the mask (8 and 16 bits, floats)", wrong, "0", wrong == 0),
        _row(
            "values changed by a resized copy",
            int((same != np.asarray(large)).sum()),
            "0",
            np.array_equal(same, np.asarray(large)),
        ),
        _row("values changed outside three masks in a row", drifted, "0", drifted == 0),
    ]


def _there_and_back(photos: list[Image.Image]) -> list[Row]:
    """A crop that is enlarged, and put back without an edit."""
    quality, errors = [], []
    for number, scene in enumerate(photos[:8]):
        original = np.asarray(scene)
        mask = np.zeros((1024, 1024), np.float32)
        mask[300 + 20 * number : 600, 250 : 600 + 30 * number] = 1
        shape, (box,) = choose((1024, 1024), [bounds(mask)])
        sent = cropped(original, box, SIZES[shape])
        place = Placement(1024, 1024, box, shape, SIZES[shape], mask)
        done = stitch(
            original, sent, placement=place, options=Options("all", match_color=False, feather=0), layer=False
        )
        shown = done.mask > 0
        error = (done.image.astype(float) - original)[shown]
        quality.append(10 * np.log10(255**2 / max(1e-9, float((error**2).mean()))))
        errors.append(max(abs(a - b) for a, b in zip(done.report["box"], box.edges(), strict=True)))
    return [
        _row("crop and back without an edit, dB, worst of 8", min(quality), ">= 50", min(quality) >= 50),
        _row("... box error, px", max(errors), "<= 0.02", max(errors) <= 0.02),
    ]


def _cost(photos: list[Image.Image]) -> list[Row]:
    rows = []
    case = drift.make(photos[5], photos[3], (1184, 880), seed=2, share=0.1)
    for width, height in ((4000, 3000), (5656, 4242)):
        large = _floats(np.asarray(Image.fromarray(case.original).resize((width, height))))
        whole = min(_seconds(lambda large=large: stitch(large, case.edited)) for _ in range(2))
        part = _seconds(
            lambda: register(_floats(case.original), case.place, _floats(case.edited), case.place)
        )
        each = (whole - part) / (width * height / 1e6)
        rows.append(
            _row(
                f"all but registration, {width * height / 1e6:.0f} MP float, CPU s a MP",
                each,
                "<= 0.15",
                each <= 0.15,
            )
        )
    return rows


def _seconds(work: Callable[[], object]) -> float:
    began = time.process_time()
    work()
    return time.process_time() - began


def _memory() -> Row:
    code = "import sys; from benchmarks.stitch import main; sys.exit(main(['--peak']))"
    root = Path(__file__).resolve().parent.parent
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    measured = json.loads(done.stdout.splitlines()[-1])
    ratio = measured["beyond"] / measured["result"]
    return _row("peak memory beyond inputs and results, 24 MP, of the result", ratio, "<= 1.2", ratio <= 1.2)


def _peak() -> dict[str, float]:
    """Peak of this process beyond inputs and results, and the size of the result image, in MB (Linux)."""
    case = drift.make(photographs()[5], photographs()[3], (1184, 880), seed=2, share=0.1)
    large = _floats(np.asarray(Image.fromarray(case.original).resize((5656, 4242))))
    stitch(_floats(case.original), case.edited)
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")
    before = int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 1e6
    done = stitch(large, case.edited)
    assert done.layer is not None
    lines = Path("/proc/self/status").read_text().splitlines()
    peak = next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) * 1024 / 1e6
    results = sum(array.nbytes for array in (done.image, done.mask, done.layer)) / 1e6
    return {"beyond": peak - before - results, "result": done.image.nbytes / 1e6}


def _floats(pixels: Array) -> Array:
    return pixels.astype(np.float32) / np.float32(255)


def _plane(mask: Array) -> Array:
    return mask.astype(np.float32)[..., None]
