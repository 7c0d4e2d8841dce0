"""Answers of the service: bounded, of their form, and clean before a person sees them."""

from __future__ import annotations

import gzip
import json
import re
import time
import zlib
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from rivya.api import responses
from rivya.api.responses import parse_object, task_id
from rivya.errors import RivyaError, UnusableAnswerError
from rivya.http.body import Body
from rivya.http.values import clean_text, http_url
from support.bombs import bomb

WHAT = "the answer of the service"


def parse(body: bytes) -> dict[str, Any]:
    return parse_object(body, WHAT)


GOOD = {
    "empty": (b"{}", {}),
    "spaces around": (b" \r\n\t{} \n", {}),
    "unknown fields": (
        b'{"x":[1,2.5,-3,1e3,null,true,"\\u00e9"]}',
        {"x": [1, 2.5, -3, 1000.0, None, True, "é"]},
    ),
    "utf-8": ('{"a":"日本"}'.encode(), {"a": "日本"}),
    "a pair of surrogates": (b'{"a":"\\ud83d\\ude00"}', {"a": "😀"}),
    "deep enough": (b'{"a":' * 31 + b"{}" + b"}" * 31, None),
    "a large whole number": (b'{"a":9007199254740993}', {"a": 9007199254740993}),
}


@pytest.mark.parametrize("name", GOOD)
def test_an_ordinary_answer_is_read(name: str) -> None:
    body, expected = GOOD[name]
    assert parse(body) == (json.loads(body) if expected is None else expected)


BAD = {
    "nothing": b"",
    "not JSON": b"<html><body>502 Bad Gateway</body></html>",
    "a list": b"[]",
    "a text": b'"{}"',
    "a number": b"1",
    "null": b"null",
    "two objects": b"{}{}",
    "cut off": b'{"id": "task_1", "status": "que',
    "a key twice": b'{"id":"task_1","id":"task_2"}',
    "a key twice deep inside": b'{"a":[{"b":1,"b":2}]}',
    "a key twice by escape": b'{"id":1,"\\u0069d":2}',
    "too deep objects": b'{"a":' * 40 + b"1" + b"}" * 40,
    "too deep lists": b'{"a":' + b"[" * 40 + b"]" * 40 + b"}",
    "absurdly deep lists": b'{"a":' + b"[" * 200_000 + b"]" * 200_000 + b"}",
    "absurdly deep and open": b'{"a":' * 100_000,
    "NaN": b'{"a":NaN}',
    "infinity": b'{"a":Infinity}',
    "minus infinity": b'{"a":-Infinity}',
    "an infinite power": b'{"a":1e999}',
    "a very long number": b'{"a":' + b"9" * 100 + b"}",
    "an absurdly long number": b'{"a":' + b"9" * 500_000 + b"}",
    "a very long fraction": b'{"a":0.' + b"1" * 100 + b"}",
    "utf-16": '{"a":1}'.encode("utf-16"),
    "utf-32": '{"a":1}'.encode("utf-32"),
    "a byte order mark": b"\xef\xbb\xbf{}",
    "latin-1": b'{"a":"\xe9"}',
    "an overlong slash": b'{"a":"\xc0\xaf"}',
    "surrogates as utf-8": b'{"a":"\xed\xa0\x80"}',
    "a raw control character": b'{"a":"\x00"}',
    "a trailing comma": b'{"a":1,}',
    "single quotes": b"{'a':1}",
    "a comment": b'{"a":1}//',
    "too large": b'{"a":"' + b"x" * 1024 * 1024 + b'"}',
    "a prototype": b'{"__proto__":{},"__proto__":{}}',
}


@pytest.mark.parametrize("name", BAD)
def test_an_answer_that_cannot_be_trusted_is_refused_quickly_and_by_name(name: str) -> None:
    began = time.monotonic()
    with pytest.raises(UnusableAnswerError) as caught:
        parse(BAD[name])
    assert time.monotonic() - began < 1
    message = caught.value.message
    assert message.startswith("The answer of the service ")
    assert len(message) < 300
    assert message.isprintable()
    assert "<" not in message


