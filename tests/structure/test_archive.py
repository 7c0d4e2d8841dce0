"""The archive that the registry hands out is whole; ``tests/comfy/test_packed.py`` installs one into a ComfyUI."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.archive import packed_files
from support.sources import ROOT, imports, shipped_files

PACKED = {path.relative_to(ROOT).as_posix() for path in packed_files()}


def test_it_holds_what_is_shipped_and_nothing_of_the_workshop() -> None:
    assert {path.relative_to(ROOT).as_posix() for path in shipped_files()} <= PACKED
    assert {
        "__init__.py",
        "requirements.txt",
        "web/rivya.js",
        "example_workflows/Edit a photo.json",
    } <= PACKED
    workshop = ("tests", "sandbox", "benchmarks", "devtools", "dev.py", ".github", ".ci")
    assert not [name for name in PACKED if name.split("/")[0] in workshop]


@pytest.mark.parametrize("name", sorted(name for name in PACKED if name.endswith(".py")))
def test_it_holds_every_module_that_its_modules_import(name: str) -> None:
    for imported in imports(ROOT / name):
        dots = len(imported) - len(imported.lstrip("."))
        if dots:
            target = Path(name).parents[dots - 1] / imported[dots:].replace(".", "/")
            files = [target.with_name(f"{target.name}.py"), target / "__init__.py"]
            assert {path.as_posix() for path in files if (ROOT / path).is_file()} <= PACKED
