"""``python dev.py demo``: from nothing but Python to an edited photograph in a real ComfyUI.

The photograph is Chelsea, a cat, by Stéfan van der Walt, who placed it in the public domain (CC0).
"""

from __future__ import annotations

import argparse
import getpass
import json
import os
import shutil
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

from .comfyui import ROOT, ComfyUI, Finished, PromptRefused, prepare_base
from .environment import DEV, PYTHON, comfyui_folder, ensure_environment
from .processes import Child, ChildFailed, free_port
from .report import StepFailed, say, step

PHOTO = ROOT / "web" / "sample.jpg"
WORKFLOW = ROOT / "tests" / "workflows" / "edit_a_photo.json"
DEMO = DEV / "demo"
BASE = DEMO / "comfyui"

KEY_NAME = "RIVYA_API_KEY"
SANDBOX_KEY = "rvya_sk_sandbox"
LIVE_CREDITS = 4  # one picture of flux-kontext-pro
COMFYUI_PORT = 8188
SANDBOX_PORT = 8289
RESULTS_PORT = 8290


def main(arguments: list[str]) -> int:
    options = _parse(arguments)
    if options.live:
        key = _agree_to_pay(options.yes)
    else:
        key = SANDBOX_KEY
        say("A stand-in on this machine plays the Rivya service: no real service, no real credits.")
    folder = comfyui_folder(options.comfyui)
    ensure_environment(folder)
    children: list[Child] = []
    try:
        env = {KEY_NAME: key, "RIVYA_HOME": str(DEMO / "state")}
        if not options.live:
            sandbox, env["RIVYA_BASE_URL"] = _start_sandbox()
            children.append(sandbox)
        comfyui = _start_comfyui(folder, options.port, env)
        children.append(comfyui.child)
        _edit(comfyui, options.live)
        if options.once:
            return 0
        say(
            f"\nOpen  {comfyui.url}  in a browser: the workflow is under Templates, rivya-nodes, Edit a photo."
        )
        say("Everything stays up until you press Ctrl-C here.")
        return _stay(children)
    finally:
        for child in reversed(children):
            child.stop()


def _parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python dev.py demo", description="Edit a photograph in a real ComfyUI."
    )
    parser.add_argument("--once", action="store_true", help="end after the picture")
    parser.add_argument("--comfyui", metavar="DIR", help="use this ComfyUI instead of installing one")
    parser.add_argument(
        "--port", type=int, default=0, metavar="N", help="ComfyUI's port (8188, or a free one)"
    )
    parser.add_argument("--live", action="store_true", help=f"the real service; costs {LIVE_CREDITS} credits")
    parser.add_argument("--yes", action="store_true", help="with --live: do not ask before spending")
    return parser.parse_args(arguments)


def _agree_to_pay(agreed: bool) -> str:
    """The user's key, once the price has been said and agreed to."""
    with step("Agree to what the real service costs"):
        say(
            f"    This sends the photograph to rivya.ai and buys one picture: {LIVE_CREDITS} credits of your account."
        )
        if not agreed:
            if not sys.stdin.isatty():
                raise StepFailed(
                    "There is no terminal to ask on, and nothing is bought unasked.", "Add --yes."
                )
            if input(f"    Spend {LIVE_CREDITS} credits? [y/N] ").strip().lower() not in ("y", "yes"):
                raise StepFailed(
                    "You did not agree; nothing was sent.", "Leave --live out to try it for free."
                )
        key = os.environ.get(KEY_NAME, "").strip()
        if not key and sys.stdin.isatty():
            key = getpass.getpass("    Your Rivya API key (not shown, not kept): ").strip()
        if not key:
            raise StepFailed(f"There is no API key: {KEY_NAME} is not set.", f"Set {KEY_NAME} and run again.")
    return key


def _start_sandbox() -> tuple[Child, str]:
    """The stand-in for the service, and its address."""
    with step("Start the sandbox"):
        port, results_port = free_port(SANDBOX_PORT), free_port(RESULTS_PORT)
        log = DEMO / "sandbox.log"
        log.unlink(missing_ok=True)
        child = Child(
            "The sandbox",
            [
                *(str(PYTHON), "-m", "sandbox", "--port", str(port), "--results-port", str(results_port)),
                *("--latency", "3", "--key", SANDBOX_KEY),
            ],
            log_path=log,
            cwd=ROOT,
        )
        url = f"http://127.0.0.1:{port}"
        _wait(child, lambda: _answers(f"{url}/api/v1/models"), 30)
    return child, url


