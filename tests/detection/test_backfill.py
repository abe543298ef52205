"""A face that a scan finds is followed back to the previous scan."""

from __future__ import annotations

import weakref

import cv2
import numpy as np

from fer_stream.detection.backfill import Backfill
from fer_stream.detection.detector import Detector
from fer_stream.detection.pace import ScanPace
from fer_stream.detection.tracker import TrackedFace, TrackedFrame, Tracker
from fer_stream.types import Detections, Frame


def test_a_newcomer_is_found_in_the_frames_since_the_last_scan(
    hopper_bgr: np.ndarray, detector: Detector
) -> None:
    card = cv2.resize(hopper_bgr[40:400, 110:420], None, fx=0.3, fy=0.3, interpolation=cv2.INTER_AREA)
    height, width = card.shape[:2]
    tracker, backfill = Tracker(detector, ScanPace(every=10), first_index=0), Backfill(detector)
    found: dict[int, float] = {}
    for index in range(25):
        bgr = np.full((270, 480, 3), 128, np.uint8)
        bgr[80 : 80 + height, 20 : 20 + width] = card[:, ::-1]  # a face that is followed all the time
        if index >= 13:
            x = 250 + 4 * index
            bgr[60 : 60 + height, x : x + width] = card
        tracked = tracker.update(bgr, index / 25)
        for earlier in backfill.earlier(Frame(bgr, index, index / 25), tracked):
            assert index == 20 and earlier.face.track_id == 2
            found[earlier.frame.index] = float(earlier.face.box_xyxy[[0, 2]].mean())
    assert sorted(found) == list(range(13, 20))
    for index, x in found.items():
        assert abs(x - (250 + 4 * index + width / 2)) < 15


def test_a_face_that_returns_is_followed_back_to_where_it_was_last_seen() -> None:
    class FindsAllInPlace:
        def refine(self, image_bgr: np.ndarray, boxes_xyxy: np.ndarray) -> Detections:
            count = len(boxes_xyxy)
            return Detections(boxes_xyxy, np.ones(count, np.float32), np.zeros((count, 5, 2), np.float32))

    def seen_at(*lefts: int) -> tuple[TrackedFace, ...]:
        boxes = [np.array([left, 0, left + 20, 20], np.float32) for left in lefts]
        return tuple(TrackedFace(1, box, np.zeros((5, 2), np.float32), 1.0) for box in boxes)

    backfill = Backfill(FindsAllInPlace())  # type: ignore[arg-type]
    frames = [Frame(np.zeros((20, 60, 3), np.uint8), index, index / 25) for index in range(4)]
    tracked = [
        *(TrackedFrame(seen_at(0), scanned=True), TrackedFrame(), TrackedFrame()),
        TrackedFrame(seen_at(8), scanned=True),  # too far from where it was for the same place
    ]
    *_, earlier = (backfill.earlier(frame, each) for frame, each in zip(frames, tracked, strict=True))
    assert [found.frame.index for found in earlier] == [2, 1]


def test_a_face_that_is_not_where_it_was_expected_is_searched_nearby() -> None:
    class SearchesOnly:
        def refine(self, image_bgr: np.ndarray, boxes_xyxy: np.ndarray) -> Detections:
            count = len(boxes_xyxy)
            return Detections(boxes_xyxy, np.zeros(count, np.float32), np.zeros((count, 5, 2), np.float32))

        def search(self, image_bgr: np.ndarray, box_xyxy: np.ndarray) -> Detections:
            boxes = np.array([[40, 0, 60, 20], [3, 0, 23, 20], [0, 0, 20, 20]], np.float32)
            scores = np.array([0.9, 0.9, 0.6], np.float32)  # far away, near, and too weak
            return Detections(boxes, scores, np.zeros((3, 5, 2), np.float32))

    backfill = Backfill(SearchesOnly())  # type: ignore[arg-type]
    frames = [Frame(np.zeros((20, 60, 3), np.uint8), index, index / 25) for index in range(2)]
    face = TrackedFace(1, np.array([0, 0, 20, 20], np.float32), np.zeros((5, 2), np.float32), 1.0)
    assert backfill.earlier(frames[0], TrackedFrame(scanned=True)) == ()
    (found,) = backfill.earlier(frames[1], TrackedFrame((face,), scanned=True))
    assert found.frame.index == 0
    assert found.face.box_xyxy.tolist() == [3, 0, 23, 20]


def test_few_frames_that_are_larger_than_4k_are_held(detector: Detector) -> None:
    backfill = Backfill(detector)
    held: list[weakref.ref[Frame]] = []
    for index in range(10):
        frame = Frame(np.zeros((4320, 7680, 3), np.uint8), index, index / 25)  # untouched, it takes no memory
        backfill.earlier(frame, TrackedFrame())
        held.append(weakref.ref(frame))
        del frame
    assert sum(ref() is not None for ref in held) <= 2
