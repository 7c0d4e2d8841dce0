"""Failures that tests arm, and which request each one hits.

A fault has an endpoint (or several, or "*"), an action and the action's own fields. The first armed fault that
applies hits the request. In addition, the faults of the last four actions shape accepted requests, and count only
those. ``after``: requests that pass first. ``times``: number of hits (None: no limit). ``probability``: by a
generator with ``seed``. ``contains``: text in the path, idempotency key or body of the request.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from random import Random
from typing import Any

from .settings import ORIGINS

ENDPOINTS = ("upload", "file", "create", "status", "credits", "models", "result")
"""``result`` is the whole second origin."""

_ANSWER = {"status", "headers", "body", "body_base64", "sample", "when"}
ACTIONS: dict[str, set[str]] = {
    "cut_before": {"at_byte", "reset"},
    "cut_after": {"at_byte", "reset"},
    "stall": {"seconds", "when", "at_byte"},
    "status": _ANSWER | {"code", "message", "retry_after", "retry_after_form"},
    "body": _ANSWER,
    "truncate": {"at_byte"},
    "slow": {"chunk", "interval"},
    "patch": {"values", "drop", "status", "headers"},
    "close_listener": {"seconds", "origin"},
    "fail_task": {"charged", "error"},
    "results": {"count"},
    "latency": {"seconds"},
    "duration_token": {"spelling"},
}
"""The fields of each action.

cut_before: close the connection without doing the work, after ``at_byte`` bytes of the body (default: all).
cut_after: do the work, send ``at_byte`` bytes of the response (0), close. ``reset``: close with a TCP reset.
stall: wait ``seconds`` before the work, "during" it (create: with the idempotency key claimed) or after it, or after
    ``at_byte`` bytes of the response. ``clear_faults`` ends the wait.
status: send ``status`` instead of doing the work (``when="after"``: after it), by default with its documented error
    body and code.
body: send 200 with another body, by default after the work. ``sample``: one of `SAMPLES`, or "half": the first half
    of the real body, with a matching length.
truncate: send the full Content-Length but ``at_byte`` bytes (default: half) of the body, close.
slow: send ``chunk`` bytes of the response every ``interval`` seconds, until ``clear_faults``.
patch: send the real JSON response with ``values`` set and ``drop`` removed (dotted paths), another status, more
    headers.
close_listener: respond, then refuse connections to ``origin`` ("api" or "results") for ``seconds`` and close idle
ones. fail_task: the accepted task will fail, ``charged`` or refunded, with ``error`` (None: without an error object).
results: the accepted task has ``count`` result URLs. latency: the accepted task takes ``seconds``. duration_token:
the upload returns a token under ``spelling``, which references must send.
"""

SAMPLES: dict[str, tuple[str, bytes]] = {
    "malformed": ("application/json", b'{"id": "task_", "status": "que'),
    "shape": ("application/json", b'["this", "is", "not", "an", "object"]'),
    "empty_object": ("application/json", b"{}"),
    "text": ("text/plain; charset=utf-8", b"This is the sandbox, and this answer is not JSON."),
    "html": ("text/html; charset=utf-8", b"<html><body><h1>502 Bad Gateway</h1>sandbox</body></html>"),
    "empty": ("application/json", b""),
}
_COMMON = {"times", "after", "probability", "contains"}
_BELONGS_TO = {"fail_task": "create", "results": "create", "latency": "create", "duration_token": "upload"}
_CHOICES: dict[str, tuple[str, ...]] = {
    "sample": ("half", *SAMPLES),
    "when": ("before", "during", "after"),
    "origin": ORIGINS,
    "retry_after_form": ("seconds", "date"),
    "spelling": ("duration_token", "durationToken"),
}


@dataclass
class Fault:
    """One armed fault; ``fields`` are the action's own."""

    number: int
    endpoints: tuple[str, ...]
    action: str
    fields: Mapping[str, Any]
    random: Random
    times: int | None = 1
    after: int = 0
    probability: float = 1.0
    contains: str | None = None
    seen: int = 0
    hits: int = 0

    def get(self, name: str, default: Any = None) -> Any:
        return self.fields.get(name, default)

    @property
    def moment(self) -> str:
        """When it applies: "headers" (before the body is read), "request", or "accepted"."""
        if self.action in _BELONGS_TO:
            return "accepted"
        return "headers" if self.action == "cut_before" and "at_byte" in self.fields else "request"

    def applies(self, endpoint: str, texts: tuple[bytes, ...]) -> bool:
        """Count the request; True if this fault hits it."""
        if endpoint not in self.endpoints:
            return False
        if self.contains is not None and not any(self.contains.encode() in text for text in texts):
            return False
        self.seen += 1
        if self.seen <= self.after or (self.times is not None and self.hits >= self.times):
            return False
        return self.probability >= 1.0 or self.random.random() < self.probability

    def as_dict(self) -> dict[str, Any]:
        names = ("number", "action", "times", "after", "probability", "contains", "seen", "hits")
        return {name: getattr(self, name) for name in names} | {
            "endpoint": list(self.endpoints),
            **self.fields,
        }


