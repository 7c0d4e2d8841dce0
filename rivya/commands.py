"""Command lines that work where they are shown: with this Python, this copy of the library and this state folder.

A Python that is embedded in another program (ComfyUI's portable version, ``python -P``) looks for modules neither in
the current folder nor beside a script. It does look in a folder that it is told to run, so that is how the pack's own
command line is named; where the library is installed, ``-m`` finds it.
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
"""The folder of the pack; site-packages where the library is installed alone."""

_STARTER = PACK / "__main__.py"
_REQUIREMENTS = PACK / "requirements.txt"


def own(*words: str, home: Path | None = None) -> str:
    """A command line that runs ours with these words.

    Args:
        words: command and arguments.
        home: the state folder that it is about, named where the command would not find it by itself.
    """
    chosen = ["--home", str(home)] if home is not None and home != _found_home() else []
    return _joined([_python(), *(_runs_ours()), *chosen, *words])


def pip_install(*packages: str) -> str:
    """A command line that installs packages into this Python."""
    if importlib.util.find_spec("pip") is not None:
        return _joined([_python(), "-m", "pip", "install", *_own_risk(), *packages])
    if shutil.which("uv"):
        return _joined(["uv", "pip", "install", "--python", _python(), *packages])
    before = _joined([_python(), "-m", "ensurepip"])
    return f"{before} && {_joined([_python(), '-m', 'pip', 'install', *packages])}"


def install(missing: Sequence[str]) -> str:
    """As `pip_install`, by the pack's list of requirements where that is there and httpx is missing."""
    listed = _STARTER.is_file() and _REQUIREMENTS.is_file() and "httpx" in missing
    words = ["-r", str(_REQUIREMENTS), *(name for name in missing if name != "httpx")] if listed else missing
    return pip_install(*words)


def program_name() -> str:
    """How the command line that runs now was started, in the form that a person types."""
    started = Path(sys.argv[0] or ".")
    if started.stem == "rivya" and started.is_file():
        return "rivya"
    if (started / "__main__.py").is_file():
        return _joined(["python", str(started)])
    return "python -m rivya"


def _runs_ours() -> list[str]:
    return [str(PACK)] if _STARTER.is_file() else ["-m", "rivya"]


def _found_home() -> Path | None:
    """The state folder of a command that is started without any of our settings in its environment."""
    try:
        return config.state_folder({})
    except ConfigurationError:
        return None


def _python() -> str:
    """This Python, in its form that writes to a console."""
    path = sys.executable or "python"
    return re.sub(r"(?i)pythonw\.exe$", "python.exe", path)


def _own_risk() -> list[str]:
    """What pip wants to hear where the system's Python is kept for the system (Debian and others)."""
    marker = Path(sysconfig.get_path("stdlib"), "EXTERNALLY-MANAGED")
    return ["--break-system-packages"] if sys.prefix == sys.base_prefix and marker.is_file() else []


def _joined(words: Sequence[str]) -> str:
    """The words as one line, for the shell of this system."""
    if os.name == "nt":
        return " ".join(word if re.fullmatch(r"[\w:\\/.=-]+", word) else f'"{word}"' for word in words)
    return shlex.join(words)
