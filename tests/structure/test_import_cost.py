"""Importing the pack costs next to nothing: no network, no disk, no HTTP client, and little time."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

from support.comfy import comfyui_folder
from support.loading import BESIDE_COMFYUI
from support.sources import ROOT

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("import")]

BUDGET = 1.25
"""Processor time to load the pack, as a multiple of a million steps of a plain loop beside it (40 ms or so)."""

# The pack, five times beside ComfyUI.
PROGRAM = (
    BESIDE_COMFYUI
    + """
import time
before, seen = set(sys.modules), []
QUIET = ("sqlite3", "subprocess", "urllib", "os.mkdir", "os.rename", "socket.connect", "socket.getaddrinfo")

def hook(event, args):
    if event == "open" and ".pyc" not in str(args[0]) and "w" in str(args[1]):
        seen.append(f"open {args[0]}")
    elif event in QUIET or event.split(".")[0] in QUIET:
        seen.append(event)

sys.addaudithook(hook)
for _ in range(5):
    loop = time.process_time()
    sum(step for step in range(1_000_000) if step % 3)
    loop = time.process_time() - loop
    cpu = time.process_time()
    module = load("the/pack")
    names = sorted(vars(module))
    schemas = [node.GET_SCHEMA() for node in asyncio.run(nodes_of(module))]
    cpu = time.process_time() - cpu
    new = sorted(set(sys.modules) - before)
    assert len(schemas) == 8
    print("RESULT" + json.dumps({"cpu": cpu, "loop": loop, "modules": new, "events": seen, "names": names}))
    for name in new:  # so that the next round loads all of it again
        del sys.modules[name]
"""
)


def load_pack() -> list[dict[str, Any]]:
    """Load ComfyUI once, and the pack five times beside it."""
    # -B: what is imported for the first time would else be written as byte code.
    done = subprocess.run(
        [sys.executable, "-B", "-c", PROGRAM, str(comfyui_folder()), str(ROOT)],
        capture_output=True,
        text=True,
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
