"""The pack's modules as ComfyUI has them: in a package of its choosing, beside ComfyUI's own. No server runs here."""

from __future__ import annotations

import sys
from importlib import import_module
from pkgutil import walk_packages
from types import ModuleType

import rivya
from devtools.launch_comfyui import declare_missing_operators
from support.comfy import comfyui_folder
from support.sources import ROOT

PACK = "rivya_nodes_pack"


def _comfyui() -> None:
    """ComfyUI's modules, as they are on a machine without a graphics card."""
    declare_missing_operators()
    sys.path.append(str(comfyui_folder()))
    import comfy.options

    comfy.options.enable_args_parsing(False)
    from comfy.cli_args import args

    args.cpu = True


def _package(name: str, folder: str) -> None:
    module = ModuleType(name)
    module.__path__ = [folder]
    sys.modules[name] = module


def _only_ray_may_be_missing(name: str) -> None:
    """Called in the handler of an error that importing a package has raised."""
    if name != "rivya.ray":
        raise


def _load() -> None:
    if PACK in sys.modules:
        return
    _comfyui()
    _package(PACK, str(ROOT))
    _package(f"{PACK}.nodes", str(ROOT / "nodes"))
    # One library for both: what the nodes take for an error of ours is what the tests take for one.
    sys.modules[f"{PACK}.rivya"] = rivya
    for found in walk_packages(rivya.__path__, "rivya.", _only_ray_may_be_missing):
        if found.name != "rivya.__main__" and not found.name.startswith("rivya.ray"):
            sys.modules[f"{PACK}.{found.name}"] = import_module(found.name)


_load()
collect_tasks = import_module(f"{PACK}.nodes.collect_tasks")
outputs = import_module(f"{PACK}.nodes.outputs")
host = import_module(f"{PACK}.nodes.host")
limits = import_module(f"{PACK}.nodes.limits")
notes = import_module(f"{PACK}.nodes.notes")
progress = import_module(f"{PACK}.nodes.progress")
submit_and_wait = import_module(f"{PACK}.nodes.submit_and_wait")
waiting = import_module(f"{PACK}.nodes.waiting")
