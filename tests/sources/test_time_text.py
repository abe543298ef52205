"""Times as people write them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fer_stream.errors import UsageError
from fer_stream.sources.time_text import format_time, parse_time


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0", 0.0),
        ("90", 90.0),
        ("12.5", 12.5),
        (".5", 0.5),
        ("5.", 5.0),
        (" 7 ", 7.0),
        ("1:30", 90.0),
        ("0:05", 5.0),
        ("59:59", 3599.0),
        ("01:02:03.250", 3723.25),
        ("100:00:00", 360000.0),
    ],
)
def test_seconds_and_clock_times_are_read(text: str, seconds: float) -> None:
    assert parse_time(text) == seconds


@pytest.mark.parametrize(
    "text",
    [
        *("", " ", "x", "-1", "-1:30", "1:-30", "+5", "inf", "nan", "1e3", "1,5", "5s", "1 30"),
        *(
            "1:60",
            "60:00",
            "1:60:00",
            "1:00:60",
            "1:2:3:4",
            ":30",
            "1:",
            "1::2",
            "1.5:30",
            "0x10",
            "١",
            "9" * 400,
        ),
        "9" * 400 + ":00:00",
        "3600000000000",
        "1000000000:00:00",
    ],
)
def test_nonsense_is_one_clear_line(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_time(text)
    assert caught.value.exit_code == 2
    assert "is not a time" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0:00"),
        (5, "0:05"),
        (90.5, "1:30.500"),
        (3723.25, "1:02:03.250"),
        (59.9996, "1:00"),
        (3599.9999, "1:00:00"),
        (-1.5, "-0:01.500"),
        (-0.0001, "0:00"),
    ],
)
def test_times_are_written_like_a_clock(seconds: float, text: str) -> None:
    assert format_time(seconds) == text


@given(st.integers(min_value=0, max_value=10**9))
def test_written_times_read_back(milliseconds: int) -> None:
    assert parse_time(format_time(milliseconds / 1000)) == pytest.approx(milliseconds / 1000, abs=1e-6)
