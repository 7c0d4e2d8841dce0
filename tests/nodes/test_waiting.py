"""Waiting for the engine from a node: quick to cancel, and it takes nothing away from anybody."""

from __future__ import annotations

import asyncio
import gc
import logging
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from library.pack import host, waiting
from rivya.engine.engine import Engine
from rivya.engine.jobs import JobCancelled, Ticket


@pytest.fixture
def interrupt() -> Iterator[Any]:
    """ComfyUI's own flag for a cancel."""
    from comfy import model_management

    yield model_management.interrupt_current_processing
    model_management.interrupt_current_processing(False)


def ticket() -> Ticket:
    return Ticket("f" * 64, lambda ticket: None)


def test_it_ends_when_all_have_ended_well_or_not() -> None:
    good, bad = ticket(), ticket()

    async def main() -> None:
        wait = asyncio.ensure_future(waiting.until_done([good, bad]))
        good.done.set_result("a picture")  # type: ignore[arg-type]
        await asyncio.sleep(0.05)
        assert not wait.done()
        bad.done.set_exception(ValueError("no picture"))
        await asyncio.wait_for(wait, 10)

    asyncio.run(main())


def test_nothing_to_wait_for_is_over_at_once() -> None:
    asyncio.run(asyncio.wait_for(waiting.until_done([]), 10))


def test_the_caller_looks_several_times_a_second_and_once_at_the_end() -> None:
    late = ticket()
    seen: list[bool] = []

    async def look() -> None:
        seen.append(late.done.done())

    async def main() -> None:
        threading.Timer(0.7, late.done.set_result, [None]).start()
        await waiting.until_done([late], look)

    asyncio.run(main())
    assert len(seen) >= 3
    assert seen[-1] is True


def test_a_cancel_ends_the_waiting_within_a_second_and_not_what_is_waited_for(interrupt: Any) -> None:
    late = ticket()

    async def main() -> float:
        threading.Timer(0.3, interrupt).start()
        begun = time.monotonic()
        with pytest.raises(type(host.interruption())):
            await waiting.until_done([late])
        return time.monotonic() - begun

    assert asyncio.run(main()) < 3.0
    assert host.interrupted(), "the flag is for the other nodes too"
    assert not late.done.cancelled()
    late.done.set_result(None)  # type: ignore[arg-type]


def test_a_cancel_comes_through_although_the_order_has_just_ended(interrupt: Any) -> None:
    done = ticket()
    done.done.set_result(None)  # type: ignore[arg-type]
    interrupt()

    async def main() -> None:
        with pytest.raises(type(host.interruption())):
            await waiting.until_done([done])

    asyncio.run(main())


def test_the_end_of_the_prompt_s_loop_takes_nothing_away(caplog: pytest.LogCaptureFixture) -> None:
    late = ticket()
    left_over: list[Any] = []

    async def prompt() -> None:
        left_over.append(asyncio.ensure_future(waiting.until_done([late])))
        await asyncio.sleep(0.05)

    with caplog.at_level(logging.WARNING):
        asyncio.run(prompt())
        late.done.set_exception(ValueError("after the loop was closed"))
        gc.collect()
    assert caplog.text == ""


def test_the_result_of_a_job_or_its_error() -> None:
    engine = Engine()

    async def good() -> int:
        return 7

    async def bad() -> int:
        raise ValueError("no")

    async def main() -> None:
        assert await waiting.result(engine.start(good)) == 7
        with pytest.raises(ValueError, match="no"):
            await waiting.result(engine.start(bad))

    asyncio.run(main())


def test_a_cancel_stops_the_job_itself(interrupt: Any) -> None:
    engine = Engine()
    job = engine.start(lambda: asyncio.sleep(60))

    async def main() -> None:
        threading.Timer(0.1, interrupt).start()
        with pytest.raises(type(host.interruption())):
            await waiting.result(job)

    asyncio.run(main())
    assert isinstance(job.done.exception(10.0), JobCancelled)
