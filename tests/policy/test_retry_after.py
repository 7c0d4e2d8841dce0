"""Reading the ``Retry-After`` header, whatever it holds."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from email.utils import format_datetime
from math import isfinite

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rivya.http.values import parse_retry_after

NOW = datetime(2026, 11, 22, 12, 0, 0, tzinfo=timezone.utc)


@pytest.mark.parametrize("text, seconds", [("7", 7.0), (" 120 ", 120.0), ("0", 0.0), ("1.5", 1.5)])
def test_seconds_are_read_as_they_stand(text: str, seconds: float) -> None:
    assert parse_retry_after(text, NOW) == seconds


@pytest.mark.parametrize(
    "text, seconds",
    [
        ("Sun, 22 Nov 2026 12:01:30 GMT", 90.0),
        ("Sunday, 22-Nov-26 12:01:30 GMT", 90.0),
        ("Sun, 22 Nov 2026 13:01:30 +0100", 90.0),
        ("Sun Nov 22 12:01:30 2026", 90.0),
        ("Sun, 22 Nov 2026 11:00:00 GMT", 0.0),
    ],
)
def test_a_date_counts_from_now_and_a_past_one_is_now(text: str, seconds: float) -> None:
    assert parse_retry_after(text, NOW) == seconds


def test_a_present_without_a_zone_counts_as_utc() -> None:
    assert parse_retry_after("Sun, 22 Nov 2026 12:01:30 GMT", NOW.replace(tzinfo=None)) == 90.0


@pytest.mark.parametrize(
    "text",
    [
        None,
        "",
        "   ",
        "soon",
        "-5",
        "+5",
        "1e400",
        "nan",
        "inf",
        "1_000",
        "٣",
        "9" * 400,
        "5 s",
        "0x10",
        "Sun, 99 Nov 2026 12:00:00 GMT",
        "Fri, 31 Dec 9999 23:59:59 -2359999999",
        "Mon, 01 Jan 99999999999999999999 00:00:00 GMT",
        "\x00",
        ",",
    ],
)
def test_junk_names_no_pace(text: str | None) -> None:
    assert parse_retry_after(text, NOW) is None


@pytest.mark.parametrize("text", ["Fri, 31 Dec 9999 23:59:59 GMT", "Mon, 01 Jan 0001 00:00:00 +1400"])
def test_dates_at_the_edge_of_the_calendar_do_no_harm(text: str) -> None:
    seconds = parse_retry_after(text, NOW)
    assert seconds is None or (isfinite(seconds) and seconds >= 0)


@given(st.text(max_size=80))
def test_any_text_gives_a_finite_pace_or_none(text: str) -> None:
    seconds = parse_retry_after(text, NOW)
    assert seconds is None or (isfinite(seconds) and seconds >= 0)


@given(st.integers(0, 10**12 - 1))
def test_any_whole_number_of_seconds_comes_back(seconds: int) -> None:
    assert parse_retry_after(str(seconds), NOW) == seconds


@given(st.integers(-(10**7), 10**8))
def test_any_date_comes_back_as_its_distance(distance: int) -> None:
    header = format_datetime(NOW + timedelta(seconds=distance), usegmt=True)
    assert parse_retry_after(header, NOW) == max(0, distance)
