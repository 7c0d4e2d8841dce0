"""Two ComfyUI servers as on two hosts: a state folder each, one ledger in PostgreSQL, one folder for pictures."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import numpy as np
import pytest
from PIL import Image

from devtools.comfyui import Finished
from support.comfy import (
    RivyaComfyUI,
    edit_graph,
    eventually,
    new_seed,
    random_picture,
    running_comfyui,
    show,
)
from support.postgres import Postgres
from support.service import Watched

pytestmark = [pytest.mark.long, pytest.mark.comfy, pytest.mark.timeout(600), pytest.mark.xdist_group("fleet")]

PHOTO = random_picture()


class Host:
    """One server; the photo lies there under a name of its own.

    Attributes:
        heard: what its nodes say, from now on.
    """

    def __init__(self, comfy: RivyaComfyUI) -> None:
        self.comfy = comfy
        self.photo = comfy.put_image(PHOTO)
        self.heard = comfy.listen()
        self._known = 0

    def ask(self, seed: int) -> str:
        """Queue the order of that seed; the prompt's id."""
        self._known = len(self.heard.progress_texts())
        return self.comfy.queue(show(edit_graph(self.photo, seed=seed), "report", "edit", 3))

    def waits(self) -> bool:
        """Whether its node says that what was asked last is under way."""
        return any("running" in text for _, text in self.heard.progress_texts()[self._known :])

    def ended(self, prompt: str, seconds: float = 60.0) -> Finished:
        finished = self.comfy.wait(prompt, seconds)
        assert finished.succeeded, finished.explain()
        return finished

    def picture(self, finished: Finished) -> Any:
        (picture,) = self.comfy.pictures(finished)
        return picture

    def source(self, finished: Finished) -> str:
        (order,) = json.loads(self.comfy.text(finished, "report"))["orders"]
        return str(order["source"])


def as_pixels(data: bytes) -> Any:
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


@pytest.fixture(scope="module")
def hosts(
    _sandbox: Any, postgres: Postgres, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Host, Host]]:
    folder = tmp_path_factory.mktemp("hosts")
    env = {
        "RIVYA_API_KEY": _sandbox.key,
        "RIVYA_BASE_URL": _sandbox.url,
        "RIVYA_LEDGER": postgres.url(postgres.make_database()),
        "RIVYA_RESULTS": str(folder / "results"),
    }
    with ExitStack() as stack:
        servers = [stack.enter_context(running_comfyui(folder / name, env=env)) for name in ("one", "two")]
        first, second = (Host(server) for server in servers)
        stack.callback(first.heard.close)
        stack.callback(second.heard.close)
        yield first, second


def test_a_graph_that_two_servers_have_at_once_is_paid_once_and_each_seed_by_itself(
    hosts: tuple[Host, Host], service: Watched
) -> None:
    service.fault("create", "latency", seconds=300.0)
    seed = new_seed()
    prompts = [host.ask(seed) for host in hosts]
    eventually(lambda: all(host.waits() for host in hosts), "both wait for the order")
    service.finish_tasks()
    done = [host.ended(prompt) for host, prompt in zip(hosts, prompts, strict=True)]
    pictures = [host.picture(finished) for host, finished in zip(hosts, done, strict=True)]
    assert np.array_equal(*pictures)
    assert len(service.charges()) == len(service.tasks()) == 1
    assert sorted(host.source(each) for host, each in zip(hosts, done, strict=True)) == ["new", "stored"]
    others = [host.ended(host.ask(seed)) for host, seed in zip(hosts, (new_seed(), new_seed()), strict=True)]
    assert [host.source(each) for host, each in zip(hosts, others, strict=True)] == ["new", "new"]
    assert len(service.charges()) == len(service.tasks()) == 3
    assert (
        len({host.picture(each).tobytes() for host, each in zip(hosts * 2, done + others, strict=True)}) == 3
    )


def test_what_a_killed_server_had_under_way_the_other_brings_home_for_the_same_graph(
    hosts: tuple[Host, Host], service: Watched
) -> None:
    (dead, alive), seed = hosts, new_seed()
    service.fault("create", "latency", seconds=300.0)
    dead.ask(seed)
    eventually(dead.waits, "the order is under way")
    dead.comfy.child.process.kill()
    dead.comfy.child.process.wait()
    service.finish_tasks()
    finished = alive.ended(alive.ask(seed), 150.0)
    assert alive.source(finished) == "resumed"
    (task,) = service.tasks()
    assert np.array_equal(alive.picture(finished), as_pixels(service.picture(task["id"])))
    assert len(service.charges()) == 1
