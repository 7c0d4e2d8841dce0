"""The archive that the registry hands out, installed into a ComfyUI of its own.

That it holds every module that its modules import is checked in ``tests/structure/test_archive.py``.
"""

from __future__ import annotations

import urllib.request
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from support.archive import pack
from support.comfy import RivyaComfyUI, edit_graph, random_picture
from support.service import Watched

NAME = "rivya-nodes"  # the folder is named after the project


@pytest.mark.slow
def test_the_packed_archive_edits_a_picture_in_a_fresh_comfyui(
    tmp_path: Path, start_comfyui: Callable[..., RivyaComfyUI], service: Watched
) -> None:
    pack(tmp_path / "node.zip")
    installed = tmp_path / "unpacked" / NAME
    with zipfile.ZipFile(tmp_path / "node.zip") as archive:
        archive.extractall(installed)
    assert {path.name for path in installed.iterdir()} >= {
        "__init__.py",
        "nodes",
        "rivya",
        "web",
        "requirements.txt",
    }
    for left_out in ("tests", "sandbox", "benchmarks", "devtools", "dev.py", ".github", ".ci"):
        assert not (installed / left_out).exists()

    comfy = start_comfyui(pack=installed)
    comfy.configure(api_key=service.key, base_url=service.url)
    pixels = random_picture()
    finished = comfy.run(edit_graph(comfy.put_image(pixels)))
    assert finished.succeeded, finished.explain()
    assert len(comfy.pictures(finished)) == 1

    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    script = opener.open(f"{comfy.url}/extensions/{NAME}/rivya.js", timeout=10)
    assert b"registerExtension" in script.read()
    assert "Edit a photo" in comfy.call("/workflow_templates")[NAME]
