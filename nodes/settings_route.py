"""The local route behind Settings > Rivya: shows whether there is a key, sets, checks and removes it.

Web pages in other tabs and other computers must not reach a key. So the route exists only while ComfyUI listens on
loopback alone. Every request must be JSON, come from a loopback peer to a loopback Host, and carry an Origin equal to
that Host:

* another site's page needs a preflight to send JSON, and its Origin differs;
* after DNS rebinding the page's own name is the Host;
* a reverse proxy on this machine passes on an Origin that is not the loopback Host, or adds forwarding headers.

Not detected: a remote program that forges the Origin, behind a proxy that replaces the Host and adds no header.
Such a proxy has opened all of ComfyUI.

No response holds the key: only whether there is one, its source and its last four characters.
"""

from __future__ import annotations

import asyncio
import ipaddress
import json
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

from ..rivya import config, needed
from ..rivya.errors import RivyaError, RivyaTimeoutError
from . import host

if TYPE_CHECKING:
    from aiohttp.web import Request, Response, RouteTableDef

    from ..rivya.engine.engine import Engine
    from ..rivya.engine.jobs import Job

    Handler = Callable[[Request], Awaitable[Response]]
    Work = Callable[[dict[str, Any]], Awaitable[dict[str, Any]]]

T = TypeVar("T")

PATH = "/rivya/key"
MAX_BODY_BYTES = 4096
CHECK_TIMEOUT_S = 30.0
_PORTS = {"http": 80, "https": 443}
_FORWARDING = ("Forwarded", "Via", "X-Forwarded-For", "X-Forwarded-Host", "X-Real-IP")

log = logging.getLogger("rivya")


def register() -> None:
    """Add the routes to the starting ComfyUI where that is safe. Never raises: the nodes work without them."""
    try:
        from server import PromptServer, args

        add_routes(PromptServer.instance.routes, str(args.listen))
    except Exception as error:
        log.warning("The key cannot be set in the settings: %s: %s", type(error).__name__, error)


def add_routes(routes: RouteTableDef, listen: str) -> bool:
    """Add the routes; False, and nothing added, where that is unsafe or was done already.

    Args:
        routes: the table of ComfyUI's server, before it is frozen.
        listen: ComfyUI's listen addresses, separated by commas, as on its command line.
    """
    if not listens_on_loopback(listen):
        log.info("Keys are not taken in the settings: this ComfyUI can be reached from other computers.")
        return False
    if any(getattr(route, "path", None) == PATH for route in routes):
        return False  # A second copy of the pack: ComfyUI fails to start if a path is registered twice.
    routes.post(f"{PATH}/status")(_handler(_status))
    routes.post(PATH)(_handler(_save))
    routes.delete(PATH)(_handler(_remove))
    routes.post(f"{PATH}/check")(_handler(_check))
    return True


def listens_on_loopback(listen: str) -> bool:
    """Whether every address in ``listen`` is loopback, without a DNS lookup."""
    addresses = [address.strip() for address in listen.split(",")]
    return all(config.is_loopback_name(address.strip("[]")) for address in addresses)


def refusal(*, host: str, origin: str, content_type: str, peer: str) -> str:
    """Why a request is refused, or "" if a page of this ComfyUI sent it.

    Args:
        host, origin, content_type: headers, "" if absent.
        peer: address of the connection's other end.
    """
    if not _is_loopback_peer(peer):
        return "This route answers this computer only."
    if content_type.partition(";")[0].strip().lower() != "application/json":
        return "This route takes JSON only."
    here, there = _address(f"http://{host}"), _address(origin)
    if here is None or not config.is_loopback_name(here[0]):
        return "This route answers under a loopback address only."
    scheme = urlsplit(origin).scheme
    if there is None or there != _address(f"{scheme}://{host}"):
        return "This route answers pages of this ComfyUI only."
    return ""


def forwarded(headers: Mapping[str, str]) -> str:
    """Why a request is refused whose headers name a proxy, or ""."""
    if any(name in headers for name in _FORWARDING):
        return "This route answers this computer only, not through a proxy."
    return ""


