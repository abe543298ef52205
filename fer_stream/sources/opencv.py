"""OpenCV's captures, and its own messages kept off the user's terminal.

What is wrong is said by a typed error instead; OpenCV's log names addresses with their passwords.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from fractions import Fraction

import cv2
import numpy as np

_lock = threading.Lock()
_silencers = 0
_level_before = 0


@contextmanager
def quiet_opencv() -> Iterator[None]:
    """Silences OpenCV's log inside the block, which other threads may be in too."""
    global _silencers, _level_before
    with _lock:
        _silencers += 1
        if _silencers == 1:
            _level_before = cv2.utils.logging.getLogLevel()
            cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    try:
        yield
    finally:
        with _lock:
            _silencers -= 1
            if _silencers == 0:
                cv2.utils.logging.setLogLevel(_level_before)


class Capture:
    """An open camera or stream, for use by one thread at a time."""

    def __init__(self, capture: cv2.VideoCapture) -> None:
        self._capture = capture

    @classmethod
    def open(cls, source: int | str, backend: int, parameters: Sequence[int] = ()) -> Capture | None:
        """Opens a camera by its index, or an address; None where OpenCV can't.

        Args:
            source: The index or the address.
            backend: One of `cv2.CAP_*`.
            parameters: Pairs of `cv2.CAP_PROP_*` and value; one that is not known lets it fail.
        """
        with quiet_opencv():
            try:
                capture = cv2.VideoCapture(source, backend, list(parameters))  # type: ignore[call-overload]
            except cv2.error:
                return None
            return cls(capture) if capture.isOpened() else None

    def read_bgr(self) -> np.ndarray | None:
        """Waits for the next picture, uint8 (H, W, 3); None where none came in time, or none will."""
        with quiet_opencv():
            try:
                got, picture = self._capture.read()
            except cv2.error:
                return None
        if not got or picture is None or not picture.size:
            return None
        return cv2.cvtColor(picture, cv2.COLOR_GRAY2BGR) if picture.ndim == 2 else picture

    def set(self, property_id: int, value: float) -> None:
        """Asks for a setting, which a device may not have."""
        with quiet_opencv():
            self._capture.set(property_id, value)

    @property
    def frame_rate(self) -> Fraction | None:
        """The frames a second that the device states; None where what it states makes no sense."""
        rate = self._capture.get(cv2.CAP_PROP_FPS)
        return Fraction(rate).limit_denominator(1001) if 1 <= rate <= 1000 else None

    @property
    def frame_count(self) -> int | None:
        """Number of pictures of what has an end; None for what has none, or does not say."""
        count = self._capture.get(cv2.CAP_PROP_FRAME_COUNT)
        return int(count) if math.isfinite(count) and count > 0 else None

    @property
    def position_s(self) -> float:
        """Presentation time of the last picture."""
        return self._capture.get(cv2.CAP_PROP_POS_MSEC) / 1000

    def release(self) -> None:
        """Closes it."""
        with quiet_opencv():
            self._capture.release()
