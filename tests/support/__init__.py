"""What the tests share.

- ``comfy``: a real ComfyUI process with this pack in it; graphs, pictures, history, websocket
- ``service``: the sandbox, as one test sees it
- ``browser``: the real frontend in a real Chromium
- ``archive``: the pack as ComfyUI's registry hands it out
- ``sources``: the project's files and what they import

The fixtures made of them are in ``tests/conftest.py``.
"""
