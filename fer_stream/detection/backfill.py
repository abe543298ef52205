"""When a scan finds a new face, follow it back through the frames before the scan."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from fer_stream.detection.association import DUPLICATE_OVERLAP, match
from fer_stream.detection.detector import O_NET_THRESHOLD, FaceDetector
from fer_stream.detection.geometry import overlap_of_smaller
from fer_stream.detection.tracker import TrackedFace, TrackedFrame
from fer_stream.system.memory import frames_waiting
from fer_stream.types import Frame

# Minimum score of a face in an earlier frame. It is higher than for a followed face, because nothing has
# found a face there before. Below it, the face is searched for nearby.
BACK_SCORE = 0.6
MOST_BACK = 10  # frames; with `scan_every="auto"`, two scans are never further apart


@dataclass(frozen=True, eq=False)
class FoundEarlier:
    """A face in an earlier frame, found by following it back from the newest one.

    Attributes:
        frame: That frame.
        face: The face there.
    """

    frame: Frame
    face: TrackedFace


@dataclass(eq=False)
class _Past:
    """A frame since the last scan.

    Attributes:
        frame: The frame.
        track_ids: The tracks that were seen in it.
        boxes_xyxy: float32 (N, 4) px, the faces in it, including those found later.
    """

    frame: Frame
    track_ids: frozenset[int]
    boxes_xyxy: np.ndarray


class Backfill:
    """Remembers the frames since the last scan, and finds in them the faces that the next scan discovers.

    It goes back by at most `MOST_BACK` frames, or fewer if they are larger than 4K.

    Args:
        detector: Finds a face near a known place. No other thread may call `search` or `refine`.
    """

    def __init__(self, detector: FaceDetector) -> None:
        self._detector = detector
        self._past: deque[_Past] = deque(maxlen=MOST_BACK)
        self._scene = 0
        self._seen: frozenset[int] = frozenset()  # tracks in the previous frame

    def earlier(self, frame: Frame, tracked: TrackedFrame) -> tuple[FoundEarlier, ...]:
        """Add the next frame. Return where its new faces were in the frames since the last scan."""
        if tracked.scene != self._scene:
            self._past.clear()
            self._scene = tracked.scene
        found: list[FoundEarlier] = []
        if tracked.scanned:
            for face in tracked.faces:
                if face.track_id not in self._seen:
                    found += self._follow_back(face)
            self._past.clear()
        boxes = np.array([face.box_xyxy for face in tracked.faces], np.float32).reshape(-1, 4)
        track_ids = frozenset(face.track_id for face in tracked.faces)
        self._past.append(_Past(frame, track_ids, boxes))
        while len(self._past) > frames_waiting(MOST_BACK, frame.bgr.nbytes):
            self._past.popleft()  # it no longer waits in the look-ahead either
        self._seen = track_ids
        return tuple(found)

    def _follow_back(self, face: TrackedFace) -> Iterator[FoundEarlier]:
        step = np.zeros(4, np.float32)  # motion of the box from a frame to the previous one
        for past in reversed(self._past):
            if face.track_id in past.track_ids:  # it was out of sight for a few frames only
                return
            expected = face.box_xyxy + step
            found = self._detector.refine(past.frame.bgr, expected[None])
            if found.scores[0] < BACK_SCORE:
                found = self._detector.search(past.frame.bgr, expected)
                found = found[found.scores > O_NET_THRESHOLD]
            taken = overlap_of_smaller(found.boxes_xyxy, past.boxes_xyxy).max(axis=1, initial=0)
            found = found[taken <= DUPLICATE_OVERLAP]
            pairs = match(face.box_xyxy[None], found.boxes_xyxy)
            if not pairs:
                return
            found = found[[pairs[0][1]]]
            box = found.boxes_xyxy[0]
            moved = (box[:2] + box[2:] - face.box_xyxy[:2] - face.box_xyxy[2:]) / 2
            step = np.concatenate([moved, moved]).astype(np.float32)
            face = replace(
                face, box_xyxy=box, landmarks_xy=found.landmarks_xy[0], score=float(found.scores[0])
            )
            past.boxes_xyxy = np.concatenate([past.boxes_xyxy, box[None]])
            yield FoundEarlier(past.frame, face)
