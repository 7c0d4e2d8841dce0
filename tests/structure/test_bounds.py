"""The bounds of what we depend on: the library passes its tests with the oldest versions that we allow, and is
installed by pip as what it says."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from support.sources import ROOT

pytestmark = [pytest.mark.long, pytest.mark.timeout(900), pytest.mark.xdist_group("bounds")]

# The lower bounds of pyproject.toml, and of what it does not name the oldest that this Python has builds of.
OLDEST = {
    (3, 10): [
        "httpx[socks]==0.27.0",
        "httpcore==1.0.3",
        "truststore==0.9.0",
        "pillow==10.3.0",
        "numpy==1.25.0",
    ],
    (3, 11): [
        "httpx[socks]==0.27.0",
        "httpcore==1.0.3",
        "truststore==0.9.0",
        "pillow==10.3.0",
        "numpy==1.25.0",
    ],
    (3, 12): [
        "httpx[socks]==0.27.0",
        "httpcore==1.0.3",
        "truststore==0.9.0",
        "pillow==10.3.0",
        "numpy==1.26.0",
    ],
    (3, 13): [
        "httpx[socks]==0.27.0",
        "httpcore==1.0.3",
        "truststore==0.9.0",
        "pillow==11.0.0",
        "numpy==2.1.0",
    ],
}
NEWEST = ["httpx[socks]>=0.27,<1", "truststore", "pillow", "numpy"]


def environment(folder: Path, *requirements: str) -> Path:
    """A new environment with these packages; gives its Python."""
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    python = folder / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")
    subprocess.run([python, "-m", "pip", "install", "-q", *requirements], check=True)
    return python


@pytest.mark.parametrize("bounds", ["oldest", "newest"])
def test_the_library_works_at_both_ends_of_its_bounds(tmp_path: Path, bounds: str) -> None:
    requirements = ROOT / "devtools" / "requirements"
    chosen = OLDEST[sys.version_info[:2]] if bounds == "oldest" else NEWEST
    tools = ["pytest", "pytest-timeout", "hypothesis", "psutil", "websockets"]
    python = environment(tmp_path / "venv", *chosen, *tools, "-r", str(requirements / "sandbox.txt"))
    folders = ["tests/network", "tests/ledger", "tests/policy"]
    done = subprocess.run(
        [python, "-m", "pytest", "-q", "-p", "no:cacheprovider", *folders],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]


def test_pip_installs_the_library_and_nothing_else(tmp_path: Path) -> None:
    python = environment(tmp_path / "venv", str(ROOT))
    shown = subprocess.run(
        [python, "-m", "pip", "show", "-f", "rivya-nodes"], capture_output=True, text=True, check=True
    )
    files = [line.strip() for line in shown.stdout.split("Files:")[1].splitlines() if line.strip()]
    assert {name.replace(os.sep, "/").split("/")[0].split("-")[0] for name in files} == {
        "..",  # the command
        "rivya",
        "rivya_nodes",
    }
    assert [name for name in files if name.startswith("..")] == ["../../../bin/rivya"] or os.name == "nt"
    program = "import rivya, sys; print(rivya.__version__); assert not {'nodes', 'httpx'} & set(sys.modules)"
    subprocess.run([python, "-c", program], cwd=tmp_path, check=True)
