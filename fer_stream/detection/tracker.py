"""Find and follow faces from frame to frame.

A full scan of a frame costs many times more than looking for a known face near its last box. So the detector
scans every few frames (`schedule`). In between, each face is followed: its motion says where to look, and
O-Net alone gives its new box, landmarks and score.

A lost face is searched for nearby. If it is not there, the next scan is brought forward to the same frame. It
is also brought forward if two boxes are on one face, if many faces are lost at once, or after a cut in the
video. If a scan is due at the next frame anyway, or a live source leaves no time for one, lost faces are only
searched for nearby.

A live source with the pace `auto` can't wait for a scan while there are faces to show. Its scan comes after
the frame is handed out (`scan_ahead`), and new faces are searched for again in the next frame, near the same
place.

A track is one face as far as it can be followed. `identities` decides later whether two tracks are one
person, and which tracks are people at all.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field

import cv2
import numpy as np

from fer_stream.detection.appearance import appearance, likeness
from fer_stream.detection.association import (
    DUPLICATE_OVERLAP,
    MATCH_IOU,
    STILL_THERE_SCORE,
    best_pairs,
    crowded,
    duplicates,
    match,
    nearness,
    still_there,
)
from fer_stream.detection.detector import O_NET_THRESHOLD, FaceDetector
from fer_stream.detection.geometry import iou_matrix, overlap_of_smaller
from fer_stream.detection.pace import ScanPace
from fer_stream.detection.schedule import ScanSchedule, Slot
from fer_stream.types import Detections

REMEMBERED_S = 1.0  # a track whose face is out of sight can be continued within this time
REGAIN_LIKENESS = 0.5  # if the face is at least this similar
VELOCITY_S = 0.1  # the motion of a face is averaged over this long
MAX_STEP = 0.5  # a face moves by at most this share of its size from frame to frame
MAX_HIDDEN_STEP = 3.0  # and by this many of its sizes while it is out of sight
MOST_SEARCHES = 3  # for lost faces in one frame; a scan takes as long as about seven
MISSED_SCANS = 2  # a followed face is dropped after this many scans ahead in a row that do not find it
CUT_DIFFERENCE = 28.0  # mean change of a small grey picture (of 255) that counts as a cut
THUMBNAIL_WH = (32, 18)
LOOKS = 5  # number of descriptions of a face that are kept
LOOK_EVERY = 5  # frames between two of them


@dataclass(frozen=True, eq=False)
class TrackedFace:
    """One face in one frame, as the tracker hands it out.

    Attributes:
        track_id: Id of the track, the same as long as the face can be followed.
        box_xyxy: float32 (4,) px, inside the frame.
        landmarks_xy: float32 (5, 2) px.
        score: The detector's confidence, 0 to 1.
        looks: The latest descriptions of the person, see `appearance`.
    """

    track_id: int
    box_xyxy: np.ndarray
    landmarks_xy: np.ndarray
    score: float
    looks: tuple[np.ndarray, ...] = ()


@dataclass(frozen=True, eq=False)
class TrackedFrame:
    """The faces of one frame.

    Attributes:
        faces: The visible faces, ordered by track.
        scene: Number of cuts before this frame.
        scanned: Whether the whole frame was scanned.
        weak_xyxy: float32 (N, 4) px, weak detections of a cautious detector. They are not followed.
    """

    faces: tuple[TrackedFace, ...] = ()
    scene: int = 0
    scanned: bool = False
    weak_xyxy: np.ndarray = field(default_factory=lambda: np.zeros((0, 4), np.float32))


@dataclass(eq=False)
class _Track:
    """State of one track.

    Attributes:
        id: Id of the track.
        box_xyxy: float32 (4,) px, as last seen.
        landmarks_xy: float32 (5, 2) px, as last seen.
        score: The detector's score, as last seen.
        seen_s: Time at which it was last seen.
        velocity_xy: Speed of the box's centre, px per second.
        times_measured: Number of measurements in that speed.
        visible: Whether it is in the current frame.
        missed_scans: Number of scans ahead in a row that did not find it.
        looks: The latest descriptions of the person.
    """

    id: int
    box_xyxy: np.ndarray
    landmarks_xy: np.ndarray
    score: float
    seen_s: float
    velocity_xy: np.ndarray = field(default_factory=lambda: np.zeros(2, np.float32))
    times_measured: int = 0
    visible: bool = True
    missed_scans: int = 0
    looks: deque[np.ndarray] = field(default_factory=lambda: deque(maxlen=LOOKS))

    def expected_box(self, time_s: float) -> np.ndarray:
        """Return where the face should be now at its last speed, float32 (4,)."""
        size = float((self.box_xyxy[2:] - self.box_xyxy[:2]).max())
        step = self.velocity_xy * max(0.0, time_s - self.seen_s)
        longest = size * (MAX_STEP if self.visible else MAX_HIDDEN_STEP)
        step = step * min(1.0, longest / max(float(np.hypot(*step)), 1e-6))
        return self.box_xyxy + np.concatenate([step, step]).astype(np.float32)

    def see(self, found: Detections, index: int, time_s: float, *, crowded: bool) -> None:
        """Use a detection as the face's new place, and measure its motion unless it is `crowded`."""
        box = found.boxes_xyxy[index]
        elapsed_s = time_s - self.seen_s
        if elapsed_s > 0 and not crowded:
            moved = (box[:2] + box[2:] - self.box_xyxy[:2] - self.box_xyxy[2:]) / 2
            measured = (moved / elapsed_s).astype(np.float32)
            # The mean of the first few measurements, then a moving average, because boxes jitter by some
            # pixels.
            self.times_measured += 1
            new_share = max(1 - math.exp(-elapsed_s / VELOCITY_S), 1 / (1 + self.times_measured))
            self.velocity_xy = self.velocity_xy + np.float32(new_share) * (measured - self.velocity_xy)
        self.box_xyxy, self.landmarks_xy = box, found.landmarks_xy[index]
        self.score, self.seen_s = float(found.scores[index]), time_s
        if not self.visible:
            self.visible, self.missed_scans = True, 0

    def as_face(self) -> TrackedFace:
        """Return the face as it was last seen."""
        return TrackedFace(self.id, self.box_xyxy, self.landmarks_xy, self.score, tuple(self.looks))


