"""Bulk jobs on a real Ray: datasets and batches, what is refused, and what Ray keeps of it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from library.client import Client, environment, png
from support.sources import ROOT

pytestmark = [
    pytest.mark.long,
    pytest.mark.timeout(600),
    pytest.mark.xdist_group("ray"),
    pytest.mark.skipif(find_spec("ray") is None, reason="needs Ray: pip install 'ray[data]'"),
]

Program = Callable[..., dict[str, Any]]
"""Runs a program in a process of its own; what it has put into ``told``."""

BEGIN = """
import json, os, sys
import ray
ray.init(num_cpus=2, include_dashboard=False, logging_level="warning", log_to_driver=False, _temp_dir=sys.argv[1])
ray.data.DataContext.get_current().enable_progress_bars = False
import rivya.ray
from rivya.errors import RivyaError
told = {}
"""

TWO_NODES = """
import json, os, sys
import ray
from ray.cluster_utils import Cluster
cluster = Cluster(True, head_node_args={"num_cpus": 1, "include_dashboard": False, "temp_dir": sys.argv[1]})
node = cluster.add_node(num_cpus=1)
ray.init(address=cluster.address, logging_level="warning", log_to_driver=False)
ray.data.DataContext.get_current().enable_progress_bars = False
import rivya.ray
from rivya.errors import RivyaError
told = {}
"""


@pytest.fixture
def ray_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where Ray keeps its session. Its sockets need a short path."""
    folder = Path("/tmp") / f"ray-{os.getpid()}-{len(list(Path('/tmp').glob('ray-*')))}"
    folder.mkdir()
    return folder


@pytest.fixture
def program(client: Client, work: Path, ray_folder: Path) -> Program:
    def run(begin: str, body: str, **changes: str) -> dict[str, Any]:
        done = subprocess.run(
            [sys.executable, "-c", f"{begin}\n{body}\nprint('TOLD', json.dumps(told))", str(ray_folder)],
            env={**environment(client), "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0", **changes},
            cwd=work,
            capture_output=True,
            text=True,
            timeout=400,
        )
        lines = [line[5:] for line in done.stdout.splitlines() if line.startswith("TOLD ")]
        assert lines, done.stderr[-4000:]
        told: dict[str, Any] = json.loads(lines[0])
        return told

    return run


def photos(work: Path, count: int) -> Path:
    folder = work / "photos"
    folder.mkdir()
    for number in range(count):
        (folder / f"p{number:03}.png").write_bytes(png(number))
    return folder


def test_a_dataset_is_bought_once_within_its_limit_and_its_originals_are_written(
    program: Program, service: Any, work: Path, ray_folder: Path, client: Client
) -> None:
    folder = photos(work, 20)
    (folder / "words.png").write_text("this is no picture")
    bought, known = len(service.charges()), {task["id"] for task in service.tasks()}
    body = """
def rows(most):
    ds = ray.data.read_binary_files("photos", include_paths=True)
    ds = ds.union(ray.data.from_items([{"bytes": None, "path": "empty.png"}]))
    return rivya.ray.edit_dataset(ds, prompt="make it night", max_credits=most, run=f"run-{most}", workers=(2, 2))
def told_of(ds):
    return [[row["path"], row["rivya_source"], row["rivya_credits"], row["rivya_error"], row["rivya_task_id"]]
            for row in ds.iter_rows()]
told["first"] = told_of(rows(40))
told["report"] = rivya.ray.report("run-40").__dict__
rest = rows(1000).materialize()
told["rest"] = told_of(rest)
rivya.ray.write_originals(rest, "out")
rivya.ray.write_originals(rest, "out")
texts = ray.data.from_items([{"text": "a boat"}, {"text": " "}])
texts = rivya.ray.edit_dataset(texts, prompt_column="text", image_column=None, variations=3, max_credits=12)
told["texts"] = [[row["text"], row["rivya_name"], row["rivya_error"]] for row in texts.iter_rows()]
"""
    told = program(BEGIN, body)
    first, rest = told["first"], told["rest"]
    assert Counter(each[1] for each in first) == {"new": 10, "": 12}
    assert sum("over_credit_cap" in each[3] for each in first) == 10
    assert told["report"]["spent"] == 40
    assert told["report"]["orders"] == {"stored": 10}
    assert Counter(each[1] for each in rest) == {"stored": 10, "new": 10, "": 2}
    assert sum(each[2] for each in rest) == 40
    failed = {Path(each[0]).name: each[3] for each in rest if each[3]}
    assert set(failed) == {"words.png", "empty.png"}
    assert all("No credits were charged" in each for each in failed.values())
    made = [each for each in told["texts"] if not each[2]]
    assert len({name for _, name, _ in made}) == len(made) == 3
    assert [each[0] for each in told["texts"] if "blank" in each[2]] == [" "]
    assert len(service.charges()) - bought == 20 + 3
    tasks = [task["id"] for task in service.tasks() if task["id"] not in known and task["prompt"] != "a boat"]
    assert sorted(each.read_bytes() for each in (work / "out").iterdir()) == sorted(
        map(service.picture, tasks)
    )
    assert all(row.delivered_at for row in client.rows())
    key = client.config.require_key().reveal().encode()
    kept = [path for path in ray_folder.rglob("*") if path.is_file()]
    assert kept
    assert not [path for path in kept if key in path.read_bytes()]


