"""Command lines to show to users, with this Python, this copy of the library and this state folder.

An embedded Python (ComfyUI's portable version, ``python -P``) finds no modules in the current folder or beside a
script, but runs a folder. So the pack's command line names its folder; an installed library runs with ``-m``.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shlex
import shutil
import sys
import sysconfig
from collections.abc import Sequence
from pathlib import Path

from . import config
from .errors import ConfigurationError

PACK = Path(__file__).absolute().parent.parent
"""The pack's folder; site-packages for an installed library."""

_STARTER = PACK / "__main__.py"
_REQUIREMENTS = PACK / "requirements.txt"


def own(*words: str, home: Path | None = None) -> str:
    """Return a command line that runs this library.

    Args:
        words: command and arguments.
        home: the state folder; named only where the command would not find it.
    """
    chosen = ["--home", str(home)] if home is not None and home != _found_home() else []
    return _joined([_python(), *(_runs_ours()), *chosen, *words])


def pip_install(*packages: str) -> str:
    """Return a command line that installs packages into this Python."""
    if importlib.util.find_spec("pip") is not None:
        return _joined([_python(), "-m", "pip", "install", *_own_risk(), *packages])
    if shutil.which("uv"):
        return _joined(["uv", "pip", "install", "--python", _python(), *packages])
    before = _joined([_python(), "-m", "ensurepip"])
    return f"{before} && {_joined([_python(), '-m', 'pip', 'install', *packages])}"


def install(missing: Sequence[str]) -> str:
    """As `pip_install`, but from the pack's requirements file if it exists and httpx is missing."""
    listed = _STARTER.is_file() and _REQUIREMENTS.is_file() and "httpx" in missing
    words = ["-r", str(_REQUIREMENTS), *(name for name in missing if name != "httpx")] if listed else missing
    return pip_install(*words)


def program_name() -> str:
    """Return how users start this command line."""
    started = Path(sys.argv[0] or ".")
    if started.stem == "rivya" and started.is_file():
        return "rivya"
    if (started / "__main__.py").is_file():
        return _joined(["python", str(started)])
    return "python -m rivya"


def _runs_ours() -> list[str]:
    return [str(PACK)] if _STARTER.is_file() else ["-m", "rivya"]


def _found_home() -> Path | None:
    """The state folder of a command started without our environment variables."""
    try:
        return config.state_folder({})
    except ConfigurationError:
        return None


def _python() -> str:
    """This Python, on Windows the one with a console."""
    path = sys.executable or "python"
    return re.sub(r"(?i)pythonw\.exe$", "python.exe", path)


def _own_risk() -> list[str]:
    """The option that pip requires in an externally managed Python (Debian and others)."""
    marker = Path(sysconfig.get_path("stdlib"), "EXTERNALLY-MANAGED")
    return ["--break-system-packages"] if sys.prefix == sys.base_prefix and marker.is_file() else []


def _joined(words: Sequence[str]) -> str:
    """Quote the words for this system's shell."""
    if os.name == "nt":
        return " ".join(word if re.fullmatch(r"[\w:\\/.=-]+", word) else f'"{word}"' for word in words)
    return shlex.join(words)
