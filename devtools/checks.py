"""``python dev.py test``: the whole check, from linters to a graph in a real ComfyUI and a real browser."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from .comfyui import ROOT, link_folder
from .environment import (
    DEV,
    PYTHON,
    comfyui_folder,
    ensure_environment,
    ensure_newest_frontend,
    take_comfyui,
)
from .report import StepFailed, say, step

_TYPING = DEV / "typing"
_PACKAGE = "rivya_nodes"
# Three at once on two cores: much of the time is spent waiting. What fails beside two others, with real processes and a
# real browser about, is tried once more; the closing line counts such reruns, so that they stay in sight.
_TOGETHER = ("-n", "3", "--dist", "loadgroup", "--reruns", "1", "--durations", "10")
# Playwright leaves its event loop running in the thread of the tests, where no other test could start one.
_ALONE = ("--reruns", "1", "--durations", "10")
# The default looks with the newest frontend at what people see first: tests/browser/test_everywhere.py.
_NEWEST = "pytest in a real browser, with the newest frontend"
_CHROMIUM_NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
_CHROMIUM_PLACES = (
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
    "/Applications/Chromium.app/Contents/MacOS/Chromium",
    r"C:\Program Files\Google\Chrome\Application\chrome.exe",
)


def main(arguments: list[str]) -> int:
    """Run all checks; with arguments for pytest (``--full`` aside) pytest alone. 0 when all passed."""
    named, arguments = take_comfyui(arguments)
    full = "--full" in arguments
    chosen = [argument for argument in arguments if argument != "--full"]
    folder = comfyui_folder(named)
    ensure_environment(folder, ("test",))
    ensure_newest_frontend()
    env = {**os.environ, "COMFYUI_DIR": str(folder), "CHROMIUM": _ensure_chromium()}
    pytest = [str(PYTHON), "-m", "pytest", *(["--full"] if full else [])]
    if chosen:
        return subprocess.run([*pytest, *chosen], cwd=ROOT, env=env).returncode
    checks = [
        ("ruff check", [str(PYTHON), "-m", "ruff", "check"], ROOT),
        ("ruff format --check", [str(PYTHON), "-m", "ruff", "format", "--check"], ROOT),
        ("mypy --strict on rivya and nodes", _mypy(), _TYPING),
        ("pytest", [*pytest, "-m", "not browser", *_TOGETHER], ROOT),
        ("pytest in a real browser", [*pytest, "-m", "browser", *_ALONE], ROOT),
    ]
    failed = [name for name, command, cwd in checks if not _passes(name, command, cwd, env)]
    newest = [*pytest, "-m", "browser", *_ALONE, "tests/browser"]
    if full and not _passes(_NEWEST, newest, ROOT, {**env, "RIVYA_TEST_FRONTEND": "newest"}):
        failed.append(_NEWEST)
    say(f"\nFailed: {', '.join(failed)}" if failed else "\nAll checks passed.")
    return 1 if failed else 0


def _passes(name: str, command: Sequence[str], cwd: Path, env: Mapping[str, str]) -> bool:
    say(f"- {name}")
    started = time.monotonic()
    passed = subprocess.run(list(command), cwd=cwd, env=dict(env)).returncode == 0
    say(f"    {'passed' if passed else 'FAILED'} ({time.monotonic() - started:.1f} s)")
    return passed


def _mypy() -> list[str]:
    """mypy on the pack under a name that Python takes: the folder of a clone may have a hyphen in its name."""
    _TYPING.mkdir(parents=True, exist_ok=True)
    link_folder(ROOT, _TYPING / _PACKAGE)
    config = ROOT / "pyproject.toml"
    return [
        *(str(PYTHON), "-m", "mypy", "--config-file", str(config)),
        *("-p", f"{_PACKAGE}.rivya", "-p", f"{_PACKAGE}.nodes"),
    ]


def _ensure_chromium() -> str:
    """The path of a Chromium or Chrome; installed from Debian's packages where that can be done."""
    with step("Chromium") as end:
        found = _find_chromium()
        if found:
            end(f"already there: {found}")
            return found
        if sys.platform != "linux" or os.geteuid() != 0 or not shutil.which("apt-get"):
            raise StepFailed(
                "No Chromium or Chrome was found.",
                "Install it, or set CHROMIUM to its path. Without one:\n"
                '  python dev.py test -m "not browser"  with CHROMIUM set to anything.',
            )
        for command in (["apt-get", "update", "-qq"], ["apt-get", "install", "-y", "-qq", "chromium"]):
            done = subprocess.run(command, capture_output=True, text=True, errors="replace")
            if done.returncode != 0:
                raise StepFailed(
                    (done.stdout + done.stderr).strip()[-2000:], "Install Chromium by hand, then run again."
                )
        found = _find_chromium()
        if not found:
            raise StepFailed("Chromium was installed, but is not in the PATH.", "Set CHROMIUM to its path.")
    return found


def _find_chromium() -> str | None:
    named = os.environ.get("CHROMIUM")
    if named:
        return named
    for candidate in (*_CHROMIUM_NAMES, *_CHROMIUM_PLACES):
        if path := shutil.which(candidate):
            return path
    return None
