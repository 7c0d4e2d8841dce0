"""Commands that a person copies: they run with an embedded Python, from any folder, and find the right state folder."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from support.archive import pack
from support.comfy import eventually
from support.sources import ROOT

Run = Callable[..., "subprocess.CompletedProcess[str]"]
EMBEDDED = (["-P"] if sys.version_info >= (3, 11) else ["-I"], ["-I"])
"""Flags of a Python that looks for modules neither in the current folder nor beside a script."""

pytestmark = [
    pytest.mark.heavy,
    pytest.mark.skipif(os.name != "posix", reason="runs the commands in a POSIX shell"),
]


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """The pack as the registry hands it out, in a ComfyUI whose path has a space."""
    folder = tmp_path / "my ComfyUI" / "custom_nodes" / "rivya-nodes"
    (tmp_path / "my ComfyUI" / "user").mkdir(parents=True)
    pack(tmp_path / "node.zip")
    with zipfile.ZipFile(tmp_path / "node.zip") as archive:
        archive.extractall(folder)
    return folder


@pytest.fixture
def terminal(tmp_path: Path) -> Run:
    """Runs a command line in a folder of its own, as a person's terminal does: it knows none of our settings."""
    folder = tmp_path / "terminal"
    folder.mkdir()

    def run(command: str | list[str], **settings: str) -> subprocess.CompletedProcess[str]:
        env = {n: v for n, v in os.environ.items() if n != "PYTHONPATH" and not n.startswith("RIVYA_")}
        env = {n: v for n, v in env.items() if "proxy" not in n.lower()} | settings
        return subprocess.run(
            command,
            shell=isinstance(command, str),
            cwd=folder,
            env=env,
            capture_output=True,
            text=True,
            timeout=90,
        )

    return run


def settings_of(service: Any, home: Path, **more: Any) -> None:
    home.mkdir(parents=True, mode=0o700, exist_ok=True)
    settings = {"api_key": service.key, "base_url": service.url, **more}
    (home / "config.json").write_text(json.dumps(settings))
    (home / "config.json").chmod(0o600)


@pytest.mark.parametrize("flags", EMBEDDED)
@pytest.mark.slow
def test_an_embedded_python_runs_the_folder_of_the_pack_with_the_ledger_of_its_comfyui(
    flags: list[str], terminal: Run, installed: Path, service: Any
) -> None:
    home = installed.parents[1] / "user" / "__rivya"
    settings_of(service, home)
    done = terminal([sys.executable, *flags, str(installed), "edit", "--text", "a boat"])
    assert done.returncode == 0, done.stderr
    assert (home / "ledger.sqlite3").exists()
    assert "delivered" in terminal([sys.executable, *flags, str(installed), "orders"]).stdout
    assert f"usage: python '{installed}'" in terminal([sys.executable, *flags, str(installed), "-h"]).stdout


@pytest.mark.parametrize("flags", EMBEDDED)
def test_the_tools_of_a_clone_start_with_an_embedded_python_too(flags: list[str], terminal: Run) -> None:
    for tool in ("sandbox", "dev.py"):
        done = terminal([sys.executable, *flags, str(ROOT / tool), "--help"])
        assert done.returncode == 0, done.stderr


LOSE = """
import os, sys
sys.path.insert(0, sys.argv[1])
import rivya
from rivya.errors import RivyaError
try:
    rivya.edit(sys.argv[2])
except RivyaError as error:
    print(error.hint)
"""


@pytest.mark.parametrize("place", ["user", "moved away"])
@pytest.mark.slow
def test_the_command_in_an_error_works_in_any_terminal_as_it_stands(
    place: str, terminal: Run, installed: Path, service: Any, tmp_path: Path
) -> None:
    """Also for a state folder that only the ComfyUI that shows the error knows."""
    home = (installed.parents[1] / "user" if place == "user" else tmp_path / place) / "__rivya"
    settings_of(service, home, conflict_wait_s=0)
    service.fault("create", "status", status=409, code="idempotency_conflict", times=None)
    named = {} if place == "user" else {"RIVYA_HOME": str(home)}
    lost = terminal([sys.executable, "-P", "-c", LOSE, str(installed), "a boat"], **named)
    command = re.search(r"forget the order \((.*)\) to buy", lost.stdout)
    assert command is not None, lost.stdout + lost.stderr
    done = terminal(command[1])
    assert done.returncode == 0, done.stderr
    assert "Forgotten" in done.stdout


def test_what_an_order_needs_that_rivya_has_accepted_is_a_command_that_works_as_it_stands(
    terminal: Run, installed: Path, service: Any, tmp_path: Path
) -> None:
    home = tmp_path / "elsewhere"
    settings_of(service, home)
    start = [sys.executable, str(installed), "--home", str(home)]
    service.fault("create", "latency", seconds=60)
    begun = subprocess.Popen([*start, "edit", "--text", "a boat"], cwd=tmp_path)
    service.wait("create", timeout=60)
    task = service.tasks()[-1]["id"]
    # The first question is asked once the ledger has the task. An order of an earlier test may still ask for its own.
    eventually(lambda: any(task in entry["path"] for entry in service.requests("status")), "it is asked for")
    begun.kill()
    begun.wait()
    kept = terminal([*start, "forget", task])
    assert kept.returncode == 1
    give_up = re.search(r"credits\. (.*) gives it up", kept.stderr)
    assert give_up is not None, kept.stderr
    assert "Forgotten" in terminal(give_up[1]).stdout


@pytest.mark.slow
def test_an_installed_library_gives_a_command_and_names_one_that_it_has(
    terminal: Run, installed: Path, tmp_path: Path
) -> None:
    """Installed as pip does it, by the build backend, into a folder; no package registry is asked."""
    place = tmp_path / "site"
    made = terminal(
        [
            *(sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation"),
            *("--target", str(place), str(installed)),
        ]
    )
    if "No module named 'setuptools" in made.stderr or "BackendUnavailable" in made.stderr:
        pytest.skip("needs setuptools in this environment")
    assert made.returncode == 0, made.stderr
    assert [path.name for path in (place / "bin").iterdir()] == ["rivya"]
    found = {"PYTHONPATH": str(place), "RIVYA_HOME": str(tmp_path / "state")}
    started = terminal([str(place / "bin" / "rivya"), "orders"], **found)
    assert started.stdout == "No orders yet.\n", started.stderr
    assert "usage: rivya " in terminal([str(place / "bin" / "rivya"), "-h"], **found).stdout
    told = terminal(
        [sys.executable, "-c", "from rivya import commands; print(commands.own('orders'))"], **found
    )
    assert told.stdout.endswith(" -m rivya orders\n")
    assert terminal(told.stdout, **found).stdout == "No orders yet.\n"
