"""Accounts, uploads, tasks and credit entries, in memory.

One lock guards all, so that tests may read from another thread. `Accounts.settle` books the tasks that have ended;
methods that read tasks or credits call it first. Times are seconds since the epoch (UTC).
"""

from __future__ import annotations

import heapq
import secrets
import threading
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from .contract import OrderRequest, Refusal, UploadRequest, invalid
from .models import MODELS
from .records import Account, Key, Plan, Task, Upload
from .settings import Settings, latencies

_KEY_STATES = {"revoked": "api_key_revoked", "expired": "api_key_expired"}


@dataclass
class _Held:
    """An idempotency key's body hash, and its task once accepted."""

    body_sha256: str
    task: Task | None = None


@dataclass
class Accounts:
    settings: Settings
    by_name: dict[str, Account] = field(default_factory=dict)
    keys: dict[str, Key] = field(default_factory=dict)
    uploads: dict[str, Upload] = field(default_factory=dict)
    tasks: dict[str, Task] = field(default_factory=dict)
    entries: list[dict[str, Any]] = field(default_factory=list)
    lock: threading.RLock = field(default_factory=threading.RLock)

    def __post_init__(self) -> None:
        self._idempotency: dict[tuple[str, str], _Held] = {}
        self._by_url: dict[str, Upload] = {}
        self._due: list[tuple[float, str]] = []
        self._takes: Counter[str] = Counter()
        self._latencies = latencies(self.settings)
        for name, spec in (self.settings.accounts or {"main": {"keys": [self.settings.key]}}).items():
            self.by_name[name] = Account(name, int(spec.get("credits", self.settings.credits)))
            self.keys |= {key: Key(name) for key in spec["keys"]}

    def account_of(self, key: str, scope: str) -> str:
        """The account of an API key; `Refusal` if the key is invalid or lacks the scope."""
        with self.lock:
            found = self.keys.get(key)
        if found is None:
            raise Refusal(401, "api_key_invalid", "The API key cannot be verified.")
        if found.state in _KEY_STATES:
            raise Refusal(401, _KEY_STATES[found.state], f"The API key is {found.state}.")
        if scope not in found.scopes:
            raise Refusal(403, "api_scope_denied", f"The API key lacks the scope {scope}.")
        return found.account

    def add_upload(
        self, account: str, base_url: str, request: UploadRequest, sha256: str, readable: bool
    ) -> Upload:
        number = "file_sandbox_" + secrets.token_hex(8)
        extension = {"jpeg": "jpg"}.get(request.mime_type.split("/")[1], request.mime_type.split("/")[1])
        url = f"{base_url}/uploads/{number}/reference.{extension}"
        upload = Upload(number, account, url, request, time.time(), sha256, readable=readable)
        with self.lock:
            self.uploads[number] = self._by_url[url] = upload
        return upload

    def upload(self, upload_id: str, account: str | None = None) -> Upload:
        """An upload (of one account, if given) that has not expired; else 404."""
        with self.lock:
            found = self.uploads.get(upload_id)
            if found is None or not self._is_alive(found) or account not in (None, found.account):
                raise Refusal(404, "not_found", "The file does not exist in this account.")
            return found

    def _is_alive(self, upload: Upload) -> bool:
        lifetime = self.settings.upload_lifetime
        return upload.alive and (lifetime is None or time.time() < upload.created_at + lifetime)

    def _reference(self, account: str, request: OrderRequest) -> Upload | None:
        """The upload that an order refers to; refused if it is another account's or has expired."""
        item = request.reference
        if item is None:
            return None
        upload = self._by_url.get(item["url"])
        if upload is None or upload.account != account or not self._is_alive(upload):
            raise invalid("params.referenceMediaItems[0].url is not a file that this account uploaded.")
        if upload.request.kind != item["kind"]:
            raise invalid("params.referenceMediaItems[0].kind is not that of the uploaded file.")
        if item.get("mimeType", upload.request.mime_type) != upload.request.mime_type:
            raise invalid("params.referenceMediaItems[0].mimeType is not that of the uploaded file.")
        if item.get("durationToken") != upload.token:
            raise invalid("params.referenceMediaItems[0].durationToken is not what the upload returned.")
        return upload

    def claim(self, account: str, key: str, body_sha256: str) -> Task | None:
        """Claim an idempotency key before the work; returns the task to replay, or refuses a repeat with 409."""
        with self.lock:
            held = self._idempotency.get((account, key))
            if held is None:
                self._idempotency[account, key] = _Held(body_sha256)
                return None
            if held.body_sha256 != body_sha256:
                raise Refusal(409, "idempotency_conflict", "The Idempotency-Key was used with another body.")
            if held.task is None:
                raise Refusal(
                    409, "idempotency_conflict", "A request with this Idempotency-Key is in progress."
                )
            if self.settings.reject_repeats:
                raise Refusal(409, "idempotency_conflict", "The Idempotency-Key was used before.")
            return held.task

    def release(self, account: str, key: str) -> None:
        with self.lock:
            held = self._idempotency.get((account, key))
            if held is not None and held.task is None:
                del self._idempotency[account, key]

    def forget_keys(self) -> None:
        with self.lock:
            self._idempotency.clear()

    def accept(
        self,
        account: str,
        request: OrderRequest,
        key: str | None,
        body_sha256: str,
        shaping: Mapping[str, Any],
    ) -> Task:
        """Create a task and reserve its credits; ``shaping`` overrides parts of its plan."""
        with self.lock:
            upload = self._reference(account, request)
            self.settle()
            wallet, price = self.by_name[account], MODELS[request.model].credits
            if self.settings.max_open is not None and wallet.open >= self.settings.max_open:
                raise Refusal(429, "rate_limited", "Too many orders are open.", {"Retry-After": "1"})
            if wallet.credits < price:
                raise Refusal(402, "insufficient_credits", "The account does not have enough credits.")
            take = self._take(account, request, upload)
            plan = self._plan(upload, shaping)
            task_id = "task_sandbox_" + secrets.token_hex(8)
            task = Task(task_id, account, request, price, upload, key, body_sha256, take, plan, time.time())
            self.tasks[task_id] = task
            wallet.credits -= price
            wallet.reserved += price
            wallet.open += 1
            self._enter(task, "reserve", price, task.created_at)
            heapq.heappush(self._due, (task.finish_at, task_id))
            if key is not None:
                self._idempotency[account, key] = _Held(body_sha256, task)
            return task

    def _take(self, account: str, request: OrderRequest, upload: Upload | None) -> int:
        """The number of earlier equal orders, so that each gets its own picture."""
        params = sorted(
            (key, repr(value)) for key, value in request.params.items() if key != "referenceMediaItems"
        )
        content = upload.sha256 if upload else None
        order = repr((account, request.model, request.prompt, params, content))
        self._takes[order] += 1
        return self._takes[order] - 1

    def _plan(self, upload: Upload | None, shaping: Mapping[str, Any]) -> Plan:
        latency = float(shaping.get("latency", next(self._latencies)))
        if upload is not None and not upload.readable:
            error = {"code": "generation_failed", "message": "The reference cannot be read."}
            return Plan(latency, fails=True, error=error)
        return Plan(latency, **{name: value for name, value in shaping.items() if name != "latency"})

    def task(self, task_id: str, account: str) -> Task:
        """A task of an account; else 404."""
        with self.lock:
            found = self.tasks.get(task_id)
            if found is None or found.dropped or found.account != account:
                raise Refusal(404, "not_found", "The task does not exist in this account.")
            return found

    def noticed(self, task: Task, now: float) -> None:
        """Count a status read, note the first after the end, and renew expired result URLs."""
        with self.lock:
            self.settle(now)
            task.polls += 1
            if now < task.finish_at:
                return
            if task.noticed_at is None:
                task.noticed_at = now
            if task.urls_expire_at is None:
                task.urls_expire_at = now + self.settings.result_lifetime
            elif now >= task.urls_expire_at and not task.gone:
                task.generation += 1
                task.urls_expire_at = now + self.settings.result_lifetime

    def settle(self, now: float | None = None) -> None:
        """Charge or refund every task that has ended."""
        with self.lock:
            until = time.time() if now is None else now
            while self._due and self._due[0][0] <= until:
                moment, task_id = heapq.heappop(self._due)
                task = self.tasks[task_id]
                if not task.settled:
                    self._settle(task, moment)

    def finish(self, task: Task) -> None:
        with self.lock:
            now = time.time()
            if task.status(now) in ("queued", "processing"):
                task.plan = replace(task.plan, latency=now - task.created_at)
                heapq.heappush(self._due, (task.finish_at, task.id))
                self.settle()

    def _settle(self, task: Task, moment: float) -> None:
        wallet = self.by_name[task.account]
        wallet.reserved -= task.credits
        wallet.open -= 1
        task.settled = True
        if task.plan.fails and not task.plan.charged_on_failure:
            wallet.credits += task.credits
            self._enter(task, "refund", task.credits, moment)
        else:
            wallet.spent += task.credits
            task.final_credits = task.credits
            self._enter(task, "charge", task.credits, moment)

    def _enter(self, task: Task, kind: str, amount: int, moment: float) -> None:
        entry = {"time": moment, "account": task.account, "task": task.id, "kind": kind, "credits": amount}
        self.entries.append(entry)

    def credits_of(self, account: str) -> int:
        with self.lock:
            self.settle()
            return self.by_name[account].credits
