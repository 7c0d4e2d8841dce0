"""The key and what signs a result, planted: success and failure leave neither in files, log lines, errors or texts.

The same search through everything that a ComfyUI keeps and tells is in ``tests/hostile/test_leaks.py``.
"""

from __future__ import annotations

import json
import logging
import re
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from hostile.leaks import found
from library.client import PATIENCE_S, Client
from network.clients import everything_about
from rivya.errors import RivyaError

pytestmark = pytest.mark.heavy

PROMPT = "planted prompt: paint the barn vermilion"

FAULTS: list[tuple[str, str, dict[str, Any]]] = [
    *(("create", "status", {"status": status}) for status in (400, 401, 402, 403, 404, 409, 413, 422)),
    *(("status", "status", {"status": status}) for status in (401, 403, 404)),
    *(("create", "body", {"sample": each, "times": None}) for each in ("malformed", "shape", "html", "empty")),
    *(("result", "status", {"status": status, "times": None}) for status in (400, 403, 404)),
    ("create", "status", {"status": 500, "times": None}),
    ("create", "cut_before", {"times": None}),
    ("create", "cut_after", {"times": None}),
    ("status", "body", {"sample": "malformed", "times": None}),
    ("result", "body", {"sample": "html", "times": None}),
    ("create", "fail_task", {"charged": False}),
    ("create", "fail_task", {"charged": True}),
]  # fmt: skip
UPLOAD_FAULTS: list[tuple[str, dict[str, Any]]] = [
    *(("status", {"status": status}) for status in (400, 401, 403, 413, 415)),
    ("cut_before", {"times": None}),
    ("body", {"sample": "malformed", "times": None}),
]


def test_neither_the_key_nor_what_signs_a_result_is_found_anywhere(
    make: Callable[..., Client], service: Any, caplog: pytest.LogCaptureFixture
) -> None:
    key = f"rvya_sk_{secrets.token_hex(16)}"
    service.set_key(key)
    caplog.set_level(logging.DEBUG)
    client = make(key=key, retry_budget_s=0.1, conflict_wait_s=0.1)
    places = run_everything(client, service)
    places["log"] = caplog.text.encode()
    assert b"planted" not in places["log"]
    assert "httpcore" not in caplog.text
    assert len(places["log"]) > 1000
    signatures = signed_queries(service, key)
    assert len(signatures) >= 5
    planted = {"the key": key, **{f"signature {n}": text for n, text in enumerate(signatures)}}
    files = contents(client.config.home)
    assert any(name.startswith("ledger") for name in files)
    # An order that is open needs what is in its row; nothing else does.
    kept = {name: data for name, data in files.items() if not name.startswith("ledger")}
    assert not found({"the key": key}, files)
    assert not found(planted, {**kept, **places})

    for row in client.rows():
        if row.body is not None or row.result_urls:
            assert client.ledger.forget(row.id)
    client.run(client.order("another", seed=1))
    assert not found({**planted, "the prompt": PROMPT}, contents(client.config.home))


def run_everything(client: Client, service: Any) -> dict[str, bytes]:
    """Orders and uploads through success and failure; everything that they told. No frame here holds the key."""
    places: dict[str, bytes] = {}
    client.run(client.order(PROMPT, client.reference()))
    for number, (action, fields) in enumerate(UPLOAD_FAULTS):
        service.fault("upload", action, **fields)
        with pytest.raises(RivyaError) as caught:
            client.reference(100 + number)
        places[f"upload error {number}"] = told(caught.value)
        service.clear_faults()
    for number, (endpoint, action, fields) in enumerate(FAULTS, 1):
        service.fault(endpoint, action, **fields)
        (ticket,) = client.tickets(client.order(PROMPT, seed=number))
        places[f"order error {number}"] = told(ticket.done.exception(PATIENCE_S))
        places[f"progress {number}"] = repr(ticket.progress).encode()
        service.clear_faults()
    return places


def told(error: BaseException | None) -> bytes:
    """Everything that an error says, its traceback with the locals of every frame included."""
    assert isinstance(error, RivyaError)
    return f"{error}\n{json.dumps(error.as_dict())}\n{everything_about(error)}".encode()


def contents(home: Path) -> dict[str, bytes]:
    """The files of the state folder, by name."""
    return {str(path.relative_to(home)): path.read_bytes() for path in home.rglob("*") if path.is_file()}


def signed_queries(service: Any, key: str) -> list[str]:
    """What signs the URLs of the results that the service has told."""
    with httpx.Client(headers={"Authorization": f"Bearer {key}"}, trust_env=False) as web:
        answers = [web.get(f"{service.url}/api/v1/generations/{task['id']}").text for task in service.tasks()]
    return sorted({text for answer in answers for text in re.findall(r"signature=([\w-]+)", answer)})
