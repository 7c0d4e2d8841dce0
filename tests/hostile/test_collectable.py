"""What was paid stays collectable, whatever the host of the result does meanwhile; and it is paid once."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import rivya
import sandbox
from hostile.host import Answer, always, endless, reply, reset, serving
from network.clients import everything_about
from rivya import client
from rivya.config import Config
from rivya.engine import engine
from rivya.errors import Charged, RivyaError
from rivya.secret import Secret
from support.bombs import bomb
from support.quick import QuickAccount

OK = b"HTTP/1.1 200 OK\r\n"


class Town:
    """An event loop in a thread of its own, where hostile hosts live while a test blocks."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self.thread.start()
        self._hosts: list[Any] = []

    def settle(self, answer: Answer) -> str:
        """Let a host move in; gives its URL."""
        host = serving(answer)
        self._hosts.append(host)
        entered: Any = asyncio.run_coroutine_threadsafe(host.__aenter__(), self.loop).result(5)
        return str(entered.url)

    def close(self) -> None:
        for host in self._hosts:
            asyncio.run_coroutine_threadsafe(host.__aexit__(None, None, None), self.loop).result(5)
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(5)


@pytest.fixture
def town() -> Iterator[Town]:
    lived_in = Town()
    yield lived_in
    lived_in.close()


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "Account", QuickAccount)


@pytest.fixture
def service() -> Iterator[Any]:
    with sandbox.running(megapixels=0.01) as running:
        yield running


def configured(service: Any, home: Path) -> Config:
    return Config(
        home=home, base_url=service.url, key=Secret(service.key), retry_budget_s=0.5, conflict_wait_s=0.2
    )


PNG = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\xff\xff\0\0\xff\xff\x08\x02\0\0\0"
HOSTS: dict[str, Answer] = {
    "a gzip bomb": always(reply(bomb(200), "200 OK", "Content-Encoding: gzip")),
    "too large": always(OK + b"Content-Length: 99999999999\r\n\r\n"),
    "empty": always(reply(b"")),
    "a page": always(reply(b"<html>login</html>", "200 OK", "Content-Type: image/png")),
    "svg": always(reply(b'<svg xmlns="http://www.w3.org/2000/svg" onload="alert(1)"/>', "200 OK")),
    "a gif": always(reply(b"GIF89a\x01\0\x01\0\0\0\0;")),
    "a picture that claims to be vast": always(reply(PNG + b"\0" * 100)),
    "a picture cut off": always(reply(PNG[:20])),
    "crumbs": endless(OK + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n" * 20000),
    "no": always(reply(b"", "400 No")),
    "gone": always(reply(b"", "410 Gone")),
    "a redirect to the metadata of a cloud": always(
        reply(b"", "302 There", "Location: http://169.254.169.254/")
    ),
    "redirects in a circle": always(reply(b"", "302 There", "Location: ?")),
}
URLS = ["http://169.254.169.254/latest/meta-data/", "http://[fe80::1%25eth0]/", "http://2852039166/", "http://x y/",
        "http://0.0.0.0/"]  # fmt: skip


QUICK = (
    "a gzip bomb",
    "svg",
    "a picture that claims to be vast",
    "a redirect to the metadata of a cloud",
    URLS[0],
)


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[] if name in QUICK else pytest.mark.slow) for name in (*HOSTS, *URLS)]
)
def test_a_picture_that_a_hostile_host_withheld_is_collected_later_and_paid_once(
    name: str, service: Any, town: Town, tmp_path: Path
) -> None:
    url = f"{town.settle(HOSTS[name])}/r.png?signature=secret" if name in HOSTS else name
    config = configured(service, tmp_path / "state")
    service.fault("status", "patch", values={"result": {"primary_url": url, "urls": [url]}}, times=None)
    (error,) = client.edit_all("a barn", [None], config=config)
    assert isinstance(error, RivyaError)
    assert error.charged is Charged.YES
    assert error.task_id == service.tasks()[0]["id"]
    assert error.message.isprintable()
    assert "secret" not in str(error)
    shown = everything_about(error)
    assert service.key not in shown
    assert "signature=secret" not in shown

    service.clear_faults()
    (picture,) = rivya.collect(config=config)
    assert not isinstance(picture, RivyaError), str(picture)
    assert picture.task_id == error.task_id
    assert picture.data
    assert len(service.tasks()) == 1
    assert len(service.charges()) == 1
    assert (rivya.edit("a barn", config=config)).source == "stored"


def test_a_host_that_breaks_every_connection_is_tried_again_until_it_does_not(
    service: Any, town: Town, tmp_path: Path
) -> None:
    url = f"{town.settle(reset())}/r.png"
    config = configured(service, tmp_path / "state")
    service.fault("status", "patch", values={"result": {"primary_url": url, "urls": [url]}}, times=1)
    (error,) = client.edit_all("a barn", [None], config=config, timeout_s=3)
    assert isinstance(error, RivyaError)
    assert len(service.charges()) == 1
