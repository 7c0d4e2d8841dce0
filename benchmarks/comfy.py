"""Real ComfyUI on both sides: processes, pictures, graphs, and the time that a prompt took."""

from __future__ import annotations

import itertools
import json
import secrets
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from devtools.comfyui import LAUNCHER, ROOT, ComfyUI, Finished, clean_environment, prepare_base
from devtools.processes import Child, free_port

PROMPT = "Make it a watercolour painting in warm colours"
PROBE = Path(__file__).with_name("probe")

_seeds = itertools.count(secrets.randbelow(2**30))

Graph = dict[str, dict[str, Any]]


def photographs(folder: Path, count: int, side: int, seed: int = 7) -> list[str]:
    """Lay photo-like PNG files of side x side pixels into ``folder``; gives their names.

    A photograph, enlarged, each one shifted otherwise and with its own faint noise, which no codec can compress away.
    """
    source = (
        Image.open(ROOT / "web" / "sample.jpg").convert("RGB").resize((side, side), Image.Resampling.BICUBIC)
    )
    pixels, draw = np.asarray(source, np.float32), np.random.default_rng([seed, secrets.randbits(32)])
    names = []
    for number in range(count):
        shifted = np.roll(pixels, number * side // 16, axis=1)
        noisy = shifted + draw.normal(0, 1.2, shifted.shape).astype(np.float32)
        names.append(f"{secrets.token_hex(6)}.png")
        Image.fromarray(noisy.round().clip(0, 255).astype(np.uint8)).save(
            folder / names[-1], compress_level=1
        )
    return names


def start_ours(folder: Path, base: Path, *, probe: bool = False, **settings: Any) -> ComfyUI:
    """ComfyUI with this pack; ``settings`` go into the pack's config.json. ``probe`` adds the bench's own probe."""
    prepare_base(base, ROOT)
    if probe and not (base / "custom_nodes" / "probe").exists():
        (base / "custom_nodes" / "probe").symlink_to(PROBE, target_is_directory=True)
    state = base / "state"
    state.mkdir(mode=0o700, exist_ok=True)
    (state / "config.json").write_text(json.dumps(settings))
    (state / "config.json").chmod(0o600)
    return ComfyUI.start(folder, base, env={"RIVYA_HOME": str(state)})


def start_core(folder: Path, base: Path, api_base: str) -> ComfyUI:
    """ComfyUI with its own nodes for services, which talk to ``api_base``."""
    prepare_base(base, None)
    port = free_port()
    command = [
        *(sys.executable, str(LAUNCHER), str(folder), "--cpu", "--listen", "127.0.0.1", "--port", str(port)),
        *(
            "--base-directory",
            str(base),
            "--disable-auto-launch",
            "--log-stdout",
            "--comfy-api-base",
            api_base,
        ),
        *("--database-url", f"sqlite:///{(base / 'user' / 'comfyui.db').as_posix()}"),
    ]
    child = Child("ComfyUI", command, log_path=base / "comfyui.log", env=clean_environment({}), cwd=base)
    server = ComfyUI(f"http://127.0.0.1:{port}", base, child)
    try:
        child.wait_until(server._answers, 120)
    except BaseException:
        child.kill()
        raise
    return server


def core_graph(images: Sequence[str]) -> Graph:
    """One chain an image: load, edit with core's node, and look at the result without coding it again."""
    graph: Graph = {}
    for number, image in enumerate(images):
        inputs = {
            "prompt": PROMPT,
            "aspect_ratio": "1:1",
            "guidance": 3.0,
            "steps": 50,
            "seed": next(_seeds),
            "prompt_upsampling": False,
            "input_image": [f"photo{number}", 0],
        }
        graph[f"photo{number}"] = {"class_type": "LoadImage", "inputs": {"image": image}}
        graph[f"edit{number}"] = {"class_type": "FluxKontextProImageNode", "inputs": inputs}
        graph[f"seen{number}"] = {"class_type": "PreviewAny", "inputs": {"source": [f"edit{number}", 0]}}
    return graph


def chains_graph(images: Sequence[str]) -> Graph:
    """The same with our nodes: one chain an image."""
    graph: Graph = {"params": _params()}
    for number, image in enumerate(images):
        graph[f"photo{number}"] = {"class_type": "LoadImage", "inputs": {"image": image}}
        _edit(graph, str(number), [f"photo{number}", 0])
    return graph


def batch_graph(images: Sequence[str], variations: int = 1) -> Graph:
    """Ours, the short way: the images as one batch through one chain."""
    graph: Graph = {"params": _params()}
    for number, image in enumerate(images):
        graph[f"photo{number}"] = {"class_type": "LoadImage", "inputs": {"image": image}}
    last: list[Any] = ["photo0", 0]
    for number in range(1, len(images)):
        inputs = {"image1": last, "image2": [f"photo{number}", 0]}
        graph[f"batch{number}"] = {"class_type": "ImageBatch", "inputs": inputs}
        last = [f"batch{number}", 0]
    _edit(graph, "", last, variations)
    return graph


def text_graph() -> Graph:
    """One picture from the prompt alone."""
    graph: Graph = {"params": _params()}
    _edit(graph, "", None)
    return graph


def _params() -> dict[str, Any]:
    inputs = {
        "model": "flux-kontext-pro",
        "aspect_ratio": "1:1",
        "output_format": "png",
        "enable_translation": True,
        "prompt_upsampling": False,
        "safety_tolerance": 2,
        "watermark": "",
    }
    return {"class_type": "RivyaKontextParams", "inputs": inputs}


def _edit(graph: Graph, name: str, image: list[Any] | None, variations: int = 1) -> None:
    edit: dict[str, Any] = {
        "prompt": PROMPT,
        "seed": next(_seeds) % 2**31,
        "variations": variations,
        "params": ["params", 0],
        "on_failure": "raise",
        "timeout_s": 900,
        "client_request_id": "",
    }
    if image is not None:
        upload = {"image": image, "encoding": "auto"}
        graph[f"reference{name}"] = {"class_type": "RivyaUploadReference", "inputs": upload}
        edit["reference"] = [f"reference{name}", 0]
    graph[f"edit{name}"] = {"class_type": "RivyaSubmitAndWait", "inputs": edit}
    graph[f"seen{name}"] = {"class_type": "PreviewAny", "inputs": {"source": [f"edit{name}", 0]}}


def moment(finished: Finished, name: str) -> float:
    """When ComfyUI sent that status message, seconds since the epoch."""
    message = finished.message(name)
    if message is None:
        raise AssertionError(f"no {name}: {finished.entry['status']}")
    return float(message["timestamp"]) / 1000


def wall(finished: Finished) -> float:
    """Seconds from the start of the prompt to its success."""
    return moment(finished, "execution_success") - moment(finished, "execution_start")
