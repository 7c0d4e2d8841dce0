"""One ComfyUI process with this pack in it, and its HTTP API: shared by the demo and the tests."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from .processes import Child, free_port

ROOT = Path(__file__).resolve().parent.parent
LAUNCHER = Path(__file__).with_name("launch_comfyui.py")
PACK_NAME = "rivya-nodes"
_FOLDERS = ("custom_nodes", "input", "output", "temp", "user", "models")

# Loopback is never asked for over a proxy.
_open = urllib.request.build_opener(urllib.request.ProxyHandler({})).open


class PromptRefused(Exception):
    """``POST /prompt`` said no. ``errors`` is ComfyUI's ``node_errors``, ``answer`` the whole answer."""

    def __init__(self, answer: dict[str, Any]) -> None:
        super().__init__(json.dumps(answer)[:4000])
        self.answer = answer
        self.errors: dict[str, Any] = answer.get("node_errors") or {}


@dataclass(frozen=True)
class Finished:
    """What ``/history`` says of one prompt.

    Attributes:
        prompt_id: ComfyUI's id.
        entry: the entry as ComfyUI gave it.
    """

    prompt_id: str
    entry: dict[str, Any]

    @property
    def succeeded(self) -> bool:
        return bool(self.entry["status"]["status_str"] == "success")

    @property
    def outputs(self) -> dict[str, Any]:
        """By node id: what its user interface was given."""
        return dict(self.entry["outputs"])

    def message(self, name: str) -> dict[str, Any] | None:
        """The body of the last status message of that name (``execution_error``, ``execution_cached`` ...)."""
        found = [body for kind, body in self.entry["status"]["messages"] if kind == name]
        return dict(found[-1]) if found else None

    @property
    def error(self) -> dict[str, Any] | None:
        """``execution_error``: node_id, node_type, exception_type, exception_message ..."""
        return self.message("execution_error")

    def explain(self) -> str:
        """How it ended, for a person."""
        if self.error is None:
            return str(self.entry["status"])
        return f"{self.error['node_id']}: {self.error['exception_type']}: {self.error['exception_message']}"

    @property
    def interrupted(self) -> bool:
        return self.message("execution_interrupted") is not None


def link_folder(target: Path, link: Path) -> None:
    """Make ``link`` show ``target``: a symbolic link, or a junction on Windows, which needs no rights."""
    if link.is_symlink() or link.exists():
        if link.resolve() == target.resolve():
            return
        raise FileExistsError(f"{link} exists and is not a link to {target}")
    if sys.platform == "win32":
        subprocess.run(["cmd", "/c", "mklink", "/J", str(link), str(target)], check=True, capture_output=True)
    else:
        link.symlink_to(target, target_is_directory=True)


def prepare_base(base: Path, pack: Path | None = ROOT) -> None:
    """Make a base directory for ComfyUI, with ``pack`` as its only custom node."""
    for name in _FOLDERS:
        (base / name).mkdir(parents=True, exist_ok=True)
    if pack is not None:
        link_folder(pack, base / "custom_nodes" / PACK_NAME)


