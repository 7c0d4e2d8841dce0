"""The endpoints of the API origin and of the second origin, as Starlette applications."""

from __future__ import annotations

import asyncio
import re
import secrets
import time
from collections.abc import Awaitable, Callable
from hashlib import sha256
from typing import Any

from starlette.applications import Starlette
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from . import contract
from .contract import Refusal, UploadRequest, invalid
from .desk import desk_routes
from .faults import Fault
from .front import error_body
from .models import listing
from .openapi import document
from .pictures import is_readable
from .records import Task
from .service import Service, shaping

Handler = Callable[[Request], Awaitable[Response]]
_PARTS = {"file", "kind", "model", "client_request_id"}


def api_app(service: Service) -> Starlette:
    """Everything on the API origin: the service's endpoints, the desk and the page."""
    endpoints = Endpoints(service)
    routes = [
        Route("/api/v1/models", endpoints.models, methods=["GET"]),
        Route("/api/v1/openapi.json", endpoints.openapi, methods=["GET"]),
        Route("/api/v1/files", endpoints.upload, methods=["POST"]),
        Route("/api/v1/files/{file_id}", endpoints.file, methods=["GET"]),
        Route("/api/v1/generations", endpoints.create, methods=["POST"]),
        Route("/api/v1/generations/{task_id}", endpoints.status, methods=["GET"]),
        Route("/api/v1/credits", endpoints.credits, methods=["GET"]),
        *desk_routes(service),
    ]
    handlers: dict[Any, Any] = {Refusal: _refused, HTTPException: _no_such_place}
    return Starlette(routes=routes, exception_handlers=handlers)


def results_app(service: Service) -> Starlette:
    """Everything on the second origin: uploads and results, without a key."""
    origin = ResultOrigin(service)
    routes = [
        Route("/uploads/{file_id}/{name}", origin.upload, methods=["GET"]),
        Route("/results/{task_id}/{index:int}.{extension}", origin.result, methods=["GET"]),
    ]
    handlers: dict[Any, Any] = {Refusal: _refused_in_text}
    return Starlette(routes=routes, exception_handlers=handlers)


async def _refused(request: Request, refusal: Refusal) -> Response:
    body = error_body(refusal.code, refusal.message, _request_id(request))
    return JSONResponse(body, refusal.status, headers=refusal.headers)


async def _no_such_place(request: Request, error: HTTPException) -> Response:
    code = {404: "not_found", 405: "method_not_allowed"}.get(error.status_code, "validation_failed")
    body = error_body(code, error.detail, _request_id(request))
    return JSONResponse(body, error.status_code, headers=error.headers)


async def _refused_in_text(request: Request, refusal: Refusal) -> Response:
    return Response(refusal.message, refusal.status, media_type="text/plain")


def _request_id(request: Request) -> str:
    exchange = request.scope["state"].get("exchange")
    return exchange.request_id if exchange is not None else "req_sandbox_desk"


def _shaping_faults(request: Request) -> dict[str, Fault]:
    found: dict[str, Fault] = request.scope["state"]["shaping_faults"]()
    return found


def _no_query(request: Request) -> None:
    if request.scope["query_string"]:
        raise invalid("This endpoint takes no query parameters.")


