"""What errors say of credits: nothing by themselves, the truth where it is proved, and no change on their way."""

from __future__ import annotations

import ast
import inspect
import itertools
from collections.abc import Iterator
from pathlib import Path

from rivya import errors
from support.sources import ROOT, named, python_files, syntax

KINDS = {
    name
    for name, kind in vars(errors).items()
    if isinstance(kind, type) and issubclass(kind, errors.RivyaError)
}
FIELDS = set(inspect.signature(errors.RivyaError).parameters) - {"self"}

# Modules that see what becomes of an order. What they raise says what it cost, or that they leave it open.
KNOWING = (
    "rivya/orders", "rivya/engine", "rivya/edited.py", "rivya/bulk/budget.py", "rivya/bulk/stream.py",
    "rivya/plan.py", "rivya/client.py", "rivya/cli",
    "nodes/submit_and_wait.py", "nodes/collect_tasks.py", "nodes/progress.py", "nodes/outputs.py", "nodes/limits.py",
    "nodes/links.py",
)  # fmt: skip

# Nodes that may spend, or bring what was paid for; all others cost nothing as a whole.
OF_ORDERS = {"submit_and_wait", "collect_tasks"}

SOURCES = [*python_files("rivya"), *python_files("nodes")]


def knows(path: Path) -> bool:
    name = str(path.relative_to(ROOT))
    return any(name == each or name.startswith(f"{each}/") for each in KNOWING)


def raises(tree: ast.AST) -> Iterator[tuple[ast.expr, bool]]:
    """Each error that is made or raised as a bare class, and whether the code around it costs nothing."""

    def visit(node: ast.AST, free: bool) -> Iterator[tuple[ast.expr, bool]]:
        free = free or costs_nothing(node)
        if isinstance(node, ast.Call) and name_of(node.func) in KINDS:
            yield node, free
        if isinstance(node, ast.Raise) and node.exc is not None and name_of(node.exc) in KINDS:
            yield node.exc, free
        for child in ast.iter_child_nodes(node):
            yield from visit(child, free)

    return visit(tree, False)


def costs_nothing(node: ast.AST) -> bool:
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        blocks = node.decorator_list
    elif isinstance(node, ast.With):
        blocks = [item.context_expr for item in node.items]
    else:
        return False
    return any(isinstance(block, ast.Call) and name_of(block.func) == "costs_nothing" for block in blocks)


def name_of(node: ast.expr) -> str:
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


def line(node: ast.expr) -> str:
    return f"line {node.lineno}: {ast.unparse(node)[:80]}"


def charged(made: ast.expr) -> ast.expr | None:
    """What an error is told of the cost where it is made."""
    keywords = made.keywords if isinstance(made, ast.Call) else []
    return next((keyword.value for keyword in keywords if keyword.arg == "charged"), None)


def test_an_error_says_nothing_of_credits_unless_it_is_told() -> None:
    assert {kind for kind in KINDS if vars(errors)[kind]("It broke.").charged is not None} == set()


def test_what_knows_of_an_order_says_what_it_cost_in_each_error() -> None:
    def silent(path: Path) -> list[str]:
        return [line(made) for made, free in raises(syntax(path)) if not free and charged(made) is None]

    assert named(filter(knows, SOURCES), silent) == {}


def test_what_knows_of_no_order_never_says_that_nothing_was_charged() -> None:
    def claims(path: Path) -> list[str]:
        return [
            line(made)
            for made, _ in raises(syntax(path))
            if (told := charged(made)) is not None and ast.unparse(told) not in ("None", "Charged.YES")
        ]

    assert named(itertools.filterfalse(knows, SOURCES), claims) == {}


def test_errors_do_not_change_on_their_way() -> None:
    def changes(path: Path) -> list[str]:
        return [
            line(node)
            for node in ast.walk(syntax(path))
            if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store) and node.attr in FIELDS
            if name_of(node.value) != "self"
        ]

    assert named(SOURCES, changes) == {}


def test_a_node_that_spends_nothing_says_so_whatever_fails_in_it() -> None:
    spending = {
        path.stem
        for path in python_files("nodes")
        for node in ast.walk(syntax(path))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name == "execute"
        if not costs_nothing(node)
    }
    assert spending == OF_ORDERS
