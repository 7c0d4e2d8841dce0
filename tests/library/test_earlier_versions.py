"""What earlier versions left on a user's disk: it opens unchanged, and answers without a request.

``state_of_0_1_0`` was made by version 0.1.0 against the sandbox, which has ended since: two stored pictures, and an
order that was accepted and is still running. So every request would fail.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

import rivya
from rivya import config, kontext
from rivya.engine import engine
from rivya.ledger.ledger import OrderRow
from rivya.ledger.rows import OrderState

STATE = Path(__file__).with_name("state_of_0_1_0")
RUNNING_TASK = "task_sandbox_add2359e8362e68a"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    home = tmp_path / "state"
    shutil.copytree(STATE, home)
    monkeypatch.setenv("RIVYA_HOME", str(home))
    monkeypatch.setenv("RIVYA_API_KEY", "rvya_sk_sandbox_of_old")
    monkeypatch.setenv("RIVYA_BASE_URL", "http://127.0.0.1:47811")
    return home


def orders() -> list[OrderRow]:
    return engine.shared().ledger(config.load()).orders(10)


def test_stored_pictures_are_brought_without_a_request(home: Path) -> None:
    harbour = rivya.edit("a quiet harbour", seed=7)
    assert (harbour.source, harbour.task_id) == ("stored", "task_sandbox_39456bdf5157f1b3")
    pictures = {path.read_bytes() for path in (STATE / "results").glob("*.jpg")}
    assert pictures == {harbour.data}


def test_orders_keep_their_states_and_their_task_ids(home: Path) -> None:
    assert [(row.state, row.task_id) for row in orders()] == [
        (OrderState.SUBMITTED, RUNNING_TASK),
        (OrderState.STORED, "task_sandbox_f12b9b3691785168"),
        (OrderState.STORED, "task_sandbox_39456bdf5157f1b3"),
    ]


def test_an_order_of_an_earlier_version_keeps_its_fingerprint(home: Path) -> None:
    pixels = (np.arange(48 * 64 * 3) % 251).astype(np.uint8).reshape(48, 64, 3)
    params = kontext.KontextParams(output_format="png")
    from rivya.images.encode import pixel_hash

    identity = kontext.Identity("make it night", params, 7, 0, pixel_hash(pixels), (64, 48))
    assert identity.fingerprint() == orders()[1].fingerprint
