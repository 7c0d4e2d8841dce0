"""Tables of what to edit, as spreadsheets, scripts and data sets write them."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pyarrow
import pytest

from rivya.bulk import tables
from rivya.bulk.rows import read
from rivya.errors import ConfigurationError, ValidationError
from rivya.kontext import KontextParams
from rivya.plan import Wanted

DEFAULT = Wanted(None, "make it night", KontextParams())


def written(folder: Path, name: str, text: str | bytes) -> Path:
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def parquet(folder: Path, **columns: list[Any]) -> Path:
    from pyarrow import parquet as format_

    format_.write_table(pyarrow.table(columns), folder / "rows.parquet")
    return folder / "rows.parquet"


def test_csv_as_a_spreadsheet_writes_it(tmp_path: Path) -> None:
    table = tables.look_into(
        written(
            tmp_path,
            "rows.csv",
            b"\xef\xbb\xbfimage;prompt;seed;variations;prompt_upsampling;label\r\n"
            b'a.png;"a hat, ""red""";7;2;TRUE;x\r\nsub/b.png;;;;;y\r\n',
        )
    )
    first, second = (read(row, DEFAULT) for row in table.rows())
    assert first.image == tmp_path / "a.png"
    assert (first.prompt, first.seed, first.variations) == ('a hat, "red"', 7, 2)
    assert first.params.prompt_upsampling is True
    assert (second.image, second.prompt, second.seed) == (tmp_path / "sub/b.png", "make it night", 0)
    assert table.unused == ("label",)
    assert len(table) == 2


def test_json_lines(tmp_path: Path) -> None:
    lines = [
        {"photo": "a.png", "text": "a hat"},
        {"photo": "b.png", "text": None, "other": 1, "seed": 1e3},
        {"photo": "c.png", "text": "c", "aspect-ratio": "1:1"},
    ]
    path = written(tmp_path, "rows.jsonl", "\n\n".join(map(json.dumps, lines)) + "\n{broken\n[1]\n")
    table = tables.look_into(path, image_column="photo", prompt_column="text")
    first, second, *bad = table.rows()
    assert read(first, DEFAULT).prompt == "a hat"
    assert read(second, DEFAULT).prompt == "make it night"
    assert read(second, DEFAULT).seed == 1000
    assert [type(row).__name__ for row in bad] == ["BadRow"] * 3


def test_parquet_with_pictures_in_its_cells(tmp_path: Path) -> None:
    path = parquet(
        tmp_path,
        image=[{"bytes": b"one", "path": None}, {"bytes": None, "path": "b.png"}, None],
        prompt=["a", "b", "c"],
        seed=[2**40, 1, 2],
    )
    first, second, third = tables.look_into(path).rows()
    assert read(first, DEFAULT).image == b"one"
    assert read(first, DEFAULT).seed == 2**40
    assert read(second, DEFAULT).image == tmp_path / "b.png"
    assert isinstance(third, tables.BadRow)
    assert len(tables.look_into(path)) == 3


def test_a_row_without_a_picture_or_with_too_many_cells_fails_by_itself(tmp_path: Path) -> None:
    path = written(tmp_path, "rows.csv", 'image,prompt\n,a\nb.png,b,c,d\nc.png,c\n"')
    rows = list(tables.look_into(path).rows())
    assert [isinstance(row, tables.BadRow) for row in rows[:3]] == [True, True, False]


def test_text_alone_needs_no_pictures(tmp_path: Path) -> None:
    table = tables.look_into(written(tmp_path, "rows.csv", "prompt\na harbour\n"), text=True)
    (row,) = table.rows()
    assert read(row, DEFAULT).image is None
    assert read(row, DEFAULT).prompt == "a harbour"


@pytest.mark.parametrize(
    ("name", "content", "options", "said"),
    [
        ("rows.csv", "file,prompt\na,b\n", {}, "no column image; it has file, prompt"),
        ("rows.csv", "image,prompt\na,b\n", {"prompt_column": "text"}, "no column text"),
        ("rows.csv", "image,aspect-ratio\na,1:1\n", {}, "is aspect_ratio meant"),
        ("rows.csv", "image,promt\na,1:1\n", {}, "is prompt meant"),
        ("rows.csv", "", {}, "no column image; it has none"),
        ("rows.csv", "image,prompt\na,\xe4\n".encode("latin-1"), {}, "UTF-8"),
        ("rows.csv", "image,prompt\na,b\n".encode("utf-16"), {}, "UTF-8"),
        ("rows.jsonl", "image,prompt\n", {}, "no JSON object"),
        ("rows.parquet", b"PAR1 this is none", {}, "as Parquet"),
        ("gone.csv", None, {}, "No such file"),
        ("gone.parquet", None, {}, "No such file"),
    ],
)
def test_a_table_that_cannot_be_used_is_refused_by_name(
    tmp_path: Path, name: str, content: Any, options: dict[str, str], said: str
) -> None:
    path = tmp_path / name if content is None else written(tmp_path, name, content)
    with pytest.raises(ValidationError) as caught:
        for row in tables.look_into(path, **options).rows():
            assert not isinstance(row, tables.BadRow)
    assert said in caught.value.message
    assert name in caught.value.message or said == "no JSON object"


def test_parquet_without_pyarrow_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = parquet(tmp_path, image=["a.png"])
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ConfigurationError) as caught:
        tables.look_into(path)
    assert "pyarrow" in caught.value.message
    assert "pip install" in caught.value.hint
