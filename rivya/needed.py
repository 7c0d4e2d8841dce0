"""Missing packages, and the command that installs them into this Python."""

from __future__ import annotations

from importlib.util import find_spec

from . import commands
from .errors import ConfigurationError, Sent, costs_nothing

PACKAGES = {"httpx": "httpx", "numpy": "numpy", "PIL": "pillow"}
"""Required modules and their packages. ComfyUI brings numpy and Pillow."""


def check() -> None:
    """Raise `ConfigurationError` if one is missing."""
    sentence = problem()
    if sentence is not None:
        raise ConfigurationError(sentence, code="package_missing", sent=Sent.NO)


def problem() -> str | None:
    """Return the missing packages and the install command as a sentence, or None."""
    missing = [package for module, package in PACKAGES.items() if find_spec(module) is None]
    if not missing:
        return None
    named = " and ".join([", ".join(missing[:-1]), missing[-1]] if missing[1:] else missing)
    are = "are" if missing[1:] else "is"
    return f"{named} {are} not installed in this Python: run {commands.install(missing)} and start again."


@costs_nothing()
def check_ray() -> None:
    """Raise `ConfigurationError` without Ray Data."""
    if find_spec("ray") is not None and find_spec("pyarrow") is not None:
        return
    raise ConfigurationError(
        f"Ray is not installed in this Python: run {commands.pip_install('ray[data]>=2.50')} and start again.",
        hint="It is needed on every node of the cluster, in the same version.",
        code="package_missing",
    )
