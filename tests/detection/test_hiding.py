"""A face is hidden before it is found, after it was lost, and while it is missed."""

from __future__ import annotations

import numpy as np
import pytest
from helpers.tracks import tracked

from fer_stream.detection.hiding import AFTER_S, BEFORE_S, LIVE_AFTER_S, PossibleFaces

FRAMES_PER_S = 25


def places(
    found: dict[int, float], frames: int, *, live: bool = False, cut_at: int | None = None
) -> list[np.ndarray]:
    """Return the places of each frame for a face that is found at x in some frames.

    Args:
        found: x in px by frame.
        frames: Number of frames.
        live: Whether later frames are unknown. Otherwise half a second of them is known.
        cut_at: The first frame after a cut, whose tracks are new.
    """
    possible, ahead, out = PossibleFaces(live=live), 0 if live else FRAMES_PER_S // 2, []

    def scene(index: int) -> int:
        return int(cut_at is not None and index >= cut_at)

    for index in range(frames + ahead):
        if index in found:
            face = tracked(1 + scene(index), found[index])
            possible.see([face], index / FRAMES_PER_S, scene(index))
        if index >= ahead:
            out.append(possible.at((index - ahead) / FRAMES_PER_S, scene(index - ahead)))
    return out


def hidden(out: list[np.ndarray]) -> list[int]:
    return [index for index, boxes in enumerate(out) if len(boxes)]


def test_a_face_is_hidden_from_before_it_is_found_until_after_it_is_lost() -> None:
    out = places({30: 100.0, 31: 100.0, 32: 100.0}, 80)
    assert hidden(out) == list(range(30 - round(BEFORE_S * 25 - 0.5), 32 + round(AFTER_S * 25 - 0.5) + 1))


def test_one_sighting_is_enough() -> None:
    assert len(hidden(places({30: 100.0}, 80))) == 25


def test_a_face_that_was_seen_twice_at_the_same_time_is_hidden() -> None:
    possible = PossibleFaces(live=True)
    for x in (100.0, 104.0):
        possible.see([tracked(1, x)], 1.0, 0)
    (box,) = possible.at(1.1, 0)
    assert box[0] <= 79 and box[2] >= 129  # the face is 50 px wide, and was last seen at 104


@pytest.mark.parametrize("gap", [5, 12, 24])
def test_a_gap_of_up_to_a_second_is_hidden_where_the_face_passes(gap: int) -> None:
    found = {index: 4.0 * index for index in (*range(20), *range(20 + gap, 60))}
    for index, boxes in enumerate(places(found, 60)):
        (box,) = boxes
        assert box[0] <= 4.0 * index - 24 and box[2] >= 4.0 * index + 24, index
        assert box[2] - box[0] <= 80  # the face is 50 px wide


def test_a_live_place_stays_hidden_for_a_second() -> None:
    out = places({10: 100.0, 11: 100.0}, 60, live=True)
    assert hidden(out) == list(range(10, 11 + round(LIVE_AFTER_S * 25) + 1))


def test_nothing_stays_hidden_across_a_cut() -> None:
    out = places({10: 100.0, 11: 100.0, 20: 400.0}, 40, cut_at=15)
    assert [round(float(boxes[0][[0, 2]].mean())) for boxes in out if len(boxes)] == [100] * 15 + [400] * 18


def test_a_weak_detection_is_hidden_for_a_quarter_of_a_second() -> None:
    possible, out = PossibleFaces(), []
    for index in range(60):
        if index == 30:
            possible.see_weak(tracked(1).box_xyxy[None], 30 / FRAMES_PER_S, 0)
        if index >= 12:
            out.append(possible.at((index - 12) / FRAMES_PER_S, 0))
    assert hidden(out) == list(range(24, 37))


def test_a_long_video_takes_no_more_memory() -> None:
    possible = PossibleFaces()
    for index in range(3000):
        possible.see([tracked(1), tracked(100 + index)], index / FRAMES_PER_S, 0)
        possible.at(index / FRAMES_PER_S, 0)
    assert len(possible._paths) < 60
    assert len(possible._paths[1].times_s) < 60