def clean_environment(extra: Mapping[str, str]) -> dict[str, str]:
    """The environment without the user's own Rivya settings, and with ``extra``."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("RIVYA_")}
    env.update({"PYTHONUNBUFFERED": "1", "PYTHONIOENCODING": "utf-8", "HF_HUB_OFFLINE": "1", **extra})
    return env


class ComfyUI:
    """A running ComfyUI.

    Attributes:
        url: its address, without a slash at the end.
        base: its base directory (input, output, user, custom_nodes ...).
        child: the process.
        client_id: the id under which prompts are queued, for a websocket to listen with.
    """

    def __init__(self, url: str, base: Path, child: Child) -> None:
        self.url = url
        self.base = base
        self.child = child
        self.client_id = uuid.uuid4().hex
        self._emptied_by: list[str] = []  # the prompt of the last `forget_cached`

    @classmethod
    def start(
        cls,
        folder: Path,
        base: Path,
        *,
        env: Mapping[str, str],
        port: int = 0,
        python: str = sys.executable,
        arguments: Sequence[str] = (),
        timeout_s: float = 120.0,
    ) -> ComfyUI:
        """Start the ComfyUI of ``folder`` on loopback and wait until it answers.

        Raises:
            ChildFailed: it ended, or did not answer in time; the text holds the end of its log.
        """
        port = port or free_port()
        command = [
            *(python, str(LAUNCHER), str(folder), "--cpu", "--listen", "127.0.0.1", "--port", str(port)),
            *("--base-directory", str(base), "--disable-auto-launch", "--disable-api-nodes", "--log-stdout"),
            *("--database-url", f"sqlite:///{(base / 'user' / 'comfyui.db').as_posix()}"),
            *arguments,
        ]
        child = Child("ComfyUI", command, log_path=base / "comfyui.log", env=clean_environment(env), cwd=base)
        server = cls(f"http://127.0.0.1:{port}", base, child)
        try:
            child.wait_until(server._answers, timeout_s)
        except BaseException:
            child.kill()
            raise
        return server

    def _answers(self) -> bool:
        try:
            with _open(f"{self.url}/system_stats", timeout=5) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    def call(self, path: str, body: Any = None, *, timeout_s: float = 60.0) -> Any:
        """GET, or POST where there is a body; the JSON of the answer, or None where it is empty."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(  # noqa: S310 - the address is our own ComfyUI's
            self.url + path, data=data, headers={"Content-Type": "application/json"}
        )
        with _open(request, timeout=timeout_s) as answer:
            raw = answer.read()
        return json.loads(raw) if raw else None

    def queue(self, graph: Mapping[str, Any], extra_data: Mapping[str, Any] | None = None) -> str:
        """Queue a graph in API form; gives the prompt id, raises `PromptRefused`."""
        body = {"prompt": graph, "client_id": self.client_id, "extra_data": dict(extra_data or {})}
        try:
            return str(self.call("/prompt", body)["prompt_id"])
        except urllib.error.HTTPError as error:
            raise PromptRefused(json.loads(error.read())) from None

    def finished(self, prompt_id: str) -> Finished | None:
        entry = self.call(f"/history/{prompt_id}").get(prompt_id)
        return Finished(prompt_id, entry) if entry else None

    def wait(self, prompt_id: str, timeout_s: float = 60.0) -> Finished:
        """Wait for the end of a prompt, whatever end it takes."""
        deadline = time.monotonic() + timeout_s
        while (finished := self.finished(prompt_id)) is None:
            if not self.child.alive():
                raise AssertionError(f"ComfyUI ended. Its last lines:\n{self.child.log_end()}")
            if time.monotonic() > deadline:
                raise AssertionError(
                    f"the prompt did not end within {timeout_s:.0f} s. Last lines of ComfyUI:\n{self.child.log_end()}"
                )
            time.sleep(0.1)
        return finished

    def run(self, graph: Mapping[str, Any], timeout_s: float = 60.0) -> Finished:
        return self.wait(self.queue(graph), timeout_s)

    def interrupt(self, prompt_id: str | None = None) -> None:
        self.call("/interrupt", {} if prompt_id is None else {"prompt_id": prompt_id})

    def object_info(self, node: str = "") -> dict[str, Any]:
        return dict(self.call(f"/object_info/{node}" if node else "/object_info"))

    def file(self, reference: Mapping[str, str]) -> bytes:
        """The bytes of a picture that an output names (filename, subfolder, type)."""
        with _open(f"{self.url}/view?{urlencode(dict(reference))}", timeout=60) as answer:
            return bytes(answer.read())

    def forget_cached(self) -> None:
        """Empty ComfyUI's memory of what nodes gave, as its button does; takes effect before the next prompt.

        ComfyUI looks at this wish between two prompts, or when it gets round to it: so a prompt that costs nothing is
        run in between. Where nothing has run since the last time, nothing is done.
        """
        if list(self.call("/history?max_items=1")) == self._emptied_by:
            return
        self.call("/free", {"free_memory": True, "unload_models": True})
        size = {"width": 16, "height": 16, "batch_size": 1, "color": 0}
        done = self.run(
            {
                "empty": {"class_type": "EmptyImage", "inputs": size},
                "look": {"class_type": "PreviewImage", "inputs": {"images": ["empty", 0]}},
            }
        )
        self._emptied_by = [done.prompt_id]

    def stop(self) -> None:
        self.child.stop()
