"""The endpoints of both origins, as Starlette applications."""

from __future__ import annotations

import asyncio
import re
import secrets
import time
from hashlib import sha256
from typing import Any

from starlette.applications import Starlette
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from . import contract
from .contract import Refusal, UploadRequest, error_body, invalid
from .control import control_routes
from .faults import Fault
from .models import listing
from .pictures import is_readable
from .records import Task
from .service import Service, shaping

_PARTS = {"file", "kind", "model", "client_request_id"}


def api_app(service: Service) -> Starlette:
    endpoints = Endpoints(service)
    routes = [
        Route("/api/v1/models", endpoints.models, methods=["GET"]),
        Route("/api/v1/files", endpoints.upload, methods=["POST"]),
        Route("/api/v1/files/{file_id}", endpoints.file, methods=["GET"]),
        Route("/api/v1/generations", endpoints.create, methods=["POST"]),
        Route("/api/v1/generations/{task_id}", endpoints.status, methods=["GET"]),
        Route("/api/v1/credits", endpoints.credits, methods=["GET"]),
        *control_routes(service),
    ]
    handlers: dict[Any, Any] = {Refusal: _refused, HTTPException: _no_such_place}
    return Starlette(routes=routes, exception_handlers=handlers)


def results_app(service: Service) -> Starlette:
    """The second origin: uploads and results, without a key."""
    endpoints = Endpoints(service)
    routes = [
        Route("/uploads/{file_id}/{name}", endpoints.uploaded, methods=["GET"]),
        Route("/results/{task_id}/{index:int}.{extension}", endpoints.result, methods=["GET"]),
    ]
    handlers: dict[Any, Any] = {Refusal: _refused_in_text}
    return Starlette(routes=routes, exception_handlers=handlers)


async def _refused(request: Request, refusal: Refusal) -> Response:
    exchange = request.scope["state"].get("exchange")
    request_id = exchange.request_id if exchange is not None else "req_sandbox_control"
    body = error_body(refusal.code, refusal.message, request_id)
    return JSONResponse(body, refusal.status, headers=refusal.headers)


async def _no_such_place(request: Request, error: HTTPException) -> Response:
    code = {404: "not_found", 405: "method_not_allowed"}.get(error.status_code, "validation_failed")
    return await _refused(request, Refusal(error.status_code, code, error.detail, error.headers or {}))


async def _refused_in_text(request: Request, refusal: Refusal) -> Response:
    return Response(refusal.message, refusal.status, media_type="text/plain")


def _shaping_faults(request: Request) -> dict[str, Fault]:
    found: dict[str, Fault] = request.scope["state"]["shaping_faults"]()
    return found


def _no_query(request: Request) -> None:
    if request.scope["query_string"]:
        raise invalid("This endpoint takes no query parameters.")


class Endpoints:
    """The API's six endpoints, and the two kinds of files on the second origin."""

    def __init__(self, service: Service) -> None:
        self._service = service

    def _account(self, request: Request, scope: str) -> str:
        """The caller's account. Also refuses a query."""
        account = self._service.accounts.account_of(contract.bearer_key(request.headers), scope)
        request.scope["state"]["exchange"].account = account
        _no_query(request)
        return account

    async def models(self, request: Request) -> Response:
        """GET /api/v1/models: public."""
        _no_query(request)
        return JSONResponse(listing())

    async def credits(self, request: Request) -> Response:
        """GET /api/v1/credits."""
        account = self._account(request, "credits:read")
        return JSONResponse({"current_credits": self._service.accounts.credits_of(account)})

    async def upload(self, request: Request) -> Response:
        """POST /api/v1/files."""
        account = self._account(request, "files:create")
        parts = await _parts(request)
        contract.check_upload(parts)
        digest = await asyncio.to_thread(sha256, parts.data)
        readable = parts.kind != "image" or await asyncio.to_thread(is_readable, parts.data)
        upload = self._service.accounts.add_upload(
            account, self._service.results_url, parts, digest.hexdigest(), readable
        )
        fault = _shaping_faults(request).get("duration_token")
        if fault is not None:
            upload.token_spelling = fault.get("spelling", "duration_token")
            upload.token = "duration_sandbox_" + secrets.token_hex(8)
        return JSONResponse(self._service.file(upload), 201)

    async def file(self, request: Request) -> Response:
        """GET /api/v1/files/{fileId}."""
        account = self._account(request, "files:read")
        upload = self._service.accounts.upload(request.path_params["file_id"], account)
        return JSONResponse(self._service.file(upload))

    async def create(self, request: Request) -> Response:
        """POST /api/v1/generations: 201 for a new task, 200 for a replay."""
        account, accounts = self._account(request, "generations:create"), self._service.accounts
        order = contract.read_order(request.headers.get("content-type", ""), await request.body())
        body_sha256, key = (
            request.scope["state"]["exchange"].body_sha256,
            request.headers.get("idempotency-key"),
        )
        if key is not None:
            if re.fullmatch(contract.IDEMPOTENCY_KEY, key) is None:
                raise invalid("Idempotency-Key must be 1 to 255 visible ASCII characters without spaces.")
            replayed = accounts.claim(account, key, body_sha256)
            if replayed is not None:
                return self._as_accepted(replayed, 200)
        try:
            pause = request.scope["state"].get("pause")
            if pause is not None:
                await pause()
            task = accounts.accept(account, order, key, body_sha256, shaping(_shaping_faults(request)))
        finally:
            if key is not None:
                accounts.release(account, key)
        if not task.plan.fails:
            self._service.picture(task, 0)
        return self._as_accepted(task, 201)

    def _as_accepted(self, task: Task, status: int) -> Response:
        """The task as it was when accepted: a replay gets the first response again."""
        return JSONResponse(self._service.generation(task, task.created_at), status)

    async def status(self, request: Request) -> Response:
        """GET /api/v1/generations/{taskId}."""
        account = self._account(request, "generations:read")
        task = self._service.accounts.task(request.path_params["task_id"], account)
        now = time.time()
        self._service.accounts.noticed(task, now)
        return JSONResponse(self._service.generation(task, now))

    async def uploaded(self, request: Request) -> Response:
        """GET /uploads on the second origin: an upload, byte for byte."""
        upload = self._service.accounts.upload(request.path_params["file_id"])
        return Response(upload.request.data, media_type=upload.request.mime_type)

    async def result(self, request: Request) -> Response:
        """GET /results on the second origin: a picture, drawn at the first request."""
        index = request.path_params["index"]
        task = self._service.result_task(request.path_params["task_id"], index, dict(request.query_params))
        picture = await asyncio.wrap_future(self._service.picture(task, index))
        kind = "image/png" if task.request.option("outputFormat") == "png" else "image/jpeg"
        return Response(picture, media_type=kind)


async def _parts(request: Request) -> UploadRequest:
    """The parts of an upload: each at most once, none unknown, ``file`` a file, the others text."""
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
