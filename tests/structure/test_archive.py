"""The archive that the registry hands out is whole; ``tests/comfy/test_packed.py`` installs one into a ComfyUI."""

from __future__ import annotations

from pathlib import Path

from support.archive import packed_files
from support.sources import ROOT, imports, named, shipped_files

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


def test_it_holds_every_module_that_its_modules_import() -> None:
    def missing(path: Path) -> set[str]:
        name = path.relative_to(ROOT)
        needed: set[str] = set()
        for imported in imports(path):
            dots = len(imported) - len(imported.lstrip("."))
            if dots:
                target = name.parents[dots - 1] / imported[dots:].replace(".", "/")
                files = [target.with_name(f"{target.name}.py"), target / "__init__.py"]
                needed |= {file.as_posix() for file in files if (ROOT / file).is_file()}
        return needed - PACKED

    assert named([ROOT / name for name in PACKED if name.endswith(".py")], missing) == {}
