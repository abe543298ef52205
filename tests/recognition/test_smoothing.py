"""Smoothing follows the video's own time at any frame rate, and adds no delay in a recording."""

from __future__ import annotations

import math

import numpy as np
import pytest

from fer_stream.recognition.smoothing import FORGET_S, REACH_S, CentredSmoother, Smoother

ANGRY, HAPPY = np.eye(7, dtype=np.float32)[0], np.eye(7, dtype=np.float32)[3]


def test_a_constant_reading_stays() -> None:
    reading = np.array([0.4, 0.1, 0.1, 0.2, 0.1, 0.05, 0.05], np.float32)
    smoother = Smoother(0.3)
    for frame in range(50):
        np.testing.assert_allclose(smoother.smooth(1, reading, frame / 25), reading, atol=1e-6)


@pytest.mark.parametrize("frames_per_s", [10, 23.976, 30, 120])
def test_a_change_is_63_percent_through_after_the_time_constant(frames_per_s: float) -> None:
    smoother, time_constant_s = Smoother(0.5), 0.5
    smoother.smooth(1, ANGRY, 0.0)
    smoothed, time_s = ANGRY, 0.0
    while time_s < time_constant_s:
        time_s = min(time_s + 1 / frames_per_s, time_constant_s)
        smoothed = smoother.smooth(1, HAPPY, time_s)
    assert smoothed[3] == pytest.approx(1 - math.exp(-1), abs=1e-3)


def test_uneven_frame_times_smooth_like_even_ones() -> None:
    even, uneven = Smoother(0.3), Smoother(0.3)
    for smoother, times_s in ((even, (0.0, 0.2, 0.4, 0.6)), (uneven, (0.0, 0.01, 0.35, 0.36, 0.6))):
        smoother.smooth(1, ANGRY, times_s[0])
        for time_s in times_s[1:]:
            last = smoother.smooth(1, HAPPY, time_s)
        assert last[3] == pytest.approx(1 - math.exp(-2), abs=1e-3)


def test_a_time_constant_of_0_passes_readings_through() -> None:
    smoother = Smoother(0.0)
    smoother.smooth(1, ANGRY, 0.0)
    np.testing.assert_array_equal(smoother.smooth(1, HAPPY, 0.01), HAPPY)


def test_smoothed_readings_stay_probabilities() -> None:
    random, smoother = np.random.default_rng(3), Smoother(0.3)
    for frame in range(1000):
        smoothed = smoother.smooth(1, random.dirichlet(np.ones(7)).astype(np.float32), frame / 30)
        assert smoothed.dtype == np.float32
        assert smoothed.sum() == pytest.approx(1, abs=1e-6)
        assert (smoothed >= 0).all()


def test_faces_do_not_mix() -> None:
    smoother = Smoother(0.3)
    smoother.smooth(1, ANGRY, 0.0)
    np.testing.assert_array_equal(smoother.smooth(2, HAPPY, 0.01), HAPPY)
    np.testing.assert_allclose(smoother.smooth(1, ANGRY, 0.02), ANGRY, atol=1e-6)


@pytest.mark.parametrize("time_s", [10 + FORGET_S + 0.1, 9.0])
def test_after_a_long_gap_or_a_jump_back_a_face_starts_afresh(time_s: float) -> None:
    smoother = Smoother(0.3)
    smoother.smooth(1, ANGRY, 10.0)
    np.testing.assert_array_equal(smoother.smooth(1, HAPPY, time_s), HAPPY)


def test_equal_times_do_no_harm() -> None:
    smoother = Smoother(0.3)
    smoother.smooth(1, ANGRY, 1.0)
    np.testing.assert_allclose(smoother.smooth(1, HAPPY, 1.0), ANGRY, atol=1e-6)


def test_the_given_readings_are_not_changed() -> None:
    smoother, reading = Smoother(0.3), HAPPY.copy()
    smoother.smooth(1, ANGRY, 0.0)
    smoother.smooth(1, reading, 0.1)
    smoother.smooth(1, ANGRY, 0.2)
    np.testing.assert_array_equal(reading, HAPPY)


