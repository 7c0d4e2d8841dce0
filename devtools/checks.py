"""``python dev.py test``: the check, from linters to a graph in a real ComfyUI and a real browser.

python dev.py test              linters, types, and all tests but the slow and the long ones
python dev.py test --quick      the linter, and the light tests of the library and the nodes, without ComfyUI: a minute
python dev.py test --rest       the slow tests that the check leaves out
python dev.py test --full       everything, also what takes minutes or installs packages, and all browser tests with the
                                newest frontend; a test that fails at first counts as failed
python dev.py test WORDS        pytest with these words, also with --rest or --full
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import IO

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
_MODES = ("--quick", "--rest", "--full")
_QUICK_FOLDERS = ("ledger", "library", "network", "nodes", "pixels", "policy")
_BROWSER = "tests/browser"
_USUAL = "not (slow or long)"
# Four at once on two cores: much of the time is spent waiting, and each worker collects all tests anew.
_TOGETHER = ("-n", "4", "--dist", "loadgroup", "--durations", "10")
# The browser tests of one frontend beside those of the other, and beside nothing else: Playwright leaves its event loop
# running in the thread of the tests, where no other test could start one.
_BROWSERS = ("-n", "2", "--dist", "loadgroup", "--durations", "10")
# What fails beside others, with real processes and a real browser about, is tried once more; the closing line counts
# such reruns, so that they stay in sight. With --full it stays failed.
_ONCE_MORE = ("--reruns", "1")
# The browser tests of the default look with the newest frontend at what people see first: test_everywhere.py.
_NEWEST = "all browser tests, with the newest frontend"
_CHROMIUM_NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
_CHROMIUM_PLACES = (
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
    "/Applications/Chromium.app/Contents/MacOS/Chromium",
    r"C:\Program Files\Google\Chrome\Application\chrome.exe",
)


@dataclass(frozen=True)
class Check:
    """One command, and the folder that it runs in."""

    name: str
    command: Sequence[str]
    cwd: Path = ROOT


def main(arguments: list[str]) -> int:
    """Run the checks of a mode; with arguments for pytest pytest alone. 0 when all passed."""
    named, arguments = take_comfyui(arguments)
    chosen = [argument for argument in arguments if argument not in _MODES]
    quick, rest, full = (mode in arguments for mode in _MODES)
    folder = comfyui_folder(named)
    ensure_environment(folder, ("test", "long") if full else ("test",))
    env = {**os.environ, "COMFYUI_DIR": str(folder)}
    # Each ComfyUI and each worker would compile everything that it imports anew: seconds, dozens of times.
    env.pop("PYTHONDONTWRITEBYTECODE", None)
    if quick:
        folders = [f"tests/{name}" for name in _QUICK_FOLDERS]
        tests = _pytest(
            "pytest, quick", f"{_USUAL} and not (comfy or heavy)", *_TOGETHER, *_ONCE_MORE, *folders, *chosen
        )
        return _conclude(_in_turn([_ruff("check"), tests], env))
    ensure_newest_frontend()
    env["CHROMIUM"] = _ensure_chromium()
    _ensure_databases()
    if chosen:
        more = ["--full"] if full else ["--slow"] if rest else []
        return subprocess.run([str(PYTHON), "-m", "pytest", *more, *chosen], cwd=ROOT, env=env).returncode
    if rest:
        return _conclude(_rest(env))
    if full:
        return _conclude(_default(env, ()) + _long(env) + _newest(env))
    return _conclude(_default(env, _ONCE_MORE))


def _default(env: Mapping[str, str], again: Sequence[str]) -> list[str]:
    """Run what every change must pass; returns the names of what failed."""
    failed = _in_turn([_ruff("check"), _ruff("format", "--check")], env)
    types = Check("mypy --strict on rivya and nodes", _mypy(), _TYPING)
    browser = _pytest("pytest in a real browser", f"browser and {_USUAL}", *_BROWSERS, *again, _BROWSER)
    tests = _pytest("pytest", f"not browser and {_USUAL}", *_TOGETHER, *again)
    # The browser draws without a graphics card and takes what there is of two cores: not beside tests that keep time.
    return failed + _beside([tests], [types], env) + _in_turn([browser], env)


def _rest(env: Mapping[str, str]) -> list[str]:
    """Run the slow tests; returns the names of what failed."""
    tests = _pytest("slow tests", "slow and not (long or browser)", "--slow", *_TOGETHER, *_ONCE_MORE)
    marks = "browser and slow and not long"
    browser = _pytest("slow tests in a real browser", marks, "--slow", *_BROWSERS, *_ONCE_MORE, _BROWSER)
    return _in_turn([tests, browser], env)


def _long(env: Mapping[str, str]) -> list[str]:
    """Run all that the check leaves out; returns the names of what failed."""
    tests = _pytest("long tests", "not browser and (slow or long)", "--full", *_TOGETHER)
    browser = _pytest(
        "long tests in a real browser", "browser and (slow or long)", "--full", *_BROWSERS, _BROWSER
    )
    return _in_turn([tests, browser], env)


def _newest(env: Mapping[str, str]) -> list[str]:
    """Run all browser tests with the newest frontend; returns the names of what failed."""
    newest = _pytest(_NEWEST, "browser", "--full", *_BROWSERS, _BROWSER)
    return _in_turn([newest], {**env, "RIVYA_TEST_FRONTEND": "newest"})


def _ruff(*words: str) -> Check:
    return Check(f"ruff {' '.join(words)}", [str(PYTHON), "-m", "ruff", *words])


def _pytest(name: str, marks: str, *words: str) -> Check:
    return Check(name, [str(PYTHON), "-m", "pytest", "-m", marks, *words])


def _conclude(failed: Sequence[str]) -> int:
    say(f"\nFailed: {', '.join(failed)}" if failed else "\nAll checks passed.")
    return 1 if failed else 0


def _in_turn(checks: Sequence[Check], env: Mapping[str, str]) -> list[str]:
    return [check.name for check in checks if not _passes(check, env)]


def _beside(shown: Sequence[Check], beside: Sequence[Check], env: Mapping[str, str]) -> list[str]:
    """Run two rows of checks at once; what the second row prints is shown when the first has ended."""
    with (
        tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as told,
        ThreadPoolExecutor(1) as pool,
    ):
        second = pool.submit(lambda: [each.name for each in beside if not _passes(each, env, told)])
        failed = _in_turn(shown, env) + second.result()
        told.seek(0)
        say(told.read())
    return failed


def _passes(check: Check, env: Mapping[str, str], told: IO[str] | None = None) -> bool:
    """Run a check; what it prints goes to the terminal, or into a file."""
    tell: Callable[[str], object] = say if told is None else lambda text: print(text, file=told, flush=True)
    tell(f"- {check.name}")
    started = time.monotonic()
    done = subprocess.run(list(check.command), cwd=check.cwd, env=dict(env), stdout=told, stderr=told)
    passed = done.returncode == 0
    tell(f"    {'passed' if passed else 'FAILED'} ({time.monotonic() - started:.1f} s)")
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
        if not _may_install():
            raise StepFailed(
                "No Chromium or Chrome was found.",
                "Install it, or set CHROMIUM to its path. Without one:\n"
                '  python dev.py test -m "not browser"  with CHROMIUM set to anything.',
            )
        _install("chromium")
        found = _find_chromium()
        if not found:
            raise StepFailed("Chromium was installed, but is not in the PATH.", "Set CHROMIUM to its path.")
    return found


def _ensure_databases() -> None:
    """Have PostgreSQL and PgBouncer, where they can be installed; tests that need them are skipped elsewhere."""
    with step("PostgreSQL and PgBouncer") as end:
        places = f"{os.environ.get('PATH', '')}:/usr/sbin"
        server = shutil.which("initdb") or next(Path("/usr/lib/postgresql").glob("*/bin/initdb"), None)
        if server and shutil.which("pgbouncer", path=places):
            end("already there")
        elif not _may_install():
            end("not there: their tests are left out")
        else:
            _install("postgresql", "pgbouncer")


def _may_install() -> bool:
    return sys.platform == "linux" and os.geteuid() == 0 and shutil.which("apt-get") is not None


def _install(*packages: str) -> None:
    """Install Debian's packages."""
    for command in (["apt-get", "update", "-qq"], ["apt-get", "install", "-y", "-qq", *packages]):
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            errors="replace",
            env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"},
        )
        if done.returncode != 0:
            by_hand = f"Install {' and '.join(packages)} by hand, then run again."
            raise StepFailed((done.stdout + done.stderr).strip()[-2000:], by_hand)


def _find_chromium() -> str | None:
    named = os.environ.get("CHROMIUM")
    if named:
        return named
    for candidate in (*_CHROMIUM_NAMES, *_CHROMIUM_PLACES):
        if path := shutil.which(candidate):
            return path
    return None
