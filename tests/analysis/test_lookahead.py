"""A recording looks half a second ahead, at any frame rate; a live source does not wait."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise

import numpy as np
import pytest
from helpers.tracks import read_frame, tracked

from fer_stream.analysis.lookahead import (
    AHEAD_S,
    LONGEST_AHEAD_S,
    MOST_FRAMES,
    DecidedFrame,
    EarlierFace,
    LookAhead,
    NoLookAhead,
    ReadFace,
    ReadFrame,
)
from fer_stream.expressions import EXPRESSIONS

HAPPY, NEUTRAL = EXPRESSIONS.index("happy"), EXPRESSIONS.index("neutral")


def decided(frames: Iterable[ReadFrame], smooth_s: float = 0.3) -> list[DecidedFrame]:
    look_ahead = LookAhead(smooth_s)
    out = [ready for frame in frames for ready in look_ahead.add(frame)]
    return [*out, *look_ahead.rest()]


def ids(frames: Iterable[DecidedFrame]) -> list[list[int]]:
    return [[face.id for face in frame.faces] for frame in frames]


def reading(happy: float) -> np.ndarray:
    probabilities = np.full(7, 0.02, np.float32)
    probabilities[[HAPPY, NEUTRAL]] = happy, 0.9 - happy
    return probabilities


@pytest.mark.parametrize("frames_per_s", [12, 25, 60, 120])
def test_frames_wait_for_half_a_second_whatever_the_frame_rate(frames_per_s: int) -> None:
    look_ahead, most = LookAhead(0.3), 0
    for index in range(3 * frames_per_s):
        ready = list(look_ahead.add(read_frame(index, frames_per_s=frames_per_s)))
        for frame in ready:
            assert index / frames_per_s - frame.frame.time_s <= AHEAD_S + 1.01 / frames_per_s
        most = max(most, len(look_ahead._waiting))
    assert most <= AHEAD_S * frames_per_s + 1
    assert AHEAD_S == 0.5


def test_damaged_timestamps_do_not_fill_the_memory() -> None:
    look_ahead = LookAhead(0.3)
    for index in range(1000):
        for _ in look_ahead.add(read_frame(index, frames_per_s=1e6)):
            pass
        assert len(look_ahead._waiting) <= MOST_FRAMES + 1


def test_a_face_has_its_rows_from_the_moment_it_appeared() -> None:
    out = decided(read_frame(index, *[tracked(1)] * (index >= 10)) for index in range(40))
    assert ids(out) == [[]] * 10 + [[1]] * 30


def test_a_face_seen_for_a_moment_is_neither_shown_nor_counted() -> None:
    present = {1: range(40), 2: range(12, 13), 3: range(20, 26), 4: range(24, 40)}
    out = decided(
        read_frame(index, *[tracked(one, 100 * one) for one, frames in present.items() if index in frames])
        for index in range(40)
    )
    assert ids(out) == [[1]] * 24 + [[1, 2]] * 16


def test_a_face_found_later_gets_its_earlier_rows() -> None:
    frames = [read_frame(index, *[tracked(1)] * (index >= 16)) for index in range(40)]
    earlier = tuple(
        EarlierFace(frames[index].frame, ReadFace(tracked(1), reading(0.5))) for index in range(15, 9, -1)
    )
    frames[16] = ReadFrame(frames[16].frame, frames[16].faces, 0, earlier)
    out = decided(frames)
    assert ids(out) == [[]] * 10 + [[1]] * 30
    assert out[11].faces[0].values[HAPPY] > 0.3  # from its own reading, not from later ones


def test_a_recording_shorter_than_a_face_must_last_shows_its_faces() -> None:
    assert ids(decided([read_frame(0, tracked(1))])) == [[1]]
    assert ids(decided(read_frame(index, tracked(1)) for index in range(3))) == [[1]] * 3


def test_slow_frames_wait_for_the_next_ones() -> None:
    # A face that appears at one frame a second is there from its first frame.
    out = decided(read_frame(index, *[tracked(1)] * (index >= 2), frames_per_s=1) for index in range(6))
    assert ids(out) == [[], [], [1], [1], [1], [1]]


def test_frames_do_not_depend_on_frames_beyond_the_look_ahead() -> None:
    random = np.random.default_rng(5)
    frames = [
        read_frame(
            index,
            *[tracked(one, 100 * one) for one in (1, 2, 3) if (index // (7 * one)) % 2],
            probabilities=random.dirichlet(np.ones(7)).astype(np.float32),
        )
        for index in range(120)
    ]
    whole = decided(frames)
    for end in (40, 71, 98):
        until_s = frames[end].frame.time_s + LONGEST_AHEAD_S
        part = decided(frame for frame in frames if frame.frame.time_s < until_s)
        assert ids(part[:end]) == ids(whole[:end])
        for one, other in zip(part[:end], whole[:end], strict=True):
            np.testing.assert_array_equal(one.possible_faces_xyxy, other.possible_faces_xyxy)
            for face, same in zip(one.faces, other.faces, strict=True):
                np.testing.assert_array_equal(face.values, same.values)


def test_an_onset_keeps_its_time() -> None:
    random = np.random.default_rng(2)
    happy = np.where(np.arange(100) >= 50, 0.7, 0.1) + random.uniform(-0.1, 0.1, 100)
    frames = [read_frame(index, tracked(1), probabilities=reading(happy[index])) for index in range(100)]
    shown = [frame.faces[0].values.argmax() == HAPPY for frame in decided(frames)]
    assert abs(shown.index(True) - 50) <= 1
    assert sum(one != other for one, other in pairwise(shown)) == 1


def test_an_expression_of_half_a_second_survives_and_one_of_two_frames_does_not() -> None:
    happy = np.full(120, 0.1)
    happy[40:53] = 0.6  # 13 frames
    happy[90:92] = 0.6
    frames = [read_frame(index, tracked(1), probabilities=reading(happy[index])) for index in range(120)]
    labels = [frame.faces[0].values.argmax() for frame in decided(frames)]
    shown = [index for index, label in enumerate(labels) if label == HAPPY]
    assert set(range(42, 51)) <= set(shown) <= set(range(39, 54))


def test_a_live_face_is_shown_from_its_second_frame_and_hidden_from_its_first() -> None:
    decider = NoLookAhead(0.3)
    out = [decider.decide(read_frame(index, *[tracked(1)] * (index >= 3))) for index in range(8)]
    assert ids(out) == [[], [], [], [], [1], [1], [1], [1]]
    assert [len(frame.possible_faces_xyxy) for frame in out] == [0, 0, 0, 1, 1, 1, 1, 1]
