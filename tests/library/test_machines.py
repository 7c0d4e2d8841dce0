"""Machines of a fleet: who may work together, and the sentence where they may not."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from library.client import Client, Run, environment
from rivya import machines
from rivya.errors import Charged, ConfigurationError
from rivya.machines import Machine

pytestmark = pytest.mark.heavy

KEY = "rvya_sk_one_that_nobody_may_see"


def look(monkeypatch: pytest.MonkeyPatch, home: Path, name: str = "a", **settings: str) -> Machine:
    for setting in ("RIVYA_API_KEY", "RIVYA_BASE_URL", "RIVYA_LEDGER", "RIVYA_RESULTS"):
        monkeypatch.delenv(setting, raising=False)
    for setting, value in {"RIVYA_HOME": str(home), "RIVYA_API_KEY": KEY, **settings}.items():
        monkeypatch.setenv(setting, value)
    return machines.look(name, "salt")


def refusal(*found: Machine) -> ConfigurationError:
    with pytest.raises(ConfigurationError) as caught:
        machines.agree(found)
    assert caught.value.charged is Charged.NO
    return caught.value


def test_one_machine_needs_no_shared_ledger_and_tells_no_key(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    found = look(monkeypatch, tmp_path)
    assert found.problem is None
    assert machines.agree([found, look(monkeypatch, tmp_path)]) == found
    assert KEY not in repr(found)
    assert look(monkeypatch, tmp_path, RIVYA_API_KEY=KEY + "2").key != found.key


def test_several_machines_with_ledgers_of_their_own_are_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    error = refusal(look(monkeypatch, tmp_path), look(monkeypatch, tmp_path, "b"))
    assert error.code == "ledger_not_shared"
    assert "RIVYA_LEDGER" in error.hint
    assert "RIVYA_RESULTS" in error.hint


@pytest.mark.parametrize(
    ("changed", "setting"),
    [
        ({"RIVYA_API_KEY": KEY + "2"}, "RIVYA_API_KEY"),
        ({"RIVYA_BASE_URL": "http://127.0.0.1:9"}, "RIVYA_BASE_URL"),
        ({"RIVYA_HOME": "elsewhere"}, "RIVYA_HOME"),
    ],
)
def test_what_differs_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, changed: dict[str, str], setting: str
) -> None:
    if "RIVYA_HOME" in changed:
        changed = {"RIVYA_HOME": str(tmp_path / "elsewhere")}
    error = refusal(look(monkeypatch, tmp_path), look(monkeypatch, tmp_path, **changed))
    assert setting in error.message
    assert error.code == "nodes_differ"
    assert KEY not in str(error)


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"RIVYA_API_KEY": ""}, "RIVYA_API_KEY"),
        ({"RIVYA_LEDGER": "mysql://me:a_password@db/rivya"}, "RIVYA_LEDGER"),
        ({"RIVYA_LEDGER": "postgresql://me:a_password@127.0.0.1:9/rivya"}, "127.0.0.1"),
        ({"RIVYA_RESULTS": "ftp://pictures"}, "RIVYA_RESULTS"),
    ],
)
def test_a_machine_that_cannot_order_says_why(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, settings: dict[str, str], named: str
) -> None:
    error = refusal(look(monkeypatch, tmp_path, "10.0.0.3", **settings))
    assert error.message.startswith("10.0.0.3: ")
    assert named in str(error)
    assert "a_password" not in str(error)
    assert "environment of each node" in error.hint


def test_a_batch_on_ray_without_ray_says_how_to_install_it(service: Any, work: Path, client: Client) -> None:
    (work / "rows.csv").write_text("prompt\na boat\n")
    requests = len(service.requests())
    program = "import sys; sys.modules['ray'] = None; from rivya import cli; sys.exit(cli.main(sys.argv[1:]))"
    words = ("edit", "--batch", "rows.csv", "--text", "-o", "out", "--ray", "auto")
    done = subprocess.run(
        [sys.executable, "-c", program, *words],
        env=environment(client),
        cwd=work,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 1
    assert "Ray is not installed in this Python" in done.stderr
    assert "ray[data]" in done.stderr
    assert "No credits were charged" in done.stderr
    assert "Traceback" not in done.stderr
    assert (len(service.requests()), (work / "out").exists()) == (requests, False)


def test_ray_goes_with_a_batch(shell: Run) -> None:
    done = shell("edit", "--text", "a boat", "--ray", "local")
    assert done.returncode == 1
    assert "--ray goes with --batch" in done.stderr
