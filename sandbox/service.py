"""The state of one sandbox: accounts, request log, faults and pictures."""

from __future__ import annotations

import hmac
import secrets
import time
from collections.abc import Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from datetime import datetime, timezone
from hashlib import sha256
from typing import Any

from .accounts import Accounts
from .contract import Refusal
from .faults import Fault, Faults
from .listeners import Listeners
from .pictures import Gallery, PictureOrder
from .records import Task, Upload
from .request_log import RequestLog
from .settings import Settings


def timestamp(moment: float) -> str:
    """A time as the service formats it: ISO 8601 in UTC with milliseconds."""
    text = datetime.fromtimestamp(moment, timezone.utc).isoformat(timespec="milliseconds")
    return text.replace("+00:00", "Z")


def shaping(faults: Mapping[str, Fault]) -> dict[str, Any]:
    plan: dict[str, Any] = {}
    if "fail_task" in faults:
        fault = faults["fail_task"]
        error = {"code": "generation_failed", "message": "The generation failed."}
        plan |= {"fails": True, "charged_on_failure": fault.get("charged", False)}
        plan["error"] = fault.get("error", error)
    if "results" in faults:
        plan["results"] = faults["results"].get("count", 2)
    if "latency" in faults:
        plan["latency"] = faults["latency"].get("seconds", 0.0)
    return plan


@dataclass
class Service:
    """The state behind both origins; ``settings`` holds the actual ports."""

    settings: Settings
    listeners: Listeners
    faults: Faults = field(default_factory=Faults)
    gallery: Gallery = field(default_factory=Gallery)
    log: RequestLog = field(default_factory=RequestLog)

    def __post_init__(self) -> None:
        self.accounts = Accounts(self.settings)
        self._secret = secrets.token_bytes(32)
        self.advertised: str | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.settings.port}"

    @property
    def results_url(self) -> str:
        """The second origin as clients see it."""
        return self.advertised or f"http://127.0.0.1:{self.settings.results_port}"

    def reset(self) -> None:
        self.accounts = Accounts(self.settings)
        self.log = RequestLog()
        self.advertised = None

    def generation(self, task: Task, now: float) -> dict[str, Any]:
        """A task at ``now`` as both generation endpoints show it: nine keys."""
        status = task.status(now)
        result, error = None, None
        if status == "succeeded":
            urls = self.result_urls(task)
            result = {"primary_url": urls[0], "urls": urls}
        elif status == "failed":
            error = dict(task.plan.error) if task.plan.error is not None else None
        return {
            "id": task.id,
            "status": status,
            "model": task.request.model,
            "reserved_credits": task.credits,
            "final_credits": task.final_credits if status in ("succeeded", "failed") else 0,
            "created_at": timestamp(task.created_at),
            "updated_at": timestamp(task.changed_at(now)),
            "result": result,
            "error": error,
        }

    def file(self, upload: Upload) -> dict[str, Any]:
        shown = {
            "id": upload.id,
            "object": "file",
            "kind": upload.request.kind,
            "url": upload.url,
            "name": upload.request.name,
            "mime_type": upload.request.mime_type,
            "size": len(upload.request.data),
            "duration_seconds": None,
            "duration_token": None,
            "created_at": timestamp(upload.created_at),
        }
        if upload.token_spelling is not None:
            del shown["duration_token"]
            shown[upload.token_spelling] = upload.token
        return shown

    def result_urls(self, task: Task) -> list[str]:
        return [self._result_url(task, index) for index in range(task.plan.results)]

    def _result_url(self, task: Task, index: int) -> str:
        extension = {"jpeg": "jpg"}.get(task.request.option("outputFormat"), "png")
        expires = int(task.urls_expire_at or task.finish_at + self.settings.result_lifetime)
        signature = self._signature(task.id, index, task.generation, expires)
        query = f"expires={expires}&generation={task.generation}&signature={signature}"
        return f"{self.results_url}/results/{task.id}/{index}.{extension}?{query}"

    def _signature(self, task_id: str, index: int, generation: int, expires: int) -> str:
        text = f"{task_id}/{index}/{generation}/{expires}".encode()
        return hmac.new(self._secret, text, sha256).hexdigest()

    def result_task(self, task_id: str, index: int, query: dict[str, str]) -> Task:
        """The task of a result URL; `Refusal` if the URL is wrong or expired, or the picture gone."""
        task = self.accounts.tasks.get(task_id)
        try:
            generation, expires = int(query["generation"]), int(query["expires"])
            signed = self._signature(task_id, index, generation, expires)
            right = hmac.compare_digest(signed.encode(), query["signature"].encode())
        except (KeyError, ValueError):
            right = False
        if task is None or task.dropped or not right or time.time() < task.finish_at:
            raise Refusal(403, "signature", "The signature of this sandbox URL is wrong.")
        if task.gone or generation != task.generation or time.time() >= expires:
            status = task.expired_status or self.settings.expired_status
            raise Refusal(status, "expired", "This sandbox URL has expired.")
        return task

    def picture(self, task: Task, index: int) -> Future[bytes]:
        """The bytes of one result, drawn in a thread at the first call."""
        return self.gallery.picture(
            PictureOrder(
                model=task.request.model,
                prompt=task.request.prompt,
                ratio=task.request.option("aspectRatio"),
                format=task.request.option("outputFormat"),
                watermark=str(task.request.params.get("watermark", "")),
                reference=task.upload.request.data if task.upload is not None else None,
                take=task.take,
                index=index,
                megapixels=self.settings.megapixels,
                drift=self.settings.drift,
            )
        )
