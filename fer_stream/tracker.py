"""Finds and follows faces: when to scan, when to refine, and stable ids.

A full scan of a frame costs many times what it costs to look for a known face near its last box.
So the detector scans every few frames, and in between each face is followed: its motion says where
to look, and the later stages of the cascade give its new box, landmarks and score. A face that is
lost, or a cut in the video, brings the next scan forward to the same frame.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import cv2
import numpy as np

from fer_stream.detector import O_NET_THRESHOLD, Detector
from fer_stream.geometry import iou_matrix, overlap_of_smaller
from fer_stream.types import Detections

DEFAULT_SCAN_EVERY = 5  # frames
MATCH_IOU = 0.25  # a detection and a face's expected box are the same face from here
DUPLICATE_OVERLAP = 0.7  # two followed boxes that overlap this much have run onto the same face
REMEMBERED_S = 1.0  # a face out of sight keeps its id for this long
VELOCITY_MEMORY = 0.5  # share of the old motion in the new estimate
MAX_STEP = 0.5  # a face moves by at most this share of its size from frame to frame
CUT_DIFFERENCE = 28.0  # mean change of a small grey picture, of 255, that is a cut
THUMBNAIL_WH = (32, 18)


@dataclass(frozen=True, eq=False)
class TrackedFace:
    """A face in one frame, as the tracker hands it out.

    Attributes:
        id: Stays with the face.
        box_xyxy: float32 (4,) px, inside the frame.
        landmarks_xy: float32 (5, 2) px.
        score: The detector's confidence, 0 to 1.
    """

    id: int
    box_xyxy: np.ndarray
    landmarks_xy: np.ndarray
    score: float


@dataclass(eq=False)
class _Track:
    """What the tracker remembers of a face.

    Attributes:
        id: Stays with the face.
        box_xyxy: float32 (4,) px, as last seen.
        landmarks_xy: float32 (5, 2) px, as last seen.
        score: The detector's, as last seen.
        seen_s: When it was last seen.
        velocity_xy: Motion of the box's centre, px a second.
        visible: Whether it is in the current frame.
    """

    id: int
    box_xyxy: np.ndarray
    landmarks_xy: np.ndarray
    score: float
    seen_s: float
    velocity_xy: np.ndarray = field(default_factory=lambda: np.zeros(2, np.float32))
    visible: bool = True

    def expected_box(self, time_s: float) -> np.ndarray:
        """Returns where the face should be now if it goes on as it moved, float32 (4,)."""
        size = max(self.box_xyxy[2] - self.box_xyxy[0], self.box_xyxy[3] - self.box_xyxy[1])
        step = self.velocity_xy * max(0.0, time_s - self.seen_s)
        step = step * min(1.0, MAX_STEP * size / max(float(np.hypot(*step)), 1e-6))
        return self.box_xyxy + np.concatenate([step, step]).astype(np.float32)

    def see(self, found: Detections, index: int, time_s: float) -> None:
        """Takes over a detection as the face's new place."""
        box = found.boxes_xyxy[index]
        elapsed_s = time_s - self.seen_s
        if elapsed_s > 0:
            moved = (box[:2] + box[2:] - self.box_xyxy[:2] - self.box_xyxy[2:]) / 2
            measured = (moved / elapsed_s).astype(np.float32)
            self.velocity_xy = VELOCITY_MEMORY * self.velocity_xy + (1 - VELOCITY_MEMORY) * measured
        self.box_xyxy, self.landmarks_xy = box, found.landmarks_xy[index]
        self.score, self.seen_s, self.visible = float(found.scores[index]), time_s, True


