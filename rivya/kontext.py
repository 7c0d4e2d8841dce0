"""The FLUX.1 Kontext models: parameters, defaults, credits and the identity of an order.

Source: the model page of flux-kontext-pro in the Rivya Public API v1 documentation (reviewed 2026-05-11);
flux-kontext-max takes the same keys at 8 credits. The service takes booleans as the strings "true" and "false", no
seed and no size. Values are checked before any request.
"""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

from . import scalars
from .errors import ValidationError, costs_nothing

MAX_SEED = 2**64 - 1
"""As every seed in ComfyUI. It is not sent, so the service sets no limit."""

MAX_VARIATIONS = 16
MAX_ORDERS = 64
"""Default of ``max_orders_per_node``: a graph must not spend more than it shows."""

MIN_TIMEOUT_S, MAX_TIMEOUT_S = 30, 86400
"""``timeout_s`` of the nodes. Programs have no limit."""

MAX_CLIENT_REQUEST_ID = 128
MAX_TEXT = 100_000
"""Longest prompt or watermark in characters. The service documents no limit; this stops accidents."""


@dataclass(frozen=True)
class Model:
    id: str
    credits: int


MODELS = MappingProxyType({m.id: m for m in (Model("flux-kontext-pro", 4), Model("flux-kontext-max", 8))})
DEFAULT_MODEL = "flux-kontext-pro"

ASPECT_RATIOS = ("21:9", "16:9", "4:3", "1:1", "3:4", "9:16")
SERVICE_ASPECT_RATIO = "16:9"
AUTO = "auto"
OUTPUT_FORMATS = ("jpeg", "png")
SAFETY_MIN, SAFETY_MAX = 0, 6

_SERVICE_DEFAULTS: dict[str, Any] = {
    "aspectRatio": SERVICE_ASPECT_RATIO,
    "outputFormat": "jpeg",
    "enableTranslation": "true",
    "promptUpsampling": "false",
    "safetyTolerance": 2,
}


@dataclass(frozen=True)
class KontextParams:
    """The values of the Kontext Params node; the service's defaults, except ``auto``.

    Attributes:
        model: id from `MODELS`.
        aspect_ratio: one of `ASPECT_RATIOS`, or "auto": nearest to the reference.
        output_format: "jpeg" or "png".
        enable_translation, prompt_upsampling: let the service translate or expand the prompt.
        safety_tolerance: 0 (strict) to 6 (permissive).
        watermark: text to draw into the picture; empty: none.
    """

    model: str = DEFAULT_MODEL
    aspect_ratio: str = AUTO
    output_format: str = "jpeg"
    enable_translation: bool = True
    prompt_upsampling: bool = False
    safety_tolerance: int = 2
    watermark: str = ""

    @property
    def credits(self) -> int:
        return MODELS[self.model].credits

    @costs_nothing()
    def validate(self) -> KontextParams:
        """Return Python's own types; raises `ValidationError` that names the first invalid value."""
        validate_text("watermark", self.watermark)
        return replace(
            self,
            model=scalars.choice("model", self.model, MODELS),
            aspect_ratio=scalars.choice("aspect_ratio", self.aspect_ratio, (AUTO, *ASPECT_RATIOS)),
            output_format=scalars.choice("output_format", self.output_format, OUTPUT_FORMATS),
            enable_translation=scalars.truth("enable_translation", self.enable_translation),
            prompt_upsampling=scalars.truth("prompt_upsampling", self.prompt_upsampling),
            safety_tolerance=scalars.whole("safety_tolerance", self.safety_tolerance, SAFETY_MIN, SAFETY_MAX),
        )

    def resolved_ratio(self, size: tuple[int, int] | None) -> str:
        """The requested ratio: ``auto`` is the nearest to ``size`` (width, height); None: the service's default."""
        if self.aspect_ratio != AUTO:
            return self.aspect_ratio
        return SERVICE_ASPECT_RATIO if size is None else nearest_ratio(*size)

    def request_params(self, size: tuple[int, int] | None) -> dict[str, Any]:
        """The request's ``params`` object; ``watermark`` is absent when empty."""
        params: dict[str, Any] = {
            "aspectRatio": self.resolved_ratio(size),
            "outputFormat": self.output_format,
            "enableTranslation": _boolean(self.enable_translation),
            "promptUpsampling": _boolean(self.prompt_upsampling),
            "safetyTolerance": self.safety_tolerance,
        }
        if self.watermark:
            params["watermark"] = self.watermark
        return params


