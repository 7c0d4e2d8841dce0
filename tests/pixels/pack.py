"""The pack's tensor module, which only lives inside a package of ComfyUI's choosing; here without ComfyUI."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

ROOT = Path(__file__).resolve().parents[2]


def _folder(name: str, path: Path) -> None:
    """A package without its ``__init__.py``, which would ask for ComfyUI."""
    if name not in sys.modules:
        module = ModuleType(name)
        module.__path__ = [str(path)]
        sys.modules[name] = module


_folder("rivya_pixels_pack", ROOT)
_folder("rivya_pixels_pack.nodes", ROOT / "nodes")
tensors = import_module("rivya_pixels_pack.nodes.tensors")
ValidationError = tensors.ValidationError
ImageError = import_module("rivya_pixels_pack.rivya.errors").ImageError


def to_batches(files: Sequence[bytes], **wanted: Any) -> Any:
    """Decode files one after the other; ``wanted``: the device and dtype of `tensors.Plan.finish`."""
    plan = tensors.Plan(files)
    for number in range(len(plan.places)):
        plan.decode(number)
    return plan.finish(**{"device": "cpu", "dtype": torch.float32, **wanted})
