"""The front door: every request passes here, is noted, may be hit by a fault, and is answered."""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import secrets
import time
from collections.abc import Awaitable, Callable
from email.utils import formatdate
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from .faults import SAMPLES, Fault
from .settings import NOTICE
from .traffic import Exchange
from .wire import Answer, Wire

if TYPE_CHECKING:
    from .service import Service

Scope = dict[str, Any]
App = Callable[[Scope, Callable[..., Awaitable[Any]], Callable[..., Awaitable[Any]]], Awaitable[None]]

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
    ("GET", "/api/v1/openapi.json"): "openapi",
}


def endpoint_of(method: str, path: str) -> str:
    """The fault desk's name for a request to the API origin; "other" for what is no endpoint."""
    for prefix, name in (("/api/v1/files/", "file"), ("/api/v1/generations/", "status")):
        if method == "GET" and path.startswith(prefix):
            return name
    return _COLLECTIONS.get((method, path), "other")


def error_body(code: str, message: str, request_id: str) -> dict[str, Any]:
    """The documented shape of every error."""
    return {"error": {"code": code, "message": message, "requestId": request_id}}


class Front:
    """ASGI application around both origins."""

    def __init__(self, service: Service, api: App, results: App) -> None:
        self._service = service
        self._apps = {"api": api, "results": results}

    async def __call__(self, scope: Scope, receive: Callable[..., Any], send: Callable[..., Any]) -> None:
        """Serve one request."""
        origin = "results" if scope["server"][1] == self._service.settings.results_port else "api"
        if scope["path"] == "/" or scope["path"].startswith("/_sandbox"):
            await self._apps["api"](scope, receive, send)
            return
        exchange = self._note(scope, origin)
        wire = Wire(scope["state"]["connection"], receive)
        fault = self._service.faults.take(exchange.endpoint, (exchange.path.encode(),), "headers")
        body = await _read(receive, fault.get("at_byte") if fault else None)
        if fault is None and body is not None:
            await self._received(scope, exchange, body)
            texts = (exchange.path.encode(), (exchange.idempotency_key or "").encode(), body)
            fault = self._service.faults.take(exchange.endpoint, texts, "request")
            scope["state"]["shaping_faults"] = lambda: self._shaping(exchange, texts)
        exchange.fault = fault.action if fault else None
        if body is None or (fault is not None and fault.action == "cut_before"):
            await wire.close(reset=bool(fault and fault.get("reset")))
        else:
            answer = await self._work(scope, exchange, fault, body)
            exchange.status = answer.status
            await self._deliver(answer, fault, wire, send)
        self._service.traffic.advance(exchange, "answered")
        _log.info(
            "%s: %s %s %s %s", NOTICE, exchange.method, exchange.path, exchange.status, exchange.fault or ""
        )

    def _note(self, scope: Scope, origin: str) -> Exchange:
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        exchange = self._service.traffic.add(
            origin=origin,
            endpoint="result" if origin == "results" else endpoint_of(scope["method"], scope["path"]),
            method=scope["method"],
            path=scope["path"],
            idempotency_key=headers.get("idempotency-key"),
            content_type=headers.get("content-type", ""),
            request_id="req_sandbox_" + secrets.token_hex(8),
        )
        scope["state"]["exchange"] = exchange
        kept = {
            name: value for name, value in headers.items() if origin == "results" or name != "authorization"
        }
        self._look_for_keys(exchange, f"{scope['path']} {scope['query_string']!r} {kept}")
        if origin == "results" and "authorization" in headers:
            self._service.traffic.violation(
                exchange, "An Authorization header was sent to the result origin."
            )
        return exchange

    def _look_for_keys(self, exchange: Exchange, text: str) -> None:
        if any(key in text for key in list(self._service.book.keys)):
            place = (
                "to the result origin" if exchange.origin == "results" else "outside the Authorization header"
            )
            self._service.traffic.violation(exchange, f"An API key was sent {place}.")

    async def _received(self, scope: Scope, exchange: Exchange, body: bytes) -> None:
        hashed = sha256(body) if len(body) < 200_000 else await asyncio.to_thread(sha256, body)
        self._service.traffic.advance(exchange, "received", size=len(body), body_sha256=hashed.hexdigest())
        if exchange.endpoint == "create":
            self._look_for_keys(exchange, body.decode("utf-8", "replace"))

    async def _work(self, scope: Scope, exchange: Exchange, fault: Fault | None, body: bytes) -> Answer:
        """Let the service do what was asked, or what the fault says in its place; returns the answer."""
        when = (
            fault.get("when", "before" if fault.action in ("stall", "status") else "after") if fault else None
        )
        if fault and fault.action == "stall" and when == "before" and "at_byte" not in fault.fields:
            await self._pause(fault.get("seconds", 3600.0))
        if fault and fault.action in ("status", "body") and when == "before":
            return self._false_answer(fault, exchange, None)
        if fault and fault.action == "stall" and when == "during":
            scope["state"]["pause"] = lambda: self._pause(fault.get("seconds", 3600.0))
        answer = await self._ask(scope, exchange, body)
        self._service.traffic.advance(exchange, "worked")
        if fault and fault.action == "stall" and when == "after" and "at_byte" not in fault.fields:
            await self._pause(fault.get("seconds", 3600.0))
        if fault and fault.action in ("status", "body"):
            return self._false_answer(fault, exchange, answer)
        if fault and fault.action == "patch":
            return _patched(answer, fault)
        return answer

    def _shaping(self, exchange: Exchange, texts: tuple[bytes, ...]) -> dict[str, Fault]:
        """The faults that shape what is being accepted; noted where no other fault hit the request."""
        found = self._service.faults.take_all(exchange.endpoint, texts)
        exchange.fault = exchange.fault or next(iter(found), None)
        return found

    async def _ask(self, scope: Scope, exchange: Exchange, body: bytes) -> Answer:
        """Run the application behind, and keep its whole answer."""
        status, headers, parts = 500, (), [b""]
        inbox = [{"type": "http.request", "body": body, "more_body": False}]

        async def receive() -> dict[str, Any]:
            return inbox.pop() if inbox else {"type": "http.disconnect"}

        async def send(message: dict[str, Any]) -> None:
            nonlocal status, headers
            if message["type"] == "http.response.start":
                status, headers = message["status"], tuple(message.get("headers", ()))
            else:
                parts.append(message.get("body", b""))

        try:
            await self._apps[exchange.origin](scope, receive, send)
        except Exception as error:
            _log.exception("%s: the sandbox itself has a fault", NOTICE)
            self._service.traffic.errors.append(repr(error))
            text = json.dumps(
                error_body("internal_error", "The sandbox has a fault.", exchange.request_id)
            ).encode()
            return Answer(500, ((b"content-type", b"application/json"),), text).with_body(text)
        return Answer(status, headers, b"".join(parts))

    async def _pause(self, seconds: float) -> None:
        """Wait, but no longer than until the faults are cleared."""
        cleared, end = self._service.faults.cleared, time.monotonic() + seconds
        # Faults are cleared from other threads, and a thread per stall would be too many: so a look every 20 ms.
        while not cleared.is_set() and (left := end - time.monotonic()) > 0:  # noqa: ASYNC110
            await asyncio.sleep(min(0.02, left))

    def _false_answer(self, fault: Fault, exchange: Exchange, real: Answer | None) -> Answer:
        """The answer that a ``status`` or ``body`` fault gives."""
        status = fault.get("status", 500 if fault.action == "status" else 200)
        if fault.get("sample") == "half":
            half = real.body[: len(real.body) // 2] if real else b""
            return (real or Answer(status, (), b"")).with_body(half)
        mime_type, body = _false_body(fault, status, exchange.request_id)
        answer = Answer(status, (), b"").with_body(body).with_headers({"content-type": mime_type})
        if fault.get("retry_after") is not None:
            answer = answer.with_headers({"retry-after": _retry_after(fault)})
        return answer.with_headers(fault.get("headers", {}))

    async def _deliver(
        self, answer: Answer, fault: Fault | None, wire: Wire, send: Callable[..., Any]
    ) -> None:
        """Send the answer: as it is, or as the fault has it."""
        raw = fault is not None and (
            fault.action in ("cut_after", "truncate", "slow")
            or (fault.action == "stall" and "at_byte" in fault.fields)
        )
        if fault is None or not raw:
            if fault is not None and fault.action == "close_listener":
                await self._service.listeners.close(fault.get("seconds", 1.0), fault.get("origin", "api"))
                answer = answer.with_headers({"connection": "close"})
            await send(
                {"type": "http.response.start", "status": answer.status, "headers": list(answer.headers)}
            )
            await send({"type": "http.response.body", "body": answer.body})
            return
        head, whole = answer.head(), answer.head() + answer.body
        if fault.action == "cut_after":
            await wire.write(whole[: fault.get("at_byte", 0)])
        elif fault.action == "truncate":
            await wire.write(head + answer.body[: fault.get("at_byte", len(answer.body) // 2)])
        elif fault.action == "stall":
            await wire.write(whole[: fault.get("at_byte")])
            await self._pause(fault.get("seconds", 3600.0))
            await wire.write(whole[fault.get("at_byte") :])
        else:
            chunk = fault.get("chunk", 1024)
            for start in range(0, len(whole), chunk):
                await wire.write(whole[start : start + chunk])
                await self._pause(fault.get("interval", 0.05))
        await wire.close(reset=bool(fault.get("reset")))


async def _read(receive: Callable[..., Any], at_most: int | None) -> bytes | None:
    """The body of the request; None when the client went away, when it is too large, or after ``at_most`` bytes."""
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
    return (
        formatdate(time.time() + seconds, usegmt=True)
        if fault.get("retry_after_form") == "date"
        else str(seconds)
    )


def _patched(answer: Answer, fault: Fault) -> Answer:
    """The real JSON answer with parts set and parts left out."""
    if answer.status < 300 and (fault.get("values") or fault.get("drop")):
        found = json.loads(answer.body)
        for path, value in fault.get("values", {}).items():
            holder, name = _inside(found, path)
            holder[name] = value
        for path in fault.get("drop", ()):
            holder, name = _inside(found, path)
            holder.pop(name, None)
        answer = answer.with_body(json.dumps(found).encode())
    answer = Answer(fault.get("status", answer.status), answer.headers, answer.body)
    return answer.with_headers(fault.get("headers", {}))


def _inside(found: dict[str, Any], path: str) -> tuple[dict[str, Any], str]:
    *steps, name = path.split(".")
    for step in steps:
        found = found.get(step) or {}
    return found, name
