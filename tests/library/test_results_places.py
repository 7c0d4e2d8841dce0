"""``RIVYA_RESULTS``: pictures in a folder of one's own or in a bucket, and one place for each ledger."""

from __future__ import annotations

import errno
import re
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from secrets import token_hex
from typing import Any

import pytest

from library.client import Client, Run, sha256
from rivya.bucket_urls import BucketUrl
from rivya.config import Config, load
from rivya.errors import Charged, ConfigurationError, LedgerError
from rivya.objects import _REST_S, Bucket, BucketError
from rivya.secret import Secret
from rivya.storage.bucket import BucketStore
from rivya.storage.folder import FolderStore
from rivya.storage.opening import open_store
from rivya.storage.results import ResultGone
from support.buckets import OWNER, READER, SeaweedFS, in_folder
from support.sources import ROOT

pytestmark = pytest.mark.heavy

PNG, JPEG = b"\x89PNG" + b"p" * 3000, b"\xff\xd8" + b"j" * 2000
WORDS = ("edit", "--text", "a quiet harbour", "--seed", "5", "-o", "out.jpg")


@pytest.fixture
def buckets(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    return in_folder(monkeypatch, tmp_path / "buckets")


@pytest.fixture
def store(buckets: Path) -> BucketStore:
    return BucketStore(BucketUrl.read("s3://pictures/kept here"))


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir() if path.name not in (".lock", "rivya-results")}


def untouched(service: Any) -> Callable[[], bool]:
    """Whether nothing has been sent to the service since."""
    requests = len(service.requests())
    return lambda: len(service.requests()) == requests


# -- a folder


@pytest.mark.parametrize("name", ["plain", "with spaces, ünd 'quotes' #1?.d", "a/new/one"])
def test_pictures_go_into_the_folder_that_is_named(shell: Run, service: Any, work: Path, name: str) -> None:
    kept_before = names(work.parent / "state" / "results")
    chosen = work / name
    first = shell(*WORDS, RIVYA_RESULTS=str(chosen))
    assert first.returncode == 0, first.stderr
    assert {path.suffix for path in chosen.iterdir()} == {".jpg", ".json", ".delivered", ""}
    assert names(work.parent / "state" / "results") == kept_before
    (work / "out.jpg").unlink()
    nothing_sent = untouched(service)
    again = shell(*WORDS, RIVYA_RESULTS=str(chosen))
    assert "(stored, 0 credits" in again.stdout
    assert nothing_sent()


def test_what_lies_in_the_state_folder_is_still_found_once_another_place_is_set(
    shell: Run, service: Any, work: Path, buckets: Path
) -> None:
    assert shell(*WORDS).returncode == 0
    nothing_sent = untouched(service)
    for place in (str(work / "elsewhere"), "s3://pictures/x"):
        again = shell(*WORDS, RIVYA_RESULTS=place)
        assert "(stored, 0 credits" in again.stdout, again.stderr
    assert nothing_sent()


def test_two_places_on_one_ledger_are_refused_before_anything_is_sent(
    shell: Run, service: Any, work: Path, buckets: Path
) -> None:
    one, other = str(work / "one"), str(work / "other")
    assert shell(*WORDS, RIVYA_RESULTS=one).returncode == 0
    nothing_sent = untouched(service)
    anew = (*WORDS[:4], "6", *WORDS[5:])
    for place in (other, "s3://pictures/x", ""):
        refused = shell(*anew, RIVYA_RESULTS=place)
        assert refused.returncode == 1
        assert "results_elsewhere" in refused.stderr
        assert f"Set RIVYA_RESULTS to {one}." in refused.stderr
        assert "No credits were charged" in refused.stderr
    assert nothing_sent()
    shutil.rmtree(other)
    shutil.copytree(one, other)
    moved = shell(*anew, RIVYA_RESULTS=other)
    assert moved.returncode == 0, moved.stderr


def test_a_store_of_which_a_rule_of_the_bucket_has_left_nothing_is_still_the_ledger_s(
    shell: Run, service: Any, work: Path, buckets: Path
) -> None:
    assert shell(*WORDS, RIVYA_RESULTS="s3://pictures/x").returncode == 0
    shutil.rmtree(buckets / "pictures")
    again = shell(*WORDS, RIVYA_RESULTS="s3://pictures/x")
    assert "(resumed, 0 credits" in again.stdout, again.stderr
    shutil.rmtree(work.parent / "state" / "results")
    assert shell(*WORDS[:4], "6", *WORDS[5:], RIVYA_RESULTS="s3://pictures/x").returncode == 0
    assert not list((buckets / "pictures" / "x").glob("rivya-probe"))


