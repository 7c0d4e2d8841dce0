"""The pack loaded as ComfyUI loads it, without a server: for programs that a test runs in a process of their own."""

from __future__ import annotations

BESIDE_COMFYUI = """
import asyncio, importlib.util, json, sys
folder, pack = sys.argv[1:3]
sys.path.insert(0, pack)
from devtools.launch_comfyui import declare_missing_operators, stand_in_for_torchaudio
declare_missing_operators()
stand_in_for_torchaudio()
sys.argv[1:] = ["--cpu"]
sys.path[0] = folder
import comfy.options
comfy.options.enable_args_parsing()
import utils.extra_config, server, comfy_api.latest, comfy_api.v0_0_2, comfy_execution.utils, folder_paths

def load(name):
    spec = importlib.util.spec_from_file_location(
        name, pack + "/__init__.py", submodule_search_locations=[pack]
    )
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module

async def nodes_of(module):
    return await (await module.comfy_entrypoint()).get_node_list()
"""
"""The head of such a program: loads what ComfyUI has loaded by itself when it comes to its custom nodes.

Arguments: ComfyUI's folder and the pack's. Gives ``load`` and ``nodes_of`` to what follows.
"""