class Endpoints:
    """The seven endpoints of the API."""

    def __init__(self, service: Service) -> None:
        self._service = service

    def _account(self, request: Request, scope: str) -> str:
        """The account of the caller; the query is checked on the way."""
        account = self._service.book.account_of(contract.bearer_key(request.headers), scope)
        request.scope["state"]["exchange"].account = account
        _no_query(request)
        return account

    async def models(self, request: Request) -> Response:
        """GET /api/v1/models: public."""
        _no_query(request)
        return JSONResponse(listing())

    async def openapi(self, request: Request) -> Response:
        """GET /api/v1/openapi.json: public."""
        _no_query(request)
        return JSONResponse(document(self._service.url))

    async def credits(self, request: Request) -> Response:
        """GET /api/v1/credits."""
        account = self._account(request, "credits:read")
        return JSONResponse({"current_credits": self._service.book.credits_of(account)})

    async def upload(self, request: Request) -> Response:
        """POST /api/v1/files."""
        account = self._account(request, "files:create")
        parts = await _parts(request)
        contract.check_upload(parts)
        content_hash, readable = await asyncio.to_thread(_looked_at, parts)
        book, base_url = self._service.book, self._service.results_url
        upload = book.add_upload(account, base_url, parts, content_hash, readable)
        fault = _shaping_faults(request).get("duration_token")
        if fault is not None:
            upload.token_spelling = fault.get("spelling", "duration_token")
            upload.token = "duration_sandbox_" + secrets.token_hex(8)
        return JSONResponse(self._service.file(upload), 201)

    async def file(self, request: Request) -> Response:
        """GET /api/v1/files/{fileId}."""
        account = self._account(request, "files:read")
        return JSONResponse(
            self._service.file(self._service.book.upload(request.path_params["file_id"], account))
        )

    async def create(self, request: Request) -> Response:
        """POST /api/v1/generations: 201 for a new task, 200 for the replay of one."""
        account = self._account(request, "generations:create")
        order = contract.read_order(request.headers.get("content-type", ""), await request.body())
        exchange, key = request.scope["state"]["exchange"], request.headers.get("idempotency-key")
        if key is not None:
            _check_idempotency_key(key)
            replayed = self._service.book.claim(account, key, exchange.body_sha256)
            if replayed is not None:
                return self._as_accepted(replayed, 200)
        try:
            pause = request.scope["state"].get("pause")
            if pause is not None:
                await pause()
            shape = shaping(_shaping_faults(request))
            task = self._service.book.accept(account, order, key, exchange.body_sha256, shape)
        finally:
            if key is not None:
                self._service.book.release(account, key)
        if not task.plan.fails:
            self._service.picture(task, 0)
        return self._as_accepted(task, 201)

    def _as_accepted(self, task: Task, status: int) -> Response:
        """A task as it was when it was accepted: a replay answers what the first request was answered."""
        return JSONResponse(self._service.generation(task, task.created_at), status)

    async def status(self, request: Request) -> Response:
        """GET /api/v1/generations/{taskId}."""
        account = self._account(request, "generations:read")
        task = self._service.book.task(request.path_params["task_id"], account)
        now = time.time()
        self._service.book.noticed(task, now)
        return JSONResponse(self._service.generation(task, now))


def _check_idempotency_key(key: str) -> None:
    if re.fullmatch(contract.IDEMPOTENCY_KEY, key) is None:
        raise invalid("Idempotency-Key must be 1 to 255 visible ASCII characters without spaces.")


async def _parts(request: Request) -> UploadRequest:
    """The parts of an upload: each at most once, none unknown, ``file`` a file and the others texts."""
    if request.headers.get("content-type", "").split(";")[0].strip().lower() != "multipart/form-data":
        raise invalid("Content-Type must be multipart/form-data.")
    try:
        form = await request.form(max_files=4, max_fields=8)
    except (HTTPException, KeyError, ValueError) as error:
        raise invalid("The multipart body cannot be read.") from error
    found: dict[str, Any] = {}
    for name, value in form.multi_items():
        if name not in _PARTS:
            raise invalid(f"Unknown part: {name[:80]}.")
        if name in found:
            raise invalid(f"The part {name} is there twice.")
        if isinstance(value, UploadFile) != (name == "file"):
            raise invalid(f"The part {name} must be a {'file' if name == 'file' else 'text'}.")
        found[name] = value
    if "file" not in found or "kind" not in found:
        raise invalid("The parts file and kind are required.")
    file = found.pop("file")
    if not file.filename:
        raise invalid("The part file needs a file name.")
    mime_type = (file.content_type or "").lower()
    data = await file.read()
    await form.close()
    return UploadRequest(
        data, file.filename, found["kind"], mime_type, found.get("model"), found.get("client_request_id")
    )


def _looked_at(upload: UploadRequest) -> tuple[str, bool]:
    """SHA-256 of an upload, and whether it opens as what it is (videos and audio are taken as they are)."""
    return sha256(upload.data).hexdigest(), upload.kind != "image" or is_readable(upload.data)


class ResultOrigin:
    """The two kinds of files on the second origin."""

    def __init__(self, service: Service) -> None:
        self._service = service

    async def upload(self, request: Request) -> Response:
        """An uploaded file, as it came."""
        upload = self._service.book.upload(request.path_params["file_id"])
        return Response(upload.request.data, media_type=upload.request.mime_type)

    async def result(self, request: Request) -> Response:
        """A picture, made when it is asked for the first time."""
        index = request.path_params["index"]
        task = self._service.result_task(request.path_params["task_id"], index, dict(request.query_params))
        picture = await asyncio.wrap_future(self._service.picture(task, index))
        kind = "image/png" if task.request.option("outputFormat") == "png" else "image/jpeg"
        return Response(picture, media_type=kind)
