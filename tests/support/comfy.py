"""A real ComfyUI process for tests: graphs in, pictures and messages out.

The process itself and its HTTP API are in `devtools.comfyui`, which the demo uses as well.
"""

from __future__ import annotations

import copy
import io
import itertools
import json
import os
import secrets
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from devtools.comfyui import ROOT, ComfyUI, Finished, prepare_base
from support.service import Watched

WORKFLOW = ROOT / "tests" / "workflows" / "edit_a_photo.json"

Graph = dict[str, Any]
Pixels = npt.NDArray[np.uint8]

# No two orders of one run are alike, unless a test says so: what one test bought is not served to the next.
_seeds = itertools.count(secrets.randbelow(2**30))


def comfyui_folder() -> Path:
    """Where ComfyUI lies: ``COMFYUI_DIR``, else what ``python dev.py test`` has installed."""
    folder = Path(os.environ.get("COMFYUI_DIR") or ROOT / ".dev" / "comfyui")
    if not (folder / "main.py").is_file():
        raise AssertionError(f"no ComfyUI in {folder}: run python dev.py test, or set COMFYUI_DIR")
    return folder


def newest_frontend() -> Path:
    """The folder of the newest frontend, which ``python dev.py test`` installs."""
    from devtools.environment import newest_frontend_folder

    folder = newest_frontend_folder()
    if not folder.is_dir():
        raise AssertionError(f"no frontend in {folder}: run python dev.py test, which installs it")
    return folder


def start_comfyui(base: Path, env: Mapping[str, str] | None = None, **options: Any) -> RivyaComfyUI:
    """Start ComfyUI in ``base`` with the pack of this project; its state folder is ``base/state``.

    The environment has no key and no base URL unless ``env`` brings them: `RivyaComfyUI.configure` writes them into
    config.json, where they can change from test to test. ``RIVYA_TEST_FRONTEND=newest`` shows the newest frontend.
    """
    prepare_base(base, options.pop("pack", ROOT))
    if os.environ.get("RIVYA_TEST_FRONTEND") == "newest":
        options["arguments"] = [*options.get("arguments", ()), "--front-end-root", str(newest_frontend())]
    return RivyaComfyUI.start(
        comfyui_folder(), base, env={"RIVYA_HOME": str(base / "state"), **(env or {})}, **options
    )


@contextmanager
def running_comfyui(base: Path, **options: Any) -> Iterator[RivyaComfyUI]:
    """`start_comfyui` for as long as the block lasts."""
    server = start_comfyui(base, **options)
    try:
        yield server
    finally:
        server.stop()


class RivyaComfyUI(ComfyUI):
    """A ComfyUI process, and what tests ask of it beyond the HTTP API."""

    @property
    def home(self) -> Path:
        """The pack's state folder."""
        return self.base / "state"

    def configure(self, **settings: Any) -> None:
        """Write the pack's config.json whole; settings that are None are left out."""
        self.home.mkdir(mode=0o700, exist_ok=True)
        path = self.home / "config.json"
        partial = path.with_suffix(".partial")
        partial.write_text(json.dumps({k: v for k, v in settings.items() if v is not None}))
        partial.chmod(0o600)
        partial.replace(path)

    def use(self, service: Watched) -> RivyaComfyUI:
        """Let the pack order from this sandbox; returns this ComfyUI."""
        self.configure(api_key=service.key, base_url=service.url)
        return self

    def put_image(self, pixels: Pixels, name: str | None = None) -> str:
        """Lay a picture into ComfyUI's input folder as PNG; gives its name for LoadImage."""
        name = name or f"{secrets.token_hex(8)}.png"
        Image.fromarray(pixels).save(self.base / "input" / name)
        return name

    def pictures(self, finished: Finished, node: str = "save") -> list[Pixels]:
        """What a SaveImage node wrote, as pixels, in its order."""
        references = finished.outputs.get(node, {}).get("images", [])
        return [np.asarray(Image.open(io.BytesIO(self.file(reference)))) for reference in references]

    def text(self, finished: Finished, node: str) -> str:
        """What a PreviewAny node shows."""
        return str(finished.outputs[node]["text"][0])

    def listen(self) -> Listener:
        """A websocket under the id with which prompts are queued."""
        return Listener(self.url, self.client_id)


