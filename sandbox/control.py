"""The control interface for tests, from Python or over HTTP. The real service has none of it.

``GET /_sandbox/`` is an HTML page, ``GET /_sandbox/book`` and ``GET /_sandbox/faults`` are JSON.
``POST /_sandbox/<operation>`` with a JSON object of arguments runs an operation of `Control`.
"""

from __future__ import annotations

import asyncio
import base64
import html
import json
import time
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from .records import Account, Key, Task, Upload
from .service import Service
from .settings import NOTICE, ORIGINS

_TASK_FIELDS = (
    *("id", "account", "idempotency_key", "body_sha256", "take", "credits", "final_credits"),
    *("created_at", "finish_at", "noticed_at", "polls"),
)
_UPLOAD_FIELDS = ("id", "account", "url", "sha256", "token", "created_at", "alive")
_REQUEST_FIELDS = ("name", "kind", "mime_type", "model", "client_request_id")


class Control:
    """The operations: plain values in, plain JSON values out."""

    def __init__(self, service: Service) -> None:
        self._service = service

    def perform(self, name: str, arguments: dict[str, Any]) -> Any:
        """Run an operation; ValueError for an unknown name or wrong arguments."""
        operation = OPERATIONS.get(name)
        if operation is None:
            raise ValueError(f"there is no operation {name}")
        try:
            return operation(self, **arguments)
        except (TypeError, KeyError) as error:
            raise ValueError(f"{name}: {error}") from error

    def book(self) -> dict[str, Any]:
        """Accounts, tasks, uploads, ledger entries, requests, violations, and the sandbox's own errors."""
        accounts, log = self._service.accounts, self._service.log
        with accounts.lock:
            accounts.settle()
            return {
                "accounts": {name: self._account(account) for name, account in accounts.by_name.items()},
                "tasks": [self._task(task) for task in accounts.tasks.values()],
                "uploads": [_upload(upload) for upload in accounts.uploads.values()],
                "entries": [dict(entry) for entry in accounts.entries],
                "requests": log.as_dicts(),
                "violations": list(log.violations),
                "errors": list(log.errors),
            }

    def _account(self, account: Account) -> dict[str, Any]:
        keys = [text for text, key in self._service.accounts.keys.items() if key.account == account.name]
        return asdict(account) | {"keys": keys}

    def _task(self, task: Task) -> dict[str, Any]:
        status = task.status(time.time())
        return {name: getattr(task, name) for name in _TASK_FIELDS} | {
            "model": task.request.model,
            "prompt": task.request.prompt,
            "params": dict(task.request.params),
            "client_request_id": task.request.client_request_id,
            "upload": task.upload.id if task.upload is not None else None,
            "status": status,
            "charged": status == "succeeded" or (status == "failed" and task.plan.charged_on_failure),
            "latency": task.plan.latency,
            "urls": self._service.result_urls(task) if status == "succeeded" else [],
        }

    def fault(
        self, endpoint: str | tuple[str, ...] | list[str], action: str, **fields: Any
    ) -> dict[str, Any]:
        """Arm a fault: ``times`` (1; None: always), ``after``, ``probability``, ``seed``, ``contains``, its own fields.

        `sandbox.faults.ACTIONS` lists actions and fields.
        """
        return self._service.faults.arm(endpoint, action, **fields).as_dict()

    def faults(self) -> list[dict[str, Any]]:
        return self._service.faults.armed()

    def clear_faults(self) -> None:
        """Remove every fault, end every stall, reopen closed listeners."""
        self._service.faults.clear()
        self._service.listeners.run(self._service.listeners.open())

    def reset(self) -> None:
        """Restore the initial state: opening accounts; no tasks, uploads, faults or log."""
        self.clear_faults()
        self._service.reset()

    def wait(
        self,
        endpoint: str,
        stage: str = "answered",
        count: int = 1,
        timeout: float = 10.0,
        fault: str | None = None,
    ) -> bool:
        """Wait until ``count`` requests to an endpoint (hit by this fault's action) have reached a stage.

        False after ``timeout`` seconds.
        """
        return self._service.log.wait(endpoint, stage, count, timeout, fault)

    def set_key(
        self, key: str, account: str = "main", state: str = "active", scopes: list[str] | None = None
    ) -> None:
        """Add or change a key of an account (opened if new); ``state``: active, revoked or expired."""
        accounts = self._service.accounts
        if state not in ("active", "revoked", "expired"):
            raise ValueError("state must be active, revoked or expired")
        with accounts.lock:
            accounts.by_name.setdefault(account, Account(account, self._service.settings.credits))
            accounts.keys[key] = Key(account, state) if scopes is None else Key(account, state, tuple(scopes))

    def set_credits(self, amount: int, account: str = "main") -> None:
        """Set the free credits of an account."""
        with self._service.accounts.lock:
            self._service.accounts.settle()
            self._service.accounts.by_name[account].credits = amount

    def expire_uploads(self, upload: str | None = None) -> int:
        """Expire one upload, or all; returns how many."""
        with self._service.accounts.lock:
            chosen = [item for item in self._service.accounts.uploads.values() if upload in (None, item.id)]
            for item in chosen:
                item.alive = False
        return len(chosen)

    def expire_results(self, task: str | None = None, *, status: int = 403, gone: bool = False) -> int:
        """Make existing result URLs answer ``status``; reading the task gives new ones, unless ``gone``."""
        chosen = self._chosen(task)
        with self._service.accounts.lock:
            for item in chosen:
                item.generation += 1
                item.expired_status = status
                item.gone = gone
        return len(chosen)

    def finish_tasks(self, task: str | None = None) -> int:
        """End one task, or all, now; returns how many were selected."""
        chosen = self._chosen(task)
        for item in chosen:
            self._service.accounts.finish(item)
        return len(chosen)

    def drop_tasks(self, task: str | None = None) -> int:
        """Answer 404 for one task, or all; credits stay."""
        chosen = self._chosen(task)
        for item in chosen:
            item.dropped = True
        return len(chosen)

    def forget_keys(self) -> None:
        """Drop every idempotency key, as after the replay window."""
        self._service.accounts.forget_keys()

    def close_listener(self, seconds: float = 1.0, origin: str = "api") -> None:
        """Refuse connections to an origin ("api" or "results") for a while, and close idle ones."""
        if origin not in ORIGINS:
            raise ValueError(f"origin must be one of {', '.join(ORIGINS)}")
        self._service.listeners.run(self._service.listeners.close(seconds, origin))

    def advertise(self, results_url: str | None) -> None:
        """Give clients another address for uploads and results, such as a proxy's; None: the real one."""
        self._service.advertised = results_url

    def picture(self, task: str, index: int = 0) -> str:
        """The bytes of a result, in base64."""
        found = self._service.picture(self._service.accounts.tasks[task], index)
        return base64.b64encode(found.result(60)).decode()

    def _chosen(self, task: str | None) -> list[Task]:
        with self._service.accounts.lock:
            return [item for item in self._service.accounts.tasks.values() if task in (None, item.id)]


