"""Strict request checks: what the service does not document is refused with a documented code."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from .models import (
    CLIENT_REQUEST_ID_LIMIT,
    IMAGE_LIMIT_BYTES,
    IMAGE_MIME_TYPES,
    MODELS,
    SAFETY_TOLERANCE,
    SELECTS,
)

JSON_LIMIT_BYTES = 1_000_000
IDEMPOTENCY_KEY = "^[!-~]{1,255}$"

_KINDS: dict[str, tuple[int, tuple[str, ...]]] = {
    "image": (IMAGE_LIMIT_BYTES, IMAGE_MIME_TYPES),
    "video": (50_000_000, ("video/mp4", "video/quicktime", "video/webm")),
    "audio": (
        10_000_000,
        ("audio/mpeg", "audio/mp4", "audio/wav", "audio/x-wav", "audio/aac", "audio/ogg"),
    ),
}
_ORDER_KEYS = {"model", "prompt", "params", "client_request_id"}
_PARAM_KEYS = {*SELECTS, "safetyTolerance", "watermark", "referenceMediaItems"}
_REFERENCE_KEYS = {"url", "kind", "name", "mimeType", "durationSeconds", "durationToken"}


@dataclass(eq=False)
class Refusal(Exception):
    """An error response in the documented shape (`error_body`)."""

    status: int
    code: str
    message: str
    headers: Mapping[str, str] = field(default_factory=dict)


def invalid(message: str) -> Refusal:
    return Refusal(400, "validation_failed", message)


def error_body(code: str, message: str, request_id: str) -> dict[str, Any]:
    return {"error": {"code": code, "message": message, "requestId": request_id}}


@dataclass(frozen=True)
class OrderRequest:
    """The checked body of ``POST /api/v1/generations``."""

    model: str
    prompt: str
    params: Mapping[str, Any] = field(default_factory=dict)
    reference: Mapping[str, Any] | None = None
    client_request_id: str | None = None

    def option(self, key: str) -> str:
        """A select parameter, or its default."""
        return str(self.params.get(key, SELECTS[key][0]))


@dataclass(frozen=True)
class UploadRequest:
    """The checked parts of ``POST /api/v1/files``."""

    data: bytes
    name: str
    kind: str
    mime_type: str
    model: str | None
    client_request_id: str | None


def bearer_key(headers: Mapping[str, str]) -> str:
    """The API key of a request; ``api_key_missing`` if the header is missing or malformed."""
    scheme, _, key = headers.get("authorization", "").partition(" ")
    if scheme != "Bearer" or not key.strip():
        raise Refusal(401, "api_key_missing", "A valid Bearer API key is required.")
    return key


def read_json(body: bytes) -> Any:
    """Parse strict JSON: UTF-8, no duplicate keys, no NaN, limited size."""
    if len(body) > JSON_LIMIT_BYTES:
        raise invalid(f"The body is larger than {JSON_LIMIT_BYTES} bytes.")
    try:
        return json.loads(body.decode("utf-8"), object_pairs_hook=_unique, parse_constant=_no_constant)
    except Refusal:
        raise
    except (ValueError, RecursionError) as error:
        raise invalid("The body is not valid JSON.") from error


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise invalid("The body has the same key twice.")
    return found


def _no_constant(name: str) -> Any:
    raise invalid(f"The body has {name}, which is not JSON.")


def read_order(content_type: str, body: bytes) -> OrderRequest:
    """Check a generation request against the model table; `Refusal` names the fault."""
    if content_type.split(";")[0].strip().lower() != "application/json":
        raise invalid("Content-Type must be application/json.")
    found = read_json(body)
    if not isinstance(found, dict):
        raise invalid("The body must be a JSON object.")
    if "files" in found:
        raise invalid("A top-level files field is not accepted; use params.referenceMediaItems.")
    _only(found, _ORDER_KEYS, "the body")
    model = found.get("model")
    if not isinstance(model, str) or model not in MODELS:
        raise invalid("model must be the id of an available model.")
    prompt = found.get("prompt")
    if not isinstance(prompt, str) or not prompt.strip():
        raise invalid("prompt is required by this model and must not be blank.")
    params = found.get("params", {})
    if not isinstance(params, dict):
        raise invalid("params must be an object.")
    trace = found.get("client_request_id")
    if "client_request_id" in found:
        check_client_request_id(trace)
    return OrderRequest(model, prompt, params, _check_params(params), trace)


def _check_params(params: dict[str, Any]) -> dict[str, Any] | None:
    """Check every parameter; returns the reference item, if any."""
    _only(params, _PARAM_KEYS, "params")
    for key, options in SELECTS.items():
        if key in params and (not isinstance(params[key], str) or params[key] not in options):
            raise invalid(f"params.{key} must be one of the strings {', '.join(options)}.")
    if "safetyTolerance" in params:
        _check_tolerance(params["safetyTolerance"])
    if "watermark" in params:
        mark = params["watermark"]
        if not isinstance(mark, str) or not mark.strip():
            raise invalid("params.watermark must be a text that is not empty.")
    if "referenceMediaItems" not in params:
        return None
    items = params["referenceMediaItems"]
    if not isinstance(items, list) or len(items) != 1:
        raise invalid("params.referenceMediaItems must be a list of exactly one item for this model.")
    return _check_reference(items[0])


def _check_tolerance(value: Any) -> None:
    low, high = SAFETY_TOLERANCE
    whole = isinstance(value, int) or (isinstance(value, float) and value.is_integer())
    if isinstance(value, bool) or not whole or not low <= value <= high:
        raise invalid(f"params.safetyTolerance must be a whole number from {low} to {high}.")


def _check_reference(item: Any) -> dict[str, Any]:
    if not isinstance(item, dict):
        raise invalid("An item of params.referenceMediaItems must be an object.")
    _only(item, _REFERENCE_KEYS, "params.referenceMediaItems[0]")
    for key, value in item.items():
        types = (int, float) if key == "durationSeconds" else str
        if not isinstance(value, types) or isinstance(value, bool) or value == "":
            raise invalid(f"params.referenceMediaItems[0].{key} is of the wrong type or empty.")
    if "url" not in item or "kind" not in item:
        raise invalid("params.referenceMediaItems[0] needs url and kind.")
    if item["kind"] != "image":
        raise invalid("params.referenceMediaItems[0].kind must be image for this model.")
    if urlsplit(item["url"]).scheme not in ("http", "https"):
        raise invalid("params.referenceMediaItems[0].url must be an http or https URL.")
    return item


def _only(found: Mapping[str, Any], allowed: set[str], where: str) -> None:
    unknown = sorted(set(found) - allowed)
    if unknown:
        raise invalid(f"Unknown key in {where}: {unknown[0][:80]}.")


def check_client_request_id(value: Any) -> None:
    if not isinstance(value, str) or not 0 < len(value) <= CLIENT_REQUEST_ID_LIMIT:
        raise invalid(f"client_request_id must be a text of 1 to {CLIENT_REQUEST_ID_LIMIT} characters.")


def check_upload(upload: UploadRequest) -> None:
    """Check kind, model, size, declared type, and that the first bytes match it."""
    if upload.kind not in _KINDS:
        raise invalid("kind must be image, video or audio.")
    limit, mime_types = _KINDS[upload.kind]
    if upload.model is not None:
        if upload.model not in MODELS:
            raise invalid("model must be the id of an available model.")
        if upload.kind != "image":
            raise invalid(f"{upload.model} takes images only.")
    if upload.client_request_id is not None:
        check_client_request_id(upload.client_request_id)
    if upload.mime_type not in mime_types:
        raise invalid(f"The MIME type of the file must be one of {', '.join(mime_types)}.")
    if not upload.data:
        raise invalid("The file is empty.")
    if len(upload.data) > limit:
        raise invalid(f"The file is larger than {limit} bytes.")
    if upload.mime_type not in _detected(upload.data):
        raise invalid(f"The content of the file is not {upload.mime_type}.")


def _detected(data: bytes) -> tuple[str, ...]:
    if data[4:8] == b"ftyp":
        return ("video/quicktime",) if data[8:10] == b"qt" else ("video/mp4", "audio/mp4")
    if data[:4] == b"RIFF":
        return {b"WEBP": ("image/webp",), b"WAVE": ("audio/wav", "audio/x-wav")}.get(data[8:12], ())
    if data[:1] == b"\xff" and data[1:2] in (b"\xf1", b"\xf9"):
        return ("audio/aac",)
    for start, mime_types in (
        (b"\x89PNG\r\n\x1a\n", ("image/png",)),
        (b"\xff\xd8\xff", ("image/jpeg",)),
        (b"\x1a\x45\xdf\xa3", ("video/webm",)),
        (b"OggS", ("audio/ogg",)),
        (b"ID3", ("audio/mpeg",)),
        (b"\xff\xfb", ("audio/mpeg",)),
    ):
        if data.startswith(start):
            return mime_types
    return ()
