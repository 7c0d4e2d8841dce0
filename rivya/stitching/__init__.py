"""Puts an edit back into its photo: pixels in, pixels and report out. Only numpy and Pillow; no network.

- ``placement``: the part of a picture to send, at the service's real sizes
- ``stitch``: one edit back into its original, using
- ``register`` (position), ``colour`` and ``change``, ``masks`` (what shows), ``compose``
- ``boxes``, ``raster``, ``blobs``: rectangles, resampling, components
- ``thresholds``
"""

from __future__ import annotations

from .boxes import Box
from .placement import Placement
from .stitch import KEEPS, Options, Stitched, stitch

__all__ = ["KEEPS", "Box", "Options", "Placement", "Stitched", "stitch"]
