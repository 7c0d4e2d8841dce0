"""Numbers, booleans and choices as other programs make them, in Python's own types: one value, or an error by name.

Nodes of other packs give numpy and torch scalars, arrays and tensors of one element, and floats for whole numbers.
Python's own types come out, so that JSON can carry them and the same value is the same order.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from numbers import Real
from typing import Any

from .errors import ValidationError, costs_nothing

_NUMBERS: Any = Real
"""Also the numbers of the standard library and numpy's long double, which is no float."""


@costs_nothing()
def whole(name: str, value: object, low: int, high: int) -> int:
    """A whole number from ``low`` to ``high``; a float counts where it is whole, a boolean never does.

    Raises:
        ValidationError: anything else; it names the input and the range.
    """
    number = _number(value)
    if isinstance(number, int) and low <= number <= high:
        return number
    raise ValidationError(f"{name} is {shown(value)}; it must be a whole number from {low} to {high}.")


@costs_nothing()
def number(name: str, value: object, low: float, high: float) -> float:
    """A number from ``low`` to ``high``; NaN is none, nor is a boolean. Raises as `whole`."""
    number = _number(value)
    if number is not None and low <= number <= high:
        return float(number)
    allowed = f"from {low:g} to {high:g}" if high < math.inf else f"of at least {low:g}"
    raise ValidationError(f"{name} is {shown(value)}; it must be a number {allowed}.")


@costs_nothing()
def truth(name: str, value: object) -> bool:
    """True or false; a number or a text is neither. Raises `ValidationError` that names the input."""
    plain = _plain(value)
    if isinstance(plain, bool):
        return plain
    raise ValidationError(f"{name} is {shown(value)}; it must be true or false.")


@costs_nothing()
def choice(name: str, value: object, allowed: Collection[str]) -> str:
    """One of a few texts. Raises `ValidationError` that names the input and all of them."""
    if isinstance(value, str) and value in allowed:
        return str(value)
    raise ValidationError(f"{name} is {shown(value)}; it must be one of {', '.join(allowed)}.")


def shown(value: object) -> str:
    """A value as an error quotes it: ASCII, one line, at most 60 characters."""
    plain = _plain(value)
    text = " ".join((str(plain) if isinstance(plain, float) else ascii(plain)).split())
    return text if len(text) <= 60 else f"{text[:57]}..."


def _number(value: object) -> int | float | None:
    """The value as an int where it is whole, else as a float; None where it is no finite number."""
    plain: Any = _plain(value)
    if not isinstance(plain, _NUMBERS) or isinstance(plain, bool):
        return None
    try:
        rounded = int(plain)
        return rounded if rounded == plain else float(plain)
    except (ValueError, OverflowError):  # NaN or infinity
        return None


def _plain(value: object) -> object:
    """What is in a scalar of numpy or torch, or in an array or tensor of one element; anything else as it is."""
    item = getattr(value, "item", None)
    try:
        return item() if callable(item) else value
    except (TypeError, ValueError, RuntimeError):  # several elements, none, or a tensor without memory
        return value
