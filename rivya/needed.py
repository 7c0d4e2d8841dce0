"""Packages that are not there: one sentence with the command that installs them into this Python."""

from __future__ import annotations

from importlib.util import find_spec

from . import commands
from .errors import ConfigurationError, Sent

HTTP = ("httpx",)
PICTURES = ("numpy", "PIL")
_NAMES = {"PIL": "pillow"}


def check_http() -> None:
    """Raise `ConfigurationError` where the HTTP client is not installed."""
    missing = _missing(HTTP)
    if missing:
        raise _not_installed(missing, commands.install_requirements(*missing))


def check_pictures() -> None:
    """Raise `ConfigurationError` where numpy or Pillow is not installed. ComfyUI brings both."""
    missing = _missing(PICTURES)
    if missing:
        raise _not_installed(missing, commands.pip_install(*missing))


def problem() -> str | None:
    """What is missing and what to do about it, one sentence; None where nothing is."""
    try:
        check_http()
        check_pictures()
    except ConfigurationError as error:
        return error.message
    return None


def _missing(modules: tuple[str, ...]) -> list[str]:
    return [_NAMES.get(name, name) for name in modules if find_spec(name) is None]


def _not_installed(packages: list[str], command: str) -> ConfigurationError:
    named = " and ".join(packages)
    are = "are" if len(packages) > 1 else "is"
    return ConfigurationError(
        f"{named} {are} not installed in this Python: run {command} and start again.",
        code="package_missing",
        sent=Sent.NO,
    )