def test_a_ledger_for_which_no_place_is_set_stays_as_it_was(shell: Run, work: Path) -> None:
    def tables() -> set[str]:
        with sqlite3.connect(work.parent / "state" / "ledger.sqlite3") as connection:
            return {row[0] for row in connection.execute("SELECT name FROM sqlite_master")}

    assert shell(*WORDS).returncode == 0
    assert "notes" not in tables()
    assert shell(*WORDS[:4], "6", *WORDS[5:], RIVYA_RESULTS=str(work / "one")).returncode == 0
    assert "notes" in tables()


def test_a_folder_that_cannot_be_written_is_refused_by_the_name_of_the_setting(
    shell: Run, service: Any, work: Path
) -> None:
    (work / "file").write_text("in the way")
    nothing_sent = untouched(service)
    refused = shell(*WORDS, RIVYA_RESULTS=str(work / "file" / "results"))
    assert refused.returncode == 1
    assert "RIVYA_RESULTS" in refused.stderr
    assert "store_unusable" in refused.stderr
    assert "No credits were charged" in refused.stderr
    assert nothing_sent()


def test_a_folder_whose_files_cannot_be_locked_keeps_pictures_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOSYS, "not implemented")

    monkeypatch.setattr("rivya.files.fcntl.flock", refuse)  # no disk here refuses it
    store = FolderStore(tmp_path, 1000, chosen=tmp_path / "mounted")
    began = time.monotonic()
    for number in range(3):
        store.put("s", str(number), [(PNG, "png")], {})
        store.mark_delivered("s", str(number))
    assert store.identity() == FolderStore(tmp_path, chosen=tmp_path / "mounted").identity()
    assert all(store.get("s", str(number)) for number in range(3))
    assert store.evict() == 0
    assert time.monotonic() - began < 5
    assert "cannot be locked, so old pictures are not removed there" in caplog.text


