"""A pack of custom nodes that give what other packs give: nothing, and numbers as numpy and torch have them."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch


class AnyType(str):
    """The type that many packs declare for "anything"."""

    def __ne__(self, other: object) -> bool:
        return False


ANY = AnyType("*")


class NothingOr:
    """A switch that is off: None, in place of what is connected; as a list, None behind it."""

    RETURN_TYPES = (ANY,)
    OUTPUT_IS_LIST = (True,)
    FUNCTION = "give"
    CATEGORY = "tests"

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:  # noqa: N802 - ComfyUI's name
        return {"optional": {"value": (ANY,)}}

    def give(self, value: object = None) -> tuple[list[object]]:
        return ([None] if value is None else [value, None],)


VALUES = {
    "uint64": np.uint64(2**64 - 1),
    "int32": np.int32(3),
    "float32": np.float32(2.0),
    "float": 5.0,
    "tensor": torch.tensor(4),
    "tensor of one": torch.tensor([8]),
    "bfloat16": torch.tensor(6.0, dtype=torch.bfloat16),
    "numpy false": np.bool_(False),
    "tensor false": torch.tensor(False),
    "fraction": np.float64(7.5),
    "nan": float("nan"),
    "infinity": torch.tensor(float("inf")),
    "two": torch.tensor([1, 2]),
}


class GiveValue:
    """One of `VALUES`."""

    RETURN_TYPES = (ANY,)
    FUNCTION = "give"
    CATEGORY = "tests"

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:  # noqa: N802 - ComfyUI's name
        return {"required": {"name": ("STRING", {"default": ""})}}

    def give(self, name: str) -> tuple[object]:
        return (VALUES[name],)


NODE_CLASS_MAPPINGS = {"NothingOr": NothingOr, "GiveValue": GiveValue}
