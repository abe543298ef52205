"""Keep the readings so far, for a page that is opened late.

For a live source the last minute is kept, for a recording everything.
"""

from __future__ import annotations

import threading
from collections import deque
from typing import Any

import numpy as np

from fer_stream.sinks.curves import Curves
from fer_stream.types import AnalyzedFrame

LIVE_FOR_S = 60.0
_LIVE_STEP_S = 0.1
_MOST_POINTS = 20_000  # for all faces of a recording together, which take 300 KB


class History:
    """Keeps readings in bounded memory. One thread fills it and another one reads it.

    Args:
        live: Whether to keep only the last minute.
    """

    def __init__(self, *, live: bool) -> None:
        self._live = live
        self._curves = Curves(_MOST_POINTS)
        self._last_minute: deque[tuple[float, tuple[tuple[int, np.ndarray], ...]]] = deque()
        self._lock = threading.Lock()

    def add(self, analyzed: AnalyzedFrame) -> None:
        """Add a frame."""
        time_s = analyzed.frame.time_s
        with self._lock:
            if not self._live:
                self._curves.add(analyzed)
                return
            kept = self._last_minute
            if kept and 0 <= time_s - kept[-1][0] < _LIVE_STEP_S:
                return
            kept.append((time_s, tuple((face.id, face.probabilities) for face in analyzed.faces)))
            while time_s - kept[0][0] > LIVE_FOR_S:
                kept.popleft()

    def as_dict(self) -> dict[str, Any]:
        """Return each face's curve, as `Curves.encoded` returns it, and the length of a step in seconds."""
        with self._lock:
            curves = self._curves
            if self._live:
                curves = Curves(_MOST_POINTS, first_step_s=_LIVE_STEP_S)
                for time_s, faces in self._last_minute:
                    for face_id, probabilities in faces:
                        curves.add_reading(face_id, time_s, probabilities)
            return {
                "step_s": curves.step_s,
                "faces": {str(face_id): curves.encoded(face_id) for face_id in curves.face_ids()},
            }
