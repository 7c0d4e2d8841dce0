"""Bulk jobs on Ray Data.

    import ray, rivya.ray

    ds = ray.data.read_binary_files("s3://in/", include_paths=True)
    ds = rivya.ray.edit_dataset(ds, prompt="make it night", max_credits=40_000, workers=(1, 8))
    rivya.ray.write_originals(ds, "s3://out/")

Ray reruns lost blocks. That costs nothing: the ledger knows the earlier orders. Several nodes need a shared ledger.
Key and settings come from each node's environment, never through Ray, which would store them.

Needs ``pip install rivya-nodes[ray]`` on every node.
"""

from __future__ import annotations

from .. import needed

needed.check_ray()

# Missing packages are reported first.
from .dataset import edit_dataset as edit_dataset  # noqa: E402
from .dataset import report as report  # noqa: E402
from .originals import write_originals as write_originals  # noqa: E402

__all__ = ["edit_dataset", "report", "write_originals"]
