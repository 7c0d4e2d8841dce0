"""Start a sandbox in a thread or process, and control it."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from inspect import signature
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.request import ProxyHandler, Request, build_opener

from .control import OPERATIONS, Control
from .server import Sandbox
from .settings import Settings


class Handle(ABC):
    """A running sandbox. Every operation of `Control` is a method: ``handle.fault("create", "stall", seconds=3)``.

    Attributes:
        url: the API origin, without a trailing slash.
        results_url: the second origin.
        key: the first account's API key.
    """

    def __init__(self, url: str, results_url: str, key: str) -> None:
        self.url = url
        self.results_url = results_url
        self.key = key

    @abstractmethod
    def call(self, operation: str, **arguments: Any) -> Any:
        """Run one operation of `Control`; ValueError if it is refused."""

    def __getattr__(self, name: str) -> Callable[..., Any]:
        if name not in OPERATIONS:
            raise AttributeError(f"the sandbox has no operation {name}")
        return partial(self._call, name)

    def _call(self, operation: str, *positional: Any, **named: Any) -> Any:
        """Run an operation; positional arguments are named after `Control`'s parameters."""
        arguments = signature(OPERATIONS[operation]).bind_partial(None, *positional).arguments
        arguments.pop("self")
        return self.call(operation, **arguments, **named)

    def tasks(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.book()["tasks"]
        return found

    def requests(self, endpoint: str | None = None) -> list[dict[str, Any]]:
        return [found for found in self.book()["requests"] if endpoint in (None, found["endpoint"])]

    def charges(self) -> list[dict[str, Any]]:
        """The entries that charged credits."""
        return [entry for entry in self.book()["entries"] if entry["kind"] == "charge"]

    def wait(self, *positional: Any, **named: Any) -> None:
        """`Control.wait`, with TimeoutError in place of False."""
        if not self._call("wait", *positional, **named):
            raise TimeoutError(f"the requests did not get so far in time: {positional} {named}")

    def picture(self, task: str, index: int = 0) -> bytes:
        return base64.b64decode(self.call("picture", task=task, index=index))


class LocalHandle(Handle):
    def __init__(self, control: Control, url: str, results_url: str, key: str) -> None:
        super().__init__(url, results_url, key)
        self._control = control

    def call(self, operation: str, **arguments: Any) -> Any:
        """Run the operation directly, also while both listeners are closed."""
        return self._control.perform(operation, arguments)


class RemoteHandle(Handle):
    """A sandbox in another process, controlled over HTTP; ``pid`` is its process ID, if known."""

    def __init__(self, url: str, results_url: str, key: str, pid: int | None = None) -> None:
        super().__init__(url, results_url, key)
        self.pid = pid
        self._opener = build_opener(ProxyHandler({}))

    def call(self, operation: str, **arguments: Any) -> Any:
        """Send the operation to an origin that listens; ConnectionRefusedError if none does."""
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
    """Serve a sandbox from a thread on free ports; options are the fields of `Settings`."""
    server = Sandbox(Settings(**options))
    thread = threading.Thread(target=server.run, args=(server.sockets,), name="sandbox", daemon=True)
    thread.start()
    service = server.service
    try:
        if not server.ready.wait(10):
            raise TimeoutError("the sandbox did not start")
        yield LocalHandle(
            Control(service), service.url, service.results_url, next(iter(service.accounts.keys))
        )
    finally:
        server.should_exit = True
        thread.join(10)


@contextmanager
def spawned(**options: Any) -> Iterator[RemoteHandle]:
    """Serve a sandbox from a process that survives the death of its clients and ends with the block."""
    chosen = {"port": 0, "results_port": 0, "latency": 0.0, **options}
    arguments = [sys.executable, "-m", "sandbox", "--json", "--settings", json.dumps(chosen)]
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
