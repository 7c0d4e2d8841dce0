"""``edit --batch`` with buckets: as source, as target, and as the place of a table."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from secrets import token_hex
from typing import Any

import pytest

from library.client import PATIENCE_S, Client, Run, environment, png
from rivya.bucket_urls import BucketUrl
from rivya.objects import Bucket
from rivya.sources.bucket import BucketPictures
from support.buckets import OWNER, READER, SeaweedFS, in_folder
from support.cases import slow_after

pytestmark = pytest.mark.heavy

PROMPT = "make it night"
_ALIKE = ("a.b.jpg", "a.jpg", "a.k.jpg", "a.png", "a.png.jpg", "d/a.jpg", "d/a/x.jpg", "d/a.png", "d/b.jpg")


@pytest.fixture
def buckets(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    return in_folder(monkeypatch, tmp_path / "buckets")


def fill(folder: Path, names: Mapping[str, bytes]) -> None:
    for name, data in names.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)


def records(folder: Path) -> list[dict[str, Any]]:
    lists = sorted(folder.glob("results-*.jsonl"))
    return [json.loads(line) for each in lists for line in each.read_text("utf-8").splitlines()]


def saved(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.suffix in (".jpg", ".png")}


def test_a_bucket_is_edited_into_a_bucket_and_again_for_nothing(
    shell: Run, service: Any, buckets: Path
) -> None:
    fill(
        buckets / "photos" / "in",
        {"a.png": png(1), "b c#1?.png": png(2), "sub/a.png": png(3), "notes.txt": b"x", "raw.dng": b"x"}
        | {".hidden.png": png(4), "thumbs/t.png": png(5)},
    )
    charges = len(service.charges())
    words = (
        "edit",
        "--batch",
        "s3://photos/in/",
        PROMPT,
        "-o",
        "s3://edits/out",
        "--seed",
        "3",
        "--recursive",
    )
    done = shell(*words)
    assert done.returncode == 0, done.stderr
    assert "raw.dng: RAW photos are not taken" in done.stderr
    assert "1 x no picture by its name (.txt)" in done.stderr
    out = buckets / "edits" / "out"
    assert saved(out) == {"a-3-0.jpg", "b c#1?-3-0.jpg", "sub/a-3-0.jpg"}
    told = records(out)
    assert {each["source"] for each in told} == {
        f"s3://photos/in/{name}" for name in ("a.png", "b c#1?.png", "sub/a.png")
    }
    for each in told:
        assert (out / each["file"]).read_bytes() == service.picture(each["task_id"])
        assert (each["status"], each["credits"]) == ("new", 4)
    requests = len(service.requests())
    again = shell(*words)
    assert again.returncode == 0, again.stderr
    assert len(saved(out)) == 3
    assert (len(service.requests()), len(service.charges()) - charges) == (requests, 3)
    # Another prompt makes other pictures; what is there is never replaced.
    assert shell(*words[:3], "another prompt", *words[4:]).returncode == 0
    assert saved(out) > {"a-3-0.jpg", "a-3-0_2.jpg"}


def test_a_folder_goes_into_a_bucket_and_a_bucket_into_a_folder(
    shell: Run, service: Any, work: Path, buckets: Path
) -> None:
    fill(work / "photos", {"a.png": png(1)})
    fill(buckets / "photos", {"a.png": png(1)})
    assert shell("edit", "--batch", "photos", PROMPT, "-o", "s3://edits").returncode == 0
    assert saved(buckets / "edits") == {"a-0-0.jpg"}
    assert shell("edit", "--batch", "s3://photos", PROMPT, "-o", "out").returncode == 0
    assert saved(work / "out") == {"a-0-0.jpg"}
    assert (work / "out" / "results.jsonl").exists()


def test_edits_in_the_bucket_of_their_pictures_are_not_edited_again(
    shell: Run, service: Any, buckets: Path
) -> None:
    fill(buckets / "photos", {"a.png": png(1), "a.jpg": png(2), "IMG-2024-7.png": png(3)})
    words = ("edit", "--batch", "s3://photos", PROMPT, "-o", "s3://photos")
    first = shell(*words)
    assert first.returncode == 0, first.stderr
    assert saved(buckets / "photos") == {
        *("a.png", "a.jpg", "IMG-2024-7.png"),
        *("a-0-0.jpg", "IMG-2024-7-0-0.jpg"),
        "a.png-0-0.jpg",
    }
    charges = len(service.charges())
    again = shell(*words)
    assert "3 x by its name an edit" in again.stderr
    assert len(saved(buckets / "photos")) == 6
    assert len(service.charges()) == charges


def test_a_table_in_a_bucket_names_pictures_beside_it_and_elsewhere(
    shell: Run, service: Any, work: Path, buckets: Path
) -> None:
    fill(buckets / "photos" / "in", {"sub/a.png": png(1)})
    fill(buckets / "pictures", {"b.png": png(2)})
    rows = "image,prompt\nsub/a.png,a hat\ns3://pictures/b.png,a scarf\nsub/gone.png,a hat\n"
    fill(buckets / "photos" / "in", {"rows.csv": rows.encode()})
    done = shell("edit", "--batch", "s3://photos/in/rows.csv", "-o", "out")
    assert done.returncode == 1
    assert saved(work / "out") == {"a-0-0.jpg", "b-0-0.jpg"}
    assert "s3://photos/in/sub/gone.png is not there" in done.stderr
    fill(work, {"rows.csv": b"image,prompt\ns3://pictures/b.png,a coat\n"})
    assert shell("edit", "--batch", "rows.csv", "-o", "s3://edits").returncode == 0
    assert saved(buckets / "edits") == {"b-0-0.jpg"}


def test_names_of_edits_tell_pictures_with_one_stem_apart(buckets: Path) -> None:
    fill(buckets / "photos", dict.fromkeys(_ALIKE, b"x"))
    pictures = BucketPictures(
        BucketUrl.read("s3://photos"), "-", recursive=True, target=None, edits_too=False
    )
    stems = [(str(each.folder), each.stem) for each in pictures]
    assert len(set(stems)) == len(pictures) == len(_ALIKE)


@pytest.mark.parametrize(
    "words, said",
    slow_after(
        3,
        [
            (("--batch", "s3://photos/none", PROMPT), "s3://photos/none holds no picture to edit"),
            (("--batch", "s3://photos", PROMPT, "-o", "s3://"), "What -o names is no URL of a bucket"),
            (("s3://photos/a.png", PROMPT), "A picture in a bucket goes with --batch"),
            (("--batch", "s3://photos/none.csv", PROMPT), "There is no table s3://photos/none.csv"),
            (("--batch", "s3:/photos", PROMPT), "What --batch names is no URL of a bucket"),
            (("--batch", "s3://photos", PROMPT, "--text"), "columns and --text are for a table"),
            (
                ("a.png", PROMPT, "-o", "s3://edits/a.png"),
                "A bucket takes the pictures of edit --batch alone",
            ),
        ],
    ),
)
def test_what_cannot_be_meant_is_said_before_anything_is_sent(
    shell: Run, service: Any, work: Path, buckets: Path, words: tuple[str, ...], said: str
) -> None:
    fill(buckets / "photos", {"a.png": png(1)})
    fill(work, {"a.png": png(1)})
    requests = len(service.requests())
    refused = shell("edit", *words)
    assert refused.returncode == 1
    assert said in refused.stderr
    assert len(service.requests()) == requests
    assert not list(work.glob("s3:*"))


@pytest.mark.long
@pytest.mark.xdist_group("seaweedfs")
class TestRealBucket:
    """The same with a real S3 server."""

    @pytest.fixture
    def photos(self, aws: SeaweedFS) -> Callable[[int], str]:
        """Makes a bucket's folder of so many pictures."""

        def make(count: int) -> str:
            place = f"s3://photos/{token_hex(4)}"
            bucket = Bucket(BucketUrl.read(place), "-")
            for number in range(count):
                bucket.put(f"p{number:03}.png", png(number))
            return place

        return make

    def test_a_run_again_downloads_neither_sources_nor_pictures(
        self, photos: Callable[[int], str], process: Run, service: Any, work: Path
    ) -> None:
        source, target = photos(12), f"s3://edits/{token_hex(4)}"
        words = ("edit", "--batch", source, PROMPT, "-o", target, "--variations", "2", "--json")
        first = process(*words)
        assert first.returncode == 0, first.stderr
        charges, requests = len(service.charges()), len(service.requests())
        bucket = Bucket(BucketUrl.read(source), "-")
        sizes = {each.name: each.size for each in bucket.listed()}
        # Another host, with nothing at all in its state folder.
        again = process(*words, RIVYA_HOME=str(work / "another-host"))
        assert again.returncode == 0, again.stderr
        told = [json.loads(line) for line in again.stdout.splitlines()]
        assert [each["status"] for each in told[:-1]] == ["stored"] * 24
        assert {each["task_id"] for each in told[:-1]} == {
            each["task_id"] for each in map(json.loads, first.stdout.splitlines()[:-1])
        }
        assert (len(service.charges()), len(service.requests())) == (charges, requests)
        # A source that has changed is edited anew, and so is another wish.
        bucket.put("p003.png", png(99))
        changed = process(*words)
        statuses = [json.loads(line)["status"] for line in changed.stdout.splitlines()[:-1]]
        assert (statuses.count("stored"), statuses.count("new")) == (22, 2)
        assert len(sizes) == 12

    def test_names_of_edits_tell_pictures_with_one_stem_apart(self, aws: SeaweedFS) -> None:
        url = BucketUrl.read(f"s3://photos/{token_hex(4)}")
        bucket = Bucket(url, "-")
        for name in _ALIKE:
            bucket.put(name, b"x")
        pictures = BucketPictures(url, "-", recursive=True, target=None, edits_too=False)
        stems = [(str(each.folder), each.stem) for each in pictures]
        assert len(set(stems)) == len(pictures) == len(_ALIKE)

    def test_stopped_or_killed_the_same_command_goes_on(
        self, client: Client, photos: Callable[[int], str], service: Any, process: Run, work: Path
    ) -> None:
        source, target = photos(40), f"s3://edits/{token_hex(4)}"
        words = ["edit", "--batch", source, PROMPT, "-o", target]
        bought = len(service.charges())
        for ending in (signal.SIGKILL, signal.SIGINT):
            with subprocess.Popen(
                [sys.executable, "-m", "rivya", *words],
                env={**environment(client), "RIVYA_MAX_CONCURRENCY": "2", "PYTHONUNBUFFERED": "1"},
                cwd=work,
                stdout=subprocess.PIPE,
                text=True,
            ) as running:
                assert running.stdout is not None
                for _ in range(5):
                    running.stdout.readline()
                running.send_signal(ending)
                running.wait(PATIENCE_S)
        done = process(*words)
        assert done.returncode == 0, done.stderr
        bucket = Bucket(BucketUrl.read(target), "-")
        objects = {each.name for each in bucket.listed()}
        assert {each for each in objects if each.endswith(".jpg")} == {f"p{n:03}-0-0.jpg" for n in range(40)}
        assert len(service.charges()) - bought == 40
        lines = [
            json.loads(line)
            for each in objects
            if each.endswith(".jsonl")
            for line in (bucket.get(each, 10**6) or b"").splitlines()
        ]
        assert {each["file"] for each in lines} == {f"p{n:03}-0-0.jpg" for n in range(40)}

    @pytest.mark.parametrize(
        "user, source, target, said",
        [
            (READER, "s3://photos/{}", "s3://edits/x", "Nothing can be saved in s3://edits/x"),
            ((OWNER[0], "hidden"), "s3://photos/{}", "out", "does not take the credentials"),
            (OWNER, "s3://no-such-bucket", "out", "There is no bucket no-such-bucket"),
            (OWNER, "s3://photos/{}", "s3://no-such-bucket", "There is no bucket no-such-bucket"),
        ],
    )
    def test_what_a_bucket_refuses_is_said_before_anything_is_sent(
        self,
        photos: Callable[[int], str],
        aws: SeaweedFS,
        shell: Run,
        service: Any,
        user: tuple[str, str],
        source: str,
        target: str,
        said: str,
    ) -> None:
        place = source.format(photos(1).rpartition("/")[2])
        requests = len(service.requests())
        refused = shell("edit", "--batch", place, PROMPT, "-o", target, **aws.as_user(user))
        assert refused.returncode == 1
        assert said in refused.stderr
        assert "No credits were charged" in refused.stderr
        assert len(service.requests()) == requests
