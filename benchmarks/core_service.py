"""What ComfyUI's own Kontext node talks to: a stand-in for the proxy behind ``--comfy-api-base``.

Three addresses, as `comfy_api_nodes/nodes_bfl.py` calls them: generate, the polling URL, and the picture. The service
times come from outside, the same as for the sandbox; the picture is one that the sandbox has drawn.
"""

from __future__ import annotations

import itertools
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from devtools.processes import free_port


@dataclass
class CoreTask:
    """One accepted order: when it ends, how often it was asked about, and when its end was first told."""

    ends_at: float
    polls: int = 0
    noticed_at: float | None = None


@dataclass
class CoreService:
    """The stand-in. ``times`` are the service times of the orders to come, seconds.

    ``results_url`` is where pictures are told to be.
    """

    picture: bytes
    url: str = ""
    results_url: str = ""
    times: deque[float] = field(default_factory=deque)
    tasks: dict[str, CoreTask] = field(default_factory=dict)
    _numbers: Iterator[int] = field(default_factory=itertools.count)

    def expect(self, times: Sequence[float]) -> None:
        """Begin anew with these service times."""
        self.times, self.tasks = deque(times), {}

    async def generate(self, request: Request) -> Response:
        await request.body()
        name = f"core-{next(self._numbers)}"
        self.tasks[name] = CoreTask(ends_at=time.time() + self.times.popleft())
        return JSONResponse({"id": name, "polling_url": f"/proxy/bfl/get_result?id={name}"})

    async def status(self, request: Request) -> Response:
        name = request.query_params["id"]
        task = self.tasks[name]
        task.polls += 1
        if time.time() < task.ends_at:
            return JSONResponse({"id": name, "status": "Pending", "result": None, "progress": None})
        task.noticed_at = task.noticed_at or time.time()
        result = {"sample": f"{self.results_url or self.url}/picture/{name}.png"}
        return JSONResponse({"id": name, "status": "Ready", "result": result, "progress": 1.0})

    async def sample(self, request: Request) -> Response:
        return Response(self.picture, media_type="image/png")

    def app(self) -> Starlette:
        return Starlette(
            routes=[
                Route("/proxy/bfl/flux-kontext-pro/generate", self.generate, methods=["POST"]),
                Route("/proxy/bfl/get_result", self.status),
                Route("/picture/{name}", self.sample),
            ]
        )


@contextmanager
def running(picture: bytes) -> Iterator[CoreService]:
    """Serve the stand-in from a thread on a free loopback port."""
    service = CoreService(picture)
    port = free_port()
    server = uvicorn.Server(
        uvicorn.Config(service.app(), host="127.0.0.1", port=port, log_config=None, access_log=False)
    )
    thread = threading.Thread(target=server.run, name="core-service", daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    service.url = f"http://127.0.0.1:{port}"
    try:
        yield service
    finally:
        server.should_exit = True
        thread.join(10)
