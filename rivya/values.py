"""Setting values: text without copied quotes, numbers within bounds."""

from __future__ import annotations

import math

from .errors import ConfigurationError


def unquoted(text: str) -> str:
    """Strip surrounding white space and one matching pair of quotes.

    Shells remove quotes; ``set`` on Windows, compose files and ``.env`` files may pass them on.
    """
    bare = text.strip(_BLANK)
    if len(bare) > 1 and bare[-1] == _QUOTES.get(bare[0]):
        bare = bare[1:-1].strip(_BLANK)
    return bare


_BLANK = (
    "".join(
        map(chr, (*range(9, 14), *range(28, 33), 133, 160, 0x1680, *range(0x2000, 0x200E), 0x2028, 0x2029))
    )
    + "\u202f\u205f\u2060\u3000\ufeff"
)
"""White space, and zero-width characters that copying from a page or file brings along."""

_QUOTES = {'"': '"', "'": "'", "`": "`", "\u201c": "\u201d", "\u2018": "\u2019", "\u300c": "\u300d"}
"""Opening and closing quotes; the last three come from word processors."""

ANY_QUOTE = frozenset(_QUOTES) | frozenset(_QUOTES.values())


def number(name: str, value: object, low: float, high: float) -> float:
    """The value as a finite number from ``low`` to ``high``; raises `ConfigurationError` with the name."""
    if isinstance(value, str):
        value = unquoted(value)
    try:
        found = (
            float(value) if isinstance(value, (int, float, str)) and not isinstance(value, bool) else math.nan
        )
    except (ValueError, OverflowError):
        found = math.nan
    if not low <= found <= high or math.isinf(found):
        raise ConfigurationError(
            f"{name} is not a number from {low:g} to {high:g}.",
            hint="Correct it in the environment or config.json.",
        )
    return found


def whole(name: str, value: object, low: int, high: int) -> int:
    """As `number`, for a whole number."""
    found = number(name, value, low, high)
    if not found.is_integer():
        raise ConfigurationError(
            f"{name} is {found:g}; it must be a whole number from {low} to {high}.",
            hint="Correct it in the environment or config.json.",
        )
    return int(found)
