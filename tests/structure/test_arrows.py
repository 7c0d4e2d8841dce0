"""Which part may know which other: arrows point one way."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from support.sources import ROOT, imports, named, python_files

COMFYUI = {
    "comfy",
    "comfy_api",
    "comfy_api_nodes",
    "comfy_execution",
    "execution",
    "folder_paths",
    "latent_preview",
    "node_helpers",
    "server",
}
HTTP = {"httpx", "httpcore"}

# The parts of the library from the bottom up; a part knows only parts of lines above its own, in its line only itself.
FLOORS = (
    ("errors", "secret", "threads", "refusals", "bucket_urls"),
    ("scalars", "values"),
    ("files", "kontext"),
    ("ledger_url",),
    ("config",),
    ("commands",),
    ("needed",),
    ("http", "objects"),
    ("api", "ledger", "storage", "images"),
    ("stitching",),
    ("fullsize", "saving", "machines"),
    ("orders", "sources"),
    ("edited",),
    ("engine",),
    ("plan",),
    ("bulk",),
    ("client",),
    ("ray",),
    ("cli",),
    ("__main__", "__init__"),
)
FLOOR_OF = {part: number for number, parts in enumerate(FLOORS) for part in parts}


def top(name: str) -> str:
    return name.split(".")[0]


def known(path: Path) -> set[str]:
    """The packages that a module imports, by their first name; none for relative imports."""
    return {top(name) for name in imports(path)}


def test_the_library_knows_neither_comfyui_nor_torch_nor_the_sandbox() -> None:
    others = COMFYUI | {"torch", "nodes", "sandbox", "tests", "devtools", "benchmarks"}
    assert named(python_files("rivya"), lambda path: known(path) & others) == {}


def test_the_sandbox_knows_nothing_of_what_it_tests() -> None:
    others = COMFYUI | HTTP | {"torch", "nodes", "rivya", "tests", "devtools", "benchmarks"}
    paths = python_files("sandbox")
    assert named(paths, lambda path: known(path) & others) == {}
    assert named(paths, lambda path: [name for name in imports(path) if name.startswith("..")]) == {}


def test_only_one_package_imports_httpx() -> None:
    paths = python_files("rivya") + python_files("nodes")
    users = {path.relative_to(ROOT).parts[:2] for path in paths if HTTP & known(path)}
    assert users == {("rivya", "http")}


@pytest.mark.parametrize(("library", "module"), [("obstore", "objects.py"), ("psycopg", "postgres.py")])
def test_only_one_module_imports_what_few_need(library: str, module: str) -> None:
    paths = python_files("rivya") + python_files("nodes")
    users = [path.name for path in paths if library in known(path)]
    assert users == [module]


def test_only_one_package_imports_ray() -> None:
    paths = python_files("rivya") + python_files("nodes")
    users = {path.relative_to(ROOT).parts[:2] for path in paths if "ray" in known(path)}
    assert users == {("rivya", "ray")}


def test_one_module_of_the_nodes_touches_comfyui_s_internals() -> None:
    allowed = {"host": COMFYUI, "v3": {"comfy_api"}, "settings_route": {"server"}, "users": {"server"}}
    paths = python_files("nodes")
    assert named(paths, lambda path: (known(path) & COMFYUI) - allowed.get(path.stem, set())) == {}


def test_the_pack_imports_itself_relatively_since_comfyui_chooses_its_name() -> None:
    paths = python_files("rivya") + python_files("nodes")
    assert named(paths, lambda path: known(path) & {"rivya", "nodes"}) == {}


@pytest.mark.parametrize("folder", ["rivya", "nodes", "sandbox", "devtools", "benchmarks"])
def test_modules_form_no_circle_not_even_for_their_annotations(folder: str) -> None:
    graph = module_graph(folder)
    finished: set[str] = set()

    def visit(module: str, path: tuple[str, ...]) -> None:
        assert module not in path, " -> ".join([*path[path.index(module) :], module])
        if module not in finished:
            for other in sorted(graph[module]):
                visit(other, (*path, module))
            finished.add(module)

    for module in graph:
        visit(module, ())


def test_arrows_inside_the_library_point_down() -> None:
    def upward(path: Path) -> list[str]:
        own = part_of(path)
        others = {part_of(other) for other in library_imports(path)} - {own}
        return [other for other in others if FLOOR_OF[other] >= FLOOR_OF[own]]

    assert named(python_files("rivya"), upward) == {}


def part_of(path: Path) -> str:
    """The package of a module, or the module itself where it lies at the top."""
    parts = path.relative_to(ROOT / "rivya").with_suffix("").parts
    return parts[0]


def library_imports(path: Path) -> set[Path]:
    return {found for found in imported_modules(path) if (ROOT / "rivya") in found.parents}


def module_graph(folder: str) -> dict[str, set[str]]:
    """Module -> modules of the same folder that it imports, also in functions and for annotations."""
    paths = python_files(folder)
    return {
        str(path.relative_to(ROOT)): {
            str(found.relative_to(ROOT))
            for found in imported_modules(path)
            if found in paths and found != path
        }
        for path in paths
        if path.name != "__init__.py"
    }


def imported_modules(path: Path) -> set[Path]:
    """The files of the project that a module imports relatively, packages' ``__init__`` left out."""
    found = set()
    for name in imports(path):
        dots = len(name) - len(name.lstrip("."))
        if not dots:
            continue
        base = path.parents[dots - 1]
        target = base.joinpath(*[part for part in name[dots:].split(".") if part])
        for candidate in (target.with_suffix(".py"), target):
            if candidate.is_file():
                found.add(candidate)
    return found


def test_dev_py_needs_nothing_but_python() -> None:
    paths = {ROOT / "dev.py", *python_files("devtools")}
    paths.remove(ROOT / "devtools" / "launch_comfyui.py")  # runs inside ComfyUI's environment
    allowed = {*sys.stdlib_module_names, "devtools", ""}
    assert named(paths, lambda path: known(path) - allowed) == {}
