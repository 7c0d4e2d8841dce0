"""The edit goes back into the photo: pixels in, pixels and a report out. Numpy and Pillow alone; no network.

- ``placement``: which part of a picture to send, at the sizes that the service really gives
- ``stitch``: one edit back into its original, by way of
- ``register`` (where it lies), ``colour`` and ``change`` (what it changed), ``masks`` (what shows), ``compose``
- ``boxes``, ``raster``, ``blobs``: rectangles, resampling, connected parts
- ``thresholds``: every number that decides something
"""

from __future__ import annotations

from .boxes import Box
from .placement import Placement
from .stitch import KEEPS, Options, Stitched, stitch

__all__ = ["KEEPS", "Box", "Options", "Placement", "Stitched", "stitch"]
