"""The two Kontext models: parameters, prices and picture sizes, from the published model pages.

Shares nothing with the client's table, so that a mistake in either shows.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt
from typing import Any

IMAGE_MIME_TYPES = ("image/jpeg", "image/png", "image/webp")
IMAGE_LIMIT_BYTES = 10_000_000
CLIENT_REQUEST_ID_LIMIT = 128

SELECTS: dict[str, tuple[str, ...]] = {
    "aspectRatio": ("16:9", "21:9", "4:3", "1:1", "3:4", "9:16"),
    "outputFormat": ("jpeg", "png"),
    "enableTranslation": ("true", "false"),
    "promptUpsampling": ("false", "true"),
}
"""Options of select parameters, the default first. All are strings, booleans too."""

SAFETY_TOLERANCE = (0, 6)
SAFETY_TOLERANCE_DEFAULT = 2

_ONE_MEGAPIXEL_SIZES = {
    "21:9": (1568, 672),
    "16:9": (1392, 752),
    "4:3": (1184, 880),
    "1:1": (1024, 1024),
    "3:4": (880, 1184),
    "9:16": (752, 1392),
}


@dataclass(frozen=True)
class Model:
    """One model; ``credits`` is the price of a picture."""

    id: str
    display_name: str
    credits: int


MODELS = {
    model.id: model
    for model in (
        Model("flux-kontext-pro", "Flux Kontext Pro", 4),
        Model("flux-kontext-max", "Flux Kontext Max", 8),
    )
}


def picture_size(ratio: str, megapixels: float) -> tuple[int, int]:
    """Width and height in pixels, multiples of 16; 1.0 megapixels gives Kontext's usual sizes."""
    width, height = _ONE_MEGAPIXEL_SIZES[ratio]
    scale = sqrt(megapixels)
    return max(16, round(width * scale / 16) * 16), max(16, round(height * scale / 16) * 16)


def _parameters() -> list[dict[str, Any]]:
    entries: list[dict[str, Any]] = [
        {"key": key, "type": "select", "required": False, "default": options[0], "options": list(options)}
        for key, options in SELECTS.items()
    ]
    low, high = SAFETY_TOLERANCE
    entries.append(
        {
            "key": "safetyTolerance",
            "type": "number",
            "required": False,
            "default": SAFETY_TOLERANCE_DEFAULT,
            "min": low,
            "max": high,
        }
    )
    entries.append({"key": "watermark", "type": "text", "required": False, "default": None})
    return entries


def listing() -> dict[str, Any]:
    return {"object": "list", "data": [_listed(model) for model in MODELS.values()]}


def _listed(model: Model) -> dict[str, Any]:
    return {
        "id": model.id,
        "display_name": model.display_name,
        "category": "image",
        "runtime": "async_task",
        "base_credits": model.credits,
        "billing_type": "FIXED",
        "supported_modes": ["text-to-image", "image-to-image"],
        "max_prompt_length": None,
        "reference_media": {
            "kinds": ["image"],
            "max_items": 1,
            "max_bytes": IMAGE_LIMIT_BYTES,
            "mime_types": list(IMAGE_MIME_TYPES),
        },
        "params": _parameters(),
        "api_status": "available",
        "api_input_status": "partial_requires_files",
        "supported_api_inputs": ["text", "file"],
        "requires_files_api": False,
        "requires_upload_for_modes": ["image-to-image"],
        "url_input_supported": False,
        "file_kinds": ["image"],
        "chat_capabilities": None,
        "notices": ["This is the sandbox. No real service is involved and nothing is charged."],
    }
