"""Counts runs that skipped a failure (``on_failure`` skip): only then do the same inputs run again.

ComfyUI serves a node from its cache while inputs and fingerprint are equal, so the fingerprint holds this count. NaN
never equals itself: even the next complete run would not be cached.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from . import host

WIDGETS = ("prompt", "seed", "variations", "on_failure", "timeout_s", "client_request_id")

_failed: dict[str, int] = {}
"""Count by `key`. Keys are hashes: prompts are kept no longer than needed."""


def key(inputs: Mapping[str, Any]) -> str:
    """A hash of the running node's ID and of the constants among its inputs.

    Links are left out: they are lists in the prompt and None in ``fingerprint_inputs``; ComfyUI compares their sources.
    """
    constants = {name: inputs[name] for name in WIDGETS if isinstance(inputs.get(name), (str, int, float))}
    named = json.dumps([host.executing()[1], constants], sort_keys=True)
    return hashlib.sha256(named.encode("utf-8")).hexdigest()


def count(run: str) -> int:
    return _failed.get(run, 0)


def remember(run: str) -> None:
    _failed[run] = count(run) + 1