def _start_comfyui(folder: Path, port: int, env: dict[str, str]) -> ComfyUI:
    with step("Start ComfyUI with this pack"):
        prepare_base(BASE)
        _lay_out_photo()
        (BASE / "comfyui.log").unlink(missing_ok=True)
        try:
            comfyui = ComfyUI.start(
                folder, BASE, env=env, python=str(PYTHON), port=port or free_port(COMFYUI_PORT), timeout_s=300
            )
        except ChildFailed as failed:
            raise _child_failed(failed, BASE / "comfyui.log") from None
        if "RivyaSubmitAndWait" not in comfyui.object_info():
            comfyui.stop()
            raise StepFailed(
                f"ComfyUI runs, but could not load this pack. Its last lines:\n{comfyui.child.log_end()}",
                f"The whole log is in {BASE / 'comfyui.log'}.",
            )
    return comfyui


def _lay_out_photo() -> None:
    """The photograph as photo.jpg, and as the example.png that the workflow for the browser opens."""
    shutil.copyfile(PHOTO, BASE / "input" / "photo.jpg")
    convert = "import sys; from PIL import Image; Image.open(sys.argv[1]).save(sys.argv[2])"
    subprocess.run([str(PYTHON), "-c", convert, str(PHOTO), str(BASE / "input" / "example.png")], check=True)


def _edit(comfyui: ComfyUI, live: bool) -> None:
    graph: dict[str, Any] = json.loads(WORKFLOW.read_text("utf-8"))
    graph["report"] = {"class_type": "PreviewAny", "inputs": {"source": ["edit", 3]}}
    prompt = graph["edit"]["inputs"]["prompt"]
    with step(f"Edit the photograph: {prompt}"):
        try:
            finished = comfyui.run(graph, timeout_s=1200)
        except PromptRefused as refused:
            raise StepFailed(
                f"ComfyUI did not take the workflow: {refused}", "Report it with this text."
            ) from None
        except AssertionError as error:
            raise StepFailed(str(error), f"The whole log is in {comfyui.child.log_path}.") from None
        if not finished.succeeded:
            raise _edit_failed(finished)
    report = json.loads(finished.outputs["report"]["text"][0])
    charged, reused = report["credits_charged"], report["credits_reused"]
    money = "credits" if live else "credits of play money"
    say(
        f"\n{charged} {money} were charged"
        + (f"; {reused} were saved: it was bought before." if reused else ".")
    )
    say(f"The photograph:      {comfyui.base / 'input' / 'photo.jpg'}")
    for picture in finished.outputs["save"]["images"]:
        path = comfyui.base / "output" / picture["subfolder"] / picture["filename"]
        say(f"The edited picture:  {path}")


def _edit_failed(finished: Finished) -> StepFailed:
    error = finished.error or {}
    return StepFailed(
        error.get("exception_message") or "ComfyUI stopped the workflow without an error.",
        f"The log is in {BASE / 'comfyui.log'}, the sandbox's in {DEMO / 'sandbox.log'}.",
    )


def _stay(children: list[Child]) -> int:
    try:
        while True:
            time.sleep(0.5)
            for child in children:
                if not child.alive():
                    raise StepFailed(
                        f"{child.name} ended. Its last lines:\n{child.log_end()}", "Run the demo again."
                    )
    except KeyboardInterrupt:
        say("\nStopped.")
        return 0


def _wait(child: Child, ready: Any, timeout_s: float) -> None:
    try:
        child.wait_until(ready, timeout_s)
    except ChildFailed as failed:
        child.kill()
        raise _child_failed(failed, child.log_path) from None


def _child_failed(failed: ChildFailed, log: Path) -> StepFailed:
    return StepFailed(str(failed), f"The whole log is in {log}.")


def _answers(url: str) -> bool:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(url, timeout=2) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False
