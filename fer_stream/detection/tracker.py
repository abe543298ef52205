"""Finds and follows faces: when to scan, when to refine, and stable ids.

A full scan of a frame costs many times what it costs to look for a known face near its last box.
So the detector scans every few frames, and in between each face is followed: its motion says where
to look, and the later stages of the cascade give its new box, landmarks and score. A face that is
lost, or a cut in the video, brings the next scan forward to the same frame, unless a live source
leaves no time for it: then the face is searched for nearby.

A live source whose pace is `auto` can't wait for a scan while there are faces to show: the scan comes
after the frame is handed out (`scan_ahead`), and who is new is looked for again in the next frame,
near that place.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import cv2
import numpy as np

from fer_stream.detection.detector import Detector
from fer_stream.detection.geometry import iou_matrix, overlap_of_smaller
from fer_stream.detection.pace import CALM_EVERY, CROWD_EVERY, ScanPace
from fer_stream.types import Detections

MATCH_IOU = 0.25  # a detection and a face's expected box are the same face from here
DUPLICATE_OVERLAP = 0.7  # two followed boxes that overlap this much have run onto the same face
REMEMBERED_S = 1.0  # a face out of sight keeps its id for this long
VELOCITY_S = 0.1  # the motion of a face is averaged over this long
MAX_STEP = 0.5  # a face moves by at most this share of its size from frame to frame
MAX_HIDDEN_STEP = 3.0  # and by this many of its sizes while it is out of sight
REGAIN_DISTANCE = 1.0  # of its size: a face that overlaps nothing is looked for this far from its place
REGAIN_SIZE_RATIO = 0.6  # smaller over larger side, from which it can be the same face
CROWDED_IOU = 0.1  # boxes that overlap more pull at each other, so their motion teaches nothing
# At positions that this divides, which both paces of `auto` scan, motion is measured anew: nothing is
# left there of the frames before but ids, and trackers that started elsewhere come to see the same.
ANEW_EVERY = math.lcm(CALM_EVERY, CROWD_EVERY)
# The score from which a followed face is one still, between scans; a scan asks for more of everyone
# (`detector.O_NET_THRESHOLD`). With 0.7 here too, every second scan of a crowd is one for faces that flicker.
STILL_THERE_SCORE = 0.45
MISSED_SCANS = 2  # a face that is followed, but not found by so many scans ahead, is none
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
        times_measured: How many measurements of the motion it is made of.
        visible: Whether it is in the current frame.
        missed_scans: How many scans ahead in a row have not found it.
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

    def expected_box(self, time_s: float) -> np.ndarray:
        """Returns where the face should be now if it goes on as it moved, float32 (4,)."""
        size = float((self.box_xyxy[2:] - self.box_xyxy[:2]).max())
        step = self.velocity_xy * max(0.0, time_s - self.seen_s)
        longest = size * (MAX_STEP if self.visible else MAX_HIDDEN_STEP)
        step = step * min(1.0, longest / max(float(np.hypot(*step)), 1e-6))
        return self.box_xyxy + np.concatenate([step, step]).astype(np.float32)

    def see(self, found: Detections, index: int, time_s: float, *, crowded: bool) -> None:
        """Takes over a detection as the face's new place, and its motion unless it is `crowded`."""
        box = found.boxes_xyxy[index]
        elapsed_s = time_s - self.seen_s
        if elapsed_s > 0 and not crowded:
            moved = (box[:2] + box[2:] - self.box_xyxy[:2] - self.box_xyxy[2:]) / 2
            measured = (moved / elapsed_s).astype(np.float32)
            # The mean of the first few, then a moving average: boxes jitter by some pixels.
            self.times_measured += 1
            new_share = max(1 - math.exp(-elapsed_s / VELOCITY_S), 1 / (1 + self.times_measured))
            self.velocity_xy = self.velocity_xy + np.float32(new_share) * (measured - self.velocity_xy)
        self.box_xyxy, self.landmarks_xy = box, found.landmarks_xy[index]
        self.score, self.seen_s = float(found.scores[index]), time_s
        if not self.visible:
            self.visible, self.missed_scans = True, 0


def _expected_boxes(tracks: list[_Track], time_s: float) -> np.ndarray:
    return np.array([track.expected_box(time_s) for track in tracks], np.float32).reshape(-1, 4)


def _last_boxes(tracks: list[_Track]) -> np.ndarray:
    return np.array([track.box_xyxy for track in tracks], np.float32).reshape(-1, 4)


