"""State folders as machines have them: of another user, read-only, without a home folder, on odd file systems."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from library.client import png
from support.sources import ROOT

pytestmark = [
    pytest.mark.heavy,
    pytest.mark.skipif(os.name != "posix", reason="users and mounts of POSIX"),
]

STRANGER = 12345
POWERLESS = ["setpriv", "--bounding-set=-dac_override,-dac_read_search,-chown,-fowner"]
"""Starts a program as root without root's right to read and write everything."""

Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def powerless(service: Any, tmp_path: Path) -> Run:
    """Runs the command line as a user that other users' folders refuse."""
    if os.geteuid() == 0 and shutil.which("setpriv") is None:
        pytest.skip("root may write everywhere")
    before = POWERLESS if os.geteuid() == 0 else []
    (tmp_path / "photo.png").write_bytes(png(1))

    def run(*arguments: str, **changes: str | None) -> subprocess.CompletedProcess[str]:
        env = {name: value for name, value in os.environ.items() if "proxy" not in name.lower()}
        env |= {"PYTHONPATH": str(ROOT), "RIVYA_API_KEY": service.key, "RIVYA_BASE_URL": service.url}
        env |= {"RIVYA_HOME": str(tmp_path / "state")} | {n: v for n, v in changes.items() if v is not None}
        for name in [name for name, value in changes.items() if value is None]:
            env.pop(name, None)
        return subprocess.run(
            [*before, sys.executable, "-m", "rivya", *arguments],
            env=env,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=60,
        )

    return run


def nothing_was_sent(service: Any) -> bool:
    return not service.requests("create") and not service.requests("upload")


@pytest.mark.skipif(os.name != "posix" or os.geteuid() != 0, reason="giving files away needs root")
@pytest.mark.parametrize("theirs", [".", "locks", "ledger.sqlite3", "results"])
@pytest.mark.slow
def test_what_belongs_to_another_user_is_named_with_what_helps_and_nothing_is_sent(
    powerless: Run, service: Any, tmp_path: Path, theirs: str
) -> None:
    home = tmp_path / "state"
    assert powerless("edit", "--text", "a quiet harbour").returncode == 0
    service.reset()
    given = home / theirs
    os.chown(given, STRANGER, STRANGER)
    given.chmod(0o755 if given.is_dir() else 0o600)
    for order in (["--text", "a loud harbour"], ["photo.png", "make it night"]):
        done = powerless("edit", *order)
        assert done.returncode == 1
        assert "belongs to the user 12345" in done.stderr, done.stderr
        assert "this program runs as root" in done.stderr
        assert f"chown -R 0 {home}" in done.stderr
        assert "RIVYA_HOME" in done.stderr
        assert "No credits were charged" in done.stderr
        assert "Traceback" not in done.stderr
    assert nothing_was_sent(service)
    os.chown(given, 0, 0)
    assert powerless("edit", "--text", "a loud harbour").returncode == 0


def test_a_config_file_that_may_not_be_read_is_named_and_nothing_is_sent(
    powerless: Run, service: Any, tmp_path: Path
) -> None:
    home = tmp_path / "state"
    home.mkdir(mode=0o700)
    (home / "config.json").write_text("{}")
    (home / "config.json").chmod(0o000)
    done = powerless("credits")
    assert done.returncode == 1
    assert "config.json cannot be read" in done.stderr
    assert f"chmod -R u+rwX {home}" in done.stderr
    assert not service.requests()


@pytest.mark.skipif(os.name != "posix" or os.geteuid() != 0, reason="giving files away needs root")
def test_a_folder_above_that_refuses_is_not_to_be_given_away(
    powerless: Run, service: Any, tmp_path: Path
) -> None:
    above = tmp_path / "srv"
    above.mkdir(mode=0o755)
    os.chown(above, STRANGER, STRANGER)
    done = powerless("edit", "--text", "a quiet harbour", RIVYA_HOME=str(above / "rivya" / "state"))
    assert done.returncode == 1
    assert f"{above} belongs to the user 12345" in done.stderr
    assert "RIVYA_HOME" in done.stderr
    assert "chown" not in done.stderr
    assert nothing_was_sent(service)


