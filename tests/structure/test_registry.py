"""Ready for the registry: what its own tools and the scanners that people run say of what is handed out."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from support.archive import pack, packed_files
from support.sources import ROOT, listed_files

pytestmark = [pytest.mark.long, pytest.mark.timeout(600), pytest.mark.xdist_group("registry")]


@pytest.fixture(scope="module")
def tools(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the tools' programs, in an environment of their own."""
    folder = tmp_path_factory.mktemp("registry") / "venv"
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    programs = folder / ("Scripts" if sys.platform == "win32" else "bin")
    requirements = ROOT / "devtools" / "requirements" / "registry.txt"
    subprocess.run([programs / "python", "-m", "pip", "install", "-q", "-r", requirements], check=True)
    return programs


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project as it is now, as a repository of its own: what is packed is what git tracks."""
    folder = tmp_path_factory.mktemp("repository") / "rivya-nodes"
    for path in listed_files():
        target = folder / path.relative_to(ROOT)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(path.read_bytes())
    for command in (["init", "-q"], ["add", "-A"]):
        subprocess.run(["git", *command], cwd=folder, check=True)
    return folder


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("unpacked")
    pack(folder / "node.zip")
    with zipfile.ZipFile(folder / "node.zip") as archive:
        archive.extractall(folder / "rivya-nodes")
    return folder / "rivya-nodes"


def run(program: Path, *arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([str(program), *arguments], cwd=cwd, capture_output=True, text=True)


def test_the_registry_s_tool_finds_nothing_wrong(tools: Path, repository: Path) -> None:
    done = run(tools / "comfy", "--skip-prompt", "--no-enable-telemetry", "node", "validate", cwd=repository)
    said = done.stdout + done.stderr
    assert done.returncode == 0, said
    assert "All validation checks passed" in said
    assert "warning" not in said.lower()


def test_the_registry_s_tool_packs_what_the_tests_install(tools: Path, repository: Path) -> None:
    done = run(tools / "comfy", "--skip-prompt", "--no-enable-telemetry", "node", "pack", cwd=repository)
    assert done.returncode == 0, done.stdout + done.stderr
    with zipfile.ZipFile(repository / "node.zip") as archive:
        packed = {name for name in archive.namelist() if not name.endswith("/")}
    assert packed == {path.relative_to(ROOT).as_posix() for path in packed_files()}


def test_bandit_finds_nothing(tools: Path, unpacked: Path) -> None:
    done = run(
        tools / "bandit", "-q", "-r", "-f", "json", "-c", str(ROOT / "pyproject.toml"), ".", cwd=unpacked
    )
    found = [
        f"{x['filename']}:{x['line_number']} {x['issue_text']}" for x in json.loads(done.stdout)["results"]
    ]
    assert not found


# nodesafe looks for spellings. What it finds of ours, each with what it is:
HARMLESS = {
    "code_obfuscation_high_entropy": "",  # sentences and SQL, whose letters are more even than its limit allows
    "code_obfuscation_suspicious_ident": "",  # short names
    "dynamic_attribute_access": "getattr(client, name)",  # the library's face is loaded at first use
}


def test_nodesafe_finds_nothing_but_what_is_explained(tools: Path, unpacked: Path) -> None:
    done = run(tools / "nodesafe", "scan", ".", "--format", "json", cwd=unpacked)
    said = json.loads(done.stdout)
    assert said["verdict"]["label"] != "malicious"
    assert not [
        f"{one['file']}:{one['line']} {one['title']}"
        for one in said["findings"]
        if one["category"] not in HARMLESS or HARMLESS[one["category"]] not in one["snippet"]
    ]
