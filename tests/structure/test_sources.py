"""What sources may hold, and how long they may be."""

from __future__ import annotations

import ast
import re
import sys
from pathlib import Path

from support.sources import ROOT, named, project_files, python_files, shipped_files, syntax

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib  # pytest brings it

MODULE_LINES = 450
FUNCTION_LINES = 70

# What the scanners of ComfyUI's registry take for an attack. They read all files alike, sentences included, so these
# spellings are met by ordinary style: names imported bare, settings passed in, arrow functions.
FORBIDDEN = {
    "reading the environment": r"os\.environ\.get\(|os\.getenv\(",
    "opening connections": r"\.connect\(|\.bind\(|\.send\(|\.sendall\(|aiohttp\.ClientSession",
    "fetching": r"urllib\.request\.urlopen|requests\.(get|post)\(",
    "starting programs": r"\bsubprocess\b|os\.system\(|os\.popen\(|pty\.spawn",
    "importing by name": r"importlib\.import_module|__import__\(",
    "running text": r"(?<![\w.])(eval|exec|compile)\(|new Function\(",
    "weak hashes": r"\bmd5\b|\bsha1\b",
    "unpickling": r"\bpickle\b|\bmarshal\b|\bshelve\b",
    "blobs": r"[A-Za-z0-9+/]{240,}={0,2}",
}


def test_nothing_shipped_is_spelled_as_scanners_expect_of_attacks() -> None:
    def found(path: Path) -> list[str]:
        text = path.read_text("utf-8")
        return [
            f"{what}: {match.group()[:60]!r} in line {text[: match.start()].count(chr(10)) + 1}"
            for what, pattern in FORBIDDEN.items()
            for match in re.finditer(pattern, text)
        ]

    assert named(shipped_files(), found) == {}


def test_nothing_mentions_the_machine_it_was_written_on() -> None:
    places = "|".join(
        [r"/wo" + r"rk/\w", r"/ro" + r"ot/\w", r"/tm" + r"p/\w", r"C:\\Us" + "ers", r"/op" + r"t/\w"]
    )
    hosts = "|".join(["py" + r"pi\.org", "pythonh" + "osted", "registry.npm" + "js", "download.pyt" + "orch"])
    found = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()[:100]}"
        for path in project_files()
        for number, line in enumerate(path.read_text("utf-8").splitlines(), 1)
        if re.search(f"{places}|{hosts}", line)
    ]
    assert not found


def test_modules_and_functions_are_of_a_size_to_be_read_at_once() -> None:
    paths = [path for folder in ("rivya", "nodes", "sandbox", "devtools") for path in python_files(folder)]

    def long_functions(path: Path) -> list[str]:
        return [
            f"{node.name}: {node.end_lineno - node.lineno + 1} lines"
            for node in ast.walk(syntax(path))
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
            and node.end_lineno is not None
            and node.end_lineno - node.lineno >= FUNCTION_LINES
        ]

    assert named(paths, lambda path: len(path.read_text("utf-8").splitlines()) > MODULE_LINES) == {}
    assert named(paths, long_functions) == {}


def test_texts_end_their_lines_alike_and_hold_no_invisible_characters() -> None:
    invisible = re.compile("[\u200b\u200e\u200f\u202a-\u202e\u2066-\u2069\ufeff]")
    texts = {path.relative_to(ROOT): path.read_bytes() for path in project_files()}
    assert not [str(path) for path, raw in texts.items() if b"\r" in raw]
    assert not [str(path) for path, raw in texts.items() if invisible.search(raw.decode("utf-8"))]


def test_requirements_are_few_and_in_step_with_the_package() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    lines = (ROOT / "requirements.txt").read_text("utf-8").splitlines()
    assert lines == ["httpx[socks]>=0.27,<1", "httpcore>=1.0.3,<2", "truststore>=0.9"]
    assert project["dependencies"] == lines


def test_the_version_is_said_in_one_place_and_well_formed() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    assert settings["project"]["dynamic"] == ["version"]
    source = ROOT / settings["tool"]["comfy"]["version"]["path"]
    version = re.search(r'^__version__ = "(\d+\.\d+\.\d+)"$', source.read_text("utf-8"), re.MULTILINE)
    assert version
    # The script says it to ComfyUI-Manager, which cannot ask Python.
    assert f'ver: "{version[1]}"' in (ROOT / "web" / "rivya.js").read_text("utf-8")


def test_workflows_pin_their_actions_by_commit_and_ask_for_little() -> None:
    workflows = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
    assert {path.name for path in workflows} == {"publish.yml", "test.yml"}
    for path in workflows:
        text = path.read_text("utf-8")
        uses = re.findall(r"uses:\s*(\S+)", text)
        assert uses
        assert all(re.fullmatch(r"[\w-]+/[\w.-]+@[0-9a-f]{40}", name) for name in uses)
        assert re.search(r"^permissions:\n  contents: read$", text, re.MULTILINE)
        assert not re.search(r"\bwrite\b", text)