def test_a_day_of_passers_by_takes_no_more_memory_than_a_minute() -> None:
    smoother = Smoother(0.3)
    for face_id in range(5000):
        smoother.smooth(face_id, ANGRY, face_id * 0.5)
    assert len(smoother._last) <= 300


def centred(readings: list[np.ndarray], times_s: np.ndarray, smooth_s: float = 0.3) -> np.ndarray:
    smoother = CentredSmoother(smooth_s)
    for time_s, reading in zip(times_s, readings, strict=True):
        smoother.add(1, reading, time_s)
    return np.array([smoother.at(1, time_s) for time_s in times_s])


@pytest.mark.parametrize("frames_per_s", [12, 23.976, 30, 60])
def test_centred_smoothing_leaves_a_change_where_it_is(frames_per_s: float) -> None:
    times_s = np.arange(round(2 * frames_per_s)) / frames_per_s
    change = round(frames_per_s)
    smoothed = centred([HAPPY if index >= change else ANGRY for index in range(len(times_s))], times_s)
    assert int((smoothed[:, 3] > smoothed[:, 0]).argmax()) == change
    assert smoothed[change - 1, 3] < 0.1 and smoothed[change, 3] > 0.9  # and it stays sharp


def test_centred_smoothing_steadies_readings() -> None:
    random, times_s = np.random.default_rng(3), np.arange(200) / 25
    readings = random.dirichlet(np.array([3, 1, 1, 3, 1, 1, 1]), 200).astype(np.float32)
    smoothed = centred(list(readings), times_s)
    assert smoothed.dtype == np.float32
    np.testing.assert_allclose(smoothed.sum(axis=1), 1, atol=1e-6)
    assert smoothed.std(axis=0).max() < 0.6 * readings.std(axis=0).max()
    changes = [(np.diff(values.argmax(axis=1)) != 0).sum() for values in (readings, smoothed)]
    assert changes[1] < 0.4 * changes[0]


def test_a_longer_time_constant_smooths_more() -> None:
    random, times_s = np.random.default_rng(4), np.arange(200) / 25
    readings = list(random.dirichlet(np.ones(7) * 2, 200).astype(np.float32))
    spread = [centred(readings, times_s, smooth_s).std(axis=0).mean() for smooth_s in (0.0, 0.05, 0.3, 1.0)]
    assert spread == sorted(spread, reverse=True)
    np.testing.assert_array_equal(centred(readings, times_s, 0.0), readings)


def test_one_odd_reading_changes_nothing() -> None:
    readings = [ANGRY] * 20 + [HAPPY] + [ANGRY] * 20
    smoothed = centred(readings, np.arange(41) / 25)
    assert (smoothed.argmax(axis=1) == 0).all()


def test_a_reading_that_comes_late_counts_as_much_as_any_other() -> None:
    random, times_s = np.random.default_rng(3), np.arange(50) / 25
    readings = random.dirichlet(np.ones(7), 50).astype(np.float32)
    late = slice(24, 30)
    smoother = CentredSmoother(0.3)
    for reading, time_s in zip(np.delete(readings, late, 0), np.delete(times_s, late), strict=True):
        smoother.add(1, reading, time_s)
    for time_s in times_s:
        smoother.at(1, time_s)  # does not fix the results that follow
    for reading, time_s in zip(readings[late], times_s[late], strict=True):
        smoother.add(1, reading, time_s)
    smoothed = np.array([smoother.at(1, time_s) for time_s in times_s])
    np.testing.assert_array_equal(smoothed, centred(list(readings), times_s))


def test_readings_out_of_reach_do_not_count_and_are_forgotten() -> None:
    smoother = CentredSmoother(0.3)
    smoother.add(1, ANGRY, 0.0)
    smoother.add(1, HAPPY, 0.1 + REACH_S)
    np.testing.assert_allclose(smoother.at(1, 0.0), ANGRY, atol=1e-6)
    smoother.add(2, ANGRY, 0.0)
    smoother.forget(0.05)
    assert list(smoother._faces) == [1]
    np.testing.assert_allclose(smoother.at(1, 0.1 + REACH_S), HAPPY, atol=1e-6)
