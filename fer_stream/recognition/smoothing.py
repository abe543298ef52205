"""Each face's probabilities over time, so that a label does not flicker."""

from __future__ import annotations

import math

import numpy as np

DEFAULT_SMOOTH_S = 0.3
FORGET_S = 2.0  # after a gap this long a face starts afresh


class Smoother:
    """An exponential moving average of each face's probabilities.

    The weight of the past falls to 1/e in `time_constant_s` of the video's own time, so the result
    does not depend on the frame rate.

    Args:
        time_constant_s: Seconds; 0 passes each frame's own probabilities through.
    """

    def __init__(self, time_constant_s: float = DEFAULT_SMOOTH_S) -> None:
        self._time_constant_s = time_constant_s
        self._last: dict[int, tuple[float, np.ndarray]] = {}

    def smooth(self, face_id: int, probabilities: np.ndarray, time_s: float) -> np.ndarray:
        """Takes a face's next reading.

        Args:
            face_id: Whose.
            probabilities: float32 (7,), of this frame alone.
            time_s: When, in seconds.

        Returns:
            float32 (7,), smoothed, summing to 1.
        """
        if self._time_constant_s <= 0:
            return probabilities
        if len(self._last) > 256:
            self._last = {i: seen for i, seen in self._last.items() if time_s - seen[0] <= FORGET_S}
        before = self._last.get(face_id)
        smoothed = probabilities
        if before is not None and 0 <= time_s - before[0] <= FORGET_S:
            past = math.exp(-(time_s - before[0]) / self._time_constant_s)
            smoothed = (past * before[1] + (1 - past) * probabilities).astype(np.float32)
            smoothed /= smoothed.sum()
        self._last[face_id] = (time_s, smoothed)
        return smoothed
