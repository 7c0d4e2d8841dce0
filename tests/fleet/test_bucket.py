"""Several hosts on one ledger and one bucket."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from fleet.conftest import Start, wait_for_tasks
from rivya.bucket_urls import BucketUrl
from rivya.objects import Bucket
from rivya.secret import Secret
from support.buckets import SeaweedFS

pytestmark = [pytest.mark.long, pytest.mark.timeout(300), pytest.mark.xdist_group("fleet")]
PLACE = "s3://pictures/fleet"


def test_a_killed_host_leaves_all_pictures_in_the_bucket_and_a_new_host_finds_them(
    start: Start,
    serve: Callable[..., Any],
    database_url: Secret,
    seaweedfs: SeaweedFS,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    env = {**seaweedfs.environment, "RIVYA_RESULTS": PLACE}
    service = serve(latency=2.0)
    dead, alive = start(2, service, database_url, env, orders=20)
    wait_for_tasks(service, 8)
    dead.kill()
    told = alive.ended()
    assert [each for each in told if "error" in each] == []
    assert (len(told), len(service.charges())) == (20, 20)
    for name, value in seaweedfs.environment.items():
        monkeypatch.setenv(name, value)
    names = [each.name for each in Bucket(BucketUrl.read(PLACE), "-").listed()]
    assert sum(name.endswith(".json") for name in names) == 20
    requests = len(service.requests())
    (later,) = start(1, service, database_url, env, orders=20)
    assert {each["source"] for each in later.ended()} == {"stored"}
    assert len(service.requests()) == requests


def test_a_host_that_is_set_to_another_place_is_refused(
    start: Start, serve: Callable[..., Any], database_url: Secret, seaweedfs: SeaweedFS
) -> None:
    service = serve(latency=0.2)
    (first,) = start(1, service, database_url, {**seaweedfs.environment, "RIVYA_RESULTS": PLACE}, orders=1)
    assert "error" not in first.ended()[0]
    requests = len(service.requests())
    (other,) = start(1, service, database_url, seed_of_its_own=True, orders=1)
    (refused,) = other.ended()
    assert (refused["error"], refused["charged"]) == ("results_elsewhere", "no")
    assert f"Set RIVYA_RESULTS to {PLACE}" in refused["says"]
    assert len(service.requests()) == requests