@pytest.fixture
def read_only(tmp_path: Path) -> Iterator[Path]:
    place = tmp_path / "disc"
    place.mkdir()
    if subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "ro", "tmpfs", str(place)], capture_output=True, check=False
    ).returncode:
        pytest.skip("mounting needs root")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def test_a_disk_that_is_read_only_is_called_so(powerless: Run, service: Any, read_only: Path) -> None:
    done = powerless("edit", "--text", "a quiet harbour", RIVYA_HOME=str(read_only / "state"))
    assert done.returncode == 1
    assert "read-only" in done.stderr
    assert "RIVYA_HOME" in done.stderr
    assert nothing_was_sent(service)


HOMELESS = """
import os, sys
os.setgroups([])
os.setuid(45678)  # a user of a container: no name, no home folder
os.environ.pop("HOME", None)
from rivya import config
from rivya.errors import ConfigurationError
for call in (config.load, config.key_status, lambda: config.save_key("rvya_sk_1")):
    try:
        call()
    except ConfigurationError as error:
        print(error.message, error.hint)
"""


@pytest.mark.skipif(os.name != "posix" or os.geteuid() != 0, reason="becoming another user needs root")
def test_a_user_without_a_home_folder_is_told_to_name_one() -> None:
    source = HOMELESS.replace("import os, sys\n", "import os, sys\nimport rivya.config, rivya.errors, pwd\n")
    env = {name: value for name, value in os.environ.items() if not name.startswith("RIVYA_")}
    done = subprocess.run(
        [sys.executable, "-c", source],
        cwd=ROOT,
        env={**env, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("no home folder") == 3
    assert done.stdout.count("RIVYA_HOME") == 3


@pytest.mark.parametrize("home", [".", "not/absolute"])
def test_a_home_folder_that_is_no_path_counts_as_none(powerless: Run, home: str, tmp_path: Path) -> None:
    done = powerless("credits", RIVYA_HOME=None, HOME=home)
    assert done.returncode == 1
    assert "no home folder" in done.stderr
    assert "RIVYA_HOME" in done.stderr
    assert not (tmp_path / ".rivya").exists()
    assert not (tmp_path / "not").exists()


@pytest.fixture
def in_user_space(tmp_path: Path) -> Iterator[Path]:
    """A file system whose files cannot be mapped into memory by several programs."""
    if shutil.which("mergerfs") is None:
        pytest.skip("needs mergerfs")
    below, place = tmp_path / "below", tmp_path / "merged"
    below.mkdir()
    place.mkdir()
    mount = ["mergerfs", "-o", "cache.files=off", str(below), str(place)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("mounting needs root")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


@pytest.mark.slow
def test_a_file_system_that_refuses_the_write_ahead_log_gets_a_rollback_journal_and_it_is_said_once(
    powerless: Run, service: Any, in_user_space: Path, tmp_path: Path
) -> None:
    home = in_user_space / "state"
    first = powerless("edit", "--text", "a quiet harbour", RIVYA_HOME=str(home))
    assert first.returncode == 0, first.stderr
    assert first.stderr.count("rollback journal") == 1
    assert "(stored, 0 credits" in powerless("edit", "--text", "a quiet harbour", RIVYA_HOME=str(home)).stdout
    assert (home / "ledger.sqlite3").read_bytes()[18:20] == b"\1\1"
    assert not (home / "ledger.sqlite3-wal").exists()

    elsewhere = tmp_path / "state"
    assert powerless("edit", "--text", "a loud harbour").returncode == 0
    assert (elsewhere / "ledger.sqlite3").read_bytes()[18:20] == b"\2\2"
    moved = in_user_space / "moved"
    shutil.copytree(elsewhere, moved)
    again = powerless("orders", RIVYA_HOME=str(moved))
    assert again.returncode == 0, again.stderr
    assert "delivered" in again.stdout
    assert (moved / "ledger.sqlite3").read_bytes()[18:20] == b"\1\1"
    assert len(service.charges()) == 2
