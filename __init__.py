"""Rivya Kontext for ComfyUI: what ComfyUI imports. Importing it touches neither network nor disk."""

from .nodes import comfy_entrypoint

WEB_DIRECTORY = "./web"

__all__ = ["WEB_DIRECTORY", "comfy_entrypoint"]
