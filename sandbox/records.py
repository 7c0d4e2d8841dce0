"""The records: key, account, upload, task."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from .contract import OrderRequest, UploadRequest

SCOPES = (
    "models:read",
    "generations:create",
    "generations:read",
    "files:create",
    "files:read",
    "credits:read",
)


@dataclass
class Key:
    """One API key; ``state`` is active, revoked or expired."""

    account: str
    state: str = "active"
    scopes: tuple[str, ...] = SCOPES


@dataclass
class Account:
    """One account: ``credits`` are free, ``reserved`` are held by running tasks."""

    name: str
    credits: int
    reserved: int = 0
    spent: int = 0
    open: int = 0


@dataclass
class Upload:
    """One upload; ``sha256`` is of its bytes, ``readable`` whether an image opens."""

    id: str
    account: str
    url: str
    request: UploadRequest
    created_at: float
    sha256: str
    alive: bool = True
    readable: bool = True
    token_spelling: str | None = None
    token: str | None = None


@dataclass(frozen=True)
class Plan:
    """How a task will end, decided at acceptance."""

    latency: float
    fails: bool = False
    charged_on_failure: bool = False
    error: Mapping[str, str] | None = None
    results: int = 1


@dataclass
class Task:
    id: str
    account: str
    request: OrderRequest
    credits: int
    upload: Upload | None
    idempotency_key: str | None
    body_sha256: str
    take: int
    plan: Plan
    created_at: float
    final_credits: int = 0
    settled: bool = False
    polls: int = 0
    noticed_at: float | None = None
    generation: int = 1
    urls_expire_at: float | None = None
    expired_status: int | None = None
    gone: bool = False
    dropped: bool = False

    @property
    def finish_at(self) -> float:
        return self.created_at + self.plan.latency

    def status(self, now: float) -> str:
        """The status at ``now``: queued for a quarter of the latency, then processing, then the end."""
        if now <= self.created_at:
            return "queued"
        if now >= self.finish_at:
            return "failed" if self.plan.fails else "succeeded"
        return "queued" if now < self.created_at + self.plan.latency / 4 else "processing"

    def changed_at(self, now: float) -> float:
        starts = {"queued": self.created_at, "processing": self.created_at + self.plan.latency / 4}
        return starts.get(self.status(now), self.finish_at)
