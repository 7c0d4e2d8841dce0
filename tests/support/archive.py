"""What a user gets who installs the pack from ComfyUI's registry: the repository without what .comfyignore names."""

from __future__ import annotations

import zipfile
from pathlib import Path

from support.sources import ROOT, listed_files


def packed_files() -> list[Path]:
    """The files of the archive; .comfyignore holds paths from the root alone, folders with a slash at the end."""
    lines = (ROOT / ".comfyignore").read_text("utf-8").splitlines()
    left_out = [line.strip() for line in lines if line.strip() and not line.startswith("#")]
    assert all(line.startswith("/") for line in left_out)
    folders = tuple(line for line in left_out if line.endswith("/"))
    return [
        path
        for path in listed_files()
        for name in ["/" + path.relative_to(ROOT).as_posix()]
        if name not in left_out and not name.startswith(folders)
    ]


def pack(archive: Path) -> None:
    """Write the archive as the registry's own tool does."""
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as target:
        for path in packed_files():
            target.write(path, path.relative_to(ROOT))