def _is_loopback_peer(peer: str) -> bool:
    try:
        address = ipaddress.ip_address(peer.partition("%")[0])
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return (mapped or address).is_loopback


def _address(url: str) -> tuple[str, int] | None:
    """Host name and port of an http(s) origin; None for any other text."""
    try:
        parts = urlsplit(url)
        port = parts.port or _PORTS[parts.scheme]
    except (ValueError, KeyError):
        return None
    plain = not (parts.path or parts.query or parts.fragment or "@" in parts.netloc)
    return (parts.hostname.lower(), port) if plain and parts.hostname else None


def _handler(work: Work) -> Handler:
    """Checks the request, calls ``work``, and returns errors as JSON."""

    async def handle(request: Request) -> Response:
        reason = forwarded(request.headers) or refusal(
            host=request.headers.get("Host", ""),
            origin=request.headers.get("Origin", ""),
            content_type=request.headers.get("Content-Type", ""),
            peer=_peer(request),
        )
        if reason:
            return _answer(403, {"error": {"code": "refused", "message": reason}})
        content = await _content(request)
        if content is None:
            return _answer(
                400, {"error": {"code": "not_json", "message": "The body is not a small JSON object."}}
            )
        try:
            return _answer(200, await work(content))
        except RivyaError as error:
            return _answer(
                400, {"error": {"code": error.code, "message": f"{error.message} {error.hint}".strip()}}
            )
        except OSError as error:
            message = f"The state folder cannot be used: {error.strerror or type(error).__name__}."
            return _answer(500, {"error": {"code": "state_folder", "message": message}})

    return handle


def _peer(request: Request) -> str:
    name = request.transport.get_extra_info("peername") if request.transport is not None else None
    return str(name[0]) if isinstance(name, tuple) and name else ""


async def _content(request: Request) -> dict[str, Any] | None:
    raw = b""
    while len(raw) <= MAX_BODY_BYTES:
        chunk = await request.content.readany()
        if not chunk:
            break
        raw += chunk
    try:
        content = json.loads(raw) if len(raw) <= MAX_BODY_BYTES else None
    except (ValueError, RecursionError):
        return None
    return content if isinstance(content, dict) else None


def _answer(status: int, content: dict[str, Any]) -> Response:
    from aiohttp.web import json_response

    return json_response(content, status=status, headers={"Cache-Control": "no-store"})


async def _status(_: dict[str, Any]) -> dict[str, Any]:
    status = await _in_thread(lambda: config.key_status(default_home=host.default_home()))
    return {**status, "problem": await _in_thread(needed.problem)}


async def _save(content: dict[str, Any]) -> dict[str, Any]:
    key = content.get("key")
    text = key if isinstance(key, str) else ""
    await _in_thread(lambda: config.save_key(text, default_home=host.default_home()))
    return {"saved": True}


async def _remove(_: dict[str, Any]) -> dict[str, Any]:
    await _in_thread(lambda: config.remove_key(default_home=host.default_home()))
    return {"removed": True}


async def _check(_: dict[str, Any]) -> dict[str, Any]:
    await _in_thread(needed.check)
    settings = await _in_thread(host.load_config)
    settings.require_key()
    engine = await _in_thread(_shared_engine)
    return {"credits": await _result(engine.credits(settings))}


def _shared_engine() -> Engine:
    """Imported in a thread: the import loads the HTTP client."""
    from ..rivya.engine.engine import shared

    return shared()


async def _in_thread(work: Callable[[], T]) -> T:
    return await asyncio.get_running_loop().run_in_executor(None, work)


async def _result(job: Job[T]) -> T:
    waiter = asyncio.wrap_future(job.done)
    done, _ = await asyncio.wait([waiter], timeout=CHECK_TIMEOUT_S)
    if not done:
        job.cancel()
        raise RivyaTimeoutError(
            f"Rivya did not answer within {CHECK_TIMEOUT_S:.0f} s.", hint="Try again later."
        )
    return waiter.result()
