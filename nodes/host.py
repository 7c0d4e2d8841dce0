"""ComfyUI as the host: interrupt, progress, status text, folders. The only module that touches its internals.

Facts about ComfyUI 0.3.75 that decide how: ``throw_exception_if_processing_interrupted`` clears the flag, so that other
waiting nodes would miss the cancel: the flag is only read (``comfy/model_management.py``). Only
``InterruptProcessingException`` is reported as a cancel and not as an error (``execution.py``). ``ProgressBar`` is a
cancel point that clears the flag as well; ``set_progress`` is none (``comfy_api/latest/__init__.py``).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..rivya import config
from . import notes
from .v3 import ComfyAPI


def load_config() -> config.Config:
    """The configuration, with the state folder in ComfyUI's protected part of the user folder."""
    return config.load(default_home=default_home())


def default_home() -> Path:
    """``<ComfyUI user folder>/__rivya``: ComfyUI serves no file from there.

    Since 0.3.76 that is a rule of ComfyUI: folders that begin with two underscores belong to the system
    (``folder_paths.get_system_user_directory``). Before, it served the folders of its registered users alone.
    """
    import folder_paths

    return Path(folder_paths.get_user_directory()) / "__rivya"


def interrupted() -> bool:
    """Whether the user has cancelled; reading it does not clear it."""
    from comfy import model_management

    return bool(model_management.processing_interrupted())


def interruption() -> BaseException:
    """The exception that ComfyUI reports as a cancel."""
    from comfy import model_management

    return model_management.InterruptProcessingException()


def executing() -> tuple[str, str]:
    """Ids of the prompt and the node that run in this context; empty outside of a prompt."""
    from comfy_execution.utils import get_executing_context

    context = get_executing_context()
    return (context.prompt_id, context.node_id) if context is not None else ("", "")


def shown_node() -> str:
    """Id of the node that the user sees for the one that runs: a node that expands into a graph shows for all of it."""
    from comfy_execution.progress import get_progress_state

    node_id = executing()[1]
    if not node_id:
        return ""
    try:
        return str(get_progress_state().dynprompt.get_display_node_id(node_id))
    except (AttributeError, KeyError):
        return node_id.split(".")[0]


def prompt_inputs(dynprompt: Any, node_id: str) -> dict[str, Any]:
    """The inputs of a node as the prompt has them: constants, and links as ``[node id, output]``.

    Args:
        dynprompt: the hidden value of that name, which also has the nodes that came about by expansion.
        node_id: of the node that runs.
    """
    return dict(dynprompt.get_node(node_id)["inputs"]) if dynprompt is not None and node_id else {}


def say(text: str) -> None:
    """Show a status text on the node that runs in this context."""
    from server import PromptServer

    node_id = executing()[1]
    server = getattr(PromptServer, "instance", None)
    if server is not None and node_id:
        server.send_progress_text(text, node_id, server.client_id)


def say_last(lines: Sequence[str], severity: str = "info") -> None:
    """Show a status text that stays on the node when the run has ended.

    Args:
        lines: for the user; those of `notes.said` are shown in the language of the interface.
        severity: "info"; "warn" for what must not be missed: the pack's script shows it as a toast, too.
    """
    from server import PromptServer

    note = notes.message(list(lines))
    say(note["text"])
    node_id = executing()[1]
    server = getattr(PromptServer, "instance", None)
    if server is not None and node_id:
        server.send_sync("rivya.note", {"node": node_id, "severity": severity, **note}, server.client_id)


async def progress(fraction: float, preview: Any = None) -> None:
    """Move the progress bar of the node that runs in this context; ``preview`` is a PIL image."""
    if executing()[1]:
        await ComfyAPI.Execution().set_progress(round(fraction * 1000), 1000, preview_image=preview)


def blocked() -> Any:
    """A value that quietly keeps the nodes behind an output from running."""
    from comfy_execution.graph_utils import ExecutionBlocker

    return ExecutionBlocker(None)


def tensor_placement() -> dict[str, Any]:
    """``device`` and ``dtype`` that ComfyUI wants IMAGE tensors in; before 0.18 it says nothing of a dtype."""
    from comfy import model_management

    dtype = getattr(model_management, "intermediate_dtype", None)
    device = {"device": model_management.intermediate_device()}
    return device if dtype is None else {**device, "dtype": dtype()}
