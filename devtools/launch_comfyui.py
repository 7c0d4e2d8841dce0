"""Start a ComfyUI with a torch that has no torchvision or torchaudio built for it.

    python launch_comfyui.py FOLDER [arguments of ComfyUI's main.py]

The compiled parts of both fit one build of torch only. Beside another one (a build without CUDA, say) the import of
torchvision fails over two operators that it cannot declare. They are declared here with their schema, which is enough
for everything that ComfyUI imports; to call them would fail, and nothing in a graph of this pack does.

ComfyUI from 0.8 to 0.37 also imports torchaudio, and does not start without it. Where it is missing, empty modules of
its names take its place: nothing here makes a sound, and what tries to is told what is missing.
"""

from __future__ import annotations

import importlib
import os
import runpy
import sys
from importlib.machinery import ModuleSpec
from types import ModuleType

_SCHEMA = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
_keep: list[object] = []  # torch drops a library's declarations together with the object


def declare_missing_operators() -> None:
    """Make ``import torchvision`` work; does nothing where it does."""
    import torch

    try:
        import torchvision  # noqa: F401
    except RuntimeError:
        library = torch.library.Library("torchvision", "DEF")
        for name in ("nms", "qnms"):
            library.define(name + _SCHEMA)
        _keep.append(library)


class _Missing(ModuleType):
    """A module that can be imported, and whose contents say that they are not there when they are called."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.__spec__ = ModuleSpec(name, None, is_package=True)
        self.__path__: list[str] = []

    def __getattr__(self, name: str) -> object:
        if name.startswith("__"):
            raise AttributeError(name)

        def fail(*_: object, **__: object) -> object:
            raise RuntimeError(f"{self.__name__}.{name} was called, but torchaudio is not installed.")

        return fail


def stand_in_for_torchaudio() -> None:
    """Make ``import torchaudio`` work; does nothing where it does."""
    try:
        importlib.import_module("torchaudio")
    except (ImportError, OSError, RuntimeError):  # missing, or built for another torch
        for name in [name for name in sys.modules if name.partition(".")[0] == "torchaudio"]:
            del sys.modules[name]  # what an import that broke off has left
        package = _Missing("torchaudio")
        sys.modules["torchaudio"] = package
        for name in ("functional", "transforms"):
            part = sys.modules[f"torchaudio.{name}"] = _Missing(f"torchaudio.{name}")
            setattr(package, name, part)


def main() -> None:
    folder = os.path.abspath(sys.argv[1])
    script = os.path.join(folder, "main.py")
    sys.argv = [script, *sys.argv[2:]]
    sys.path[0] = folder
    declare_missing_operators()
    stand_in_for_torchaudio()
    runpy.run_path(script, run_name="__main__")


if __name__ == "__main__":
    main()
