"""Face-seconds: the time that a frame stands for, and the time that each person was seen."""

from __future__ import annotations

import numpy as np
import pytest
from helpers.faces import make_face

from fer_stream import face_time
from fer_stream.face_time import FrameClock, PeopleTime, more_people_text, shares_of
from fer_stream.sinks.episodes.builder import EpisodeBuilder
from fer_stream.types import AnalyzedFrame, Frame


def test_a_frame_stands_for_the_time_since_the_one_before():
    clock = FrameClock(0.04)
    assert [clock.step_s(time_s) for time_s in (5.0, 5.04, 5.1, 9.0, 8.0)] == pytest.approx(
        [0.04, 0.04, 0.06, 0.04, 0.0]
    )


def test_a_pause_is_not_time_that_anyone_was_seen():
    clock, builder, people = FrameClock(0.04), EpisodeBuilder(0.04), PeopleTime()
    times_s = [index / 25 for index in range(100)]
    times_s[50:] = [time_s + 3.6 for time_s in times_s[50:]]
    for index, time_s in enumerate(times_s):
        face = make_face(1, "happy")
        people.add([face], clock.step_s(time_s), time_s)
        builder.add(AnalyzedFrame(Frame(np.zeros((8, 8, 3), np.uint8), index, time_s), (face,)))
    in_episodes_s = sum(episode.duration_s for episode in builder.episodes())
    assert people.by_id[1].seen_s == pytest.approx(4.0) == pytest.approx(in_episodes_s)


def test_a_pause_after_the_first_frame_is_no_interval():
    clock = FrameClock(0.04)
    assert [clock.step_s(time_s) for time_s in (0.0, 10.0, 10.04)] == pytest.approx([0.04] * 3)


def test_exact_times_and_those_of_the_table_give_the_same_gaps():
    frames = [index for index in range(60) if not 20 <= index < 35]  # away for exactly 0.5 s
    for offset in range(200):
        times_s = [(frame + offset) / 30 for frame in frames]
        exact, rounded = FrameClock(1 / 30), FrameClock(1 / 30)
        steps_s = [(exact.step_s(time_s), rounded.step_s(round(time_s, 6))) for time_s in times_s]
        assert all(one == pytest.approx(other, abs=1e-5) for one, other in steps_s)


def test_frames_of_a_slow_machine_count_in_full():
    clock = FrameClock(1 / 30)  # the camera's stated rate; the machine analyzes 1.5 frames per second
    assert sum(clock.step_s(index / 1.5) for index in range(30)) == pytest.approx(29 / 1.5, abs=0.7)


def test_slow_frames_count_in_full():
    clock = FrameClock(5.0)
    assert [clock.step_s(time_s) for time_s in (0.0, 5.0, 10.0, 60.0)] == [5.0, 5.0, 5.0, 5.0]


def test_each_person_has_a_time_and_unsure_is_a_label():
    people = PeopleTime()
    for index in range(10):
        faces = [make_face(1, "happy" if index < 6 else "unsure")]
        faces += [make_face(2, "sad")] if index >= 8 else []
        people.add(faces, 0.1, index / 10)
    first, second = people.by_id[1], people.by_id[2]
    assert (first.seen_s, second.seen_s) == pytest.approx((1.0, 0.2))
    assert first.shares()["unsure"] == pytest.approx(0.4) and sum(first.shares().values()) == pytest.approx(1)
    assert first.main_label() == "happy" and second.main_label() == "sad"


def test_memory_stays_bounded_and_nobody_goes_uncounted(monkeypatch):
    monkeypatch.setattr(face_time, "MOST_PEOPLE", 8)
    people = PeopleTime()
    for index in range(1000):
        people.add([make_face(1, "happy"), make_face(2 + index // 3, "sad")], 1.0, float(index))
        assert len(people.by_id) <= 17
    assert len(people.by_id) + people.dropped == 335
    assert people.by_id[1].seen_s == 1000 and people.dropped_longest_s == 3


def test_everyone_is_kept_where_memory_does_not_matter(monkeypatch):
    monkeypatch.setattr(face_time, "MOST_PEOPLE", 8)
    people = PeopleTime(bounded=False)
    for index in range(100):
        people.add([make_face(1 + index, "sad")], 1.0, float(index))
    assert len(people.by_id) == 100 and not people.dropped


def test_no_face_seconds_give_shares_of_0():
    assert set(shares_of({"happy": 0.0, "unsure": 0.0}).values()) == {0.0}


def test_people_without_a_line_are_counted():
    assert more_people_text(0, 0.0) == ""
    assert more_people_text(3, 0.2) == "+3 people seen for under 0.5 s"
    assert more_people_text(1, 75.0) == "+1 person seen for 1:15 or less"
