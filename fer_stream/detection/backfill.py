"""Follow a face that a scan has just found back through the frames before the scan."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from fer_stream.detection.association import DUPLICATE_OVERLAP, MATCH_IOU
from fer_stream.detection.detector import FaceDetector
from fer_stream.detection.geometry import iou_matrix, overlap_of_smaller
from fer_stream.detection.tracker import TrackedFace, TrackedFrame
from fer_stream.system.memory import frames_waiting
from fer_stream.types import Frame

BACK_SCORE = (
    0.6  # from which there is a face: nobody has seen it there yet, so more is asked than of a followed one
)
MOST_BACK = 10  # frames; the largest distance of two scans


@dataclass(frozen=True, eq=False)
class FoundEarlier:
    """A face that was found later in a frame before the newest one.

    Attributes:
        frame: That frame.
        face: The face there.
    """

    frame: Frame
    face: TrackedFace


@dataclass(eq=False)
class _Past:
    frame: Frame
    boxes_xyxy: np.ndarray


class Backfill:
    """Remembers the frames since the last scan, and finds in them the faces that the next scan finds.

    Args:
        detector: Finds a face near a known place. Nothing else may use it at the same time.
    """

    def __init__(self, detector: FaceDetector) -> None:
        self._detector = detector
        self._past: deque[_Past] = deque(maxlen=MOST_BACK)
        self._scene = 0
        self._seen: frozenset[int] = frozenset()  # tracks in the frame before

    def earlier(self, frame: Frame, tracked: TrackedFrame) -> tuple[FoundEarlier, ...]:
        """Add the next frame, and return its new faces in the frames before it, back to the last scan."""
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
        self._past.append(_Past(frame, boxes))
        while len(self._past) > frames_waiting(MOST_BACK, frame.bgr.nbytes):
            self._past.popleft()  # it no longer waits in the look-ahead either
        self._seen = frozenset(face.track_id for face in tracked.faces)
        return tuple(found)

    def _follow_back(self, face: TrackedFace) -> Iterator[FoundEarlier]:
        step = np.zeros(4, np.float32)  # how the box moves from a frame to the one before
        for past in reversed(self._past):
            there = self._detector.refine(past.frame.bgr, (face.box_xyxy + step)[None])
            box = there.boxes_xyxy[0]
            taken = overlap_of_smaller(there.boxes_xyxy, past.boxes_xyxy).max(initial=0) > DUPLICATE_OVERLAP
            jumped = iou_matrix(there.boxes_xyxy, face.box_xyxy[None])[0, 0] < MATCH_IOU
            if there.scores[0] < BACK_SCORE or taken or jumped:
                return
            moved = (box[:2] + box[2:] - face.box_xyxy[:2] - face.box_xyxy[2:]) / 2
            step = np.concatenate([moved, moved]).astype(np.float32)
            face = replace(
                face, box_xyxy=box, landmarks_xy=there.landmarks_xy[0], score=float(there.scores[0])
            )
            past.boxes_xyxy = np.concatenate([past.boxes_xyxy, box[None]])
            yield FoundEarlier(past.frame, face)
