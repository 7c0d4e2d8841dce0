"""A truthful OpenAPI 3.1 document of what the sandbox serves."""

from __future__ import annotations

from typing import Any

from .contract import IDEMPOTENCY_KEY
from .models import CLIENT_REQUEST_ID_LIMIT, MODELS, SAFETY_TOLERANCE, SELECTS

_NOT_BLANK = r"\S"
_TRACE = {"type": "string", "minLength": 1, "maxLength": CLIENT_REQUEST_ID_LIMIT}
_TEXT = {"type": "string"}
_CREDITS = {"type": "integer", "minimum": 0}
_TIME = {"type": "string", "format": "date-time"}


def document(url: str) -> dict[str, Any]:
    """The whole document for an API origin."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Rivya Public API v1, sandbox",
            "version": "1",
            "description": "A local stand-in. No real service is involved.",
        },
        "servers": [{"url": url}],
        "paths": _paths(),
        "components": {
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
            "schemas": {
                "Error": _error(),
                "PublicApiFile": _file(),
                "Generation": _generation(),
                "GenerationRequest": _generation_request(),
            },
        },
    }


def _reference(name: str) -> dict[str, Any]:
    return {"$ref": f"#/components/schemas/{name}"}


def _object(properties: dict[str, Any], required: list[str] | None = None) -> dict[str, Any]:
    """An object with these properties and no others; all are required where nothing is said."""
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties) if required is None else required,
        "additionalProperties": False,
    }


def _or_null(schema: dict[str, Any]) -> dict[str, Any]:
    return {"oneOf": [schema, {"type": "null"}]}


def _json(schema: dict[str, Any], description: str) -> dict[str, Any]:
    return {"description": description, "content": {"application/json": {"schema": schema}}}


def _operation(
    name: str, success: dict[int, dict[str, Any]], refusals: tuple[int, ...], **more: Any
) -> dict[str, Any]:
    responses = {str(status): answer for status, answer in success.items()}
    responses |= {str(status): _json(_reference("Error"), "Refused") for status in refusals}
    return {"operationId": name, "responses": responses, **more}


def _paths() -> dict[str, Any]:
    keyed: dict[str, Any] = {"security": [{"key": []}]}
    generation, file = (
        _json(_reference("Generation"), "The task"),
        _json(_reference("PublicApiFile"), "The file"),
    )
    wallet = _json(_object({"current_credits": _CREDITS}), "The wallet")
    key_header = {
        "name": "Idempotency-Key",
        "in": "header",
        "required": False,
        "schema": {"type": "string", "minLength": 1, "maxLength": 255, "pattern": IDEMPOTENCY_KEY},
    }
    create = {"required": True, "content": {"application/json": {"schema": _reference("GenerationRequest")}}}
    upload = {"required": True, "content": {"multipart/form-data": {"schema": _upload_request()}}}
    listed = {"type": "object", "required": ["object", "data"]}
    return {
        "/api/v1/models": {"get": _operation("listModels", {200: _json(listed, "The models")}, (400,))},
        "/api/v1/openapi.json": {
            "get": _operation("getOpenApi", {200: _json({"type": "object"}, "This document")}, (400,))
        },
        "/api/v1/credits": {"get": _operation("getCredits", {200: wallet}, (400, 401, 403), **keyed)},
        "/api/v1/files": {
            "post": _operation("createFile", {201: file}, (400, 401, 403), requestBody=upload, **keyed)
        },
        "/api/v1/files/{fileId}": {
            "get": _operation(
                "getFile", {200: file}, (400, 401, 403, 404), parameters=[_path("fileId")], **keyed
            )
        },
        "/api/v1/generations": {
            "post": _operation(
                "createGeneration",
                {201: generation, 200: generation},
                (400, 401, 402, 403, 409, 429),
                requestBody=create,
                parameters=[key_header],
                **keyed,
            )
        },
        "/api/v1/generations/{taskId}": {
            "get": _operation(
                "getGeneration",
                {200: generation},
                (400, 401, 403, 404),
                parameters=[_path("taskId")],
                **keyed,
            )
        },
    }


def _path(name: str) -> dict[str, Any]:
    schema = {"type": "string", "minLength": 1, "pattern": "^[A-Za-z0-9_-]+$"}
    return {"name": name, "in": "path", "required": True, "schema": schema}


def _upload_request() -> dict[str, Any]:
    properties = {
        "file": {"type": "string", "format": "binary"},
        "kind": {"type": "string", "enum": ["image", "video", "audio"]},
        "model": {"type": "string", "enum": list(MODELS)},
        "client_request_id": _TRACE,
    }
    return _object(properties, ["file", "kind"])


def _generation_request() -> dict[str, Any]:
    low, high = SAFETY_TOLERANCE
    item = {
        "url": {"type": "string", "format": "uri", "pattern": "^https?://"},
        "kind": {"type": "string", "enum": ["image"]},
        "name": {"type": "string", "minLength": 1},
        "mimeType": {"type": "string", "minLength": 1},
        "durationSeconds": {"type": "number"},
        "durationToken": {"type": "string", "minLength": 1},
    }
    params: dict[str, Any] = {
        key: {"type": "string", "enum": list(options)} for key, options in SELECTS.items()
    }
    params["safetyTolerance"] = {"type": "integer", "minimum": low, "maximum": high}
    params["watermark"] = {"type": "string", "pattern": _NOT_BLANK}
    params["referenceMediaItems"] = {
        "type": "array",
        "minItems": 1,
        "maxItems": 1,
        "items": _object(item, ["url", "kind"]),
    }
    properties = {
        "model": {"type": "string", "enum": list(MODELS)},
        "prompt": {"type": "string", "pattern": _NOT_BLANK},
        "params": _object(params, []),
        "client_request_id": _TRACE,
    }
    return _object(properties, ["model", "prompt"])


def _generation() -> dict[str, Any]:
    result = _object({"primary_url": _TEXT, "urls": {"type": "array", "items": _TEXT, "minItems": 1}})
    properties = {
        "id": _TEXT,
        "status": {"type": "string", "enum": ["queued", "processing", "succeeded", "failed"]},
        "model": _TEXT,
        "reserved_credits": _CREDITS,
        "final_credits": _CREDITS,
        "created_at": _TIME,
        "updated_at": _TIME,
        "result": _or_null(result),
        "error": _or_null(_object({"code": _TEXT, "message": _TEXT})),
    }
    return _object(properties)


def _file() -> dict[str, Any]:
    properties = {
        "id": _TEXT,
        "object": {"const": "file"},
        "kind": {"type": "string", "enum": ["image", "video", "audio"]},
        "url": _TEXT,
        "name": _TEXT,
        "mime_type": _TEXT,
        "size": {"type": "integer", "minimum": 1},
        "duration_seconds": {"type": ["number", "null"]},
        "duration_token": {"type": ["string", "null"]},
        "created_at": _TIME,
    }
    return _object(properties)


def _error() -> dict[str, Any]:
    return _object({"error": _object({"code": _TEXT, "message": _TEXT, "requestId": _TEXT})})
