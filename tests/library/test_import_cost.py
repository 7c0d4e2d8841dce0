"""Importing the library is free: what is heavy comes with first use."""

from __future__ import annotations

import subprocess
import sys

import pytest

from support.sources import ROOT

pytestmark = pytest.mark.heavy

HEAVY = {"httpx", "httpcore", "anyio", "numpy", "PIL", "sqlite3", "asyncio", "ssl"}


def modules(program: str) -> set[str]:
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-c", program],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=True,
    )
    return {
        line.rpartition("|")[2].strip()
        for line in done.stderr.splitlines()
        if line.startswith("import time:")
    }


def test_the_library_is_imported_without_anything_heavy() -> None:
    found = modules("import rivya; rivya.__version__")
    assert "rivya" in found
    assert not HEAVY & found


def test_table_errors_and_configuration_need_no_http_client_nor_pictures() -> None:
    found = modules("import rivya.kontext, rivya.errors, rivya.config, rivya.secret")
    assert not {"httpx", "httpcore", "anyio", "numpy", "PIL", "sqlite3"} & found


def test_the_command_line_explains_itself_without_anything_heavy() -> None:
    program = "import sys, rivya.cli as m\ntry: m.main(['--help'])\nexcept SystemExit: pass"
    assert not {"httpx", "httpcore", "numpy", "PIL"} & modules(program)


def test_the_facade_comes_with_first_use() -> None:
    assert "rivya.client" in modules("import rivya; rivya.edit")
    import pytest

    import rivya

    with pytest.raises(AttributeError):
        _ = rivya.nothing_of_that_name
