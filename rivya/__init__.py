"""Rivya Kontext: edit and make pictures with FLUX.1 Kontext through the Rivya Public API v1.

The library behind the ComfyUI nodes, usable from any Python program: it neither imports ComfyUI nor torch.
Importing it costs next to nothing; what is heavy (httpx, Pillow, numpy) is loaded at first use.

Where things are, from the outside in:

- ``client``: `edit`, `collect` and friends for programs; ``cli``: the command line
- ``saving``: where pictures are saved, settled before anything is sent
- ``bulk``: any number of pictures: rows come in, outcomes go out as they end
- ``engine``: one event loop in a thread of its own; runs orders, bounds what runs at once
- ``orders``: the life of one order, from prepared to delivered; resumes from any state
- ``ledger``, ``storage``: what was ordered, and the pictures that were paid for, on disk
- ``images``, ``stitching``: bytes and pixels; an edit back into its photo
- ``api``, ``http``: the service's endpoints with their retries; one attempt over HTTP
- ``kontext``, ``config``, ``errors``: the model table, the settings, what can go wrong
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
    """Load the facade at first use, so that ``import rivya`` stays free."""
    if name in __all__:
        from . import client

        return getattr(client, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
