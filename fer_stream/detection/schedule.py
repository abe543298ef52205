"""Decide which frames to scan. Frames are counted from the start of the recording, or from the last scan."""

from __future__ import annotations

import math
from dataclasses import dataclass

from fer_stream.detection.pace import CALM_EVERY, CROWD_EVERY, ScanPace

# Both paces of `auto` scan the frames whose index is a multiple of this. At these frames, the motion of faces
# is measured from zero. So only ids depend on earlier frames, and trackers that started at different frames
# give the same boxes.
RESET_EVERY = math.lcm(CALM_EVERY, CROWD_EVERY)


@dataclass(frozen=True)
class Slot:
    """The schedule for one frame.

    Attributes:
        due: Whether it is time for a scan.
        due_next: Whether it is time for one at the next frame, if as many faces are followed then.
        allowed: Whether a scan may come now, due or not.
        resets_motion: Whether a scan of this frame measures motion from zero.
    """

    due: bool
    due_next: bool
    allowed: bool
    resets_motion: bool


class ScanSchedule:
    """Decides frame by frame whether a scan is due.

    Args:
        pace: Rate of scans, which may change from frame to frame.
        first_index: Index of the first frame in its recording. Scans are then due at indexes that
            `pace.due_after` divides, so that a tracker that starts in the middle scans the same frames as one
            that started at the beginning. With None, they are counted from the last scan.
    """

    def __init__(self, pace: ScanPace, first_index: int | None = None) -> None:
        self._pace = pace
        self._index = first_index  # of the next frame
        self._frames_since_scan = pace.gap  # the first frame is scanned

    def next(self, faces: int) -> Slot:
        """Return the schedule for the next frame. `faces` is the number of followed faces."""
        self._frames_since_scan += 1
        allowed = self._frames_since_scan >= self._pace.gap
        if self._index is None:
            waited, every = self._frames_since_scan, self._pace.due_after(faces)
            return Slot(waited >= every, waited + 1 >= every, allowed, resets_motion=False)
        index, self._index = self._index, self._index + 1
        due, due_next = (self._pace.is_due_at(each, faces) for each in (index, index + 1))
        return Slot(due, due_next, allowed, resets_motion=index % RESET_EVERY == 0)

    def note_scan(self) -> None:
        """Note that the current frame is scanned."""
        self._frames_since_scan = 0
