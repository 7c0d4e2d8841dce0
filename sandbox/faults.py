"""The fault desk: failures that tests order, and which request gets which.

A fault names an endpoint (or several, or "*"), an action and the action's own fields. The first fault in order of
arming that applies to a request hits it; what shapes the accepted thing (the last four actions) comes on top, counts
only what is accepted, and adds up. ``after`` lets that many requests pass first, ``times`` says how often it
strikes (None: always), ``probability`` throws a seeded die, ``contains`` limits it to requests whose path, idempotency
key or body has that text.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from random import Random
from typing import Any

from .settings import ORIGINS

ENDPOINTS = ("upload", "file", "create", "status", "credits", "models", "openapi", "result")
"""``result`` is everything on the second origin."""

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
"""Every action with the fields of its own.

cut_before: the connection is closed and no work done: after ``at_byte`` bytes of the body, or after all of it.
cut_after: the work is done, then ``at_byte`` bytes of the answer (0) go out, then the connection is closed.
    ``reset`` closes with a TCP reset.
stall: waits ``seconds`` before the work, "during" it (create: the idempotency key is claimed), or after it; after
    ``at_byte`` bytes of the answer, where given. ``clear_faults`` ends the waiting.
status: answers ``status`` in place of the work (``when="after"``: after the work was done), by default with the error
    shape and the code that belongs to it.
body: a body of another kind, with status 200, by default after the work was done. ``sample`` is one of `SAMPLES`, or
    "half": the first half of the real body, with a matching length.
truncate: Content-Length of the whole, ``at_byte`` bytes (half) of the body, closed.
slow: the answer drips, ``chunk`` bytes every ``interval`` seconds.
patch: the real JSON answer with ``values`` set and ``drop`` left out (dotted paths), another status or more headers.
close_listener: the request is answered; from then on nothing listens at ``origin`` ("api", or "results") for
    ``seconds``, and its idle connections are closed.
fail_task: the accepted task will fail, ``charged`` or refunded, with ``error`` (None: without an error object).
results: the accepted task has ``count`` result URLs.
latency: the accepted task takes ``seconds``.
duration_token: the upload returns a token under ``spelling``, and references must bring it back.
"""

SAMPLES: dict[str, tuple[str, bytes]] = {
    "malformed": ("application/json", b'{"id": "task_", "status": "que'),
    "shape": ("application/json", b'["this", "is", "not", "an", "object"]'),
    "empty_object": ("application/json", b"{}"),
    "text": ("text/plain; charset=utf-8", b"This is the sandbox, and this answer is not JSON."),
    "html": ("text/html; charset=utf-8", b"<html><body><h1>502 Bad Gateway</h1>sandbox</body></html>"),
    "empty": ("application/json", b""),
}
_COMMON = {"endpoint", "action", "times", "after", "probability", "seed", "contains"}
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
    times: int | None = 1
    after: int = 0
    probability: float = 1.0
    contains: str | None = None
    seed: int = 0
    seen: int = 0
    hits: int = 0
    _random: Random = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self._random = Random(self.seed)

    def get(self, name: str, default: Any = None) -> Any:
        """One of the action's own fields."""
        return self.fields.get(name, default)

    @property
    def moment(self) -> str:
        """When it is asked for: "headers" (before the body is read), "request", or "accepted" (the work is done)."""
        if self.action in _BELONGS_TO:
            return "accepted"
        return "headers" if self.action == "cut_before" and "at_byte" in self.fields else "request"

    def applies(self, endpoint: str, texts: tuple[bytes, ...]) -> bool:
        """Count the request, and decide whether this fault would hit it."""
        if endpoint not in self.endpoints:
            return False
        if self.contains is not None and not any(self.contains.encode() in text for text in texts):
            return False
        self.seen += 1
        if self.seen <= self.after or (self.times is not None and self.hits >= self.times):
            return False
        return self.probability >= 1.0 or self._random.random() < self.probability

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON values, with how often it was looked at and how often it struck."""
        names = ("number", "action", "times", "after", "probability", "contains", "seen", "hits")
        return {name: getattr(self, name) for name in names} | {
            "endpoint": list(self.endpoints),
            **self.fields,
        }


class FaultDesk:
    """All armed faults."""

    def __init__(self) -> None:
        self._faults: list[Fault] = []
        self._lock = threading.Lock()
        self._numbers = 0
        self.cleared = threading.Event()

    def arm(self, **order: Any) -> Fault:
        """Arm a fault; ValueError for whatever it would not understand."""
        endpoints, action = _endpoints(order.get("endpoint")), order.get("action")
        if action not in ACTIONS:
            raise ValueError(f"action must be one of {', '.join(ACTIONS)}")
        own = {name: value for name, value in order.items() if name not in _COMMON}
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
        common = {name: order[name] for name in _COMMON - {"endpoint", "action"} if name in order}
        with self._lock:
            self._numbers += 1
            fault = Fault(self._numbers, endpoints, action, own, **common)
            self._faults.append(fault)
            return fault

    def take(self, endpoint: str, texts: tuple[bytes, ...], moment: str) -> Fault | None:
        """The fault that hits this request at "headers" or "request", if one does."""
        return next(iter(self._strike(endpoint, texts, moment, one=True).values()), None)

    def take_all(self, endpoint: str, texts: tuple[bytes, ...]) -> dict[str, Fault]:
        """The faults that shape what is accepted now, one of each action."""
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
        """Every fault as plain values."""
        with self._lock:
            return [fault.as_dict() for fault in self._faults]

    def clear(self) -> None:
        """Take every fault back and end every stall."""
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