class Listener:
    """Everything that ComfyUI says over its websocket, from now on.

    Attributes:
        messages: (time.monotonic() of arrival, message) of every text message, in order.
    """

    def __init__(self, url: str, client_id: str) -> None:
        self._open = ExitStack()
        self._socket = self._open.enter_context(
            connect(f"{url.replace('http', 'ws', 1)}/ws?clientId={client_id}", proxy=None, max_size=None)
        )
        self._news = threading.Condition()
        self.messages: list[tuple[float, dict[str, Any]]] = []
        self.raw: list[str | bytes] = []
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        try:
            for message in self._socket:
                with self._news:
                    self.raw.append(message)
                    if isinstance(message, str):
                        self.messages.append((time.monotonic(), json.loads(message)))
                    self._news.notify_all()
        except ConnectionClosed:
            return

    def wait_for(
        self,
        kind: str,
        accept: Callable[[dict[str, Any]], bool] = lambda _: True,
        timeout_s: float = 30.0,
    ) -> tuple[float, dict[str, Any]]:
        """Wait for a message of that type whose body ``accept`` takes; gives its time and body."""

        def first() -> tuple[float, dict[str, Any]] | None:
            for at, message in self.messages:
                if message["type"] == kind and accept(message["data"]):
                    return at, message["data"]
            return None

        with self._news:
            if not self._news.wait_for(lambda: first() is not None, timeout_s):
                raise AssertionError(f"no {kind} within {timeout_s} s, but {self.messages[-20:]}")
            found = first()
        assert found is not None
        return found

    def progress_texts(self) -> list[tuple[str, str]]:
        """(node id, text) of every status text on a node so far, in order."""
        found = []
        with self._news:
            for message in self.raw:
                # Binary: 4 bytes of kind (3: text), 4 bytes of the node id's length, node id, text.
                if isinstance(message, bytes) and int.from_bytes(message[:4], "big") == 3:
                    end = 8 + int.from_bytes(message[4:8], "big")
                    found.append((message[8:end].decode(), message[end:].decode()))
        return found

    def close(self) -> None:
        self._open.close()
        self._thread.join(5)

    def __enter__(self) -> Listener:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def eventually(true: Callable[[], object], what: str, seconds: float = 30.0) -> None:
    """Wait until it is true, or fail with ``what``."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, f"not within {seconds} s: {what}"
        time.sleep(0.02)


def new_seed() -> int:
    """A seed that no other order of this test run has."""
    return next(_seeds) % 2**31


def random_picture(width: int = 64, height: int = 48, channels: int = 3) -> Pixels:
    """A picture that no other test has: noise, HxWxC."""
    return np.random.default_rng().integers(0, 256, (height, width, channels), dtype=np.uint8)


def edit_graph(image: str | None, *, params: Mapping[str, Any] | None = None, **edit: Any) -> Graph:
    """The edit workflow in API form, with an order of its own unless ``seed`` is given.

    Args:
        image: name in ComfyUI's input folder; None makes a picture from text alone.
        params: changes to the inputs of the params node.
        edit: changes to the inputs of the node that submits; a value of None takes the input out.
    """
    graph: Graph = copy.deepcopy(json.loads(WORKFLOW.read_text("utf-8")))
    inputs = graph["edit"]["inputs"]
    inputs["seed"] = new_seed()
    if image is None:
        del graph["photo"], graph["reference"], inputs["reference"]
    else:
        graph["photo"]["inputs"]["image"] = image
    graph["params"]["inputs"].update(params or {})
    inputs.update(edit)
    graph["edit"]["inputs"] = {name: value for name, value in inputs.items() if value is not None}
    return graph


def show(graph: Graph, name: str, source: str, output: int) -> Graph:
    """Add a PreviewAny node that shows an output as text; `RivyaComfyUI.text` reads it."""
    graph[name] = {"class_type": "PreviewAny", "inputs": {"source": [source, output]}}
    return graph
