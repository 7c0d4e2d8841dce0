"""What a row asks for: picture, prompt, seed, variations, model parameters."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Any

from ..errors import ValidationError, costs_nothing
from ..kontext import KontextParams
from ..plan import Wanted

PARAMETERS = tuple(each.name for each in fields(KontextParams))
COLUMNS = ("image", "prompt", "seed", "variations", *PARAMETERS)
"""Names that a row may have."""

_TRUTHS = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}


@costs_nothing()
def read(given: Any, default: Wanted) -> Wanted:
    """What a row asks for.

    Args:
        given: a path, file bytes, an array, None for text to image, or a mapping with keys of `COLUMNS`. ``default``
            supplies keys that are missing or hold None, blank text or NaN.

    Raises:
        ValidationError: names the value that cannot be ordered; or the mapping's picture is blank.
    """
    wanted = _from_mapping(given, default) if isinstance(given, Mapping) else replace(default, image=given)
    return wanted.checked()


def picture_alone(image: Any, default: Wanted) -> Wanted:
    return replace(default, image=image)


@costs_nothing()
def _from_mapping(given: Mapping[str, Any], default: Wanted) -> Wanted:
    unknown = [name for name in given if name not in COLUMNS]
    if unknown:
        raise ValidationError(
            f"A row names {', '.join(ascii(name)[:40] for name in unknown[:3])}; known are {', '.join(COLUMNS)}."
        )
    values = {name: value for name, value in given.items() if not _is_empty(value)}
    if "image" in given and "image" not in values and given["image"] is not None:
        raise ValidationError("The row names no picture.", code="no_picture")
    values = {name: _parameter(name, value) for name, value in values.items()}
    params = {name: values[name] for name in PARAMETERS if name in values}
    return replace(
        default,
        image=values.get("image", default.image),
        prompt=values.get("prompt", default.prompt),
        params=replace(default.params, **params),
        seed=values.get("seed", default.seed),
        variations=values.get("variations", default.variations),
    )


def _is_empty(value: Any) -> bool:
    """Whether a cell is empty; tables cannot leave a cell out."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return True
    return isinstance(value, (str, bytes)) and not value.strip()


def _parameter(name: str, value: Any) -> Any:
    """The typed value of a cell, which may be text for any type."""
    if not isinstance(value, str):
        return value
    if name in ("seed", "variations", "safety_tolerance"):
        return _number(value)
    if name in ("enable_translation", "prompt_upsampling"):
        return _TRUTHS.get(value.strip().lower(), value)
    return value.strip() if name in ("model", "aspect_ratio", "output_format") else value


def _number(text: str) -> Any:
    try:
        return int(text)
    except ValueError:
        return text
