"""The ASGI application around both origins: logs requests, applies faults, sends responses."""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import secrets
import threading
import time
from collections.abc import Awaitable, Callable
from email.utils import formatdate
from hashlib import sha256
from typing import Any

from starlette.responses import JSONResponse, Response

from .contract import error_body
from .faults import SAMPLES, Fault
from .raw_http import RawConnection, head
from .request_log import Exchange
from .service import Service
from .settings import NOTICE

Scope = dict[str, Any]
Channel = Callable[..., Awaitable[Any]]
App = Callable[[Scope, Channel, Channel], Awaitable[None]]

BODY_LIMIT_BYTES = 64_000_000
_log = logging.getLogger("sandbox")
_CODES = {
    400: "validation_failed",
    401: "api_key_invalid",
    402: "insufficient_credits",
    403: "api_scope_denied",
    404: "not_found",
    409: "idempotency_conflict",
    429: "rate_limited",
    503: "public_api_disabled",
}
_COLLECTIONS = {
    ("POST", "/api/v1/files"): "upload",
    ("POST", "/api/v1/generations"): "create",
    ("GET", "/api/v1/credits"): "credits",
    ("GET", "/api/v1/models"): "models",
}


def endpoint_of(method: str, path: str) -> str:
    """The endpoint's name in faults, for a request to the API origin; "other" if unknown."""
    for prefix, name in (("/api/v1/files/", "file"), ("/api/v1/generations/", "status")):
        if method == "GET" and path.startswith(prefix):
            return name
    return _COLLECTIONS.get((method, path), "other")


