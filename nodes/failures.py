"""Which runs went on without a picture (``on_failure`` skip): the same inputs run again after that, and only then.

ComfyUI serves a node from its memory while inputs and fingerprint are as before, and does not know that a picture was
left out. So the fingerprint counts those runs of the same inputs. It must be an ordinary value: one that never equals
itself (NaN) would not be served from memory in the run after the next, either.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from . import host

WIDGETS = ("prompt", "seed", "variations", "on_failure", "timeout_s", "client_request_id")

_failed: dict[str, int] = {}
"""Runs that left something out, by `key`: a hash, since prompts are kept no longer than they are needed."""


def key(inputs: Mapping[str, Any]) -> str:
    """Names the node that runs in this context and the constants among its inputs.

    A link is a list in the prompt and None in ``fingerprint_inputs``; ComfyUI itself looks at what is behind it.
    """
    constants = {name: inputs[name] for name in WIDGETS if isinstance(inputs.get(name), (str, int, float))}
    named = json.dumps([host.executing()[1], constants], sort_keys=True)
    return hashlib.sha256(named.encode("utf-8")).hexdigest()


def count(run: str) -> int:
    """How many runs of that `key` have left something out."""
    return _failed.get(run, 0)


def remember(run: str) -> None:
    """A run of that `key` has left something out."""
    _failed[run] = count(run) + 1
