"""How often a video is scanned for faces: a fixed rate, or the one that keeps up with a live source."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from fer_stream.types import Frame

# Frames. One or two faces are followed well, and who comes in is seen after 10 frames at the latest;
# in a crowd somebody comes into sight all the time.
CALM_EVERY, CROWD_EVERY = 10, 3
CROWD = 3  # faces
LONGEST_GAP = 30  # frames: also the slowest machine finds a new face some day
BUSY_SHARE = 0.7  # of the time between two frames that analysis may take; what is left evens out
NEW_SHARE = 0.2  # of the latest measurement in the averages
LONGEST_INTERVAL_S = 1.0  # between two frames; a longer one is an outage and no rate

ScanEvery = int | Literal["auto"]


@dataclass
class ScanPace:
    """When to scan, counted in frames.

    Attributes:
        every: A scan is due after this many frames; None: it depends on how many faces there are.
        gap: None comes sooner than this, whatever is lost and however empty the picture is.
    """

    every: int | None = None
    gap: int = 1

    def due_after(self, faces: int) -> int:
        """Return after how many frames a scan is due while so many faces are followed."""
        if self.every is not None:
            return self.every
        return max(self.gap, CROWD_EVERY if faces >= CROWD else CALM_EVERY)


class LivePace(ScanPace):
    """Scans as often as a live source leaves time for, but no more often than is of use.

    A frame with a scan takes `scan_s` and one without `follow_s`. With a scan in every n frames
    they take `follow_s + (scan_s - follow_s) / n` on average, and n is the smallest number for which
    that is `BUSY_SHARE` of the time between two frames. Where even following takes longer, frames
    are lost anyway, and n is `LONGEST_GAP`.
    """

    def __init__(self) -> None:
        super().__init__()
        self._scan_s: float | None = None
        self._follow_s = 0.0
        self._interval_s: float | None = None
        self._last: Frame | None = None

    def note(self, frame: Frame, analysis_s: float, *, scanned: bool) -> None:
        """Take note of how long a frame took, which may change the pace.

        Args:
            frame: Which; its index counts the frames that were dropped before it, too.
            analysis_s: How long its whole analysis took.
            scanned: Whether it was scanned.
        """
        if self._last is not None and frame.index > self._last.index:
            interval_s = (frame.time_s - self._last.time_s) / (frame.index - self._last.index)
            if interval_s <= LONGEST_INTERVAL_S:
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
