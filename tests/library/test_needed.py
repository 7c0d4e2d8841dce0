"""Packages that are not installed: one sentence with a command that works, on the node, in Settings, in a terminal."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from support.comfy import comfyui_folder
from support.loading import BESIDE_COMFYUI
from support.sources import ROOT

pytestmark = pytest.mark.heavy

REQUIREMENTS = shlex.quote(str(ROOT / "requirements.txt"))


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Python that has no packages at all, not even pip."""
    folder = tmp_path_factory.mktemp("bare")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    return folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def run(python: Path | str, *words: str, **changes: str) -> subprocess.CompletedProcess[str]:
    env = {n: v for n, v in os.environ.items() if n != "PYTHONPATH" and not n.startswith("RIVYA_")}
    return subprocess.run(
        [str(python), *words], capture_output=True, text=True, env=env | changes, timeout=90
    )


@pytest.mark.parametrize("words", [("credits",), ("edit", "--text", "a boat"), ("orders",), ("collect",)])
def test_the_command_line_says_how_to_install_what_is_missing(
    words: tuple[str, ...], bare: Path, tmp_path: Path
) -> None:
    done = run(bare, str(ROOT), *words, RIVYA_HOME=str(tmp_path), RIVYA_API_KEY="rvya_sk_1")
    assert done.returncode == 1
    assert done.stderr.startswith("httpx, numpy and pillow are not installed in this Python: run ")
    assert f"{bare} -m pip install -r {REQUIREMENTS} numpy pillow and start again." in done.stderr
    assert "Traceback" not in done.stderr
    assert run(bare, str(ROOT), "--help").returncode == 0


def test_a_program_is_told_the_same_and_only_what_is_missing_is_installed(bare: Path, tmp_path: Path) -> None:
    start = f"import sys; sys.path[:0] = [{str(ROOT)!r}, *sys.argv[1:]]; import rivya;"
    for call in ("rivya.credits()", "rivya.edit('a boat')", "rivya.stitch('a.png', 'b.png')"):
        done = run(bare, "-c", start + call)
        assert "ConfigurationError: httpx, numpy and pillow are not installed" in done.stderr, done.stderr
    (tmp_path / "httpx.py").touch()
    done = run(bare, "-c", start + "rivya.credits()", str(tmp_path))
    assert "numpy and pillow are not installed in this Python" in done.stderr
    assert "pip install numpy pillow and start again." in done.stderr


def test_where_pip_was_left_out_uv_or_ensurepip_is_named(bare: Path, tmp_path: Path) -> None:
    program = f"import sys; sys.path[:0] = [{str(ROOT)!r}]; from rivya import needed; print(needed.problem())"
    assert f"run {bare} -m ensurepip && {bare} -m pip install -r" in run(bare, "-c", program).stdout
    (tmp_path / "uv").touch(mode=0o755)
    told = run(bare, "-c", program, PATH=str(tmp_path)).stdout
    assert f"run uv pip install --python {bare} -r {REQUIREMENTS} numpy pillow and" in told


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="runs the command in a POSIX shell")
def test_the_command_is_one_that_pip_takes(tmp_path: Path) -> None:
    program = f"import sys; sys.path[:0] = [{str(ROOT)!r}]; from rivya import commands as c; " + (
        "print(c.install(['httpx'])); print(c.install(['httpx', 'numpy'])); print(c.install(['numpy']))"
    )
    for command in run(sys.executable, "-c", program).stdout.splitlines():
        assert command.startswith(f"{shlex.quote(sys.executable)} -m pip install ")
        asked = subprocess.run(
            f"{command} --dry-run --no-index", shell=True, cwd=tmp_path, capture_output=True, text=True
        )
        assert asked.returncode == 0, asked.stderr


# A Python that has no httpx: the pack loads, runs a node and answers the route behind Settings.
IN_COMFYUI = (
    BESIDE_COMFYUI
    + """
from types import SimpleNamespace
for name in [name for name in sys.modules if name.split(".")[0] == "httpx"]:
    del sys.modules[name]
sys.modules["httpx"] = None
module = load("pack")

async def told():
    nodes = await nodes_of(module)
    given = {
        "RivyaSubmitAndWait": {"prompt": "a boat", "seed": 0, "variations": 1},
        "RivyaUploadReference": {"image": None},
        "RivyaCollectTasks": {"task_ids": ""},
        "RivyaCredits": {},
    }
    for node in nodes:
        name = node.GET_SCHEMA().node_id
        if name in given:
            node.hidden = SimpleNamespace(dynprompt=None, unique_id="1", prompt={}, extra_pnginfo=None)
            try:
                await node.execute(**given[name])
            except Exception as error:
                yield name, str(error)
    route = sys.modules["pack.nodes.settings_route"]
    yield "status", (await route._status({}))["problem"]
    try:
        await route._check({})
    except Exception as error:
        yield "check", error.message

async def main():
    print("TOLD" + json.dumps({name: text async for name, text in told()}))

asyncio.run(main())
"""
)


@pytest.mark.slow
def test_the_nodes_load_and_say_it_and_so_does_settings(tmp_path: Path) -> None:
    done = run(
        sys.executable, "-c", IN_COMFYUI, str(comfyui_folder()), str(ROOT), RIVYA_HOME=str(tmp_path / "state")
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout.split("TOLD")[1])
    assert set(told) == {
        *("RivyaSubmitAndWait", "RivyaUploadReference", "RivyaCollectTasks", "RivyaCredits"),
        *("status", "check"),
    }
    command = f"{shlex.quote(sys.executable)} -m pip install -r {REQUIREMENTS}"
    sentence = f"httpx is not installed in this Python: run {command} and start again."
    assert [text for text in told.values() if not text.startswith(sentence)] == []
