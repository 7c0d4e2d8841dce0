"""Python's audit hook in a ComfyUI process: which connections it makes, which files it writes, what it starts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

_HOOK = """
import json, os, sys

_fd = os.open(os.environ["RIVYA_TEST_AUDIT"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)

def _hook(event, arguments):
    if event == "open":
        path, mode, flags = arguments
        if not isinstance(path, (str, bytes)) or not (flags or 0) & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
            return
        what = os.fsdecode(path)
    elif event in ("socket.connect", "socket.getaddrinfo", "socket.bind", "socket.sendto"):
        what = [part for part in arguments if isinstance(part, (str, int, tuple))]
    elif event in ("os.rename", "os.remove", "os.mkdir", "os.symlink", "os.link", "os.rmdir", "shutil.rmtree"):
        what = [os.fsdecode(part) for part in arguments if isinstance(part, (str, bytes))]
    elif event in ("subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.fork"):
        what = str(arguments)[:200]
    else:
        return
    os.write(_fd, (json.dumps([event, what], default=str) + "\\n").encode())

sys.addaudithook(_hook)
"""


class Audit:
    """Lays the hook into ``folder``; ``environment`` makes a Python process load it."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self._log = folder / "audit.jsonl"
        (folder / "sitecustomize.py").write_text(_HOOK)
        self.environment = {"PYTHONPATH": str(folder), "RIVYA_TEST_AUDIT": str(self._log)}
        self._from = 0

    def begin(self) -> None:
        """Count from now on."""
        self._from = len(self._log.read_text().splitlines())

    def events(self, *names: str) -> list[Any]:
        """What was noted since `begin`, for events of these names."""
        lines = self._log.read_text().splitlines()[self._from :]
        return [what for event, what in map(json.loads, lines) if event in names]
