"""Bulk jobs on Ray Data: an adapter on the engine, with the promises of the ledger.

    import ray, rivya.ray

    ds = ray.data.read_binary_files("s3://in/", include_paths=True)
    ds = rivya.ray.edit_dataset(ds, prompt="make it night", max_credits=40_000, workers=(1, 8))
    rivya.ray.write_originals(ds, "s3://out/")

Ray runs a block again whenever it has lost one. With the ledger that costs nothing: what was bought is found there. On
more than one node this takes a ledger that all nodes share, so `edit_dataset` refuses without one. Key and settings
come from the environment of each node, never through Ray, which would keep them.

Needs ``pip install rivya-nodes[ray]`` on every node.
"""

from __future__ import annotations

from .. import needed

needed.check_ray()

# What is missing is said first.
from .dataset import edit_dataset as edit_dataset  # noqa: E402
from .dataset import report as report  # noqa: E402
from .originals import write_originals as write_originals  # noqa: E402

__all__ = ["edit_dataset", "report", "write_originals"]
