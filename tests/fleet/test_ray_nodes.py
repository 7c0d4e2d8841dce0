"""A job of 200 pictures on two nodes of a real Ray, one of which is killed on the way."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from library.client import png
from rivya.secret import Secret
from support.sources import ROOT

pytestmark = [
    pytest.mark.long,
    pytest.mark.timeout(900),
    pytest.mark.xdist_group("ray"),
    pytest.mark.skipif(find_spec("ray") is None, reason="needs Ray: pip install 'ray[data]'"),
]

PICTURES = 200

PROGRAM = """
import json, os, sys, time
import ray
from ray._private import state
from ray.cluster_utils import Cluster
folder, most, kills = sys.argv[1], int(sys.argv[2]), sys.argv[3] == "kill"
cluster = Cluster(True, head_node_args={"num_cpus": 1, "include_dashboard": False, "temp_dir": folder})
second = cluster.add_node(num_cpus=1, env_vars={"RIVYA_HOME": os.environ["SECOND_HOME"]})
ray.init(address=cluster.address, logging_level="error", log_to_driver=False)
ray.data.DataContext.get_current().enable_progress_bars = False
import rivya.ray
ds = ray.data.read_binary_files("photos", include_paths=True, override_num_blocks=25)
ds = rivya.ray.edit_dataset(ds, prompt="make it night", max_credits=most, run="night", workers=(4, 4))
told = {"rows": [], "killed": None}
for row in ds.iter_rows():
    told["rows"].append([os.path.basename(row["path"]), row["rivya_source"], row["rivya_task_id"], row["rivya_error"],
        len(row["rivya_image"])])
    if kills and told["killed"] is None and len(told["rows"]) >= 40:
        actors = [each["Address"]["NodeID"] for each in state.actors().values() if each["State"] == "ALIVE"]
        if second.node_id in actors:
            told["killed"] = actors.count(second.node_id)
            cluster.remove_node(second, allow_graceful=False)
told["report"] = rivya.ray.report("night").__dict__
print("TOLD", json.dumps(told))
"""

Job = Callable[..., dict[str, Any]]


@pytest.fixture
def job(database_url: Secret, tmp_path: Path) -> Iterator[Job]:
    """Runs the job on two nodes that have a state folder each."""
    session = Path(tempfile.mkdtemp(prefix="ray-"))  # Ray's sockets need a short path
    photos = tmp_path / "photos"
    photos.mkdir()
    for number in range(PICTURES):
        (photos / f"p{number:03}.png").write_bytes(png(number))

    def run(service: Any, most: int, *, kills: bool) -> dict[str, Any]:
        kept = {name: value for name, value in os.environ.items() if "proxy" not in name.lower()}
        env = {
            **kept,
            "PYTHONPATH": str(ROOT),
            "RIVYA_API_KEY": service.key,
            "RIVYA_BASE_URL": service.url,
            "RIVYA_LEDGER": database_url.reveal(),
            "RIVYA_RESULTS": str(tmp_path / "results"),
            "RIVYA_HOME": str(tmp_path / "first"),
            "SECOND_HOME": str(tmp_path / "second"),
        }
        words = [sys.executable, "-c", PROGRAM, str(session), str(most), "kill" if kills else "let live"]
        done = subprocess.run(words, env=env, cwd=tmp_path, capture_output=True, text=True, timeout=800)
        lines = [line[5:] for line in done.stdout.splitlines() if line.startswith("TOLD ")]
        assert lines, done.stderr[-4000:]
        told: dict[str, Any] = json.loads(lines[0])
        return told

    yield run
    shutil.rmtree(session, ignore_errors=True)


def test_a_killed_node_costs_neither_a_picture_nor_a_second_charge(
    job: Job, serve: Callable[..., Any]
) -> None:
    service = serve(latency=2.0)
    told = job(service, 4 * PICTURES, kills=True)
    assert told["killed"], "no actor ran on the node that was killed"
    assert len(service.charges()) == PICTURES
    assert [row[3] for row in told["rows"] if row[3]] == []
    assert len({row[0] for row in told["rows"]}) == len(told["rows"]) == PICTURES
    assert len({row[2] for row in told["rows"]}) == PICTURES
    assert all(row[4] for row in told["rows"])
    assert told["report"]["spent"] == 4 * PICTURES
    assert told["report"]["orders"] == {"stored": PICTURES}


def test_the_limit_of_a_run_holds_over_all_nodes(job: Job, serve: Callable[..., Any]) -> None:
    service = serve(latency=0.5)
    told = job(service, 4 * PICTURES // 2, kills=False)
    assert len(service.charges()) == PICTURES // 2
    assert Counter(bool(row[4]) for row in told["rows"]) == {True: PICTURES // 2, False: PICTURES // 2}
    assert all("over_credit_cap" in row[3] for row in told["rows"] if not row[4])
