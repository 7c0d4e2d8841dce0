"""``python dev.py bench``: hands over to ``benchmarks/`` in the environment that it needs."""

from __future__ import annotations

import os
import subprocess

from .comfyui import ROOT
from .environment import PYTHON, comfyui_folder, ensure_environment, take_comfyui

_RUN = "import sys; from benchmarks.{module} import main; sys.exit(main(sys.argv[1:]))"

_ALONE = ("pixels", "stitch", "bulk", "ledger")


def main(arguments: list[str]) -> int:
    """``--pixels``: how fast pictures are made and read; ``--stitch``: how well edits are put back; ``--bulk``: jobs
    of many pictures; ``--ledger``: what an order costs in each database; else: whole edits beside ComfyUI's own
    Kontext node.

    ``--comfyui DIR`` does it in that ComfyUI.
    """
    chosen, arguments = take_comfyui(arguments)
    folder = comfyui_folder(chosen)
    ensure_environment(folder, ("test", "bench"))
    module = next((name for name in _ALONE if f"--{name}" in arguments), "run")
    rest = [argument for argument in arguments if argument.removeprefix("--") not in _ALONE]
    command = [str(PYTHON), "-c", _RUN.format(module=module), *rest]
    env = {**os.environ, "COMFYUI_DIR": str(folder)}
    if module == "stitch":
        env["OMP_NUM_THREADS"] = "1"  # CPU times are of one thread
    return subprocess.run(command, cwd=ROOT, env=env).returncode
