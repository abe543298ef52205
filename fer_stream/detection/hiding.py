"""Find the places that `--blur` hides: where a face is or may be in each frame, shown or not.

A detector misses faces in single frames. So a place counts from half a second before its face is first found
to half a second after it is last found, and during gaps of up to a second. A live source can't look ahead, so
there a place counts for a second after the face was found.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from fer_stream.detection.geometry import overlap_of_smaller
from fer_stream.detection.tracker import REMEMBERED_S, TrackedFace

BEFORE_S = AFTER_S = 0.5
WEAK_S = 0.25  # a weak detection counts for this long before and after, because it is often no face
# Share of the smaller box. A weak detection that overlaps a place by more than this adds nothing.
SAME_PLACE_OVERLAP = 0.7
LONGEST_GAP_S = 1.0
LIVE_AFTER_S = REMEMBERED_S  # the tracker may continue the face within this time
PACE_S = 0.2  # the motion of a face is measured over this long
SHORTEST_S = 0.001  # no motion is measured over a shorter time, because two frames may have the same time
DRIFT_PER_S = 0.3  # in sizes of the face: its largest distance from the expected place, on each side


@dataclass(eq=False)
class _Path:
    """Sightings of a track: times in order, and a box (4,) px for each."""

    scene: int
    times_s: list[float] = field(default_factory=list)
    boxes_xyxy: list[np.ndarray] = field(default_factory=list)

    def add(self, time_s: float, box_xyxy: np.ndarray) -> None:
        place = bisect_right(self.times_s, time_s)
        self.times_s.insert(place, time_s)
        self.boxes_xyxy.insert(place, box_xyxy)

    def box_at(self, time_s: float, before_s: float, after_s: float) -> np.ndarray | None:
        """Return where the face is or may be, (4,) px; None if it was not seen for too long."""
        after = bisect_right(self.times_s, time_s + 1e-9)
        before = after - 1
        if before >= 0 and time_s - self.times_s[before] < 1e-6:
            return self.boxes_xyxy[before]
        if before >= 0 and after < len(self.times_s):
            gap_s = self.times_s[after] - self.times_s[before]
            if gap_s <= LONGEST_GAP_S + 1e-6:
                share = np.float32((time_s - self.times_s[before]) / gap_s)
                box = (1 - share) * self.boxes_xyxy[before] + share * self.boxes_xyxy[after]
                away_s = min(time_s - self.times_s[before], self.times_s[after] - time_s)
                return _grown(box, away_s)
        if before >= 0 and time_s - self.times_s[before] <= after_s + 1e-6:
            return self._moved(before, -1, time_s)
        if after < len(self.times_s) and self.times_s[after] - time_s <= before_s + 1e-6:
            return self._moved(after, 1, time_s)
        return None

    def _moved(self, near: int, step: int, time_s: float) -> np.ndarray:
        """Return the box of a sighting moved to another time, at the speed that it had."""
        far = near
        while (
            0 <= far + step < len(self.times_s)
            and abs(self.times_s[far + step] - self.times_s[near]) <= PACE_S
        ):
            far += step
        box, away_s = self.boxes_xyxy[near], time_s - self.times_s[near]
        elapsed_s = self.times_s[far] - self.times_s[near]
        if abs(elapsed_s) >= SHORTEST_S:
            moved = self.boxes_xyxy[far] - box
            moved = (moved[:2] + moved[2:]) / 2 / elapsed_s * away_s
            box = box + np.concatenate([moved, moved]).astype(np.float32)
        return _grown(box, abs(away_s))

    def forget(self, until_s: float) -> None:
        """Forget earlier sightings, except for the last one."""
        keep_from = min(bisect_right(self.times_s, until_s), len(self.times_s) - 1)
        del self.times_s[:keep_from], self.boxes_xyxy[:keep_from]


class PossibleFaces:
    """Remembers the sightings of each track for a while.

    Args:
        live: Whether the source is live, so that later frames are unknown.
    """

    def __init__(self, *, live: bool = False) -> None:
        self._before_s, self._after_s = (0.0, LIVE_AFTER_S) if live else (BEFORE_S, AFTER_S)
        self._paths: dict[int, _Path] = {}
        self._weak: list[tuple[float, int, np.ndarray]] = []  # time, scene, box

    def see_weak(self, boxes_xyxy: np.ndarray, time_s: float, scene: int) -> None:
        """Add the weak detections of a frame, (N, 4) px."""
        self._weak += [(time_s, scene, box) for box in boxes_xyxy]

    def see(self, faces: Sequence[TrackedFace], time_s: float, scene: int) -> None:
        """Add the faces of a frame. Frames may come in any order."""
        for face in faces:
            self._paths.setdefault(face.track_id, _Path(scene)).add(time_s, face.box_xyxy)

    def at(self, time_s: float, scene: int) -> np.ndarray:
        """Return the places of a frame, float32 (N, 4) px. Call it for frames in order."""
        keep_s = time_s - LONGEST_GAP_S - PACE_S
        for track_id, path in list(self._paths.items()):
            path.forget(keep_s)
            if time_s - path.times_s[-1] > LONGEST_GAP_S + PACE_S:
                del self._paths[track_id]
        boxes = [
            path.box_at(time_s, self._before_s, self._after_s)
            for path in self._paths.values()
            if path.scene == scene
        ]
        places = np.array([box for box in boxes if box is not None], np.float32).reshape(-1, 4)
        return self._with_weak(places, time_s, scene)

    def _with_weak(self, places_xyxy: np.ndarray, time_s: float, scene: int) -> np.ndarray:
        """Add weak detections to the places. Add only one if several frames had one at the same place."""
        self._weak = [weak for weak in self._weak if time_s - weak[0] <= WEAK_S + 1e-6]
        for seen_s, seen_scene, box in sorted(self._weak, key=lambda weak: abs(weak[0] - time_s)):
            away_s = abs(seen_s - time_s)
            if seen_scene != scene or away_s > WEAK_S + 1e-6:
                continue
            if overlap_of_smaller(box[None], places_xyxy).max(initial=0) < SAME_PLACE_OVERLAP:
                places_xyxy = np.concatenate([places_xyxy, _grown(box, away_s)[None]])
        return places_xyxy


def _grown(box_xyxy: np.ndarray, away_s: float) -> np.ndarray:
    """Return the box, enlarged by the distance that a face may move in `away_s` seconds from a sighting."""
    drift = np.float32(DRIFT_PER_S * away_s * float((box_xyxy[2:] - box_xyxy[:2]).max()))
    return box_xyxy + drift * np.array([-1, -1, 1, 1], np.float32)
