"""The Kontext models: every value of their pages, what an order is, and the exact bytes that are sent."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rivya import kontext
from rivya.errors import Charged, ValidationError
from rivya.kontext import Identity, KontextParams

PROMPT = "A clean editorial product image on a soft studio background"
BASE = Identity(prompt="make it night", params=KontextParams(), seed=0, variation=0)
EDIT = replace(BASE, reference="f" * 64, size=(1024, 768))

# The documented requests of the model's page, but for the order of no importance: as they stand there.
DOCUMENTED_TEXT = """{
"model": "flux-kontext-pro",
"prompt": "A clean editorial product image on a soft studio background",
"params": {
"aspectRatio": "16:9",
"outputFormat": "jpeg",
"enableTranslation": "true",
"promptUpsampling": "false",
"safetyTolerance": 2,
"watermark": "Teks tanda air opsional"
}
}"""
DOCUMENTED_EDIT = """{
"model": "flux-kontext-pro",
"prompt": "A clean editorial product image on a soft studio background",
"params": {
"aspectRatio": "16:9",
"outputFormat": "jpeg",
"enableTranslation": "true",
"promptUpsampling": "false",
"safetyTolerance": 2,
"watermark": "可選浮水印文字",
"referenceMediaItems": [
{
"url": "https://cdn.example.com/reference-image.png",
"kind": "image",
"name": "reference-image.png",
"mimeType": "image/png"
}
]
}
}"""


def compact(text: str) -> bytes:
    """The same JSON, in the same sequence, without white space between its parts."""
    return json.dumps(json.loads(text), ensure_ascii=False, separators=(",", ":")).encode()


# -- the table


def test_there_are_two_models_with_their_prices() -> None:
    assert {model.id: model.credits for model in kontext.MODELS.values()} == {
        "flux-kontext-pro": 4,
        "flux-kontext-max": 8,
    }
    assert KontextParams().credits == 4
    assert KontextParams(model="flux-kontext-max").credits == 8


def test_the_defaults_are_those_of_the_page() -> None:
    assert KontextParams().request_params(None) == {
        "aspectRatio": "16:9",
        "outputFormat": "jpeg",
        "enableTranslation": "true",
        "promptUpsampling": "false",
        "safetyTolerance": 2,
    }


GOOD: list[dict[str, Any]] = [
    *({"model": model} for model in ("flux-kontext-pro", "flux-kontext-max")),
    *({"aspect_ratio": ratio} for ratio in ("auto", "21:9", "16:9", "4:3", "1:1", "3:4", "9:16")),
    *({"output_format": name} for name in ("jpeg", "png")),
    *({"enable_translation": value} for value in (True, False)),
    *({"prompt_upsampling": value} for value in (True, False)),
    *({"safety_tolerance": value} for value in range(7)),
    *({"watermark": text} for text in ("", "mine", "可選浮水印文字", "x" * 100_000)),
]
BAD: list[tuple[str, Any]] = [
    *(
        ("model", value)
        for value in ("flux-kontext-dev", "", "FLUX-KONTEXT-PRO", None, 4, ["flux-kontext-pro"])
    ),
    *(("aspect_ratio", value) for value in ("3:2", "2:1", "16x9", "", "AUTO", None, 1.78)),
    *(("output_format", value) for value in ("webp", "jpg", "PNG", "", None)),
    *(("enable_translation", value) for value in ("true", 1, 0, None)),
    *(("prompt_upsampling", value) for value in ("false", 1, 0, None)),
    *(("safety_tolerance", value) for value in (-1, 7, 2.5, "2", True, None, 10**30)),
    *(("watermark", value) for value in (None, 7, "a\x00b", "\ud800", "x" * 100_001)),
]


@pytest.mark.parametrize("values", GOOD)
def test_every_documented_value_is_taken(values: dict[str, Any]) -> None:
    KontextParams(**values).validate()


@pytest.mark.parametrize(("name", "value"), BAD)
def test_a_value_outside_the_table_is_refused_by_name(name: str, value: Any) -> None:
    with pytest.raises(ValidationError) as caught:
        KontextParams(**{name: value}).validate()
    error = caught.value
    assert error.message.startswith(f"{name} ")
    assert error.charged is Charged.NO
    assert len(error.message) < 200
    assert error.message.isascii()


@pytest.mark.parametrize(
    "prompt", ["", "  ", "\n\t", "\u3000", None, 7, "a\x00b", "half \udc00", "x" * 100_001]
)
def test_a_prompt_that_cannot_be_sent_is_refused(prompt: Any) -> None:
    with pytest.raises(ValidationError):
        kontext.validate_prompt(prompt)


def test_a_refused_prompt_is_not_quoted() -> None:
    with pytest.raises(ValidationError) as caught:
        kontext.validate_prompt("a private matter \x00")
    assert "private" not in str(caught.value)


@pytest.mark.parametrize("prompt", ["x", " x ", "夜にして", "🌃", "line\nline", "x" * 100_000])
def test_any_other_prompt_is_taken(prompt: str) -> None:
    kontext.validate_prompt(prompt)


def test_a_client_request_id_has_at_most_128_printable_characters() -> None:
    for value in ("", "x" * 128, "order 7 – ü"):
        kontext.validate_client_request_id(value)
    for bad in ("x" * 129, "a\nb", "a\x7f", None, 7):
        with pytest.raises(ValidationError) as caught:
            kontext.validate_client_request_id(bad)
        assert "client_request_id" in caught.value.message


# -- auto


@pytest.mark.parametrize(
    ("size", "ratio"),
    [
        ((1024, 1024), "1:1"),
        ((1920, 1080), "16:9"),
        ((1080, 1920), "9:16"),
        ((4000, 3000), "4:3"),
        ((3000, 4000), "3:4"),
        ((2560, 1080), "21:9"),
        ((10_000, 1), "21:9"),
        ((1, 10_000), "9:16"),
        ((1, 1), "1:1"),
        ((1500, 1000), "4:3"),
    ],
)
def test_auto_is_the_allowed_ratio_nearest_to_the_reference(size: tuple[int, int], ratio: str) -> None:
    assert KontextParams().resolved_ratio(size) == ratio


def test_without_a_reference_auto_is_the_service_s_default() -> None:
    assert KontextParams().resolved_ratio(None) == "16:9"
    assert KontextParams(aspect_ratio="3:4").resolved_ratio((100, 10)) == "3:4"


@given(st.integers(1, 20_000), st.integers(1, 20_000))
def test_auto_never_chooses_a_ratio_that_another_one_beats(width: int, height: int) -> None:
    def stretch(ratio: str) -> float:
        across, down = map(int, ratio.split(":"))
        factor = (width / height) / (across / down)
        return max(factor, 1 / factor)

    chosen = kontext.nearest_ratio(width, height)
    assert stretch(chosen) <= min(map(stretch, kontext.ASPECT_RATIOS)) * (1 + 1e-9)


# -- what an order is


def test_the_fingerprint_is_the_same_today_and_tomorrow() -> None:
    """It names what was paid for on people's disks: should this fail, their pictures would be bought anew."""
    text = (
        '{"model":"flux-kontext-pro","params":{},"prompt":"make it night",'
        '"reference":null,"seed":0,"v":1,"variation":0}'
    )  # fmt: skip
    assert BASE.fingerprint() == hashlib.sha256(text.encode()).hexdigest()
    edit = (
        '{"model":"flux-kontext-max","params":{"aspectRatio":"4:3","enableTranslation":"false","outputFormat":"png",'
        '"promptUpsampling":"true","safetyTolerance":5,"watermark":"\\u00fc"},"prompt":"n\\u00e4chtlich","reference":"ffff",'
        '"seed":7,"v":1,"variation":3}'
    )
    params = KontextParams("flux-kontext-max", "auto", "png", False, True, 5, "ü")
    identity = Identity("nächtlich", params, 7, 3, "ffff", (1024, 768))
    assert identity.fingerprint() == hashlib.sha256(edit.encode()).hexdigest()


