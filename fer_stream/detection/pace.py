"""Set the rate of scans for faces: fixed, or as high as a live source allows."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from fer_stream.types import Frame

# Frames. One or two faces are followed well, and a new one is seen after 10 frames at the latest. In a crowd,
# new people appear all the time.
CALM_EVERY, CROWD_EVERY = 10, 4
CROWD = 3  # faces
LONGEST_GAP = 30  # frames, so that even the slowest machine finds new faces
BUSY_SHARE = 0.7  # share of the time between two frames that the analysis may take; the rest is a reserve
NEW_SHARE = 0.2  # weight of the latest measurement in the averages
LONGEST_INTERVAL_S = 1.0  # between two frames; a longer interval is an outage

ScanEvery = int | Literal["auto"]


@dataclass
class ScanPace:
    """Rate of scans, in frames.

    Attributes:
        every: A scan is due after this many frames; None if that depends on the number of faces.
        gap: No scan comes sooner than this, even if faces are lost or the picture is empty.
    """

    every: int | None = None
    gap: int = 1

    def due_after(self, faces: int) -> int:
        """Return the number of frames after which a scan is due while this many faces are followed."""
        if self.every is not None:
            return self.every
        return max(self.gap, CROWD_EVERY if faces >= CROWD else CALM_EVERY)

    def is_due_at(self, index: int, faces: int) -> bool:
        """Return whether a scan is due at a frame of a recording while this many faces are followed.

        Args:
            index: Index of the frame in its recording.
            faces: Number of followed faces.
        """
        return index % self.due_after(faces) == 0


class LivePace(ScanPace):
    """Scans as often as a live source allows, but no more often than is useful.

    A frame with a scan takes `scan_s`, and one without takes `follow_s`. With a scan in every n frames, a
    frame takes `follow_s + (scan_s - follow_s) / n` on average. n is the smallest number for which that is at
    most `BUSY_SHARE` of the time between two frames. If even following takes longer, frames are lost anyway,
    and n is `LONGEST_GAP`.
    """

    def __init__(self) -> None:
        super().__init__()
        self._scan_s: float | None = None
        self._follow_s = 0.0
        self._interval_s: float | None = None
        self._last: Frame | None = None

    def note(self, frame: Frame, analysis_s: float, *, scanned: bool) -> None:
        """Add the time that a frame took, which may change the pace.

        Args:
            frame: The frame. Its index also counts the frames that were dropped before it.
            analysis_s: Time of its whole analysis.
            scanned: Whether it was scanned.
        """
        if self._last is not None and frame.index > self._last.index:
            interval_s = (frame.time_s - self._last.time_s) / (frame.index - self._last.index)
            if 0 <= interval_s <= LONGEST_INTERVAL_S:  # ignore a clock that was set back
                self._interval_s = _averaged(self._interval_s, interval_s)
        self._last = frame
        if scanned:
            self._scan_s = _averaged(self._scan_s, analysis_s)
        else:
            self._follow_s = _averaged(self._follow_s or None, analysis_s)
        if self._scan_s is None or not self._interval_s:
            return
        spare_s = BUSY_SHARE * self._interval_s - self._follow_s
        extra_s = max(0.0, self._scan_s - self._follow_s)
        needed = math.ceil(extra_s / spare_s) if spare_s * LONGEST_GAP > extra_s else LONGEST_GAP
        self.gap = max(1, needed)


def _averaged(before: float | None, new: float) -> float:
    return new if before is None else before + NEW_SHARE * (new - before)