class Tracker:
    """Follows faces through the frames of one video, in order.

    Args:
        detector: Finds the faces.
        pace: When to scan; may change from frame to frame.
        first_index: Position of the first frame in its recording. Scans are then due at positions that
            `pace.due_after` divides, so that who starts in the middle scans the same frames as who started
            at the beginning, and soon sees the same faces. None counts from the last scan, whenever it was.
        scans_ahead: Whether a scan that is due waits for `scan_ahead`, which the caller has to call
            after each frame.

    Attributes:
        scanned: Whether the last frame was scanned.
    """

    def __init__(
        self,
        detector: Detector,
        pace: ScanPace | None = None,
        *,
        first_index: int | None = None,
        scans_ahead: bool = False,
    ) -> None:
        self.scanned = False
        self._scans_ahead = scans_ahead
        self._to_scan: np.ndarray | None = None
        self._newcomers = Detections.none()  # of a scan ahead
        self._detector = detector
        self._pace = pace or ScanPace()
        self._tracks: list[_Track] = []
        self._next_id = 1
        self._frames_since_scan = self._pace.gap  # the first frame is scanned
        self._index = first_index  # of the next frame
        self._thumbnail: np.ndarray | None = None

    def update(
        self, image_bgr: np.ndarray, time_s: float, found: Detections | None = None
    ) -> list[TrackedFace]:
        """Finds the faces of the next frame.

        Args:
            image_bgr: uint8 (H, W, 3).
            time_s: Presentation time in seconds.
            found: What a scan of this frame has found, where one was made already.

        Returns:
            The visible faces, ordered by id.
        """
        self._tracks = [
            track for track in self._tracks if track.visible or abs(time_s - track.seen_s) <= REMEMBERED_S
        ]
        if self._is_cut(image_bgr):
            self._tracks = []  # whoever comes after a cut is somebody else
        followed = [track for track in self._tracks if track.visible]
        self._frames_since_scan += 1
        every = self._pace.due_after(len(followed))
        due, anew = self._frames_since_scan >= every, False
        if self._index is not None:
            due, anew = self._index % every == 0, self._index % ANEW_EVERY == 0
            self._index += 1
        may_scan = self._frames_since_scan >= self._pace.gap
        scan_now = may_scan and (not followed or (due and not self._scans_ahead))
        self.scanned = found is not None or scan_now
        # A scan that is due takes nothing from the frames before it, so that trackers that started at
        # different frames come to see the same.
        known: np.ndarray | None = None
        if not self.scanned:
            rest = self._follow(image_bgr, followed, time_s, may_fail=may_scan)
            self.scanned = rest is not None
            if rest is not None:  # a scan is to find again who is lost; where the rest are is known
                known = rest.boxes_xyxy
            elif may_scan and due:
                self._to_scan = image_bgr
        self._newcomers = Detections.none()
        if self.scanned:
            if found is None:
                found = self._detector.scan(image_bgr, known)
            self._frames_since_scan = 0
            self._assign(found, self._tracks, time_s)
            for track in self._tracks if anew else ():
                track.velocity_xy, track.times_measured = np.zeros(2, np.float32), 0
        return [
            TrackedFace(track.id, track.box_xyxy, track.landmarks_xy, track.score)
            for track in sorted(self._tracks, key=lambda track: track.id)
            if track.visible
        ]

    def scan_ahead(self) -> None:
        """Makes the scan that was due at the last frame, for the next one; does nothing if none was."""
        if self._to_scan is None:
            return
        image_bgr, self._to_scan = self._to_scan, None
        self.scanned, self._frames_since_scan = True, 0
        followed = [track for track in self._tracks if track.visible]
        known = _last_boxes(followed)
        found = self._detector.scan(image_bgr, known)
        overlap = iou_matrix(found.boxes_xyxy, known)
        self._newcomers = found[overlap.max(axis=1, initial=0) < MATCH_IOU]
        for track, best in zip(followed, overlap.max(axis=0, initial=0), strict=True):
            track.missed_scans = 0 if best >= MATCH_IOU else track.missed_scans + 1
            track.visible = track.missed_scans < MISSED_SCANS

    def _follow(
        self, image_bgr: np.ndarray, followed: list[_Track], time_s: float, *, may_fail: bool
    ) -> Detections | None:
        """Refines the faces round their expected boxes.

        Args:
            image_bgr: uint8 (H, W, 3).
            followed: The faces.
            time_s: Presentation time in seconds.
            may_fail: Whether a scan can take its place; else those that are lost are searched for
                nearby, and gone if they are not found.

        Returns:
            None; but where some are lost and it may fail, those that are not, and nothing has changed.
        """
        expected, newcomers = _expected_boxes(followed, time_s), self._newcomers.boxes_xyxy
        found = self._detector.refine(image_bgr, np.concatenate([expected, newcomers]))
        found, new = found[: len(followed)], found[len(followed) :]
        there = _still_there(found)
        if not there.all():
            if may_fail:
                return found[there]
            found = self._search(image_bgr, found, expected, _last_boxes(followed), there)
            there = _still_there(found)
        crowded = _crowded(found.boxes_xyxy)
        for index, track in enumerate(followed):
            if there[index]:
                track.see(found, index, time_s, crowded=bool(crowded[index]))
            else:
                track.visible = False
        if len(new):
            if not _still_there(new).all():  # some have moved on since the scan
                new = self._search(image_bgr, new, newcomers, newcomers, _still_there(new))
            taken = iou_matrix(new.boxes_xyxy, found.boxes_xyxy[there]).max(axis=1, initial=0) >= MATCH_IOU
            hidden = [track for track in self._tracks if not track.visible]
            self._assign(new[_still_there(new) & ~taken], hidden, time_s)
        return None

    def _search(
        self,
        image_bgr: np.ndarray,
        found: Detections,
        expected_xyxy: np.ndarray,
        last_xyxy: np.ndarray,
        there: np.ndarray,
    ) -> Detections:
        """Puts what a search nearby finds in the place of the faces that are not there any more."""
        boxes, scores, landmarks = found.boxes_xyxy.copy(), found.scores.copy(), found.landmarks_xy.copy()
        for index in np.flatnonzero(~there):
            near = self._detector.search(image_bgr, expected_xyxy[index])
            taken = overlap_of_smaller(near.boxes_xyxy, boxes[there]).max(axis=1, initial=0)
            near = near[taken <= DUPLICATE_OVERLAP]
            expected, last = expected_xyxy[index][None], last_xyxy[index][None]
            pairs = match(expected, near.boxes_xyxy) or _match_near(expected, last, near.boxes_xyxy)
            scores[index] = 0.0
            for _, one in pairs:
                boxes[index], scores[index] = near.boxes_xyxy[one], near.scores[one]
                landmarks[index] = near.landmarks_xy[one]
                there[index] = True
        return Detections(boxes, scores, landmarks)

    def _assign(self, found: Detections, tracks: list[_Track], time_s: float) -> None:
        """Gives each detection to the one of these faces that it is, or to a new one."""
        expected = _expected_boxes(tracks, time_s)
        last = _last_boxes(tracks)
        pairs = match(expected, found.boxes_xyxy)
        lost = sorted(set(range(len(tracks))) - {track_index for track_index, _ in pairs})
        new = sorted(set(range(len(found))) - {index for _, index in pairs})
        pairs += [
            (lost[row], new[column])
            for row, column in _match_near(expected[lost], last[lost], found.boxes_xyxy[new])
        ]
        crowded = _crowded(found.boxes_xyxy)
        for track in tracks:
            track.visible = False
        for track_index, index in pairs:
            tracks[track_index].see(found, index, time_s, crowded=bool(crowded[index]))
        new = sorted(set(new) - {index for _, index in pairs}, key=lambda index: found.boxes_xyxy[index, 0])
        for index in new:
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
    return _best_pairs(iou_matrix(expected_xyxy, found_xyxy), MATCH_IOU)