def _expected_boxes(tracks: list[_Track], time_s: float) -> np.ndarray:
    return np.array([track.expected_box(time_s) for track in tracks], np.float32).reshape(-1, 4)


def _last_boxes(tracks: list[_Track]) -> np.ndarray:
    return np.array([track.box_xyxy for track in tracks], np.float32).reshape(-1, 4)


class Tracker:
    """Follows faces through the frames of one video, in order.

    Args:
        detector: Finds the faces.
        pace: Rate of scans, which may change from frame to frame.
        first_index: Index of the first frame in its recording, see `ScanSchedule`.
        scans_ahead: Whether a due scan waits for `scan_ahead`. The caller then has to call that after each
            frame.
    """

    def __init__(
        self,
        detector: FaceDetector,
        pace: ScanPace | None = None,
        *,
        first_index: int | None = None,
        scans_ahead: bool = False,
    ) -> None:
        self._detector = detector
        self._schedule = ScanSchedule(pace or ScanPace(), first_index)
        self._scans_ahead = scans_ahead
        self._to_scan: np.ndarray | None = None  # the last picture, if `scan_ahead` has to scan it
        self._newcomers = Detections.none()  # the new faces that `scan_ahead` found in the last picture
        self._tracks: list[_Track] = []
        self._next_id = 1
        self._index = first_index or 0  # of the next frame
        self._scene = 0
        self._thumbnail: np.ndarray | None = None

    def update(self, image_bgr: np.ndarray, time_s: float) -> TrackedFrame:
        """Find the faces of the next frame: scan it, or follow the known faces.

        Args:
            image_bgr: uint8 (H, W, 3).
            time_s: Presentation time in seconds.

        Returns:
            The visible faces. A face that is out of sight keeps its track for `REMEMBERED_S`.
        """
        if self._is_cut(image_bgr):
            self._start_scene()
        self._drop_lost_tracks(time_s)
        followed = [track for track in self._tracks if track.visible]
        slot = self._schedule.next(len(followed))
        scans = slot.allowed and (not followed or (slot.due and not self._scans_ahead))
        # A due scan doesn't get the known boxes, so its result is the same wherever the tracker started.
        known: np.ndarray | None = None
        if not scans:
            known = self._follow(image_bgr, followed, slot, time_s)
            scans = known is not None  # a face is still lost
        self._newcomers = Detections.none()
        weak = self._scan(image_bgr, known, slot, time_s) if scans else Detections.none()
        visible = sorted((track for track in self._tracks if track.visible), key=lambda track: track.id)
        for track in visible:
            if self._index % LOOK_EVERY == 0 or not track.looks:
                track.looks.append(appearance(image_bgr, track.box_xyxy))
        self._index += 1
        faces = tuple(track.as_face() for track in visible)
        return TrackedFrame(faces, self._scene, scans, weak.boxes_xyxy)

    def scan_ahead(self) -> bool:
        """Make the scan that was due at the last frame, for the next one. Return whether one was due."""
        if self._to_scan is None:
            return False
        image_bgr, self._to_scan = self._to_scan, None
        self._schedule.note_scan()
        followed = [track for track in self._tracks if track.visible]
        known = _last_boxes(followed)
        found = self._detector.scan(image_bgr, known)
        found = found[found.scores > O_NET_THRESHOLD]
        overlap = iou_matrix(found.boxes_xyxy, known)
        self._newcomers = found[overlap.max(axis=1, initial=0) < MATCH_IOU]
        for track, best in zip(followed, overlap.max(axis=0, initial=0), strict=True):
            track.missed_scans = 0 if best >= MATCH_IOU else track.missed_scans + 1
            track.visible = track.missed_scans < MISSED_SCANS
        return True

    def _start_scene(self) -> None:
        """Drop all tracks, because people after a cut are other people."""
        self._tracks = []
        self._scene += 1

    def _drop_lost_tracks(self, time_s: float) -> None:
        """Drop the tracks that were out of sight for too long."""
        self._tracks = [
            track for track in self._tracks if track.visible or abs(time_s - track.seen_s) <= REMEMBERED_S
        ]

    def _follow(
        self, image_bgr: np.ndarray, followed: list[_Track], slot: Slot, time_s: float
    ) -> np.ndarray | None:
        """Follow the known faces, and those that `scan_ahead` found, to their new places.

        Returns:
            None if the tracks are updated. If a face is still lost and a scan may come now, the boxes of the
            others, float32 (N, 4); no track is updated then.
        """
        expected = _expected_boxes(followed, time_s)
        refined = self._detector.refine(image_bgr, np.concatenate([expected, self._newcomers.boxes_xyxy]))
        found, newcomers = refined[: len(followed)], refined[len(followed) :]
        present = self._still_there(image_bgr, found, followed)
        may_scan = slot.allowed and not slot.due_next
        lost = ~present
        # If two boxes are on one face, only a scan tells which of the two faces is lost.
        is_doubled = bool((lost & (found.scores >= STILL_THERE_SCORE)).any())
        scans_at_once = may_scan and (is_doubled or lost.sum() > MOST_SEARCHES)
        if lost.any() and not scans_at_once:
            found = self._search(image_bgr, found, expected, _last_boxes(followed), present)
            present = still_there(found)
        if may_scan and not present.all():
            return found.boxes_xyxy[present]
        near_another = crowded(found.boxes_xyxy)
        for index, track in enumerate(followed):
            if present[index]:
                track.see(found, index, time_s, crowded=bool(near_another[index]))
            else:
                track.visible = False
        self._add_newcomers(image_bgr, newcomers, time_s)
        self._to_scan = image_bgr if slot.allowed and slot.due else None
        return None

    def _scan(
        self, image_bgr: np.ndarray, known_xyxy: np.ndarray | None, slot: Slot, time_s: float
    ) -> Detections:
        """Scan the frame, and assign the faces to tracks. Return the weak detections."""
        self._schedule.note_scan()
        found = self._detector.scan(image_bgr, known_xyxy)
        self._assign(image_bgr, found[found.scores > O_NET_THRESHOLD], self._tracks, time_s)
        if slot.resets_motion:
            for track in self._tracks:
                track.velocity_xy, track.times_measured = np.zeros(2, np.float32), 0
        return found[found.scores <= O_NET_THRESHOLD]

    def _still_there(self, image_bgr: np.ndarray, found: Detections, followed: list[_Track]) -> np.ndarray:
        """Return which followed faces are still there, bool (N,).

        If two boxes have drifted onto one face, as happens when faces cross, the track that looks more like
        it stays.
        """
        preference = found.scores.copy()
        for index in np.flatnonzero(duplicates(found.boxes_xyxy).any(axis=1)):
            look = appearance(image_bgr, found.boxes_xyxy[index])
            preference[index] = likeness([look], followed[index].looks)
        return still_there(found, preference)

    def _add_newcomers(self, image_bgr: np.ndarray, newcomers: Detections, time_s: float) -> None:
        """Add the faces of a scan ahead that are still there and not followed yet."""
        if not len(newcomers):
            return
        places = self._newcomers.boxes_xyxy
        if not still_there(newcomers).all():  # some have moved on since the scan
            newcomers = self._search(image_bgr, newcomers, places, places, still_there(newcomers))
        seen = _last_boxes([track for track in self._tracks if track.visible])
        taken = iou_matrix(newcomers.boxes_xyxy, seen).max(axis=1, initial=0) >= MATCH_IOU
        hidden = [track for track in self._tracks if not track.visible]
        self._assign(image_bgr, newcomers[still_there(newcomers) & ~taken], hidden, time_s)

    def _search(
        self,
        image_bgr: np.ndarray,
        found: Detections,
        expected_xyxy: np.ndarray,
        last_xyxy: np.ndarray,
        present: np.ndarray,
    ) -> Detections:
        """Search nearby for lost faces. Return the detections with the results.

        A face that is not found gets a score of 0.
        """
        boxes, scores, landmarks = found.boxes_xyxy.copy(), found.scores.copy(), found.landmarks_xy.copy()
        present = present.copy()
        for index in np.flatnonzero(~present):
            near = self._detector.search(image_bgr, expected_xyxy[index])
            taken = overlap_of_smaller(near.boxes_xyxy, boxes[present]).max(axis=1, initial=0)
            near = near[(taken <= DUPLICATE_OVERLAP) & (near.scores > O_NET_THRESHOLD)]
            expected, last = expected_xyxy[index][None], last_xyxy[index][None]
            pairs = match(expected, near.boxes_xyxy)
            pairs = pairs or best_pairs(nearness(expected, last, near.boxes_xyxy), 0)
            scores[index] = 0.0
            if pairs:
                ((_, found_index),) = pairs
                boxes[index], scores[index] = near.boxes_xyxy[found_index], near.scores[found_index]
                landmarks[index] = near.landmarks_xy[found_index]
                present[index] = True
        return Detections(boxes, scores, landmarks)

    def _assign(self, image_bgr: np.ndarray, found: Detections, tracks: list[_Track], time_s: float) -> None:
        """Assign each detection to one of these tracks or to a new one."""
        expected, last = _expected_boxes(tracks, time_s), _last_boxes(tracks)
        overlap = iou_matrix(expected, found.boxes_xyxy)
        near = nearness(expected, last, found.boxes_xyxy)
        look_different = self._look_different(image_bgr, found, tracks, (overlap >= MATCH_IOU) | (near >= 0))
        overlap[look_different] = near[look_different] = -1
        pairs = best_pairs(overlap, MATCH_IOU)
        for track_index, index in pairs:
            near[track_index, :] = near[:, index] = -1
        pairs += best_pairs(near, 0)
        near_another = crowded(found.boxes_xyxy)
        for track in tracks:
            track.visible = False
        for track_index, index in pairs:
            tracks[track_index].see(found, index, time_s, crowded=bool(near_another[index]))
        new = set(range(len(found))) - {index for _, index in pairs}
        for index in sorted(new, key=lambda index: found.boxes_xyxy[index, 0]):
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

    def _look_different(
        self, image_bgr: np.ndarray, found: Detections, tracks: list[_Track], possible: np.ndarray
    ) -> np.ndarray:
        """Return which pairs of a hidden track and a detection look like different people, bool (N, M)."""
        look_different = np.zeros(possible.shape, bool)
        hidden = np.array([not track.visible and bool(track.looks) for track in tracks], bool)
        for index in np.flatnonzero((possible & hidden[:, None]).any(axis=0)):
            look = appearance(image_bgr, found.boxes_xyxy[index])
            for row in np.flatnonzero(possible[:, index] & hidden):
                look_different[row, index] = likeness([look], tracks[row].looks) < REGAIN_LIKENESS
        return look_different

    def _is_cut(self, image_bgr: np.ndarray) -> bool:
        """Return whether this picture differs so much from the previous one that it follows a cut."""
        # Every 8th pixel or so is enough. Reading all would cost as much as following a face.
        step = max(1, min(image_bgr.shape[:2]) // 90)
        few_bgr = image_bgr[::step, ::step]
        copied_bgr = np.empty(few_bgr.shape, np.uint8)
        for colour in range(3):  # pixel by pixel, NumPy takes twice as long
            copied_bgr[..., colour] = few_bgr[..., colour]
        small = cv2.resize(copied_bgr, THUMBNAIL_WH, interpolation=cv2.INTER_AREA)
        thumbnail = cv2.cvtColor(small, cv2.COLOR_BGR2GRAY).astype(np.int16)
        before, self._thumbnail = self._thumbnail, thumbnail
        return before is not None and float(np.abs(thumbnail - before).mean()) > CUT_DIFFERENCE
