"""The ComfyUI layer: one file per node, with its schema and a short ``execute``."""

from __future__ import annotations

from .v3 import ComfyExtension, io


class RivyaExtension(ComfyExtension):
    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        """All nodes. Also registers the settings routes and the user hook."""
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
    """Give an error class and its subclasses a short module name.

    ComfyUI heads its report with module and class of an error; a custom node's module is its folder path.
    """
    error.__module__ = "rivya"
    for derived in error.__subclasses__():
        _name_errors(derived)


async def comfy_entrypoint() -> RivyaExtension:
    return RivyaExtension()
