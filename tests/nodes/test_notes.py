"""What the nodes say at their end: one and several, in six languages."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from library.pack import notes

LOCALES = Path(__file__).resolve().parents[2] / "locales"
PLACES = re.compile(r"\{\w+\}")


def english(key: str) -> str:
    text = notes.TEXTS[key]
    return text if isinstance(text, str) else text[1]


def test_one_picture_and_several_are_spoken_of_as_such() -> None:
    assert notes.said("stored", count=1) == "1 picture is stored."
    assert notes.said("stored", count=2) == "2 pictures are stored."
    assert notes.said("charged", count=0, charged=0) == "0 pictures · 0 credits charged"


@pytest.mark.parametrize("key", [key for key, text in notes.TEXTS.items() if not isinstance(text, str)])
def test_both_forms_of_a_text_have_the_same_places(key: str) -> None:
    one, several = notes.TEXTS[key]
    assert sorted(PLACES.findall(one)) == sorted(PLACES.findall(several))
    assert one != several


@pytest.mark.parametrize("language", sorted(path.name for path in LOCALES.iterdir() if path.name != "en"))
def test_every_text_is_there_in_every_language_with_its_places(language: str) -> None:
    theirs = json.loads((LOCALES / language / "main.json").read_text("utf-8"))["rivyaNotes"]
    assert {key: sorted(PLACES.findall(text)) for key, text in theirs.items()} == {
        key: sorted(PLACES.findall(english(key))) for key in notes.TEXTS
    }


def test_a_seed_keeps_all_its_digits_on_the_way_to_the_page() -> None:
    seed = 2**64 - 1
    sent = json.loads(json.dumps(notes.message([notes.said("runAgain", count=1, seed=seed), "plain"])))
    assert sent["lines"][0]["values"]["seed"] == str(seed)
    assert sent["lines"][1] == {"text": "plain"}
    assert sent["text"].splitlines() == [sent["lines"][0]["text"], "plain"]