@pytest.mark.parametrize(
    "raw", ["\\ud800", "\\udfff", "\\ud83d\\ud83d", "\\ude00\\ud83d", "a\\ud83d", "\\ud83dx"]
)
def test_half_a_character_becomes_a_replacement_in_values_and_keys(raw: str) -> None:
    parsed = parse(b'{"%s":["%s"]}' % (raw.encode(), raw.encode()))
    text = json.dumps(parsed, ensure_ascii=False)
    assert "\ufffd" in text
    text.encode("utf-8")


def test_an_error_quotes_what_came_without_what_signs_a_url() -> None:
    body = b'{"id": 1, "result": {"primary_url": "https://media.example/r.png?X-Sig=abcdef&e=1"}, "id": 2}'
    with pytest.raises(UnusableAnswerError) as caught:
        parse(body)
    assert "has a key twice" in caught.value.message
    assert "media.example/r.png" in caught.value.message
    assert "abcdef" not in str(caught.value)


CLEANED = {
    "plain": ("A valid key is required.", "A valid key is required."),
    "other scripts": ("积分不足 недостаточно", "积分不足 недостаточно"),
    "line ends": ("a\r\nb\n\nc\td", "a b c d"),
    "unusual line ends": ("a\u2028b\u2029c\x85d\x0be\x0cf", "a b c d e f"),
    "colours": ("\x1b[31mred\x1b[0m", "red"),
    "cleared screen": ("\x1b[2J\x1b[Hgone", "gone"),
    "window title": ("\x1b]0;title\x07text", "text"),
    "terminal link": ("\x1b]8;;https://evil.example\x1b\\click\x1b]8;;\x1b\\", "click"),
    "8-bit colours": ("\x9b31mred", "red"),
    "8-bit title": ("\x9d0;title\x9ctext", "0;titletext"),
    "terminal answerback": ("\x1b[6n\x1b[c\x05x", "x"),
    "half an escape": ("a\x1b", "a"),
    "nul and bell": ("a\0b\x07c\x7f", "abc"),
    "backspaces": ("safe\b\b\b\bevil", "safeevil"),
    "bidi override": ("abc\u202egnp.exe", "abcgnp.exe"),
    "bidi isolates": ("\u2066a\u2069\u200e\u200f\u061c", "a"),
    "invisible": ("a\u200b\u200d\ufeff\u00ad\u2060b", "ab"),
    "tags": ("a\U000e0041\U000e007fb", "ab"),
    "private use": ("a\ue000b", "ab"),
    "half a character": ("a\ud800b", "a\ufffdb"),
    "html": ("<script>alert(1)</script>", "‹script›alert(1)‹/script›"),
    "an image": ('<img src=x onerror="alert(1)">', '‹img src=x onerror="alert(1)"›'),
    "html in an escape": ("\x1b<b>", "›"),
    "a key": ("The key rvya_sk_Abc-123_x is invalid", "The key rvya_sk_… is invalid"),
    "a header": ("got Authorization: Bearer abc.DEF-123456", "got Authorization: Bearer …"),
    "a signed url": ("see https://m.example/a.png?sig=1&x=2 there", "see https://m.example/a.png?… there"),
    "a signed url in JSON": ('"https:\\/\\/m.example\\/a?sig=1"', '"https:\\/\\/m.example\\/a?…"'),
    "a fragment": ("https://m.example/a#token=1", "https://m.example/a?…"),
    "a key split by an escape": ("rvya_sk_\x1b[0mAbc123", "rvya_sk_…"),
    "a query split by a control": ("https://m.example/a\0?si\0g=1", "https://m.example/a?…"),
}


@pytest.mark.parametrize("name", CLEANED)
def test_a_text_is_cleaned_before_a_person_sees_it(name: str) -> None:
    raw, expected = CLEANED[name]
    assert clean_text(raw) == expected


