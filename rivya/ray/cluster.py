"""Joins a Ray cluster and inspects its nodes."""

from __future__ import annotations

import logging
import re
import socket
from collections.abc import Mapping
from secrets import token_hex
from typing import Any

import ray
import ray.data
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from .. import commands, machines
from ..errors import ConfigurationError, costs_nothing
from ..machines import Machine
from ..saving import places

_KNOCK_S = 5.0

_LOOK_S = 120.0
"""Timeout of a node's answer; a worker process may have to start there first."""


@costs_nothing()
def join(address: str) -> None:
    """Join the cluster, once per process.

    Raises:
        ConfigurationError: it cannot be reached.
    """
    if ray.is_initialized():
        return
    _knock(address)
    ray.data.DataContext.get_current().enable_progress_bars = False
    logging.getLogger("ray.data").setLevel(logging.WARNING)
    try:
        ray.init(address=address, logging_level=logging.WARNING, log_to_driver=False)
    except Exception as error:  # Ray has no class for it
        raise _unusable(address, _first_line(error)) from None


def _knock(address: str) -> None:
    """Check that a HOST:PORT accepts connections: otherwise Ray ends the process."""
    host, separator, port = address.removeprefix("ray://").rpartition(":")
    if not separator or not port.isdecimal():
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), _KNOCK_S).close()
    except OSError as error:
        raise _unusable(address, f"{error.strerror or error}.") from None


def _unusable(address: str, why: str) -> ConfigurationError:
    return ConfigurationError(
        f"The Ray cluster {places.shown(address)} cannot be used: {why}",
        hint="Start one with: ray start --head. Or take --ray local, which starts one for this command.",
        code="ray_unusable",
    )


@costs_nothing()
def look_at_nodes() -> tuple[list[Machine], str]:
    """The setup of each node, and the salt for comparing them.

    Raises:
        ConfigurationError: a node does not answer, or lacks the library.
    """
    if not ray.is_initialized():
        ray.init()
    if not __name__.startswith("rivya."):
        raise ConfigurationError(
            "This copy of the library lies in a ComfyUI, where the nodes of a cluster do not find it.",
            hint=f"Run {commands.pip_install('rivya-nodes[ray]')} and use import rivya.ray.",
            code="package_missing",
        )
    salt = token_hex(16)
    look = ray.remote(num_cpus=0)(machines.look)
    asked = []
    for node in ray.nodes():
        if node["Alive"]:
            strategy = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
            asked.append(
                (name_of(node), look.options(scheduling_strategy=strategy).remote(name_of(node), salt))
            )
    return [_answer(name, reference) for name, reference in asked], salt


def _answer(name: str, reference: Any) -> Machine:
    try:
        found: Machine = ray.get(reference, timeout=_LOOK_S)
    except ray.exceptions.RayError as error:
        missing = re.search(r"No module named '([\w.]+)'", str(error))
        if missing is not None:
            raise ConfigurationError(
                f"Ray node {name}: {missing[1]} is not installed there.",
                hint="Install rivya-nodes[ray] on every node, in the same version.",
                code="package_missing",
            ) from None
        raise ConfigurationError(
            f"Ray node {name} does not answer: {_first_line(error)}",
            hint="Look at it with: ray status.",
            code="ray_unusable",
        ) from None
    return found


def own_node() -> Mapping[str, Any]:
    own = ray.get_runtime_context().get_node_id()
    return next(node for node in ray.nodes() if node["NodeID"] == own)


def name_of(node: Mapping[str, Any]) -> str:
    return f"{node['NodeManagerAddress']} ({node['NodeID'][:8]})"


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[-1] if lines else type(error).__name__)[:300]