class Middleware:
    def __init__(self, service: Service, api: App, results: App) -> None:
        self._service = service
        self._apps = {"api": api, "results": results}

    async def __call__(self, scope: Scope, receive: Channel, send: Channel) -> None:
        origin = "results" if scope["server"][1] == self._service.settings.results_port else "api"
        if scope["path"] == "/" or scope["path"].startswith("/_sandbox"):
            await self._apps["api"](scope, receive, send)
            return
        exchange = self._note(scope, origin)
        connection = RawConnection(scope["state"]["connection"], receive)
        fault = self._service.faults.take(exchange.endpoint, (exchange.path.encode(),), "headers")
        body = await _read(receive, fault.get("at_byte") if fault else None)
        if fault is None and body is not None:
            await self._received(exchange, body)
            texts = (exchange.path.encode(), (exchange.idempotency_key or "").encode(), body)
            fault = self._service.faults.take(exchange.endpoint, texts, "request")
            scope["state"]["shaping_faults"] = lambda: self._shaping(exchange, texts)
        exchange.fault = fault.action if fault else None
        if body is None or (fault is not None and fault.action == "cut_before"):
            await connection.close(reset=bool(fault and fault.get("reset")))
        else:
            answer = await self._work(scope, exchange, fault, body)
            exchange.status = answer.status_code
            await self._deliver(answer, fault, connection, scope, send)
        self._service.log.advance(exchange, "answered")
        words = NOTICE, exchange.method, exchange.path, exchange.status, exchange.fault or ""
        _log.info("%s: %s %s %s %s", *words)

    def _note(self, scope: Scope, origin: str) -> Exchange:
        """Log a request whose headers have arrived, and any violation in them."""
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        exchange = self._service.log.add(
            origin=origin,
            endpoint="result" if origin == "results" else endpoint_of(scope["method"], scope["path"]),
            method=scope["method"],
            path=scope["path"],
            idempotency_key=headers.get("idempotency-key"),
            content_type=headers.get("content-type", ""),
            request_id="req_sandbox_" + secrets.token_hex(8),
        )
        scope["state"]["exchange"] = exchange
        if origin == "results" and "authorization" in headers:
            self._service.log.violation(exchange, "An Authorization header was sent to the result origin.")
        elif origin == "api":
            headers.pop("authorization", None)
        self._look_for_keys(exchange, f"{scope['path']} {scope['query_string']!r} {headers}")
        return exchange

    def _look_for_keys(self, exchange: Exchange, text: str) -> None:
        if any(key in text for key in list(self._service.accounts.keys)):
            to_results = exchange.origin == "results"
            place = "to the result origin" if to_results else "outside the Authorization header"
            self._service.log.violation(exchange, f"An API key was sent {place}.")

    async def _received(self, exchange: Exchange, body: bytes) -> None:
        hashed = sha256(body) if len(body) < 200_000 else await asyncio.to_thread(sha256, body)
        self._service.log.advance(exchange, "received", size=len(body), body_sha256=hashed.hexdigest())
        if exchange.endpoint == "create":
            self._look_for_keys(exchange, body.decode("utf-8", "replace"))

    def _shaping(self, exchange: Exchange, texts: tuple[bytes, ...]) -> dict[str, Fault]:
        """The faults that shape an accepted request; logged if no other fault hit it."""
        found = self._service.faults.take_all(exchange.endpoint, texts)
        exchange.fault = exchange.fault or next(iter(found), None)
        return found

    async def _work(self, scope: Scope, exchange: Exchange, fault: Fault | None, body: bytes) -> Response:
        """Run the application, or the fault in its place; returns the response."""
        if fault is None:
            return await self._ask(scope, exchange, body)
        when = fault.get("when", "before" if fault.action in ("stall", "status") else "after")
        stalls = fault.action == "stall" and "at_byte" not in fault.fields
        if stalls and when == "before":
            await self._stall(fault)
        if fault.action in ("status", "body") and when == "before":
            return _false_answer(fault, exchange, Response())
        if fault.action == "stall" and when == "during":
            scope["state"]["pause"] = lambda: self._stall(fault)
        answer = await self._ask(scope, exchange, body)
        self._service.log.advance(exchange, "worked")
        if stalls and when == "after":
            await self._stall(fault)
        if fault.action in ("status", "body"):
            return _false_answer(fault, exchange, answer)
        return _patched(answer, fault) if fault.action == "patch" else answer

    async def _ask(self, scope: Scope, exchange: Exchange, body: bytes) -> Response:
        """Run the application; returns its whole response."""
        answer, parts = Response(), []
        inbox = [{"type": "http.request", "body": body, "more_body": False}]

        async def receive() -> dict[str, Any]:
            return inbox.pop() if inbox else {"type": "http.disconnect"}

        async def send(message: dict[str, Any]) -> None:
            if message["type"] == "http.response.start":
                answer.status_code, answer.raw_headers = message["status"], message["headers"]
            else:
                parts.append(message.get("body", b""))

        try:
            await self._apps[exchange.origin](scope, receive, send)
        except Exception as error:
            _log.exception("%s: the sandbox itself has a fault", NOTICE)
            self._service.log.errors.append(repr(error))
            return JSONResponse(
                error_body("internal_error", "The sandbox has a fault.", exchange.request_id), 500
            )
        answer.body = b"".join(parts)
        return answer

    async def _stall(self, fault: Fault) -> None:
        await self._pause(fault.get("seconds", 3600.0))

    async def _pause(self, seconds: float, cleared: threading.Event | None = None) -> None:
        """Wait until the time is up or faults are cleared."""
        cleared, end = cleared or self._service.faults.cleared, time.monotonic() + seconds
        # Polls: other threads clear faults, and a thread per stall would be too many.
        while not cleared.is_set() and (left := end - time.monotonic()) > 0:  # noqa: ASYNC110
            await asyncio.sleep(min(0.02, left))

    async def _deliver(
        self, answer: Response, fault: Fault | None, connection: RawConnection, scope: Scope, send: Channel
    ) -> None:
        """Send the response; malformed ones are written to the connection directly."""
        action = fault.action if fault is not None else None
        if fault is None or not (
            action in ("cut_after", "truncate", "slow") or (action == "stall" and "at_byte" in fault.fields)
        ):
            if fault is not None and action == "close_listener":
                await self._service.listeners.close(fault.get("seconds", 1.0), fault.get("origin", "api"))
                answer.headers["connection"] = "close"
            await answer(scope, connection.receive, send)
            return
        body, whole = bytes(answer.body), head(answer) + answer.body
        if action == "cut_after":
            await connection.write(whole[: fault.get("at_byte", 0)])
        elif action == "truncate":
            await connection.write(head(answer) + body[: fault.get("at_byte", len(body) // 2)])
        elif action == "stall":
            await connection.write(whole[: fault.get("at_byte")])
            await self._stall(fault)
            await connection.write(whole[fault.get("at_byte") :])
        else:
            chunk, cleared = fault.get("chunk", 1024), self._service.faults.cleared
            for start in range(0, len(whole), chunk):
                await connection.write(whole[start : start + chunk])
                await self._pause(fault.get("interval", 0.05), cleared)
        await connection.close(reset=bool(fault.get("reset")))


async def _read(receive: Channel, at_most: int | None) -> bytes | None:
    """The body; None if the client left, it is too large, or ``at_most`` bytes have come."""
    parts, size = [], 0
    while at_most is None or size < at_most:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        parts.append(message.get("body", b""))
        size += len(parts[-1])
        if size > BODY_LIMIT_BYTES:
            return None
        if not message.get("more_body"):
            return b"".join(parts)
    return None


def _false_answer(fault: Fault, exchange: Exchange, real: Response) -> Response:
    if fault.get("sample") == "half":
        return _with_body(real, real.body[: len(real.body) // 2])
    status = fault.get("status", 500 if fault.action == "status" else 200)
    mime_type, body = _false_body(fault, status, exchange.request_id)
    answer = _with_body(Response(status_code=status, headers={"content-type": mime_type}), body)
    if fault.get("retry_after") is not None:
        answer.headers["retry-after"] = _retry_after(fault)
    answer.headers.update(fault.get("headers", {}))
    return answer


def _with_body(answer: Response, body: bytes | memoryview) -> Response:
    answer.body = body
    answer.headers["content-length"] = str(len(body))
    return answer


def _false_body(fault: Fault, status: int, request_id: str) -> tuple[str, bytes]:
    if "sample" in fault.fields:
        return SAMPLES[fault.get("sample")]
    if "body_base64" in fault.fields:
        return "application/octet-stream", base64.b64decode(fault.get("body_base64"))
    body = fault.get("body")
    if isinstance(body, str):
        return "text/plain; charset=utf-8", body.encode("utf-8", "surrogatepass")
    if body is None:
        code = fault.get("code", _CODES.get(status, "internal_error"))
        body = error_body(code, fault.get("message", "The sandbox was asked to answer so."), request_id)
    return "application/json", json.dumps(body).encode()


def _retry_after(fault: Fault) -> str:
    seconds = fault.get("retry_after")
    as_date = fault.get("retry_after_form") == "date"
    return formatdate(time.time() + seconds, usegmt=True) if as_date else str(seconds)


def _patched(answer: Response, fault: Fault) -> Response:
    if answer.status_code < 300 and (fault.get("values") or fault.get("drop")):
        found = json.loads(bytes(answer.body))
        for path, value in fault.get("values", {}).items():
            holder, name = _inside(found, path)
            holder[name] = value
        for path in fault.get("drop", ()):
            holder, name = _inside(found, path)
            holder.pop(name, None)
        _with_body(answer, json.dumps(found).encode())
    answer.status_code = fault.get("status", answer.status_code)
    answer.headers.update(fault.get("headers", {}))
    return answer


def _inside(found: dict[str, Any], path: str) -> tuple[dict[str, Any], str]:
    *steps, name = path.split(".")
    for step in steps:
        found = found.get(step) or {}
    return found, name