def test_a_batch_on_ray_says_and_saves_what_the_plain_one_does(
    service: Any, work: Path, client: Client, ray_folder: Path
) -> None:
    photos(work, 6)
    (work / "photos" / "words.png").write_text("this is no picture")
    bought = len(service.charges())

    def run(target: str, *more: str) -> list[dict[str, Any]]:
        words = ("edit", "--batch", "photos", "make it night", "-o", target, "--max-credits", "100", *more)
        done = subprocess.run(
            [sys.executable, "-m", "rivya", *words],
            env={**environment(client), "RAY_TMPDIR": str(ray_folder)},
            cwd=work,
            capture_output=True,
            text=True,
            timeout=400,
        )
        assert done.returncode == 1, done.stderr
        lines = (work / target / "results.jsonl").read_text("utf-8").splitlines()
        return sorted(map(json.loads, lines), key=lambda each: str(each["source"]))

    on_ray = run("on-ray", "--ray", "local")
    plain = run("plain")
    assert len(service.charges()) - bought == 6
    assert Counter(each["status"] for each in on_ray) == {"new": 6, "failed": 1}
    assert Counter(each["status"] for each in plain) == {"stored": 6, "failed": 1}
    for each, same in zip(on_ray, plain, strict=True):
        differ = {name for name in each if each[name] != same[name]}
        assert differ <= {"status", "credits"}, (each, same)
        if each["file"]:
            assert (work / "on-ray" / each["file"]).read_bytes() == service.picture(each["task_id"])
    assert all(row.delivered_at for row in client.rows())


def test_nodes_that_would_lose_pictures_are_refused_before_anything_is_sent(
    program: Program, service: Any, work: Path
) -> None:
    photos(work, 2)
    requests = len(service.requests())
    body = """
ds = ray.data.read_binary_files("photos", include_paths=True)
def tried(**options):
    try:
        rivya.ray.edit_dataset(ds, prompt="make it night", **options)
    except RivyaError as error:
        return error.as_dict()
told["two"] = tried(max_credits=100)
told["limit"] = tried()
told["option"] = tried(max_credits=100, model="no-such-model")
told["name"] = tried(max_credits=100, modle="flux-kontext-pro")
told["workers"] = tried(max_credits=100, workers=(3, 1))
"""
    told = program(TWO_NODES, body)
    assert {name: each["code"] for name, each in told.items()} == {
        "two": "ledger_not_shared", "limit": "limit_missing", "option": "validation_failed",
        "name": "validation_failed", "workers": "validation_failed",
    }  # fmt: skip
    assert {each["charged"] for each in told.values()} == {"no"}
    assert "RIVYA_LEDGER" in told["two"]["hint"]
    keyless = program(TWO_NODES, body, RIVYA_API_KEY="")
    assert keyless["two"]["code"] == "api_key_missing"
    assert len(service.requests()) == requests


def test_a_cluster_that_is_not_there_is_one_sentence(service: Any, work: Path, client: Client) -> None:
    photos(work, 1)
    requests = len(service.requests())
    for address, said in (
        ("127.0.0.1:9", "cannot be used"),
        ("ray://127.0.0.1:9", "cannot reach the pictures"),
    ):
        done = subprocess.run(
            [
                sys.executable,
                "-m",
                "rivya",
                "edit",
                "--batch",
                "photos",
                "a hat",
                "-o",
                "out",
                "--ray",
                address,
            ],
            env={**environment(client), "RAY_gcs_rpc_server_reconnect_timeout_s": "1"},
            cwd=work,
            capture_output=True,
            text=True,
            timeout=200,
        )
        assert done.returncode == 1
        assert said in done.stderr
        assert "No credits were charged" in done.stderr
        assert "Traceback" not in done.stderr
    assert (len(service.requests()), (work / "out").exists()) == (requests, False)


def test_the_library_is_imported_without_ray() -> None:
    program = "import sys, rivya.cli; rivya.edit; print([m for m in ('ray', 'pyarrow') if m in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
