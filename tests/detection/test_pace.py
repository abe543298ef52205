"""`--scan-every auto`: the pace depends on the number of faces, and keeps up with a live source.

These tests use no real clock.
"""

from __future__ import annotations

import numpy as np
import pytest

from fer_stream.detection.pace import (
    BUSY_SHARE,
    CALM_EVERY,
    CROWD,
    CROWD_EVERY,
    LONGEST_GAP,
    LivePace,
    ScanPace,
)
from fer_stream.types import Frame

PICTURE = np.zeros((2, 2, 3), np.uint8)


def settle(
    scan_s: float, follow_s: float, *, frames_per_s: float = 30, frames: int = 600, drop_late: bool = True
) -> tuple[LivePace, float, int]:
    """Run a source of that rate on a machine of that speed.

    Returns:
        The pace, the busy share of the last half, and how many of its frames were dropped.
    """
    pace, index, since, free_s = LivePace(), 0, 1, 0.0
    busy_s, dropped = 0.0, 0
    while index < frames:
        scanned = since >= pace.due_after(CROWD)
        since = 1 if scanned else since + 1
        taken_s = scan_s if scanned else follow_s
        pace.note(Frame(PICTURE, index, index / frames_per_s), taken_s, scanned=scanned)
        free_s = max(free_s, index / frames_per_s) + taken_s
        newest = max(index + 1, int(free_s * frames_per_s)) if drop_late else index + 1
        if index > frames / 2:
            busy_s += taken_s
            dropped += newest - index - 1
        index = newest
    return pace, busy_s / (frames / 2 / frames_per_s), dropped


def test_a_fast_machine_scans_as_often_as_useful() -> None:
    pace, _, dropped = settle(scan_s=0.012, follow_s=0.003)
    assert (pace.due_after(CROWD), pace.due_after(1), pace.gap, dropped) == (CROWD_EVERY, CALM_EVERY, 1, 0)


@pytest.mark.parametrize(("scan_s", "follow_s"), [(0.2, 0.005), (0.15, 0.015), (0.08, 0.02)])
def test_a_slow_machine_scans_less_often_and_keeps_up(scan_s: float, follow_s: float) -> None:
    pace, busy_share, _ = settle(scan_s, follow_s)
    assert CROWD_EVERY < pace.due_after(CROWD) == pace.gap < LONGEST_GAP
    assert BUSY_SHARE - 0.25 < busy_share < BUSY_SHARE + 0.05


def test_new_faces_are_found_even_if_following_alone_is_too_slow() -> None:
    pace, _, dropped = settle(scan_s=0.3, follow_s=0.05)
    assert pace.due_after(1) == pace.due_after(CROWD) == LONGEST_GAP
    assert dropped > 0


def test_the_pace_follows_the_rate_of_the_source_and_not_of_the_frames_left() -> None:
    slow, _, _ = settle(scan_s=0.1, follow_s=0.01, frames_per_s=10)
    fast, _, _ = settle(scan_s=0.1, follow_s=0.01, frames_per_s=60)
    assert slow.due_after(CROWD) == CROWD_EVERY < fast.due_after(CROWD)


def test_a_machine_that_becomes_free_scans_more_often_again() -> None:
    pace = LivePace()
    for index in range(400):
        scanned = index % 10 == 0
        factor = 1.0 if index < 200 else 0.1
        pace.note(Frame(PICTURE, index, index / 30), factor * (0.3 if scanned else 0.01), scanned=scanned)
        if index == 199:
            assert pace.gap > CALM_EVERY
    assert pace.due_after(CROWD) == CROWD_EVERY


def test_an_outage_does_not_change_the_pace() -> None:
    pace = LivePace()
    for index in range(200):
        pace.note(
            Frame(PICTURE, index, index / 30), 0.2 if index % 10 == 0 else 0.005, scanned=index % 10 == 0
        )
    before = pace.gap
    pace.note(Frame(PICTURE, 200, 200 / 30 + 60), 0.005, scanned=False)
    assert CROWD_EVERY < before == pace.gap


def test_a_clock_that_is_set_back_does_not_change_the_pace() -> None:
    pace, _, _ = settle(scan_s=0.012, follow_s=0.003, frames=600)
    for index in range(600, 603):
        pace.note(Frame(PICTURE, index, index / 30 - 10), 0.003, scanned=False)
        assert pace.gap == 1


def test_times_that_stand_still_do_not_change_the_pace() -> None:
    pace = LivePace()
    for index in range(20):
        pace.note(Frame(PICTURE, index, 0.0), 0.5, scanned=True)
    assert pace.gap == 1


def test_a_requested_pace_stays() -> None:
    assert {ScanPace(every=7).due_after(faces) for faces in (0, 1, 20)} == {7}
