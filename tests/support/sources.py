"""The sources of the project, as the tests of its structure read them."""

from __future__ import annotations

import ast
import subprocess
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SHIPPED_FOLDERS = ("rivya", "nodes", "web", "locales", "example_workflows", "subgraphs")


def python_files(folder: str) -> list[Path]:
    """Every Python module below a folder of the project."""
    return sorted((ROOT / folder).rglob("*.py"))


def shipped_files() -> list[Path]:
    """What lies in a user's ComfyUI after an install, texts only."""
    found = [ROOT / "__init__.py", ROOT / "__main__.py", ROOT / "pyproject.toml", ROOT / "requirements.txt"]
    for folder in SHIPPED_FOLDERS:
        found += [path for path in (ROOT / folder).rglob("*") if path.suffix in _TEXTS]
    return sorted(path for path in found if path.is_file())


def listed_files() -> list[Path]:
    """Every file that is, or is about to be, in the repository."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    paths = [ROOT / name for name in listed.stdout.split("\0") if name]
    return [path for path in paths if path.is_file()]


def project_files() -> list[Path]:
    """The texts among them."""
    return [path for path in listed_files() if b"\0" not in path.read_bytes()[:4096]]


def named(paths: Iterable[Path], wrong: Callable[[Path], object]) -> dict[str, object]:
    """What is wrong with each of these files, by their names; files of which nothing is wrong are left out."""
    return {str(path.relative_to(ROOT)): found for path in paths if (found := wrong(path))}


@cache
def syntax(path: Path) -> ast.Module:
    """The syntax tree of a module."""
    return ast.parse(path.read_text("utf-8"))


def imports(path: Path, *, lazy: bool = True, typing: bool = True) -> Iterator[str]:
    """What a module imports, by dotted name; relative ones begin with their dots.

    ``from . import a`` gives ``.a``, ``from .a import b`` gives ``.a`` and ``.a.b``. Without ``lazy``, imports inside
    functions are left out;
    without ``typing``, those under ``TYPE_CHECKING``.
    """
    yield from _in(syntax(path).body, lazy, typing)


def _in(body: list[ast.stmt], lazy: bool, typing: bool) -> Iterator[str]:
    for statement in body:
        if isinstance(statement, ast.Import):
            yield from (alias.name for alias in statement.names)
        elif isinstance(statement, ast.ImportFrom):
            dots = "." * statement.level
            if statement.module:
                yield dots + statement.module
                if dots:
                    yield from (f"{dots}{statement.module}.{alias.name}" for alias in statement.names)
            else:
                yield from (dots + alias.name for alias in statement.names)
        elif isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef) and not lazy:
            continue
        elif isinstance(statement, ast.If) and "TYPE_CHECKING" in ast.dump(statement.test):
            if typing:
                yield from _in(statement.body, lazy, typing)
            yield from _in(statement.orelse, lazy, typing)
        else:
            for name in ("body", "orelse", "finalbody"):
                yield from _in(getattr(statement, name, None) or [], lazy, typing)
            for handler in getattr(statement, "handlers", []):
                yield from _in(handler.body, lazy, typing)


_TEXTS = {".py", ".js", ".mjs", ".json", ".md", ".toml", ".txt", ".css", ".svg"}
