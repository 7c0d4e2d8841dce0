"""One method per endpoint of the Rivya Public API v1 in use, with typed results.

Any 2xx is success. Required are a task's ``id`` and ``status`` and a file's ``url``; unknown fields and statuses are
accepted. Source: the pages "Create Generation", "Generation status", "Files" and "Credits" of the API documentation.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from ..errors import RivyaError, Sent, UnusableAnswerError
from ..http.transport import Form
from ..http.values import clean_text, http_url
from . import responses
from .retry import Response, RetryingClient

MAX_RESULTS = 16
"""Maximum result URLs read per task; Kontext is documented to return one."""


@dataclass(frozen=True)
class UploadedFile:
    """An upload at the Files API; ``id`` is None if missing from the response."""

    id: str | None
    url: str
    duration_token: str | None


@dataclass(frozen=True)
class Task:
    """A generation at the service.

    Attributes:
        status: "queued", "processing", "succeeded", "failed", or an unknown word, which counts as running.
        urls: result URLs, primary one first; secrets, so not in the repr.
        service_s: updated_at minus created_at, seconds: the duration, once the task has ended.
        final_credits: the cost; None if the service does not say.
        hint_s: the service's minimum wait before the next poll.
        uncertain: an earlier attempt of this call has an unknown outcome.
    """

    id: str
    status: str
    urls: tuple[str, ...]
    reserved_credits: int | None
    final_credits: int | None
    error_code: str | None
    error_message: str
    service_s: float | None
    request_id: str | None
    hint_s: float | None = None
    uncertain: bool = False

    def __repr__(self) -> str:
        return f"Task(id={self.id!r}, status={self.status!r})"


class Api:
    def __init__(self, client: RetryingClient) -> None:
        self._client = client

    async def upload_file(self, data: bytes, *, name: str, mime: str, model: str) -> UploadedFile:
        """``POST /api/v1/files``; with ``model`` the service checks its limits before it accepts the file."""
        form = Form(file=data, filename=name, mime=mime, fields=(("kind", "image"), ("model", model)))
        return await self._client.call("POST", "/api/v1/files", _file, form=form)

    async def retrieve_file(self, file_id: str) -> UploadedFile:
        """``GET /api/v1/files/{fileId}``; `NotFoundError` if the upload is gone."""
        return await self._client.call("GET", f"/api/v1/files/{responses.file_id(file_id)}", _file)

    async def create_generation(
        self,
        body: bytes,
        idempotency_key: str,
        *,
        wanted: Callable[[], bool] = lambda: True,
        on_trouble: Callable[[RivyaError], object] = lambda error: None,
    ) -> Task:
        """``POST /api/v1/generations`` with frozen bytes and one key: the only call that can cost credits."""
        return await self._client.call(
            "POST",
            "/api/v1/generations",
            _task,
            body=body,
            idempotency_key=idempotency_key,
            wanted=wanted,
            on_trouble=on_trouble,
        )

    async def retrieve_generation(self, task_id: str) -> Task:
        """``GET /api/v1/generations/{taskId}``."""
        task = await self._client.call("GET", f"/api/v1/generations/{responses.task_id(task_id)}", _task)
        if task.id != task_id:
            raise UnusableAnswerError(f"Asked for task {task_id}, the service answered with task {task.id}.")
        return task

    async def credits(self) -> int:
        """``GET /api/v1/credits``: the account's balance."""
        return await self._client.call("GET", "/api/v1/credits", _credits)


def _file(response: Response) -> UploadedFile:
    data = response.data
    if not isinstance(data.get("url"), str):
        raise _lacks("url", response)
    raw_id = data.get("id") or data.get("file_id")
    if isinstance(raw_id, int) and not isinstance(raw_id, bool):
        raw_id = str(raw_id)
    token = data.get("duration_token") or data.get("durationToken")
    return UploadedFile(
        id=responses.file_id(raw_id) if raw_id is not None else None,
        url=http_url(data["url"]),
        duration_token=token if isinstance(token, str) and len(token) <= 4096 else None,
    )


def _task(response: Response) -> Task:
    data = response.data
    for name in ("id", "status"):
        if not isinstance(data.get(name), str) or not data[name]:
            raise _lacks(name, response)
    try:
        task_id = responses.task_id(data["id"])
        urls = _urls(data.get("result"))
    except UnusableAnswerError as error:
        raise error.about(sent=Sent.MAYBE) from None
    reason = data.get("error")
    failure: Mapping[str, Any] = reason if isinstance(reason, dict) else {}
    code = failure.get("code")
    return Task(
        id=task_id,
        status=clean_text(data["status"], 40).lower(),
        urls=urls,
        reserved_credits=_count(data.get("reserved_credits")),
        final_credits=_count(data.get("final_credits")),
        error_code=clean_text(code, 80) if isinstance(code, str) and code else None,
        error_message=clean_text(str(failure.get("message") or "")),
        service_s=_seconds(data.get("created_at"), data.get("updated_at")),
        request_id=response.request_id,
        hint_s=response.retry_after_s,
        uncertain=response.uncertain,
    )


def _credits(response: Response) -> int:
    current = _count(response.data.get("current_credits"))
    if current is None:
        raise _lacks("current_credits", response)
    return current


def _urls(result: object) -> tuple[str, ...]:
    """The primary URL, then the others, without duplicates."""
    if not isinstance(result, dict):
        return ()
    listed = result.get("urls")
    found = [result.get("primary_url"), *(listed if isinstance(listed, list) else [])]
    given = dict.fromkeys(url for url in found if isinstance(url, str) and url)
    return tuple(http_url(url) for url in list(given)[:MAX_RESULTS])


def _count(value: object) -> int | None:
    """A number of credits: a whole number, 0 or more, also if JSON has 4.0."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return int(value) if 0 <= value < 2**53 and value == int(value) else None


def _seconds(created: object, updated: object) -> float | None:
    try:
        times = [datetime.fromisoformat(str(text).replace("Z", "+00:00")) for text in (created, updated)]
        return (times[1] - times[0]).total_seconds()
    except (ValueError, TypeError, OverflowError):
        return None


def _lacks(name: str, response: Response) -> UnusableAnswerError:
    """The error for a missing required field; it quotes the response without result URLs."""
    shown = {key: value for key, value in response.data.items() if key not in ("result", "url")}
    came = clean_text(json.dumps(shown, ensure_ascii=True, default=str), 200)
    return UnusableAnswerError(
        f"The answer of the service has no usable {name}. It said: {came}",
        status=response.status,
        request_id=response.request_id,
        sent=Sent.MAYBE,
    )
