"""Rivya Kontext: edit and make pictures with FLUX.1 Kontext through the Rivya Public API v1.

The library behind the ComfyUI nodes; imports neither ComfyUI nor torch. httpx, Pillow and numpy load at first use.
From the outside in:

- ``client``: functions for programs; ``cli``: the command line
- ``saving``: output files, checked before any request
- ``bulk``: any number of pictures; rows in, outcomes out as they end
- ``engine``: one event loop in its own thread; runs orders, limits concurrency
- ``orders``: the life of one order, from prepared to delivered; resumes from any state
- ``ledger``, ``storage``: orders and paid pictures on disk
- ``images``, ``stitching``: bytes and pixels; an edit back into its photo
- ``api``, ``http``: endpoints with retries; one HTTP attempt
- ``kontext``, ``config``, ``errors``: model table, settings, exceptions
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .client import Edited as Edited
    from .client import collect as collect
    from .client import credits as credits
    from .client import edit as edit
    from .client import edit_each as edit_each
    from .client import stitch as stitch

__version__ = "0.1.0"

__all__ = ["Edited", "__version__", "collect", "credits", "edit", "edit_each", "stitch"]


def __getattr__(name: str) -> Any:
    """Load the facade at first use: ``import rivya`` stays free."""
    if name in __all__:
        from . import client

        return getattr(client, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