@pytest.mark.parametrize(
    "changed",
    [
        replace(EDIT, prompt="make it nighT"),
        replace(EDIT, prompt="make it night "),
        replace(EDIT, seed=1),
        replace(EDIT, variation=1),
        replace(EDIT, reference="e" * 64),
        replace(EDIT, reference=None),
        replace(EDIT, size=(1024, 1024)),
        *(
            replace(EDIT, params=replace(EDIT.params, **{name: value}))
            for name, value in {
                "model": "flux-kontext-max",
                "aspect_ratio": "1:1",
                "output_format": "png",
                "enable_translation": False,
                "prompt_upsampling": True,
                "safety_tolerance": 3,
                "watermark": "mine",
            }.items()
        ),
    ],
)
def test_whatever_makes_another_picture_makes_another_order(changed: Identity) -> None:
    assert changed.fingerprint() != EDIT.fingerprint()


@pytest.mark.parametrize(
    "same",
    [
        replace(EDIT, params=replace(EDIT.params, aspect_ratio="4:3")),
        replace(EDIT, size=(640, 480)),
        replace(EDIT, params=KontextParams("flux-kontext-pro", "auto", "jpeg", True, False, 2, "")),
    ],
)
def test_what_makes_no_other_picture_makes_no_other_order(same: Identity) -> None:
    assert same.fingerprint() == EDIT.fingerprint()


