"""The ComfyUI layer: one file for each node, a schema and a short execute; `host` alone touches ComfyUI's internals."""

from __future__ import annotations

from .v3 import ComfyExtension, io


class RivyaExtension(ComfyExtension):
    """The nodes of this pack."""

    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        """All nodes; the settings routes are registered on the way, where ComfyUI is for this machine alone."""
        from ..rivya.errors import RivyaError
        from . import settings_route, users
        from .collect_tasks import RivyaCollectTasks
        from .credits import RivyaCredits
        from .crop_for_edit import RivyaCropForEdit
        from .kontext_params import RivyaKontextParams
        from .prompt_list import RivyaPromptList
        from .stitch_edit import RivyaStitchEdit
        from .submit_and_wait import RivyaSubmitAndWait
        from .upload_reference import RivyaUploadReference

        settings_route.register()
        users.register()
        _name_errors(RivyaError)
        return [
            RivyaUploadReference,
            RivyaKontextParams,
            RivyaSubmitAndWait,
            RivyaCollectTasks,
            RivyaCredits,
            RivyaStitchEdit,
            RivyaCropForEdit,
            RivyaPromptList,
        ]


def _name_errors(error: type[Exception]) -> None:
    """Give an error and what derives from it a short name of their module.

    ComfyUI heads its report with the module and the name of an error. The module of a custom node is the path of its
    folder, which tells a user nothing.
    """
    error.__module__ = "rivya"
    for derived in error.__subclasses__():
        _name_errors(derived)


async def comfy_entrypoint() -> RivyaExtension:
    """What ComfyUI calls to load the pack."""
    return RivyaExtension()
