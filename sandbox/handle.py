"""What a test holds: one sandbox in a thread of this process, or in a process of its own."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.error import HTTPError, URLError
from urllib.request import ProxyHandler, Request, build_opener

from .settings import Settings, command_line

if TYPE_CHECKING:
    from .desk import Desk


class Handle(ABC):
    """The desk of a running sandbox.

    Attributes:
        url: the API origin, without a slash at its end.
        results_url: the second origin.
        key: the API key of the first account.
    """

    def __init__(self, url: str, results_url: str, key: str) -> None:
        self.url = url
        self.results_url = results_url
        self.key = key

    @abstractmethod
    def call(self, operation: str, **arguments: Any) -> Any:
        """Carry out one operation of the desk; ValueError when it is refused."""

    def book(self) -> dict[str, Any]:
        """Accounts, tasks, uploads, entries, requests, violations and errors, as plain values."""
        found: dict[str, Any] = self.call("book")
        return found

    def tasks(self) -> list[dict[str, Any]]:
        """The tasks of the book, in order of acceptance."""
        found: list[dict[str, Any]] = self.book()["tasks"]
        return found

    def requests(self, endpoint: str | None = None) -> list[dict[str, Any]]:
        """The requests of the book, those to one endpoint if named."""
        return [found for found in self.book()["requests"] if endpoint in (None, found["endpoint"])]

    def charges(self) -> list[dict[str, Any]]:
        """The entries of the book that took credits for good."""
        return [entry for entry in self.book()["entries"] if entry["kind"] == "charge"]

    def fault(
        self, endpoint: str | tuple[str, ...] | list[str], action: str, **fields: Any
    ) -> dict[str, Any]:
        """Arm a fault: ``times`` (1; None: always), ``after``, ``probability``, ``seed``, ``contains``, and its own."""
        found: dict[str, Any] = self.call("fault", endpoint=endpoint, action=action, **fields)
        return found

    def faults(self) -> list[dict[str, Any]]:
        """Every armed fault with ``seen`` and ``hits``."""
        found: list[dict[str, Any]] = self.call("faults")
        return found

    def clear_faults(self) -> None:
        """Take every fault back, end what is stalled, and listen again."""
        self.call("clear_faults")

    def reset(self) -> None:
        """Begin again as at the start."""
        self.call("reset")

    def wait(
        self,
        endpoint: str,
        stage: str = "answered",
        count: int = 1,
        timeout: float = 10.0,
        fault: str | None = None,
    ) -> None:
        """Wait until requests have come so far; TimeoutError when they do not."""
        if not self.call("wait", endpoint=endpoint, stage=stage, count=count, timeout=timeout, fault=fault):
            raise TimeoutError(f"{count} x {endpoint} did not come to {stage} within {timeout} s")

    def picture(self, task: str, index: int = 0) -> bytes:
        """The exact bytes of a task's result."""
        return base64.b64decode(self.call("picture", task=task, index=index))

    def set_key(self, key: str, **fields: Any) -> None:
        """Add or change a key: ``account``, ``state`` (active, revoked, expired), ``scopes``."""
        self.call("set_key", key=key, **fields)

    def set_credits(self, amount: int, account: str = "main") -> None:
        """Set what an account has free."""
        self.call("set_credits", amount=amount, account=account)

    def expire_uploads(self, upload: str | None = None) -> int:
        """Let one upload be gone, or all."""
        return int(self.call("expire_uploads", upload=upload))

    def expire_results(self, task: str | None = None, *, status: int = 403, gone: bool = False) -> int:
        """Let result URLs told so far answer ``status``; for ever, if ``gone``."""
        return int(self.call("expire_results", task=task, status=status, gone=gone))

    def finish_tasks(self, task: str | None = None) -> int:
        """Let running tasks end now."""
        return int(self.call("finish_tasks", task=task))

    def drop_tasks(self, task: str | None = None) -> int:
        """Let the service know nothing of tasks any more: 404."""
        return int(self.call("drop_tasks", task=task))

    def forget_keys(self) -> None:
        """Drop every idempotency key."""
        self.call("forget_keys")

    def close_listener(self, seconds: float = 1.0, origin: str = "api") -> None:
        """Refuse connections to an origin ("api" or "results") for a while."""
        self.call("close_listener", seconds=seconds, origin=origin)

    def advertise(self, results_url: str | None) -> None:
        """Tell clients another address for uploads and results, such as that of a slow link before them."""
        self.call("advertise", results_url=results_url)


class LocalHandle(Handle):
    """A sandbox in a thread of this process."""

    def __init__(self, desk: Desk, url: str, results_url: str, key: str) -> None:
        super().__init__(url, results_url, key)
        self._desk = desk

    def call(self, operation: str, **arguments: Any) -> Any:
        """Ask the desk directly, which works while nothing listens, too."""
        return self._desk.perform(operation, arguments)


class RemoteHandle(Handle):
    """A sandbox in another process, through its HTTP desk; ``pid`` is the process, where it is known."""

    def __init__(self, url: str, results_url: str, key: str, pid: int | None = None) -> None:
        super().__init__(url, results_url, key)
        self.pid = pid
        self._opener = build_opener(ProxyHandler({}))

    def call(self, operation: str, **arguments: Any) -> Any:
        """Ask the desk, on whichever of the two origins listens."""
        for origin in (self.results_url, self.url):
            request = Request(  # noqa: S310 - our own address, http on loopback
                f"{origin}/_sandbox/{operation}",
                data=json.dumps(arguments).encode(),
                headers={"Content-Type": "application/json"},
            )
            try:
                with self._opener.open(request, timeout=120) as answer:
                    return json.load(answer)["result"]
            except HTTPError as error:
                raise ValueError(json.load(error)["sandbox_error"]) from error
            except URLError as error:
                if not isinstance(error.reason, ConnectionRefusedError):
                    raise
        raise ConnectionRefusedError("the sandbox does not listen")


@contextmanager
def running(**options: Any) -> Iterator[LocalHandle]:
    """Serve a sandbox from a thread on free ports; the options are those of `sandbox.settings.Settings`."""
    from .desk import Desk
    from .serve import Sandbox

    server = Sandbox(Settings(**options))
    thread = threading.Thread(target=server.run, args=(server.sockets,), name="sandbox", daemon=True)
    thread.start()
    service = server.service
    try:
        _until(lambda: server.started)
        yield LocalHandle(Desk(service), service.url, service.results_url, next(iter(service.book.keys)))
    finally:
        server.should_exit = True
        thread.join(10)


@contextmanager
def spawned(**options: Any) -> Iterator[RemoteHandle]:
    """Serve a sandbox from a process of its own, which outlives the death of its clients; it ends with the block."""
    chosen = {"port": 0, "results_port": 0, "latency": 0.0, **options}
    arguments = [sys.executable, "-m", "sandbox", "--json", *command_line(chosen)]
    home = Path(__file__).parents[1]
    process = subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True, cwd=home)  # noqa: S603 - our own module
    try:
        about = json.loads(process.stdout.readline() if process.stdout else "")
        yield RemoteHandle(about["url"], about["results_url"], about["key"], process.pid)
    finally:
        process.terminate()
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _until(condition: Any, timeout: float = 10.0) -> None:
    end = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError("the sandbox did not start")
        time.sleep(0.005)