def nearest_ratio(width: int, height: int) -> str:
    """The allowed aspect ratio nearest to ``width / height``, by logarithm."""

    def distance(ratio: str) -> float:
        across, down = ratio.split(":")
        return abs(math.log(width / height) - math.log(int(across) / int(down)))

    return min(ASPECT_RATIOS, key=distance)


@costs_nothing()
def validate_prompt(prompt: object) -> None:
    """Raise `ValidationError` unless ``prompt`` is non-blank text."""
    validate_text("prompt", prompt)
    if not str(prompt).strip():
        raise ValidationError(
            "The prompt is blank.", hint="Write what to change in the picture, then run again."
        )


@costs_nothing()
def validate_text(name: str, text: object) -> None:
    """Raise `ValidationError` unless ``text`` is a string that JSON in UTF-8 can carry."""
    if not isinstance(text, str):
        raise ValidationError(f"{name} is {scalars.shown(text)}; it must be text.")
    if len(text) > MAX_TEXT:
        raise ValidationError(f"{name} has {len(text):,} characters; at most {MAX_TEXT:,} are sent.")
    if "\x00" in text or any("\ud800" <= c <= "\udfff" for c in text):
        raise ValidationError(f"{name} holds a character that cannot be sent (NUL or half a surrogate pair).")


def validate_timeout(value: object) -> int:
    return scalars.whole("timeout_s", value, MIN_TIMEOUT_S, MAX_TIMEOUT_S)


@costs_nothing()
def validate_client_request_id(value: object) -> None:
    """Raise `ValidationError` unless ``value`` is a string of at most 128 printable characters."""
    validate_text("client_request_id", value)
    text = str(value)
    if len(text) > MAX_CLIENT_REQUEST_ID:
        raise ValidationError(
            f"client_request_id has {len(text)} characters; at most {MAX_CLIENT_REQUEST_ID} are allowed."
        )
    if not text.isprintable():
        raise ValidationError("client_request_id holds a line end or another control character.")


@dataclass(frozen=True)
class Identity:
    """The identity of an order within an account: one identity is one picture, bought once.

    Attributes:
        prompt: as sent.
        params: ``auto`` counts as its resolved ratio.
        seed: distinguishes pictures; never sent (Kontext has none).
        variation: 0 to V-1.
        reference: ``pixel_hash`` of the reference (plus its change of geometry); None for text to image.
        size: the reference's width and height, for ``auto``.
    """

    prompt: str
    params: KontextParams
    seed: int
    variation: int
    reference: str | None = None
    size: tuple[int, int] | None = None

    def fingerprint(self) -> str:
        """SHA-256 (hex) over a versioned canonical JSON without the service's default values."""
        params = {
            k: v for k, v in self.params.request_params(self.size).items() if _SERVICE_DEFAULTS.get(k) != v
        }
        canonical = {
            "v": 1,
            "model": self.params.model,
            "prompt": self.prompt,
            "params": params,
            "seed": self.seed,
            "variation": self.variation,
            "reference": self.reference,
        }
        text = json.dumps(canonical, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
        return hashlib.sha256(text.encode("ascii")).hexdigest()


def idempotency_key(scope: str, fingerprint: str, attempt: int) -> str:
    """Return an attempt's key: SHA-256 (64 hex characters) over scope, fingerprint and attempt.

    Never over the body, whose upload URL changes: a lost ledger leads to the same key, and the service replays or
    refuses instead of selling twice.
    """
    return hashlib.sha256(f"rivya-order-1\n{scope}\n{fingerprint}\n{attempt}".encode()).hexdigest()


def order_body(identity: Identity, reference_item: dict[str, str] | None, client_request_id: str) -> bytes:
    """Return the exact JSON bytes of ``POST /api/v1/generations``; the ledger stores them before they are sent."""
    params = identity.params.request_params(identity.size)
    if reference_item is not None:
        params["referenceMediaItems"] = [reference_item]
    body: dict[str, Any] = {"model": identity.params.model, "prompt": identity.prompt, "params": params}
    if client_request_id:
        body["client_request_id"] = client_request_id
    return json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode("utf-8")


def reference_item(*, url: str, name: str, mime: str, duration_token: str | None) -> dict[str, str]:
    """Return one entry of ``params.referenceMediaItems`` (camelCase, as on the OpenAPI schema page)."""
    item = {"url": url, "kind": "image", "name": name, "mimeType": mime}
    if duration_token:
        item["durationToken"] = duration_token
    return item


def _boolean(value: bool) -> str:
    return "true" if value else "false"
