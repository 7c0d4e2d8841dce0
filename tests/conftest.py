"""What every test stands on: where things are, which tests run, and the fixtures.

| fixture | lives for | is |
| --- | --- | --- |
| ``service`` | one test | the sandbox (`support.service.Watched`): ``url``, ``key``, ``tasks()``, ``fault()`` ... |
| ``replaying``, ``rejecting`` | one test | a small service whose record begins anew, with either answer to repeats |
| ``comfy`` | one test | the shared ComfyUI (`support.comfy.RivyaComfyUI`), set up for ``service`` |
| ``postgres`` | the run of one worker | a PostgreSQL server (`support.postgres`); ``pgbouncer`` stands before it |
| ``database_url`` | one test | the URL of an empty database of that server |
| ``seaweedfs`` | the run of one worker | a real S3 server (`support.buckets`); in the long form |
| ``small_disk`` | one test | a disk of one megabyte, to be filled with `support.disk.fill` |
| ``comfyui`` | the run of one worker | the ComfyUI process behind ``comfy``, with the nodes of `comfy.other_nodes` |
| ``start_comfyui`` | one test | starts ComfyUI processes of the test's own: ``start_comfyui(base=..., env={...})`` |
| ``browser``, ``page`` | run, test | a Chromium, and an empty page of it that reports its errors |
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

    from rivya.secret import Secret
    from support.comfy import RivyaComfyUI
    from support.postgres import PgBouncer, Postgres
    from support.service import Watched

ROOT = Path(__file__).resolve().parent.parent

# Fixtures that are one expensive process, with the marker of tests that ask for them. Tests that share such a
# process go to one worker of xdist, so that it starts once.
_SHARED = {"comfyui": "comfy", "browser": "browser"}


_ONLY_WITH = {"slow": ["--slow", "--full"], "long": ["--full"], "by_hand": ["--by-hand"]}
"""Markers of tests that are left out, with the options that run them."""


class _RootIsNoPackage:
    """Keeps pytest from importing the project's own ``__init__.py``, which only ComfyUI can import."""

    @pytest.hookimpl
    def pytest_collect_directory(self, path: Path, parent: pytest.Collector) -> pytest.Collector | None:
        return pytest.Dir.from_parent(parent, path=path) if path == ROOT else None


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--slow", action="store_true", help="run the slow tests too")
    parser.addoption("--full", action="store_true", help="run the slow and the long tests too")
    parser.addoption("--by-hand", action="store_true", help="with --full: also what takes tens of minutes")


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(_RootIsNoPackage())
    # A shell makes what it starts in the background ignore Ctrl-C, and children inherit that. They do not inherit a
    # handler: tests can interrupt what they start, while this process goes on as it was told to.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, lambda *_: None)


@pytest.hookimpl
def pytest_make_parametrize_id(val: object, argname: str) -> str | None:
    """A short name for a case of long data: ids are sent from each worker, compared and printed."""
    return f"{argname} of {len(val)}" if isinstance(val, str | bytes) and len(val) > 80 else None


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    for item in items:
        names = _fixtures(item)
        shared = [marker for name, marker in _SHARED.items() if name in names]
        for marker in shared:
            item.add_marker(getattr(pytest.mark, marker))
        if shared and not item.get_closest_marker("xdist_group"):
            item.add_marker(pytest.mark.xdist_group(shared[-1]))
        for marker, options in _ONLY_WITH.items():
            if item.get_closest_marker(marker) and not any(map(config.getoption, options)):
                item.add_marker(pytest.mark.skip(reason=f"{marker}: runs with {' or '.join(options)}"))


def _fixtures(item: pytest.Item) -> set[str]:
    """The names of all fixtures that a test stands on.

    pytest's own list ends at a fixture that overrides another of its name, and lacks what the other one asks for.
    """
    info = getattr(item, "_fixtureinfo", None)
    if info is None:
        return set()
    asked = {name for known in info.name2fixturedefs.values() for each in known for name in each.argnames}
    return {*item.fixturenames, *asked}  # type: ignore[attr-defined]  # an item with that info is a function