class Tracker:
    """Follows faces through the frames of one video, in order.

    Args:
        detector: Finds the faces.
        scan_every: A full scan at least every this many frames; 1 scans every frame.
    """

    def __init__(self, detector: Detector, *, scan_every: int = DEFAULT_SCAN_EVERY) -> None:
        self.scan_every = scan_every
        self._detector = detector
        self._tracks: list[_Track] = []
        self._next_id = 1
        self._frames_since_scan = 0
        self._thumbnail: np.ndarray | None = None

    def update(self, image_bgr: np.ndarray, time_s: float) -> list[TrackedFace]:
        """Finds the faces of the next frame.

        Args:
            image_bgr: uint8 (H, W, 3).
            time_s: Presentation time in seconds.

        Returns:
            The visible faces, ordered by id.
        """
        self._tracks = [track for track in self._tracks if time_s - track.seen_s <= REMEMBERED_S]
        if self._is_cut(image_bgr):
            self._tracks = []  # whoever comes after a cut is somebody else
        followed = [track for track in self._tracks if track.visible]
        self._frames_since_scan += 1
        due = self._frames_since_scan >= self.scan_every or not self._tracks
        if due or not self._follow(image_bgr, followed, time_s):
            self._scan(image_bgr, time_s)
        return [
            TrackedFace(track.id, track.box_xyxy, track.landmarks_xy, track.score)
            for track in sorted(self._tracks, key=lambda track: track.id)
            if track.visible
        ]

    def _follow(self, image_bgr: np.ndarray, followed: list[_Track], time_s: float) -> bool:
        """Refines the faces round their expected boxes; returns whether every one is still there."""
        expected = np.array([track.expected_box(time_s) for track in followed], np.float32).reshape(-1, 4)
        found = self._detector.refine(image_bgr, expected)
        if (found.scores < O_NET_THRESHOLD).any() or _any_duplicates(found.boxes_xyxy):
            return False
        for index, track in enumerate(followed):
            track.see(found, index, time_s)
        return True

    def _scan(self, image_bgr: np.ndarray, time_s: float) -> None:
        """Scans the frame and gives each detection to the face that it is, or to a new one."""
        self._frames_since_scan = 0
        found = self._detector.scan(image_bgr)
        expected = np.array([track.expected_box(time_s) for track in self._tracks], np.float32).reshape(-1, 4)
        unmatched = set(range(len(found)))
        for track in self._tracks:
            track.visible = False
        for track_index, index in match(expected, found.boxes_xyxy):
            self._tracks[track_index].see(found, index, time_s)
            unmatched.discard(index)
        for index in sorted(unmatched, key=lambda index: found.boxes_xyxy[index, 0]):
            self._tracks.append(
                _Track(
                    self._next_id,
                    found.boxes_xyxy[index],
                    found.landmarks_xy[index],
                    float(found.scores[index]),
                    time_s,
                )
            )
            self._next_id += 1

    def _is_cut(self, image_bgr: np.ndarray) -> bool:
        """Whether this picture has little to do with the one before."""
        # Every 8th pixel or so is enough, and reading them all would cost as much as following a face.
        step = max(1, min(image_bgr.shape[:2]) // 90)
        small = cv2.resize(image_bgr[::step, ::step], THUMBNAIL_WH, interpolation=cv2.INTER_AREA)
        thumbnail = cv2.cvtColor(small, cv2.COLOR_BGR2GRAY).astype(np.int16)
        before, self._thumbnail = self._thumbnail, thumbnail
        return before is not None and float(np.abs(thumbnail - before).mean()) > CUT_DIFFERENCE


def match(expected_xyxy: np.ndarray, found_xyxy: np.ndarray) -> list[tuple[int, int]]:
    """Pairs expected boxes with found ones, best overlap first, each at most once.

    Args:
        expected_xyxy: (N, 4) px.
        found_xyxy: (M, 4) px.

    Returns:
        Pairs of an index into `expected_xyxy` and one into `found_xyxy`.
    """
    overlap = iou_matrix(expected_xyxy, found_xyxy)
    pairs = []
    while overlap.size and overlap.max() >= MATCH_IOU:
        row, column = np.unravel_index(overlap.argmax(), overlap.shape)
        pairs.append((int(row), int(column)))
        overlap[row, :] = overlap[:, column] = -1
    return pairs


def _any_duplicates(boxes_xyxy: np.ndarray) -> bool:
    if len(boxes_xyxy) < 2:
        return False
    overlap = overlap_of_smaller(boxes_xyxy, boxes_xyxy)
    np.fill_diagonal(overlap, 0)
    return bool(overlap.max() > DUPLICATE_OVERLAP)
