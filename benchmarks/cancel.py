"""Cancel at random moments, eight orders open: how long until ComfyUI says that the prompt was interrupted."""

from __future__ import annotations

import random
import time
from pathlib import Path
from typing import Any

import sandbox

from . import comfy

_STALLED = ("upload", "create", "status", "result")


def cancels(folder: Path, work: Path, number: int, seed: int = 3) -> dict[str, Any]:
    """Interrupt ``number`` batches of eight; at every fifth one the service has stalled at some endpoint.

    The moments cover the whole life of a prompt: loading, encoding, uploading, submitting, waiting, downloading.
    """
    draw, waits, ended = random.Random(seed), [], 0
    with sandbox.running(credits=10**7, latency=2.0) as service:
        comfyui = comfy.start_ours(folder, work / "cancel", api_key=service.key, base_url=service.url)
        try:
            photos = comfyui.base / "input"
            while len(waits) < number:
                graph = comfy.batch_graph(comfy.photographs(photos, 8, 512))
                if len(waits) % 5 == 4:
                    service.fault(draw.choice(_STALLED), "stall", seconds=60, times=None)
                prompt = comfyui.queue(graph)
                time.sleep(draw.uniform(0.05, 4.0))
                asked = time.time()
                comfyui.interrupt()
                finished = comfyui.wait(prompt)
                service.clear_faults()
                if finished.interrupted:
                    waits.append(comfy.moment(finished, "execution_interrupted") - asked)
                elif finished.succeeded:
                    ended += 1  # it was faster than the hand at the button
                else:
                    raise AssertionError(f"Cancel ended as an error: {finished.entry['status']}")
            log = comfyui.child.log()
        finally:
            comfyui.stop()
    ordered = sorted(waits)
    return {
        "cancels": number,
        "worst_s": ordered[-1],
        "median_s": ordered[len(ordered) // 2],
        "ended_before": ended,
        "warnings_of_asyncio": log.count("was destroyed but it is pending") + log.count("Unclosed"),
    }