@pytest.hookimpl
def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Name a failure when it happens: a run that is cut off by its time limit has no summary.

    Also one that is tried once more: the summary names such a test, but not what failed.
    """
    if report.outcome in ("failed", "rerun") and "PYTEST_XDIST_WORKER" not in os.environ:
        crash = getattr(report.longrepr, "reprcrash", None)
        where = f"{crash.path}:{crash.lineno}: {crash.message[:600]}" if crash else ""
        print(f"\n{report.outcome.upper()} at {report.when}: {report.nodeid}\n  {where}", flush=True)


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session")
def _sandbox() -> Iterator[Any]:
    import sandbox

    with sandbox.running() as running:
        yield running


@pytest.fixture
def service(_sandbox: Any) -> Iterator[Watched]:
    from support.service import Watched

    _sandbox.clear_faults()
    _sandbox.set_credits(1000)
    watched = Watched(_sandbox)
    yield watched
    _sandbox.clear_faults()
    assert not watched.violations()


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    from support.postgres import Postgres

    server = Postgres()
    yield server
    server.remove()


@pytest.fixture(scope="session")
def pgbouncer(postgres: Postgres) -> Iterator[PgBouncer]:
    from support.postgres import PgBouncer

    pooler = PgBouncer(postgres)
    yield pooler
    pooler.remove()


@pytest.fixture
def database_url(postgres: Postgres) -> Secret:
    """The URL of an empty database."""
    from rivya.secret import Secret

    return Secret(postgres.url(postgres.make_database()))


@pytest.fixture(scope="session")
def _replaying() -> Iterator[Any]:
    import sandbox

    with sandbox.running(megapixels=0.004, credits=100_000) as running:
        yield running


@pytest.fixture
def replaying(_replaying: Any) -> Any:
    """A service that answers a repeat with the first task; nothing has happened there yet."""
    _replaying.reset()
    return _replaying


@pytest.fixture(scope="session")
def _rejecting() -> Iterator[Any]:
    import sandbox

    with sandbox.running(megapixels=0.004, credits=100_000, reject_repeats=True) as running:
        yield running


@pytest.fixture
def rejecting(_rejecting: Any) -> Any:
    """A service that answers every repeat with 409."""
    _rejecting.reset()
    return _rejecting


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of one megabyte."""
    from support.disk import mounted

    with mounted(tmp_path / "disk", "size=1m") as place:
        yield place


@pytest.fixture(scope="session")
def comfyui(tmp_path_factory: pytest.TempPathFactory, _sandbox: Any) -> Iterator[RivyaComfyUI]:
    """It knows how long the orders of the sandbox take: it asks after a second, and not after six."""
    from devtools.comfyui import link_folder
    from support.comfy import running_comfyui
    from support.quick import teach_schedule

    base = tmp_path_factory.mktemp("comfyui")
    (base / "custom_nodes").mkdir()
    link_folder(ROOT / "tests" / "comfy" / "other_nodes", base / "custom_nodes" / "other_nodes")
    with running_comfyui(base) as server:
        teach_schedule(server.home, _sandbox.url, _sandbox.key)
        yield server


@pytest.fixture
def comfy(comfyui: RivyaComfyUI, service: Watched) -> RivyaComfyUI:
    """Its memory of earlier graphs is left: orders have seeds of their own. To empty it takes a second of each test."""
    return comfyui.use(service)


@pytest.fixture
def start_comfyui(tmp_path: Path) -> Iterator[Callable[..., RivyaComfyUI]]:
    """Starts ComfyUI processes and stops those that are left at the end.

    ``start_comfyui(base=folder, env={...}, arguments=[...])``: ``base`` (by default one folder per test) is where
    the state lies too, so that a second start with the same one finds what the first left.
    """
    from support.comfy import start_comfyui as start

    started: list[RivyaComfyUI] = []

    def starter(base: Path | None = None, **options: Any) -> RivyaComfyUI:
        server = start(base or tmp_path / "comfyui", **options)
        started.append(server)
        return server

    yield starter
    for server in started:
        server.stop()


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    from support.browser import running_browser

    with running_browser() as running:
        yield running


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """An empty page of 1600 x 1000 in a profile of its own. ``page.errors`` lists what its scripts threw."""
    context = browser.new_context(viewport={"width": 1600, "height": 1000}, service_workers="block")
    page = context.new_page()
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.errors = errors  # type: ignore[attr-defined]  # Playwright's page has no such name; ours goes along
    yield page
    context.close()


@pytest.fixture(scope="session")
def seaweedfs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A real S3 server; see `support.buckets`."""
    from support.buckets import SeaweedFS

    server = SeaweedFS(tmp_path_factory.mktemp("seaweedfs"))
    yield server
    server.kill()
