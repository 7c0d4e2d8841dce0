"""ComfyUI as the host: interrupt, progress, status text, folders, the running prompt.

Facts of ComfyUI 0.3.75:

* ``throw_exception_if_processing_interrupted`` clears the flag: other waiting nodes would miss the cancel. So the
  flag is only read (``comfy/model_management.py``).
* Only ``InterruptProcessingException`` is reported as a cancel (``execution.py``).
* ``ProgressBar`` is a cancel point that clears the flag; ``set_progress`` is none (``comfy_api/latest/__init__.py``).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..rivya import config
from . import notes
from .v3 import ComfyAPI


def load_config() -> config.Config:
    return config.load(default_home=default_home())


def default_home() -> Path:
    """``<ComfyUI user folder>/__rivya``, from which ComfyUI serves no file.

    Since 0.3.76 folders that begin with two underscores are ComfyUI's own (``folder_paths.get_system_user_directory``).
    Older versions serve only the folders of registered users.
    """
    import folder_paths

    return Path(folder_paths.get_user_directory()) / "__rivya"


def interrupted() -> bool:
    """Whether the user has cancelled; does not clear the flag."""
    from comfy import model_management

    return bool(model_management.processing_interrupted())


def interruption() -> BaseException:
    from comfy import model_management

    return model_management.InterruptProcessingException()


def executing() -> tuple[str, str]:
    """IDs of the prompt and node that run in this context; empty outside a prompt."""
    from comfy_execution.utils import get_executing_context

    context = get_executing_context()
    return (context.prompt_id, context.node_id) if context is not None else ("", "")


def shown_node() -> str:
    """ID of the visible node: for a node inside an expanded graph, the node that expanded into it."""
    from comfy_execution.progress import get_progress_state

    node_id = executing()[1]
    if not node_id:
        return ""
    try:
        return str(get_progress_state().dynprompt.get_display_node_id(node_id))
    except (AttributeError, KeyError):
        return node_id.split(".")[0]


def prompt_inputs(dynprompt: Any, node_id: str) -> dict[str, Any]:
    """A node's inputs in the prompt: constants, and links as ``[node id, output]``.

    Args:
        dynprompt: the hidden value; it also holds nodes made by expansion.
        node_id: of the running node.
    """
    return dict(dynprompt.get_node(node_id)["inputs"]) if dynprompt is not None and node_id else {}


def say(text: str) -> None:
    from server import PromptServer

    node_id = executing()[1]
    server = getattr(PromptServer, "instance", None)
    if server is not None and node_id:
        server.send_progress_text(text, node_id, server.client_id)


def say_last(lines: Sequence[str], severity: str = "info") -> None:
    """Show a status text that stays on the node after the run.

    Args:
        lines: those of `notes.said` are shown in the interface's language.
        severity: "info", or "warn": the pack's script then shows a toast, too.
    """
    from server import PromptServer

    note = notes.message(list(lines))
    say(note["text"])
    node_id = executing()[1]
    server = getattr(PromptServer, "instance", None)
    if server is not None and node_id:
        server.send_sync("rivya.note", {"node": node_id, "severity": severity, **note}, server.client_id)


async def progress(fraction: float, preview: Any = None) -> None:
    """Move the progress bar of the running node; ``preview`` is a PIL image."""
    if executing()[1]:
        await ComfyAPI.Execution().set_progress(round(fraction * 1000), 1000, preview_image=preview)


def blocked() -> Any:
    """An output value that silently keeps the nodes behind it from running."""
    from comfy_execution.graph_utils import ExecutionBlocker

    return ExecutionBlocker(None)


def tensor_placement() -> dict[str, Any]:
    """ComfyUI's ``device`` and ``dtype`` for IMAGE tensors; no dtype before 0.18."""
    from comfy import model_management

    dtype = getattr(model_management, "intermediate_dtype", None)
    device = {"device": model_management.intermediate_device()}
    return device if dtype is None else {**device, "dtype": dtype()}
