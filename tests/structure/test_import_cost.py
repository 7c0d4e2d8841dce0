"""Importing the pack costs next to nothing: no network, no disk, no HTTP client, and little time."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

from support.comfy import comfyui_folder
from support.sources import ROOT

pytestmark = pytest.mark.xdist_group("import")

BUDGET = 1.25
"""Processor time to load the pack, as a multiple of a million steps of a plain loop beside it (40 ms or so)."""

# Loads what ComfyUI has loaded by itself when it comes to its custom nodes, then the pack as ComfyUI does.
PROGRAM = """
import asyncio, importlib.util, json, sys, time
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
before, seen = set(sys.modules), []
QUIET = ("sqlite3", "subprocess", "urllib", "os.mkdir", "os.rename", "socket.connect", "socket.getaddrinfo")

def hook(event, args):
    if event == "open" and ".pyc" not in str(args[0]) and "w" in str(args[1]):
        seen.append(f"open {args[0]}")
    elif event in QUIET or event.split(".")[0] in QUIET:
        seen.append(event)

async def nodes():
    return await (await module.comfy_entrypoint()).get_node_list()

sys.addaudithook(hook)
for _ in range(5):
    loop = time.process_time()
    sum(step for step in range(1_000_000) if step % 3)
    loop = time.process_time() - loop
    cpu = time.process_time()
    spec = importlib.util.spec_from_file_location(
        "the/pack", pack + "/__init__.py", submodule_search_locations=[pack]
    )
    module = importlib.util.module_from_spec(spec)
    sys.modules["the/pack"] = module
    spec.loader.exec_module(module)
    names = sorted(vars(module))
    schemas = [node.GET_SCHEMA() for node in asyncio.run(nodes())]
    cpu = time.process_time() - cpu
    new = sorted(set(sys.modules) - before)
    assert len(schemas) == 8
    print("RESULT" + json.dumps({"cpu": cpu, "loop": loop, "modules": new, "events": seen, "names": names}))
    for name in new:  # so that the next round loads all of it again
        del sys.modules[name]
"""


def load_pack() -> list[dict[str, Any]]:
    """Load ComfyUI once, and the pack five times beside it."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(comfyui_folder()), str(ROOT)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.split("RESULT")[1:]]


@pytest.fixture(scope="module")
def loads() -> list[dict[str, Any]]:
    return load_pack()


def test_the_pack_loads_within_its_budget(loads: list[dict[str, Any]]) -> None:
    # The quickest of five each: what else runs on the machine is not the pack's.
    assert len(loads) == 5
    assert min(load["cpu"] for load in loads) < BUDGET * min(load["loop"] for load in loads)


@pytest.mark.parametrize(
    "name", ["httpx", "httpcore", "h11", "anyio", "psycopg", "obstore", "ray", "pyarrow"]
)
def test_what_is_heavy_is_loaded_at_first_use(loads: list[dict[str, Any]], name: str) -> None:
    assert name not in loads[0]["modules"]


def test_loading_touches_neither_network_nor_disk(loads: list[dict[str, Any]]) -> None:
    assert loads[0]["events"] == []


def test_comfyui_sees_an_entry_point_and_a_web_folder_and_nothing_else(loads: list[dict[str, Any]]) -> None:
    names = {name for name in loads[0]["names"] if not name.startswith("__")}
    assert {"comfy_entrypoint", "WEB_DIRECTORY"} <= names
    assert names <= {"comfy_entrypoint", "WEB_DIRECTORY", "annotations", "nodes"}