class Faults:
    def __init__(self) -> None:
        self._faults: list[Fault] = []
        self._lock = threading.Lock()
        self._numbers = 0
        self.cleared = threading.Event()

    def arm(self, endpoint: Any, action: str, seed: int = 0, **fields: Any) -> Fault:
        """Arm a fault; ValueError for unknown values."""
        endpoints = _endpoints(endpoint)
        if action not in ACTIONS:
            raise ValueError(f"action must be one of {', '.join(ACTIONS)}")
        own = {name: value for name, value in fields.items() if name not in _COMMON}
        unknown = set(own) - ACTIONS[action]
        if unknown:
            raise ValueError(
                f"{action} does not know {sorted(unknown)[0]}; it takes {sorted(ACTIONS[action])}"
            )
        if endpoints != (_BELONGS_TO.get(action),) and action in _BELONGS_TO:
            raise ValueError(f"{action} belongs to the endpoint {_BELONGS_TO[action]}")
        for name, choices in _CHOICES.items():
            if own.get(name, choices[0]) not in choices:
                raise ValueError(f"{name} must be one of {', '.join(choices)}")
        common = {name: value for name, value in fields.items() if name in _COMMON}
        with self._lock:
            self._numbers += 1
            fault = Fault(self._numbers, endpoints, action, own, Random(seed), **common)
            self._faults.append(fault)
            return fault

    def take(self, endpoint: str, texts: tuple[bytes, ...], moment: str) -> Fault | None:
        """The fault that hits this request at "headers" or "request", if any."""
        return next(iter(self._strike(endpoint, texts, moment, one=True).values()), None)

    def take_all(self, endpoint: str, texts: tuple[bytes, ...]) -> dict[str, Fault]:
        """The faults that shape the accepted request, one per action."""
        return self._strike(endpoint, texts, "accepted", one=False)

    def _strike(self, endpoint: str, texts: tuple[bytes, ...], moment: str, *, one: bool) -> dict[str, Fault]:
        struck: dict[str, Fault] = {}
        with self._lock:
            for fault in self._faults:
                free = not struck if one else fault.action not in struck
                if fault.moment == moment and fault.applies(endpoint, texts) and free:
                    struck[fault.action] = fault
                    fault.hits += 1
        return struck

    def armed(self) -> list[dict[str, Any]]:
        with self._lock:
            return [fault.as_dict() for fault in self._faults]

    def clear(self) -> None:
        """Remove every fault and end every stall."""
        with self._lock:
            self._faults.clear()
            cleared, self.cleared = self.cleared, threading.Event()
        cleared.set()


def _endpoints(value: Any) -> tuple[str, ...]:
    names = (value,) if isinstance(value, str) else tuple(value or ())
    if names == ("*",):
        return ENDPOINTS
    if not names or any(name not in ENDPOINTS for name in names):
        raise ValueError(f"endpoint must be * or among {', '.join(ENDPOINTS)}")
    return names
