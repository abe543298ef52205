"""Read cameras and streams with OpenCV, with its own messages silenced.

Typed errors say what is wrong instead. OpenCV's log would show addresses with their passwords.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from fractions import Fraction

import cv2
import numpy as np

from fer_stream.sources.pixel_aspect import square_size

_lock = threading.Lock()
_silencers = 0
_level_before = 0


@contextmanager
def quiet_opencv() -> Iterator[None]:
    """Silence OpenCV's log inside the block. Several threads may be inside at once."""
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
    """An open camera or stream. Use it in one thread at a time."""

    def __init__(self, capture: cv2.VideoCapture, read_timeout_s: float = math.inf) -> None:
        self._capture = capture
        self._read_timeout_s = read_timeout_s
        width, height = (capture.get(each) for each in (cv2.CAP_PROP_SAR_NUM, cv2.CAP_PROP_SAR_DEN))
        self._pixel_aspect = width / height if width > 0 and height > 0 else 1.0

    @classmethod
    def open(cls, source: int | str, backend: int, parameters: Sequence[int] = ()) -> Capture | None:
        """Open a camera by its index, or an address. Return None if OpenCV can't.

        Args:
            source: The index or the address.
            backend: One of `cv2.CAP_*`.
            parameters: Pairs of `cv2.CAP_PROP_*` and value. An unknown property makes opening fail.
        """
        values = dict(zip(parameters[::2], parameters[1::2], strict=True))
        read_timeout_s = values.get(cv2.CAP_PROP_READ_TIMEOUT_MSEC, math.inf) / 1000
        with quiet_opencv():
            try:
                capture = cv2.VideoCapture(source, backend, list(parameters))  # type: ignore[call-overload]
            except cv2.error:
                return None
            return cls(capture, read_timeout_s) if capture.isOpened() else None

    def read_bgr(self) -> np.ndarray | None:
        """Wait for the next picture, uint8 (H, W, 3), square pixels. Return None if none came in time."""
        began_s = time.monotonic()
        with quiet_opencv():
            try:
                got, picture = self._capture.read()
            except cv2.error:
                return None
        # When a read times out, FFmpeg gives the pictures that it held back. They are from before the wait.
        is_late = time.monotonic() - began_s >= self._read_timeout_s
        if not got or picture is None or not picture.size or is_late:
            return None
        bgr = cv2.cvtColor(picture, cv2.COLOR_GRAY2BGR) if picture.ndim == 2 else picture
        size_wh = bgr.shape[1], bgr.shape[0]
        square_wh = square_size(size_wh, self._pixel_aspect)
        return bgr if square_wh == size_wh else cv2.resize(bgr, square_wh)

    def set(self, property_id: int, value: float) -> None:
        """Request a setting. The camera may ignore it."""
        with quiet_opencv():
            self._capture.set(property_id, value)

    @property
    def frame_rate(self) -> Fraction | None:
        """Frames per second as the camera or the stream states them; None if the value makes no sense."""
        rate = self._capture.get(cv2.CAP_PROP_FPS)
        return Fraction(rate).limit_denominator(1001) if 1 <= rate <= 1000 else None

    @property
    def frame_count(self) -> int | None:
        """Number of pictures of a recording; None for an endless stream or if unknown."""
        count = self._capture.get(cv2.CAP_PROP_FRAME_COUNT)
        return int(count) if math.isfinite(count) and count > 0 else None

    @property
    def position_s(self) -> float:
        """Presentation time of the last picture."""
        return self._capture.get(cv2.CAP_PROP_POS_MSEC) / 1000

    def release(self) -> None:
        """Close the camera or stream."""
        with quiet_opencv():
            self._capture.release()