def test_without_a_reference_auto_and_the_default_ratio_are_the_same_order() -> None:
    by_hand = replace(BASE, params=KontextParams(aspect_ratio="16:9"))
    assert by_hand.fingerprint() == BASE.fingerprint()


# -- the key of an attempt


def test_the_key_of_an_attempt_is_the_same_today_and_tomorrow() -> None:
    expected = hashlib.sha256(b"rivya-order-1\nscope\nfingerprint\n1").hexdigest()
    assert kontext.idempotency_key("scope", "fingerprint", 1) == expected
    assert len(expected) == 64


def test_another_scope_order_or_attempt_has_another_key() -> None:
    keys = {
        kontext.idempotency_key(scope, fingerprint, attempt)
        for scope in ("a", "b")
        for fingerprint in ("x", "y")
        for attempt in (1, 2, 11)
    }
    assert len(keys) == 12


# -- the bytes


def test_an_order_without_reference_is_byte_for_byte_the_documented_request() -> None:
    params = KontextParams(aspect_ratio="16:9", watermark="Teks tanda air opsional")
    body = kontext.order_body(Identity(PROMPT, params, 5, 2), None, "")
    assert body == compact(DOCUMENTED_TEXT)


def test_an_order_with_a_reference_is_byte_for_byte_the_documented_request() -> None:
    params = KontextParams(watermark="可選浮水印文字")
    item = kontext.reference_item(
        url="https://cdn.example.com/reference-image.png",
        name="reference-image.png",
        mime="image/png",
        duration_token=None,
    )
    body = kontext.order_body(Identity(PROMPT, params, 5, 2, "f" * 64, (1600, 900)), item, "")
    assert body == compact(DOCUMENTED_EDIT)


def test_seed_and_variation_are_not_sent() -> None:
    bodies = {
        kontext.order_body(replace(BASE, seed=seed, variation=variation), None, "")
        for seed in (0, 7)
        for variation in (0, 3)
    }
    assert len(bodies) == 1


def test_a_watermark_is_absent_when_empty_and_booleans_are_words() -> None:
    body = json.loads(kontext.order_body(BASE, None, ""))
    assert "watermark" not in body["params"]
    assert "client_request_id" not in body
    assert body["params"]["enableTranslation"] == "true"
    params = KontextParams(enable_translation=False, prompt_upsampling=True)
    body = json.loads(kontext.order_body(replace(BASE, params=params), None, ""))
    assert (body["params"]["enableTranslation"], body["params"]["promptUpsampling"]) == ("false", "true")


def test_a_trace_id_stands_at_the_top_and_a_duration_token_in_the_item() -> None:
    item = kontext.reference_item(url="https://x/y", name="n", mime="image/png", duration_token="t1")
    body = json.loads(kontext.order_body(EDIT, item, "order-7"))
    assert body["client_request_id"] == "order-7"
    assert body["params"]["referenceMediaItems"] == [
        {"url": "https://x/y", "kind": "image", "name": "n", "mimeType": "image/png", "durationToken": "t1"}
    ]


@given(
    st.text(st.characters(exclude_categories=["Cs"]), min_size=1),
    st.text(st.characters(exclude_categories=["Cs"])),
)
def test_any_text_goes_out_as_utf_8_and_comes_back_as_it_was(prompt: str, watermark: str) -> None:
    identity = Identity(prompt, KontextParams(watermark=watermark), 0, 0)
    body = json.loads(kontext.order_body(identity, None, "").decode("utf-8"))
    assert body["prompt"] == prompt
    assert body["params"].get("watermark", "") == watermark
    assert len(identity.fingerprint()) == 64