def _match_near(
    expected_xyxy: np.ndarray, last_xyxy: np.ndarray, found_xyxy: np.ndarray
) -> list[tuple[int, int]]:
    """Pairs faces with found boxes of their size near where they should be, or where they were last.

    For a face that was hidden, or moved in an unforeseen way, so that its boxes do not overlap.
    """
    sides = (last_xyxy[:, 2:] - last_xyxy[:, :2]).max(axis=1, initial=1)[:, None]
    found_sides = (found_xyxy[:, 2:] - found_xyxy[:, :2]).max(axis=1, initial=1)[None, :]
    distance = np.minimum(_distances(expected_xyxy, found_xyxy), _distances(last_xyxy, found_xyxy)) / sides
    same_size = np.minimum(sides, found_sides) >= REGAIN_SIZE_RATIO * np.maximum(sides, found_sides)
    return _best_pairs(np.where(same_size, REGAIN_DISTANCE - distance, -1), 0)


def _best_pairs(likeness: np.ndarray, least: float) -> list[tuple[int, int]]:
    """Returns pairs (row, column), the most alike first, each row and column at most once."""
    likeness, pairs = likeness.copy(), []
    while likeness.size and likeness.max() >= least:
        row, column = np.unravel_index(likeness.argmax(), likeness.shape)
        pairs.append((int(row), int(column)))
        likeness[row, :] = likeness[:, column] = -np.inf
    return pairs


def _distances(a_xyxy: np.ndarray, b_xyxy: np.ndarray) -> np.ndarray:
    """Returns the distances of the centres in px, (len(a), len(b))."""
    a_xy, b_xy = (a_xyxy[:, :2] + a_xyxy[:, 2:]) / 2, (b_xyxy[:, :2] + b_xyxy[:, 2:]) / 2
    return np.linalg.norm(a_xy[:, None] - b_xy[None, :], axis=2)


def _crowded(boxes_xyxy: np.ndarray) -> np.ndarray:
    """Returns for each box whether another overlaps it, bool (N,)."""
    overlap = iou_matrix(boxes_xyxy, boxes_xyxy)
    np.fill_diagonal(overlap, 0)
    return overlap.max(axis=1, initial=0) > CROWDED_IOU


def _still_there(found: Detections) -> np.ndarray:
    """Returns which followed faces are faces still, and not another one that is followed: bool (N,)."""
    best_first = np.argsort(-found.scores, kind="stable")
    rank = np.argsort(best_first)
    overlap = overlap_of_smaller(found.boxes_xyxy, found.boxes_xyxy)
    on_a_better_one = (overlap > DUPLICATE_OVERLAP) & (rank[None, :] < rank[:, None])
    return (found.scores >= STILL_THERE_SCORE) & ~on_a_better_one.any(axis=1)