def test_a_long_text_is_cut_and_a_very_long_one_costs_no_time() -> None:
    assert clean_text("x" * 400) == "x" * 299 + "…"
    assert clean_text("x" * 300) == "x" * 300
    assert clean_text("abcdef", 3) == "ab…"
    for piece in ("x", "\x1b", "\x1b]", "<", "https://a?", "\x1b[0", "bearer ", "rvya_sk_", "\ud800"):
        began = time.monotonic()
        assert len(clean_text(piece * 1_000_000)) <= 300
        assert time.monotonic() - began < 0.2


@given(st.text(), st.integers(1, 400))
@example("<\x1b", 5)
def test_cleaned_text_is_one_safe_line_whatever_came(text: str, limit: int) -> None:
    cleaned = clean_text(text, limit)
    assert len(cleaned) <= limit
    assert not re.search(
        r"[\x00-\x1f\x7f-\x9f<>\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ud800-\udfff]", cleaned
    )
    assert clean_text(cleaned, limit) == cleaned
    cleaned.encode("utf-8")


IDS = ["task_public_id", "a", "A-Z_09", "x" * 128]
NO_IDS = [
    "",
    "x" * 129,
    "../x",
    "a/b",
    "a\\b",
    "a%2Fb",
    "a b",
    "a\n",
    "a\0",
    "a?b",
    "a#b",
    "a.b",
    ".",
    "..",
    "ä",
    "a\r\nX: 1",
    "\u202ea",
    None,
    1,
    True,
    ["a"],
    {"id": "a"},
    b"a",
]


@pytest.mark.parametrize("value", IDS)
def test_a_task_id_of_its_form_is_taken(value: str) -> None:
    assert task_id(value) == value
    assert responses.file_id(value) == value


@pytest.mark.parametrize("value", NO_IDS)
def test_a_task_id_of_another_form_is_refused(value: object) -> None:
    for read in (task_id, responses.file_id):
        with pytest.raises(UnusableAnswerError) as caught:
            read(value)
        assert caught.value.message.isprintable()


URLS = [
    "https://media.example/result.png",
    "http://127.0.0.1:8189/r/1?a=b#c",
    "https://[2606:4700::1]:8443/x",
    "https://a.example/%E2%82%AC?x=%00",
]
NO_URLS = [
    "",
    "x",
    "/a",
    "//a.example/x",
    "ftp://a.example/",
    "file:///etc/passwd",
    "data:image/png;base64,AA",
    "javascript:alert(1)",
    "https://",
    "https:///a",
    "https://?a",
    "https://u:p@a.example/",
    "https://u@a.example/",
    "https://@a.example/",
    "https://a.example:0/",
    "https://a.example:99999/",
    "https://a.example:x/",
    "https://a b/",
    "https://a.example/\r\nX: 1",
    "https://a.example/\0",
    "https://a.example/\t",
    "https://a.example\\@b.example/",
    "https://a.example/ü",
    "https://[::1",
    "https://[v1.a]/",
    " https://a.example/",
    "https://a.example/ ",
    "HTTPS ://a.example",
    "https://a.example/" + "x" * 8192,
    None,
    5,
    ["https://a.example/"],
    b"https://a.example/",
]


@pytest.mark.parametrize("value", URLS)
def test_a_url_of_its_form_is_taken(value: str) -> None:
    assert http_url(value) == value


@pytest.mark.parametrize("value", NO_URLS)
def test_a_url_of_another_form_is_refused(value: object) -> None:
    with pytest.raises(UnusableAnswerError):
        http_url(value)


@pytest.mark.parametrize(
    "value",
    [
        "s3://bucket/a.png?X-Amz-Signature=SECRET",
        "//host.example/a.png?sig=SECRET",
        "https://host.example/a b.png?sig=SECRET@SECRET",
        "https://user:SECRET@host.example/a.png",
        "https://user:SECRET?SECRET@host.example/a.png",
        "https://host.example/ä.png#SECRET",
    ],
)
def test_what_may_be_a_signature_or_a_password_is_not_quoted(value: str) -> None:
    with pytest.raises(UnusableAnswerError) as caught:
        http_url(value)
    assert "SECRET" not in str(caught.value)
    assert f"{len(value)} characters" in str(caught.value)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(), inner, max_size=5),
    max_leaves=40,
)


