"""Which part may know which other: arrows point one way."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from support.sources import ROOT, imports, python_files

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

# What a module of the library must never come to know, directly or through others; imports in functions count.
ABOVE = {
    "errors": {"transport", "api", "ledger", "results", "images", "orders", "engine", "headless"},
    "policy": {"transport", "api", "ledger", "results", "images", "orders", "engine", "headless"},
    "pace": {"transport", "api", "ledger", "results", "images", "orders", "engine", "headless"},
    "kontext": {"transport", "api", "ledger", "results", "images", "orders", "engine", "headless"},
    "config": {"transport", "api", "ledger", "results", "images", "orders", "engine", "headless"},
    "transport": {"api", "ledger", "results", "images", "orders", "engine", "headless"},
    "ledger": {"transport", "api", "images", "orders", "engine", "headless"},
    "results": {"transport", "api", "images", "orders", "engine", "headless"},
    "images": {"transport", "api", "ledger", "results", "orders", "engine", "headless"},
    "api": {"ledger", "results", "images", "orders", "engine", "headless"},
    "orders": {"walks", "engine", "headless"},
    "walks": {"engine", "headless"},
    "engine": {"headless", "__main__"},
}


def top(name: str) -> str:
    return name.split(".")[0]


@pytest.mark.parametrize("path", python_files("rivya"), ids=lambda path: path.name)
def test_the_library_knows_neither_comfyui_nor_torch_nor_the_sandbox(path: Path) -> None:
    known = {top(name) for name in imports(path)}
    assert not known & (COMFYUI | {"torch", "nodes", "sandbox", "tests", "devtools", "benchmarks"})


@pytest.mark.parametrize("path", python_files("sandbox"), ids=lambda path: path.name)
def test_the_sandbox_knows_nothing_of_what_it_tests(path: Path) -> None:
    known = {top(name) for name in imports(path)}
    assert not known & (COMFYUI | HTTP | {"torch", "nodes", "rivya", "tests", "devtools", "benchmarks"})
    assert not [name for name in imports(path) if name.startswith("..")]


def test_only_the_transport_imports_httpx() -> None:
    paths = python_files("rivya") + python_files("nodes")
    assert [path.name for path in paths if "httpx" in map(top, imports(path))] == ["transport.py"]


def test_what_lies_below_httpx_is_known_to_parts_of_the_transport_alone() -> None:
    graph = library_graph(lazy=True)
    paths = {path.stem: path for path in python_files("rivya")}
    parts = {name for name in graph if HTTP & set(map(top, imports(paths[name])))}
    users = {name for name, known in graph.items() if known & (parts - {"transport"})}
    assert users <= parts
    assert not [path.name for path in python_files("nodes") if HTTP & set(map(top, imports(path)))]


@pytest.mark.parametrize("path", python_files("nodes"), ids=lambda path: path.name)
def test_one_module_of_the_nodes_touches_comfyui_s_internals(path: Path) -> None:
    known = {top(name) for name in imports(path)} & COMFYUI
    allowed = {"host": COMFYUI, "v3": {"comfy_api"}, "settings_route": {"server"}}.get(path.stem, set())
    assert known <= allowed


@pytest.mark.parametrize("path", python_files("rivya") + python_files("nodes"), ids=lambda path: path.name)
def test_the_pack_imports_itself_relatively_since_comfyui_chooses_its_name(path: Path) -> None:
    assert not {name for name in imports(path) if top(name) in ("rivya", "nodes")}


def test_the_modules_of_the_library_form_no_circle() -> None:
    graph = library_graph(lazy=False)
    finished: set[str] = set()

    def visit(module: str, path: tuple[str, ...]) -> None:
        assert module not in path, " -> ".join([*path[path.index(module) :], module])
        if module not in finished:
            for other in sorted(graph[module]):
                visit(other, (*path, module))
            finished.add(module)

    for module in graph:
        visit(module, ())


@pytest.mark.parametrize("module", ABOVE)
def test_arrows_inside_the_library_point_one_way(module: str) -> None:
    graph = library_graph(lazy=True)
    reached, open_ends = set(), [module]
    while open_ends:
        for other in graph[open_ends.pop()] - reached:
            reached.add(other)
            open_ends.append(other)
    assert not reached & ABOVE[module]


def library_graph(*, lazy: bool) -> dict[str, set[str]]:
    """Module -> modules of the library that it imports when it runs (not for its annotations alone)."""
    modules = {path.stem: path for path in python_files("rivya") if path.stem != "__init__"}
    return {
        name: {top(found[1:]) for found in imports(path, lazy=lazy, typing=False) if found[0] == "."}
        & set(modules)
        for name, path in modules.items()
    }


@pytest.mark.parametrize("path", [ROOT / "dev.py", *python_files("devtools")], ids=lambda path: path.name)
def test_dev_py_needs_nothing_but_python(path: Path) -> None:
    if path.name == "launch_comfyui.py":
        return  # runs inside ComfyUI's environment
    absolute = {top(name) for name in imports(path) if name[0] != "."}
    assert absolute <= set(sys.stdlib_module_names) | {"devtools"}
