"""Looks into a ComfyUI process for the bench: how late the engine's event loop and a plain thread wake up.

A thread that is late was kept from running by somebody who held the interpreter lock (or by the machine); a loop that
is later than that was held up by its own work.
"""

import asyncio
import sys
import threading
import time

from aiohttp import web
from server import PromptServer

TICK_S = 0.005

NODE_CLASS_MAPPINGS: dict = {}
_late: dict[str, list[float]] = {"loop": [], "thread": []}
_running = threading.Event()


def _engine():
    """The engine module of the pack, under whatever name ComfyUI has loaded it."""
    return next(module for name, module in sys.modules.items() if name.endswith("rivya.engine.engine"))


async def _watch_loop() -> None:
    while _running.is_set():
        due = time.perf_counter() + TICK_S
        await asyncio.sleep(TICK_S)
        _late["loop"].append(time.perf_counter() - due)


def _watch_thread() -> None:
    while _running.is_set():
        due = time.perf_counter() + TICK_S
        time.sleep(TICK_S)
        _late["thread"].append(time.perf_counter() - due)


@PromptServer.instance.routes.post("/bench/watch")
async def start(request: web.Request) -> web.Response:
    """Begin to watch."""
    for late in _late.values():
        late.clear()
    _running.set()
    await asyncio.to_thread(lambda: _engine().shared().start(_watch_loop))
    threading.Thread(target=_watch_thread, daemon=True).start()
    return web.json_response({})


@PromptServer.instance.routes.get("/bench/late")
async def stop(request: web.Request) -> web.Response:
    """End, and give how late each wake-up was, seconds."""
    _running.clear()
    return web.json_response(_late)