def test_a_shared_ledger_without_a_place_that_all_share_is_warned_about(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    shared = Config(home=tmp_path, ledger=Secret("postgresql://nobody@127.0.0.1/none"))
    open_store(replace(shared, results=str(tmp_path / "results")))
    assert not caplog.messages
    open_store(shared)
    assert "RIVYA_RESULTS is not set" in caplog.text


# -- the setting


@pytest.mark.parametrize(
    "value, meant",
    [
        ("", ""),
        (" 's3://bucket' ", "s3://bucket"),
        ("S3://bucket/a/b/", "s3://bucket/a/b"),
        ("gs://bucket/a b", "gs://bucket/a b"),
        ("az://container", "az://container"),
        ("~/kept", str(Path.home() / "kept")),
        ("/somewhere/odd: name, #1", "/somewhere/odd: name, #1"),
        ("relative", str(Path.cwd() / "relative")),
    ],
)
def test_the_setting_names_a_folder_or_a_bucket(tmp_path: Path, value: str, meant: str) -> None:
    assert load({"RIVYA_HOME": str(tmp_path), "RIVYA_RESULTS": value}).results == meant


def test_a_relative_path_in_the_file_counts_from_its_folder(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"results": "kept"}')
    assert load({"RIVYA_HOME": str(tmp_path)}).results == str(tmp_path / "kept")
    assert load({"RIVYA_HOME": str(tmp_path), "RIVYA_RESULTS": "/other"}).results == "/other"


@pytest.mark.parametrize(
    "value",
    [
        *("s3://", "s3:/bucket", "s3://b", "s3://user:hidden@bucket/x", "s3://bucket/a//b", "s3://bucket/../hidden"),
        *("https://bucket.example/hidden?sig=hidden", "file:///hidden", "$NO_SUCH/hidden", "s3://bucket?k=hidden"),
    ],
)  # fmt: skip
def test_a_wrong_value_is_refused_by_name_and_not_shown(tmp_path: Path, value: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        load({"RIVYA_HOME": str(tmp_path), "RIVYA_RESULTS": value})
    assert "RIVYA_RESULTS" in str(caught.value)
    assert "hidden" not in str(caught.value) or value.startswith("$")
    (tmp_path / "config.json").write_text('{"results": 7}')
    with pytest.raises(ConfigurationError, match="results in config.json is not text"):
        load({"RIVYA_HOME": str(tmp_path)})


# -- a bucket, in obstore's store for a disk


def test_a_bucket_and_a_folder_hold_the_same_names_so_that_a_copy_moves_a_store(
    store: BucketStore, buckets: Path, tmp_path: Path
) -> None:
    pictures, about = [(PNG, "png"), (JPEG, "jpg")], {"task_id": "t", "credits": 4}
    put = store.put("s", "f", pictures, about)
    got = store.get("s", "f")
    assert got == put
    assert got is not None
    assert (got.read(), got.about, got.extension) == ([PNG, JPEG], about, "png")
    assert got.locations[0].startswith("s3://pictures/kept here/")
    there = buckets / "pictures" / "kept here"
    folder = FolderStore(tmp_path / "home")
    folder.put("s", "f", pictures, about)
    assert names(tmp_path / "home" / "results") == names(there)
    shutil.copytree(there, tmp_path / "copy" / "results")
    copied = FolderStore(tmp_path / "copy").get("s", "f")
    assert copied is not None
    assert copied.read() == [PNG, JPEG]


def test_the_manifest_is_written_last(store: BucketStore, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[str] = []
    put = Bucket.put

    def noted(bucket: Bucket, name: str, data: bytes, **options: Any) -> bool:
        written.append(name.rpartition(".")[2])
        assert store.get("s", "f") is None
        return put(bucket, name, data, **options)

    monkeypatch.setattr(Bucket, "put", noted)
    store.put("s", "f", [(PNG, "png"), (JPEG, "jpg")], {})
    assert written == ["png", "jpg", "json"]


def test_a_result_that_is_there_is_left_alone_and_another_one_takes_its_place(
    store: BucketStore, buckets: Path
) -> None:
    store.put("s", "f", [(PNG, "png")], {"by": "one host"})
    assert store.put("s", "f", [(PNG, "png")], {"by": "another"}).read() == [PNG]
    first = store.get("s", "f")
    assert first is not None
    assert first.about == {"by": "one host"}
    store.put("s", "f", [(JPEG, "png")], {"by": "a new attempt"})
    second = store.get("s", "f")
    assert second is not None
    assert (second.read(), second.about) == ([JPEG], {"by": "a new attempt"})
    with pytest.raises(ResultGone):
        first.read()


def test_a_picture_that_has_expired_or_changed_is_no_result(store: BucketStore, buckets: Path) -> None:
    stored = store.put("s", "f", [(PNG, "png")], {})
    picture = buckets / "pictures" / "kept here" / stored.pictures[0].name
    picture.write_bytes(PNG[:-1])
    assert store.get("s", "f") is None
    picture.write_bytes(b"x" * len(PNG))
    with pytest.raises(ResultGone):
        stored.read()
    picture.unlink()
    assert store.get("s", "f") is None
    with pytest.raises(ResultGone):
        stored.read()
    store.put("s", "f", [(PNG, "png")], {})
    assert stored.read() == [PNG]


def test_an_expired_picture_is_fetched_again_for_nothing(
    shell: Run, service: Any, work: Path, buckets: Path
) -> None:
    assert shell(*WORDS, RIVYA_RESULTS="s3://pictures/x").returncode == 0
    charges = len(service.charges())
    picture = sha256((work / "out.jpg").read_bytes())
    for expired in (".jpg", ".json"):
        for path in (buckets / "pictures" / "x").glob(f"*{expired}"):
            path.unlink()
        (work / "out.jpg").unlink()
        again = shell(*WORDS, RIVYA_RESULTS="s3://pictures/x")
        assert "(resumed, 0 credits" in again.stdout, again.stderr
        assert sha256((work / "out.jpg").read_bytes()) == picture
    assert len(service.charges()) == charges


def test_another_host_finds_the_picture_and_its_ledger_need_not_know_it(
    make: Callable[..., Client], service: Any, buckets: Path, tmp_path: Path
) -> None:
    one, other = (make(home=tmp_path / host, results="s3://pictures/shared") for host in ("one", "other"))
    (bought,) = one.run(one.order())
    (found,) = other.run(other.order())
    assert (bought.source, found.source) == ("new", "stored")
    assert found.result.locations == bought.result.locations
    assert len(service.charges()) == 1


# -- what a bucket refuses


@pytest.mark.parametrize(
    "module, why", [("raise ImportError", "is not installed"), ("__version__ = '0.7.3'", "0.7.3 is too old")]
)
def test_without_obstore_the_package_is_named_and_nothing_is_sent(
    process: Run, service: Any, work: Path, module: str, why: str
) -> None:
    (work / "obstore").mkdir()
    for part, text in (("__init__", module), ("exceptions", ""), ("store", "")):
        (work / "obstore" / f"{part}.py").write_text(text)
    nothing_sent = untouched(service)
    refused = process(*WORDS, RIVYA_RESULTS="s3://pictures", PYTHONPATH=f"{work}:{Path(__file__).parents[2]}")
    assert refused.returncode == 1
    assert "RIVYA_RESULTS names a bucket, which takes obstore" in refused.stderr
    assert why in refused.stderr
    assert "pip install" in refused.stderr
    assert "No credits were charged" in refused.stderr
    assert nothing_sent()


def test_an_endpoint_that_cannot_be_reached_is_named_without_the_secrets(
    shell: Run, service: Any, work: Path
) -> None:
    nothing_sent = untouched(service)
    refused = shell(
        *WORDS,
        RIVYA_RESULTS="s3://pictures",
        AWS_ENDPOINT_URL="http://user:hidden@127.0.0.1:9",
        AWS_ACCESS_KEY_ID="id-hidden",
        AWS_SECRET_ACCESS_KEY="secret-hidden",
    )
    assert refused.returncode == 1
    assert "127.0.0.1:9 cannot be reached" in refused.stderr
    assert "AWS_ENDPOINT_URL" in refused.stderr
    assert "store_unusable" in refused.stderr
    assert "No credits were charged" in refused.stderr
    assert "hidden" not in refused.stderr
    assert nothing_sent()


@pytest.mark.parametrize(
    "endpoint, said",
    [
        ("nothing like a URL", "AWS_ENDPOINT_URL is no http or https URL"),
        ("ftp://127.0.0.1", "AWS_ENDPOINT_URL is no http or https URL"),
        ("http://", "AWS_ENDPOINT_URL is no http or https URL"),
        ("http://a b", "s3://pictures cannot be read"),
        (" 'http://127.0.0.1:9' ", "127.0.0.1:9 cannot be reached"),
    ],
)
def test_an_endpoint_as_people_write_it(monkeypatch: pytest.MonkeyPatch, endpoint: str, said: str) -> None:
    env = {"AWS_ENDPOINT_URL": endpoint, "AWS_ACCESS_KEY_ID": "'id'", "AWS_SECRET_ACCESS_KEY": '"hidden"'}
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(BucketError) as caught:
        Bucket(BucketUrl.read("s3://pictures"), "-", tried_for_s=0.1).get("x", 1)
    assert said in caught.value.message
    assert "hidden" not in caught.value.message + caught.value.hint


def test_a_forked_process_says_so_instead_of_waiting_for_ever(
    store: BucketStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.check_writable()
    monkeypatch.setattr("rivya.objects.os.getpid", lambda: -1)
    with pytest.raises(LedgerError, match="forked"):
        store.get("s", "f")


# -- SeaweedFS


@pytest.mark.long
@pytest.mark.xdist_group("seaweedfs")
class TestRealBucket:
    """The same with a real S3 server."""

    @pytest.fixture
    def place(self, tmp_path: Path) -> str:
        return f"s3://pictures/{tmp_path.name}/{token_hex(4)}"

    def test_an_order_is_stored_found_by_another_host_and_fetched_again_when_it_has_expired(
        self, aws: SeaweedFS, make: Callable[..., Client], service: Any, place: str, tmp_path: Path
    ) -> None:
        one, other = (make(home=tmp_path / host, results=place) for host in ("one", "other"))
        (bought,) = one.run(one.order())
        (found,) = other.run(other.order())
        assert (bought.source, found.source) == ("new", "stored")
        assert found.result.read() == bought.result.read()
        bucket = Bucket(BucketUrl.read(place), "-")
        assert sorted(each.name.rpartition(".")[2] for each in bucket.listed()) == [
            *("jpg", "json", "rivya-results")
        ]
        bucket.remove(bought.result.pictures[0].name)
        assert one.run(one.order())[0].source == "resumed"
        assert other.run(other.order())[0].source == "stored"
        assert len(service.charges()) == 1

    def test_quotes_that_came_along_with_the_variables_do_no_harm(
        self, aws: SeaweedFS, place: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for name, value in aws.environment.items():
            monkeypatch.setenv(name, f" '{value}' ")
        assert Bucket(BucketUrl.read(place), "-").put("a", b"1")

    def test_conditional_create_leaves_what_is_there(self, aws: SeaweedFS, place: str) -> None:
        bucket = Bucket(BucketUrl.read(place), "-")
        assert bucket.put("a", b"first", create=True)
        assert not bucket.put("a", b"second", create=True)
        assert bucket.get("a", 10) == b"first"
        assert bucket.put("a", b"third", attributes={"made-from": "x"})
        looked = bucket.look("a")
        assert looked is not None
        assert (looked.size, looked.attributes["made-from"]) == (5, "x")
        assert (bucket.get("b", 10), bucket.look("b"), bucket.get("a", 4)) == (None, None, None)

    @pytest.mark.parametrize(
        "changes, place, said",
        [
            (READER, "s3://pictures/x", "may not be written with these credentials (AccessDenied)"),
            ((OWNER[0], "wrong-hidden"), "s3://pictures/x", "does not take the credentials (SignatureDoesNotMatch)"),
            (("id-hidden", "hidden"), "s3://pictures/x", "does not take the credentials (InvalidAccessKeyId)"),
            (OWNER, "s3://no-such-bucket", "There is no bucket no-such-bucket (NoSuchBucket)"),
        ],
        ids=["no rights", "wrong secret", "unknown key", "no bucket"],
    )  # fmt: skip
    def test_what_the_bucket_refuses_is_said_before_anything_is_sent(
        self,
        seaweedfs: SeaweedFS,
        shell: Run,
        service: Any,
        changes: tuple[str, str],
        place: str,
        said: str,
    ) -> None:
        nothing_sent = untouched(service)
        refused = shell(*WORDS, RIVYA_RESULTS=place, **seaweedfs.as_user(changes))
        assert refused.returncode == 1
        assert said in refused.stderr
        assert "RIVYA_RESULTS" in refused.stderr
        assert "No credits were charged" in refused.stderr
        assert not {"hidden", OWNER[1], READER[1]} & set(re.findall(r"[\w-]+", refused.stderr))
        assert nothing_sent()

    def test_a_bucket_that_is_away_after_the_task_succeeded_costs_nothing_more(
        self, aws: SeaweedFS, make: Callable[..., Client], service: Any, place: str,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:  # fmt: skip
        for patience in ("_PUT_FOR_S", "_LOOK_FOR_S"):
            monkeypatch.setattr(f"rivya.storage.bucket.{patience}", 0.5)
        client = make(results=place)
        client.run(client.order(seed=1))
        put = BucketStore.put

        def away(*arguments: Any) -> Any:
            aws.kill()
            return put(*arguments)

        monkeypatch.setattr(BucketStore, "put", away)
        try:
            error = client.failure(client.order(seed=2))
            assert (error.code, error.charged) == ("store_unusable", Charged.YES)
            assert "fetched again and costs nothing more" in str(error)
            charges = len(service.charges())
            refused = client.failure(client.order(seed=3))
            assert (refused.code, refused.charged) == ("store_unusable", Charged.NO)
            assert len(service.charges()) == charges
        finally:
            monkeypatch.setattr(BucketStore, "put", put)
            aws.start()
        time.sleep(_REST_S)
        (found,) = client.run(client.order(seed=2))
        assert found.source == "resumed"
        assert len(service.charges()) == charges

    def test_a_server_killed_during_a_put_leaves_no_half_result(
        self, aws: SeaweedFS, place: str, tmp_path: Path
    ) -> None:
        code = f"""
import sys
from rivya.bucket_urls import BucketUrl
from rivya.storage import bucket
bucket._PUT_FOR_S = bucket._LOOK_FOR_S = 0.5
store = bucket.BucketStore(BucketUrl.read({place!r}))
for number in range(200):
    store.put("s", str(number), [(bytes([number]) * 3_000_000, "png")] * 2, {{}})
    print(number, flush=True)
"""
        for round_ in range(2):
            with subprocess.Popen(
                [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT
            ) as writer:  # fmt: skip
                assert writer.stdout is not None
                for _ in range(2):
                    writer.stdout.readline()
                time.sleep(0.02 * round_)
                aws.kill()
                answered = 2 + len(writer.stdout.read().splitlines())
                writer.wait(60)
            aws.start()
            store = BucketStore(BucketUrl.read(place))
            whole = 0
            for number in range(answered + 2):
                found = store.get("s", str(number))
                if found is not None:
                    assert found.read() == [bytes([number]) * 3_000_000] * 2
                    whole += 1
                else:
                    assert number >= answered, "a put that was answered is kept"
            assert whole >= answered