OPERATIONS: dict[str, Callable[..., Any]] = {
    name: operation
    for name, operation in vars(Control).items()
    if not name.startswith("_") and name != "perform"
}


def _upload(upload: Upload) -> dict[str, Any]:
    request = {name: getattr(upload.request, name) for name in _REQUEST_FIELDS}
    size = len(upload.request.data)
    return {name: getattr(upload, name) for name in _UPLOAD_FIELDS} | request | {"size": size}


def control_routes(service: Service) -> list[Route]:
    control = Control(service)

    async def page(request: Request) -> Response:
        return HTMLResponse(_page(service, control.book()))

    async def read(request: Request) -> Response:
        return JSONResponse(control.faults() if request.url.path.endswith("faults") else control.book())

    async def perform(request: Request) -> Response:
        body = await request.body()
        try:
            arguments = json.loads(body) if body else {}
            result = await asyncio.to_thread(control.perform, request.path_params["operation"], arguments)
        except ValueError as error:
            return JSONResponse({"sandbox_error": str(error)}, 400)
        return JSONResponse({"result": result})

    return [
        Route("/", page, methods=["GET"]),
        Route("/_sandbox/", page, methods=["GET"]),
        Route("/_sandbox/book", read, methods=["GET"]),
        Route("/_sandbox/faults", read, methods=["GET"]),
        Route("/_sandbox/{operation}", perform, methods=["POST"]),
    ]


def _page(service: Service, book: dict[str, Any]) -> str:
    accounts = "".join(
        f"<li>{html.escape(name)}: {account['credits']} credits free, {account['reserved']} reserved, "
        f"{account['spent']} spent</li>"
        for name, account in book["accounts"].items()
    )
    orders = "".join(
        f"<tr><td>{task['id']}</td><td>{task['model']}</td><td>{task['status']}</td><td>{task['credits']}</td>"
        f"<td>{html.escape(task['prompt'][:120])}</td><td>{_links(task['urls'])}</td></tr>"
        for task in reversed(book["tasks"][-50:])
    )
    return (
        f"<!doctype html><html lang=en><meta charset=utf-8><meta http-equiv=refresh content=5><title>{NOTICE}</title>"
        "<style>body{font:16px/1.5 system-ui;margin:2rem auto;max-width:70rem}td{padding:.2rem .8rem .2rem 0}</style>"
        "<h1>This is a sandbox. No real service is involved.</h1>"
        "<p>It stands in for the Rivya API on this machine: nothing is sent anywhere, nothing costs anything, "
        "and the pictures are drawn here, not by a model.</p>"
        f"<p>API: {service.url} &middot; results: {service.results_url}</p><ul>{accounts}</ul>"
        f"<h2>Orders ({len(book['tasks'])})</h2><table>{orders}</table>"
        f"<p>{len(book['requests'])} requests, {len(book['uploads'])} uploads, {len(book['violations'])} violations. "
        'All of it as JSON: <a href="/_sandbox/book">the book</a>.</p></html>'
    )


def _links(urls: list[str]) -> str:
    return " ".join(f'<a href="{html.escape(url)}">picture {n}</a>' for n, url in enumerate(urls, 1))
