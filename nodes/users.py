"""Which user queued a prompt, on a ComfyUI with several users (``--multi-user``).

ComfyUI reads the user from a request header and does not keep it with the prompt. So a middleware puts it into the
prompt's ``extra_data``, over a client's value of that name. ComfyUI asks for no password: this separates users who
trust each other.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from . import host

if TYPE_CHECKING:
    from aiohttp.web import Request, StreamResponse

_KEY = "rivya_user"

_asking: ContextVar[str] = ContextVar("rivya_user", default="")

log = logging.getLogger("rivya")


def register() -> None:
    """Note the users of prompts from now on, with ``--multi-user``. Never raises: the nodes work without."""
    try:
        from server import PromptServer, args

        if args.multi_user:
            _listen(PromptServer.instance)
    except Exception as error:
        log.warning("Users are not told apart: %s: %s", type(error).__name__, error)


def _listen(server: Any) -> None:
    from aiohttp.web import middleware

    @middleware
    async def note(
        request: Request, handler: Callable[[Request], Awaitable[StreamResponse]]
    ) -> StreamResponse:
        if request.method == "POST" and request.path in ("/prompt", "/api/prompt"):
            try:
                _asking.set(server.user_manager.get_request_user_id(request))
            except KeyError:  # unknown to ComfyUI, as a program without the header
                _asking.set("")
        return await handler(request)

    server.app.middlewares.append(note)
    server.add_on_prompt_handler(_mark)


def _mark(prompt: dict[str, Any]) -> dict[str, Any]:
    """ComfyUI calls this with the body of each prompt request."""
    extra = prompt.get("extra_data")
    return {**prompt, "extra_data": {**(extra if isinstance(extra, dict) else {}), _KEY: _asking.get()}}


def current() -> str | None:
    """ComfyUI's ID of the user who queued the running prompt, empty if unknown; None without ``--multi-user``."""
    from server import PromptServer, args

    if not args.multi_user:
        return None
    mine = host.executing()[0]
    running = list(PromptServer.instance.prompt_queue.currently_running.values())
    return next((str(extra.get(_KEY, "")) for _, prompt_id, _, extra, *_ in running if prompt_id == mine), "")
