"""Start a ComfyUI with a torch that has no torchvision built for it.

    python launch_comfyui.py FOLDER [arguments of ComfyUI's main.py]

torchvision's compiled part fits one build of torch only. Beside another one (a build without CUDA, say) its import
fails over two operators that it cannot declare. They are declared here with their schema, which is enough for
everything that ComfyUI imports; to call them would fail, and nothing in a graph of this pack does.
"""

from __future__ import annotations

import os
import runpy
import sys

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


def main() -> None:
    folder = os.path.abspath(sys.argv[1])
    script = os.path.join(folder, "main.py")
    sys.argv = [script, *sys.argv[2:]]
    sys.path[0] = folder
    declare_missing_operators()
    runpy.run_path(script, run_name="__main__")


if __name__ == "__main__":
    main()
