"""Smooth each face's readings over time, so that its label does not flicker.

A reading holds the probabilities of the seven expressions and then the values of any other readers.

`Smoother` is for a live source, which can only look back. `CentredSmoother` is for a recording: it looks both
ways and shifts nothing in time.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from dataclasses import dataclass, field

import numpy as np

from fer_stream.expressions import EXPRESSIONS

DEFAULT_SMOOTH_S = 0.3
FORGET_S = 2.0  # after a longer gap, a face's smoothing starts again
# The centred smoother uses readings up to REACH_S + GUIDE_S away, so a recording has to look that far ahead.
REACH_S = 0.38
GUIDE_S = 0.12  # a guide is the median of the readings up to this long before and after its time
GUIDE_SHARE = 0.4  # or up to this share of the time constant, if that is shorter
# At this total variation (0 to 1), a reading has exp(-1/2) of the weight of an equal one.
SAME_EXPRESSION = 0.25


class Smoother:
    """An exponential moving average of each face's readings.

    The weight of the past falls to 1/e within `time_constant_s`, measured in the video's own time. So the
    result does not depend on the frame rate.

    Args:
        time_constant_s: Seconds; 0 passes each frame's own reading through.
    """

    def __init__(self, time_constant_s: float = DEFAULT_SMOOTH_S) -> None:
        self._time_constant_s = time_constant_s
        self._last: dict[int, tuple[float, np.ndarray]] = {}

    def smooth(self, track_id: int, reading: np.ndarray, time_s: float) -> np.ndarray:
        """Add a face's next reading and return the smoothed one.

        Args:
            track_id: The face.
            reading: float32 (K,), from this frame alone.
            time_s: Time of the frame.

        Returns:
            float32 (K,), smoothed. The probabilities sum to 1.
        """
        if self._time_constant_s <= 0:
            return reading
        if len(self._last) > 256:
            self._last = {i: seen for i, seen in self._last.items() if time_s - seen[0] <= FORGET_S}
        before = self._last.get(track_id)
        smoothed = reading
        if before is not None and 0 <= time_s - before[0] <= FORGET_S:
            past = math.exp(-(time_s - before[0]) / self._time_constant_s)
            smoothed = (past * before[1] + (1 - past) * reading).astype(np.float32)
        self._last[track_id] = (time_s, smoothed)
        return smoothed


@dataclass(eq=False)
class _Readings:
    """The readings of one face, in order of time.

    Attributes:
        times_s: Times of the frames.
        own: float32 (K,) each, from that frame alone.
        guides: float32 (7,) each, the median of the probabilities around that time; None until it is needed.
    """

    times_s: list[float] = field(default_factory=list)
    own: list[np.ndarray] = field(default_factory=list)
    guides: list[np.ndarray | None] = field(default_factory=list)


class CentredSmoother:
    """A bilateral filter of each face's readings over time. It looks as far ahead as back.

    Readings that are near in time weigh more, by a Gaussian whose standard deviation is the time constant.
    Readings with similar probabilities also weigh more, so that a change of expression keeps its time and
    stays sharp. Readings are compared by their guides, the medians of the probabilities around them, so that
    a single odd reading does not count as a change.

    Source: Tomasi and Manduchi, Bilateral Filtering for Gray and Color Images, 1998, with a median as guide.

    Args:
        time_constant_s: Seconds; 0 passes each frame's own reading through. Whatever its value,
            readings further than `REACH_S` away do not count.
    """

    def __init__(self, time_constant_s: float = DEFAULT_SMOOTH_S) -> None:
        self._time_constant_s = time_constant_s
        self._guide_s = min(GUIDE_S, GUIDE_SHARE * time_constant_s)
        self._faces: dict[int, _Readings] = {}

    def add(self, track_id: int, reading: np.ndarray, time_s: float) -> None:
        """Add a reading. Readings may come in any order.

        Args:
            track_id: The face.
            reading: float32 (K,), from this frame alone.
            time_s: Time of the frame.
        """
        readings = self._faces.setdefault(track_id, _Readings())
        place = bisect_right(readings.times_s, time_s)
        readings.times_s.insert(place, time_s)
        readings.own.insert(place, reading)
        readings.guides.insert(place, None)
        around = self._around(readings, time_s)
        readings.guides[around] = [None] * (around.stop - around.start)  # they lack this reading

    def at(self, track_id: int, time_s: float) -> np.ndarray:
        """Return a face's smoothed reading at a time, which may lie between two readings.

        Args:
            track_id: The face, which must have a reading.
            time_s: The time.

        Returns:
            float32 (K,), smoothed. The probabilities sum to 1.
        """
        readings = self._faces[track_id]
        if self._time_constant_s <= 0:
            return _interpolate(readings.times_s, readings.own, time_s)
        first = bisect_left(readings.times_s, time_s - REACH_S)
        end = bisect_right(readings.times_s, time_s + REACH_S)
        if first >= end:
            return _interpolate(readings.times_s, readings.own, time_s)
        guides = np.array([self._guide(readings, index) for index in range(first, end)])
        times_s = readings.times_s[first:end]
        distances_s = np.array(times_s) - time_s
        differences = np.abs(guides - _interpolate(times_s, guides, time_s)).sum(axis=1) / 2
        weights = np.exp(
            -0.5 * ((distances_s / self._time_constant_s) ** 2 + (differences / SAME_EXPRESSION) ** 2)
        )
        return (weights / weights.sum() @ np.array(readings.own[first:end])).astype(np.float32)

    def forget(self, before_s: float) -> None:
        """Forget all readings before a time, and faces without any others."""
        for track_id, readings in list(self._faces.items()):
            end = bisect_left(readings.times_s, before_s)
            del readings.times_s[:end], readings.own[:end], readings.guides[:end]
            if not readings.times_s:
                del self._faces[track_id]

    def _guide(self, readings: _Readings, index: int) -> np.ndarray:
        guide = readings.guides[index]
        if guide is None:
            around = self._around(readings, readings.times_s[index])
            guide = _median(np.array(readings.own[around])[:, : len(EXPRESSIONS)])
            guide = guide / max(float(guide.sum()), 1e-6)
            readings.guides[index] = guide
        return guide

    def _around(self, readings: _Readings, time_s: float) -> slice:
        """Return the readings whose median is the guide at a time.

        Conversely, these are the readings whose guides depend on a reading at that time.
        """
        first = bisect_left(readings.times_s, time_s - self._guide_s - 1e-6)
        return slice(first, bisect_right(readings.times_s, time_s + self._guide_s + 1e-6))


def _median(values: np.ndarray) -> np.ndarray:
    """Return the median over the first axis. For a few values, `np.median` takes ten times as long."""
    ordered, middle = np.sort(values, axis=0), len(values) // 2
    return ordered[middle] if len(values) % 2 else (ordered[middle - 1] + ordered[middle]) / 2


def _interpolate(times_s: list[float], values: list[np.ndarray] | np.ndarray, time_s: float) -> np.ndarray:
    """Interpolate between the two values nearest in time. The times are in order."""
    after = min(bisect_left(times_s, time_s), len(times_s) - 1)
    before = after if times_s[after] <= time_s else max(after - 1, 0)
    gap_s = times_s[after] - times_s[before]
    if gap_s <= 0:
        return np.asarray(values[after])
    share = np.float32(min(max((time_s - times_s[before]) / gap_s, 0.0), 1.0))
    return np.asarray((1 - share) * values[before] + share * values[after])
