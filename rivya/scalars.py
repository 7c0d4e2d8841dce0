"""Numbers, booleans and choices of other programs in Python's own types, or an error that names the input.

Other packs' nodes pass numpy and torch scalars, one-element arrays and tensors, and whole numbers as floats.
Python's own types fit JSON and give equal orders for equal values.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from numbers import Real
from typing import Any

from .errors import ValidationError, costs_nothing

_NUMBERS: Any = Real
"""Includes the standard library's numbers and numpy's long double, which is no float."""


@costs_nothing()
def whole(name: str, value: object, low: int, high: int) -> int:
    """A whole number from ``low`` to ``high``; accepts whole floats, never booleans.

    Raises:
        ValidationError: names input and range.
    """
    number = _number(value)
    if isinstance(number, int) and low <= number <= high:
        return number
    raise ValidationError(f"{name} is {shown(value)}; it must be a whole number from {low} to {high}.")


@costs_nothing()
def number(name: str, value: object, low: float, high: float) -> float:
    """A number from ``low`` to ``high``, neither NaN nor boolean. Raises as `whole`."""
    number = _number(value)
    if number is not None and low <= number <= high:
        return float(number)
    allowed = f"from {low:g} to {high:g}" if high < math.inf else f"of at least {low:g}"
    raise ValidationError(f"{name} is {shown(value)}; it must be a number {allowed}.")


@costs_nothing()
def truth(name: str, value: object) -> bool:
    """A boolean, never a number or text. Raises `ValidationError` that names the input."""
    plain = _plain(value)
    if isinstance(plain, bool):
        return plain
    raise ValidationError(f"{name} is {shown(value)}; it must be true or false.")


@costs_nothing()
def choice(name: str, value: object, allowed: Collection[str]) -> str:
    """One of ``allowed``. Raises `ValidationError` that names the input and all choices."""
    if isinstance(value, str) and value in allowed:
        return str(value)
    raise ValidationError(f"{name} is {shown(value)}; it must be one of {', '.join(allowed)}.")


def shown(value: object) -> str:
    """A value quoted for errors: ASCII, one line, at most 60 characters."""
    plain = _plain(value)
    text = " ".join((str(plain) if isinstance(plain, float) else ascii(plain)).split())
    return text if len(text) <= 60 else f"{text[:57]}..."


def _number(value: object) -> int | float | None:
    """The value as an int if whole, else a float; None if no finite number."""
    plain: Any = _plain(value)
    if not isinstance(plain, _NUMBERS) or isinstance(plain, bool):
        return None
    try:
        rounded = int(plain)
        return rounded if rounded == plain else float(plain)
    except (ValueError, OverflowError):  # NaN or infinity
        return None


def _plain(value: object) -> object:
    """The element of a numpy or torch scalar or one-element array; else the value."""
    item = getattr(value, "item", None)
    try:
        return item() if callable(item) else value
    except (TypeError, ValueError, RuntimeError):  # not one element, or a tensor without memory
        return value
