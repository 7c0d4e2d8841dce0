"""Child processes and ports: started with a log of their own, ended by their own handle, on every system."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType


def free_port(preferred: int = 0) -> int:
    """A loopback port that is free now: ``preferred``, or any where that one is taken (or 0)."""
    for port in (preferred, 0):
        with socket.socket() as probe:
            if os.name == "posix":
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise OSError("no loopback port is free")


class ChildFailed(Exception):
    """A child process ended or did not come up; the text holds the end of its log."""


class Child:
    """One child process whose output goes into a file.

    Attributes:
        name: what it is called in messages.
        log_path: the file with everything that it printed.
        process: the `subprocess.Popen`.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        *,
        log_path: Path,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
    ) -> None:
        self.name = name
        self.log_path = log_path
        log_path.parent.mkdir(parents=True, exist_ok=True)
        # A group of its own: Ctrl-C in the terminal reaches the parent alone, which ends its children in order.
        flags = subprocess.CREATE_NEW_PROCESS_GROUP if sys.platform == "win32" else 0
        with log_path.open("ab") as log:
            self.process = subprocess.Popen(
                list(command),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=dict(env) if env is not None else None,
                cwd=cwd,
                start_new_session=os.name == "posix",
                creationflags=flags,
            )

    def alive(self) -> bool:
        return self.process.poll() is None

    def log(self) -> str:
        """Everything that it printed so far."""
        return self.log_path.read_text("utf-8", "replace")

    def log_end(self, lines: int = 25) -> str:
        return "\n".join(self.log().splitlines()[-lines:])

    def wait_until(self, ready: Callable[[], bool], timeout_s: float) -> None:
        """Wait for ``ready``; raises `ChildFailed` when the process ends first, or after ``timeout_s``."""
        deadline = time.monotonic() + timeout_s
        while not ready():
            if not self.alive():
                raise ChildFailed(
                    f"{self.name} ended with code {self.process.returncode}. Its last lines:\n{self.log_end()}"
                )
            if time.monotonic() > deadline:
                raise ChildFailed(
                    f"{self.name} was not ready after {timeout_s:.0f} s. Its last lines:\n{self.log_end()}"
                )
            time.sleep(0.05)

    def stop(self, timeout_s: float = 10.0) -> None:
        """End it: politely, then firmly."""
        if self.alive():
            self.process.terminate()
            try:
                self.process.wait(timeout_s)
            except subprocess.TimeoutExpired:
                self.kill()
        self.process.wait()

    def kill(self) -> None:
        """End it at once, as a crash or a power cut would."""
        if self.alive():
            self.process.kill()
        self.process.wait()

    def interrupt(self) -> None:
        """Ctrl-C."""
        self.process.send_signal(signal.CTRL_BREAK_EVENT if sys.platform == "win32" else signal.SIGINT)

    def __enter__(self) -> Child:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