@pytest.mark.slow
@given(st.dictionaries(st.text(), json_values))
def test_any_object_that_python_writes_is_read_or_refused_by_name(value: dict[str, Any]) -> None:
    try:
        parsed = parse(json.dumps(value).encode())
    except UnusableAnswerError:
        return
    json.dumps(parsed, ensure_ascii=False).encode("utf-8")
    assert len(parsed) <= len(value)


@given(
    st.binary(max_size=400) | st.text(alphabet='{}[]":,\\ue0dntrf19.-+eE \n', max_size=200).map(str.encode)
)
@settings(max_examples=400)
def test_any_bytes_are_read_or_refused_by_name(body: bytes) -> None:
    try:
        assert isinstance(parse(body), dict)
    except UnusableAnswerError as error:
        assert error.message.isprintable()


@given(st.one_of(st.text(), st.integers(), st.none(), st.lists(st.text()), st.binary(), st.floats()))
def test_any_value_as_an_id_or_url_is_taken_or_refused_by_name(value: object) -> None:
    for read in (task_id, responses.file_id, http_url):
        try:
            taken = read(value)
        except UnusableAnswerError:
            continue
        assert taken == value
        assert re.fullmatch(r"[!-~]+", taken)


def swallow(body: Body, chunks: list[bytes]) -> bytes:
    for chunk in chunks:
        for _ in body.feed(chunk):
            pass
    return body.finish()


@given(
    st.binary(max_size=5000),
    st.integers(1, 700),
    st.sampled_from(["identity", "gzip", "deflate", "X-GZip", None]),
)
def test_a_body_comes_out_as_it_was_whatever_its_pieces(
    data: bytes, piece: int, encoding: str | None
) -> None:
    name = (encoding or "").lower()
    packed = gzip.compress(data) if "gzip" in name else zlib.compress(data) if name == "deflate" else data
    chunks = [packed[i : i + piece] for i in range(0, len(packed), piece)]
    assert swallow(Body(WHAT, 5000, {"content-encoding": encoding} if encoding else {}), chunks) == data


@given(
    st.binary(min_size=101, max_size=3000),
    st.integers(1, 700),
    st.sampled_from(["identity", "gzip", "deflate"]),
)
def test_a_body_beyond_its_cap_is_refused_whatever_its_pieces(data: bytes, piece: int, encoding: str) -> None:
    packed = {"gzip": gzip.compress, "deflate": zlib.compress}.get(encoding, bytes)(data)
    chunks = [packed[i : i + piece] for i in range(0, len(packed), piece)]
    with pytest.raises(UnusableAnswerError) as caught:
        swallow(Body(WHAT, 100, {"content-encoding": encoding}), chunks)
    assert caught.value.code == "answer_too_large"


@given(
    st.lists(st.binary(max_size=300), max_size=5),
    st.sampled_from(["gzip", "deflate", "br", "identity", "gzip, gzip"]),
)
def test_any_bytes_as_a_body_are_taken_or_refused_by_name(chunks: list[bytes], encoding: str) -> None:
    try:
        assert len(swallow(Body(WHAT, 1000, {"content-encoding": encoding}), chunks)) <= 1000
    except RivyaError as error:
        assert error.code in ("answer_too_large", "unusable_encoding")


@pytest.mark.heavy
def test_a_bomb_is_taken_apart_in_steps_and_stops_at_the_cap() -> None:
    body, steps = Body(WHAT, 10_000_000, {"content-encoding": "gzip"}), 0
    with pytest.raises(UnusableAnswerError):
        for _ in body.feed(bomb(200)):
            steps += 1
    assert steps >= 38
    assert len(body.so_far()) <= 10_000_000


def test_a_text_of_the_service_opens_no_dialog_of_comfyui_s_own_account() -> None:
    login = "Unauthorized: Please login first to use this node."
    top_up = "Payment Required: Please add credits to your account to use this node."
    for text in (login, top_up):
        assert text not in responses.clean_text(f"Sorry. {text}")
        assert text.lower() in responses.clean_text(f"Sorry. {text}").lower()
