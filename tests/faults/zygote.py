"""Workers: real processes that run the library, ready in milliseconds because they are forked from one that has
everything imported. A worker obeys JSON lines; see `Worker` for what it can be told.

    python -m faults.zygote FD      (started by `Zygote`)
"""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
import traceback
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent.parent


class Worker:
    """One process with one engine, seen from the test."""

    def __init__(self, pid: int, line: socket.socket) -> None:
        self.pid = pid
        line.settimeout(100)
        self._line = line
        self._file = line.makefile("rw")

    def tell(self, **command: Any) -> None:
        """Send a command without waiting for its end."""
        self._file.write(json.dumps(command) + "\n")
        self._file.flush()

    def heard(self) -> Any:
        """What it says next; fails if it died or was refused."""
        line = self._file.readline()
        if not line:
            raise AssertionError("the worker is dead")
        said = json.loads(line)
        if "traceback" in said:
            raise AssertionError(said["traceback"])
        return said

    def has_spoken(self) -> bool:
        """Whether `heard` would return at once. Only between whole lines."""
        return bool(select.select([self._line], [], [], 0)[0])

    def run(self, *wanted: dict[str, Any], **options: Any) -> list[dict[str, Any]]:
        """Order, wait, deliver; see `client.Client.run`."""
        self.tell(do="run", wanted=wanted, **options)
        result: list[dict[str, Any]] = self.heard()["result"]
        return result

    def collect(self, *task_ids: str, **options: Any) -> list[dict[str, Any]]:
        """See `client.Client.collect`."""
        self.tell(do="collect", task_ids=task_ids, **options)
        result: list[dict[str, Any]] = self.heard()["result"]
        return result

    def forget(self, order_key: str) -> bool:
        """See `client.Client.forget`."""
        self.tell(do="forget", order_key=order_key)
        result: bool = self.heard()["result"]
        return result

    def stop_at(self, place: str, when: str = "before") -> None:
        """Let it stand still for ever when it comes to a method, "Class.method"; it says ``stopped`` then."""
        self.tell(do="stop_at", place=place, when=when)
        self.heard()

    def kill(self) -> None:
        """SIGKILL, and wait until it is gone."""
        try:
            os.kill(self.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        try:
            while self._line.recv(65536):
                pass
        except OSError:
            pass
        self._file.close()
        self._line.close()


class Zygote:
    """The process that workers are forked from; a context manager that leaves none of them behind."""

    def __init__(self) -> None:
        self._ours, theirs = socket.socketpair()
        path = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
        self._process = subprocess.Popen(
            [sys.executable, "-m", "faults.zygote", str(theirs.fileno())],
            pass_fds=[theirs.fileno()],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": path, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"},
        )
        theirs.close()
        self._workers: list[Worker] = []
        self._lock = threading.Lock()

    def worker(self, home: Path, url: str, key: str, **settings: Any) -> Worker:
        """A new process with an engine for this state folder and service."""
        ours, theirs = socket.socketpair()
        with self._lock:
            socket.send_fds(self._ours, [b"w"], [theirs.fileno()])
            worker = Worker(int(self._ours.recv(32)), ours)
        theirs.close()
        self._workers.append(worker)
        worker.tell(do="be", home=str(home), url=url, key=key, **settings)
        worker.heard()
        return worker

    def __enter__(self) -> Zygote:
        return self

    def __exit__(self, *_: object) -> None:
        for worker in self._workers:
            worker.kill()
        self._ours.close()
        self._process.wait(10)


def _serve(control: socket.socket) -> None:
    """Fork a worker for every descriptor that comes."""
    from faults.client import FaultsAccount
    from support.quick import quicken

    quicken(FaultsAccount)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    while True:
        message, descriptors, _, _ = socket.recv_fds(control, 1, 1)
        if not message:
            return
        pid = os.fork()
        if pid == 0:
            control.close()
            try:
                _work(socket.socket(fileno=descriptors[0]))
            finally:
                os._exit(0)
        os.close(descriptors[0])
        control.sendall(str(pid).encode())


def _work(line: socket.socket) -> None:
    from faults.client import Client

    file = line.makefile("rw")
    client: Client | None = None

    def say(**words: Any) -> None:
        file.write(json.dumps(words) + "\n")
        file.flush()

    for text in file:
        command = json.loads(text)
        action = command.pop("do")
        try:
            if action == "be":
                client = Client(**command)
                say(ready=True)
            elif action == "stop_at":
                _stop_at(command["place"], command["when"], say)
                say(ready=True)
            else:
                say(result=getattr(client, action)(**command))
        except Exception:
            say(traceback=traceback.format_exc())


def _stop_at(place: str, when: str, say: Any) -> None:
    from rivya import files
    from rivya.engine import engine
    from rivya.ledger import ledger, uploads
    from rivya.storage import folder

    owner_name, method = place.split(".")
    owners = {
        "Ledger": ledger.Ledger,
        "Uploads": uploads.Uploads,
        "FolderStore": folder.FolderStore,
        "Engine": engine.Engine,
    }
    owner: Any = files.os if owner_name == "os" else owners[owner_name]
    original = getattr(owner, method)

    def wrapped(*arguments: Any, **options: Any) -> Any:
        if owner_name == "os" and "results" not in str(arguments[-1]):
            return original(*arguments, **options)
        result = None if when == "before" else original(*arguments, **options)
        say(stopped=place)
        time.sleep(3600)
        return result

    setattr(owner, method, wrapped)


if __name__ == "__main__":
    _serve(socket.socket(fileno=int(sys.argv[1])))
