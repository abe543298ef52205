"""Numbers and times as people read them."""

from __future__ import annotations

import pytest

from fer_stream.status import RunStatus
from fer_stream.words import clock_text, duration_text


@pytest.mark.parametrize(
    ("time_s", "text"),
    [(0, "0:00"), (0.5, "0:01"), (19.686, "0:20"), (59.5, "1:00"), (3599.7, "1:00:00"), (-1.6, "-0:02")],
)
def test_a_clock_shows_the_nearest_second(time_s, text):
    assert clock_text(time_s) == text


def test_a_clock_can_show_tenths():
    assert [clock_text(time_s, exact=True) for time_s in (0.25, 59.96, 3661.04)] == [
        "0:00.3",
        "1:00.0",
        "1:01:01.0",
    ]


def test_the_status_line_shows_the_same_second_as_the_charts():
    status = RunStatus()
    status.frame_done(19.686, 0.01)
    assert status.clock() == clock_text(19.686)


def test_a_duration_that_rounds_to_a_minute_is_one() -> None:
    assert [duration_text(seconds) for seconds in (59.94, 59.96, 65)] == ["59.9 s", "1:00", "1:05"]
