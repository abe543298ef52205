"""Ids stay with faces that move, cross, leave and return, across cuts, and with irregular frame times.

Synthetic video of real faces: cards cut from a photograph move over a plain background, so that
each frame's true places are known.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
from helpers.cards import Blinded, CountingDetector, Scene

from fer_stream.detection.association import match
from fer_stream.detection.detector import Detector
from fer_stream.detection.pace import ScanPace
from fer_stream.detection.tracker import REMEMBERED_S, TrackedFace, Tracker
from fer_stream.types import Detections

FRAMES_PER_S = 25


def times_s(start_s: float = 0.0) -> Iterator[float]:
    frame = 0
    while True:
        yield start_s + frame / FRAMES_PER_S
        frame += 1


def centre_x(face: TrackedFace) -> float:
    return float(face.box_xyxy[0] + face.box_xyxy[2]) / 2


def test_a_moving_face_keeps_its_id_with_few_scans(
    scene: Scene, tracker: Tracker, counting: CountingDetector
) -> None:
    card = scene.card()
    for index in range(60):
        x = 60 + 6 * index
        faces = tracker.update(
            scene.frame((card, x, 135 + 30 * np.sin(index / 9))), index / FRAMES_PER_S
        ).faces
        assert [face.track_id for face in faces] == [1]
        assert abs(centre_x(faces[0]) - x) < 15
        assert faces[0].box_xyxy.min() >= 0
        assert faces[0].score > 0.7
    assert counting.scans <= 60 / 5 + 3
    assert counting.scans + counting.refines <= 60 + 3  # the later networks run once per frame


@pytest.mark.parametrize(("score", "searches"), [(0.5, 0), (0.4, 1)])
def test_a_followed_face_may_be_less_certain_than_a_new_one(
    scene: Scene, counting: CountingDetector, score: float, searches: int
) -> None:
    tracker = Tracker(counting, ScanPace(every=5))  # type: ignore[arg-type]
    frame = scene.frame((scene.card(), 200, 130))
    tracker.update(frame, 0.0)
    refined = counting.refine
    counting.refine = lambda *at: replace(refined(*at), scores=np.array([score], np.float32))  # type: ignore[method-assign]
    (face,) = tracker.update(frame, 0.04).faces
    assert face.track_id == 1
    assert (counting.scans, counting.searches) == (1, searches)


def test_every_frame_is_scanned_on_request(scene: Scene, counting: CountingDetector) -> None:
    tracker = Tracker(counting, ScanPace(every=1))  # type: ignore[arg-type]
    for index in range(6):
        tracker.update(scene.frame((scene.card(), 200 + index, 130)), index / FRAMES_PER_S)
    assert (counting.scans, counting.refines) == (6, 0)


@pytest.mark.parametrize(
    ("behind", "front", "px_a_frame", "apart_y"),
    [(0.3, 0.3, 6, 0), (0.3, 0.3, 6, 25), (0.25, 0.35, 6, 25), (0.35, 0.28, 11, 0)],
)
def test_two_faces_that_cross_keep_their_ids(
    scene: Scene, tracker: Tracker, behind: float, front: float, px_a_frame: int, apart_y: int
) -> None:
    cards = scene.card(behind), scene.card(front, mirrored=True)
    seen_alone, last = 0, []
    for index in range(340 // px_a_frame):
        x_behind, x_front = 70 + px_a_frame * index, 410 - px_a_frame * index
        frame = scene.frame((cards[0], x_behind, 135 - apart_y / 2), (cards[1], x_front, 135 + apart_y / 2))
        faces = tracker.update(frame, index / FRAMES_PER_S).faces
        ids = {face.track_id for face in faces}
        assert ids <= {1, 2}
        assert index > 20 or index * px_a_frame > 120 or ids == {1, 2}
        seen_alone += len(ids) == 1
        last = faces
    assert seen_alone > 3  # one face covered the other
    assert [face.track_id for face in last] == [1, 2]
    assert abs(centre_x(last[0]) - x_behind) < 20
    assert abs(centre_x(last[1]) - x_front) < 20


def away_and_back(
    scene: Scene, tracker: Tracker, gap_s: float, back_xy: tuple[int, int]
) -> tuple[set[int], set[int]]:
    """Return the ids before and after a face is out of sight. Another face stays in sight all the time."""
    card, other = scene.card(), scene.card(mirrored=True)
    time_s = times_s()
    for _ in range(12):
        before = tracker.update(scene.frame((other, 90, 135), (card, 300, 120)), next(time_s)).faces
    for _ in range(round(gap_s * FRAMES_PER_S)):
        during = tracker.update(scene.frame((other, 90, 135)), next(time_s)).faces
        assert [face.track_id for face in during] == [1]
    for _ in range(8):
        after = tracker.update(scene.frame((other, 90, 135), (card, *back_xy)), next(time_s)).faces
    assert len(before) == len(after) == 2
    return {face.track_id for face in before}, {face.track_id for face in after}


@pytest.mark.parametrize("back_xy", [(300, 120), (330, 130)])
def test_a_face_that_soon_returns_near_its_place_keeps_its_id(
    scene: Scene, tracker: Tracker, back_xy: tuple[int, int]
) -> None:
    before, after = away_and_back(scene, tracker, 0.5 * REMEMBERED_S, back_xy)
    assert before == after == {1, 2}


def test_a_face_that_returns_late_gets_a_new_id(scene: Scene, tracker: Tracker) -> None:
    before, after = away_and_back(scene, tracker, REMEMBERED_S + 0.3, (300, 120))
    assert (before, after) == ({1, 2}, {1, 3})


def test_a_face_that_appears_far_from_where_one_vanished_is_another(scene: Scene, tracker: Tracker) -> None:
    _, after = away_and_back(scene, tracker, 0.3, (420, 200))
    assert after == {1, 3}


def test_a_cut_gives_new_ids_at_once(scene: Scene, tracker: Tracker, counting: CountingDetector) -> None:
    card = scene.card()
    for index in range(7):
        tracker.update(scene.frame((card, 200, 135)), index / FRAMES_PER_S)
    scans = counting.scans
    faces = tracker.update(scene.frame((card, 205, 135), background=20), 7 / FRAMES_PER_S).faces
    assert [face.track_id for face in faces] == [2]
    assert counting.scans == scans + 1


def test_a_lost_face_is_searched_for_in_the_same_frame(
    scene: Scene, tracker: Tracker, counting: CountingDetector
) -> None:
    card = scene.card()
    for index in range(3):
        tracker.update(scene.frame((card, 120, 135)), index / FRAMES_PER_S)
    assert counting.scans == 1
    moved = tracker.update(scene.frame((card, 168, 135)), 3 / FRAMES_PER_S).faces  # too far to be followed
    assert [face.track_id for face in moved] == [1]
    assert abs(centre_x(moved[0]) - 168) < 15
    gone = tracker.update(scene.frame(), 4 / FRAMES_PER_S).faces
    assert gone == ()


def test_a_face_that_enters_is_found_within_scan_every_frames(scene: Scene, detector: Detector) -> None:
    other, card = scene.card(mirrored=True), scene.card()
    for entered in range(10, 15):  # at every phase of the scans
        tracker = Tracker(detector, ScanPace(every=5))
        found_at = None
        for index in range(entered + 6):
            placed = [(other, 100.0, 135.0)] + [(card, 350.0, 130.0)] * (index >= entered)
            faces = tracker.update(scene.frame(*placed), index / FRAMES_PER_S).faces
            if len(faces) == 2:
                found_at = index
                break
        assert found_at is not None
        assert entered <= found_at < entered + 5


def test_a_live_frame_does_not_wait_for_a_scan_and_a_newcomer_is_in_the_next(
    scene: Scene, counting: CountingDetector
) -> None:
    tracker = Tracker(counting, ScanPace(every=5), scans_ahead=True)  # type: ignore[arg-type]
    other, card = scene.card(mirrored=True), scene.card()
    scanned_before_the_frame_was_out, ids = [], []
    for index in range(14):
        x = 100.0 + 3 * index
        placed = [(other, x, 135.0)] + [(card, x + 250, 130.0)] * (index >= 7)
        before = counting.scans
        faces = tracker.update(scene.frame(*placed), index / FRAMES_PER_S).faces
        if counting.scans > before:
            scanned_before_the_frame_was_out.append(index)
        tracker.scan_ahead()
        ids.append([face.track_id for face in faces])
        for face, place in zip(faces, (x, x + 250), strict=False):
            assert abs(centre_x(face) - place) < 15
    assert scanned_before_the_frame_was_out == [0]  # there was no face to follow
    assert counting.scans == 3  # at 0, after 5, and after 10
    assert ids == [[1]] * 11 + [[1, 2]] * 3


def test_a_live_face_that_scans_no_longer_find_is_dropped(scene: Scene, detector: Detector) -> None:
    blinded = Blinded(detector)
    tracker = Tracker(blinded, ScanPace(every=5), scans_ahead=True)  # type: ignore[arg-type]
    cards = [(scene.card(), 120.0, 135.0), (scene.card(mirrored=True), 350.0, 135.0)]
    counts = []
    for index in range(20):
        if index == 3:
            blinded.edge_x = 230
        counts.append(len(tracker.update(scene.frame(*cards), index / FRAMES_PER_S).faces))
        tracker.scan_ahead()
    assert counts[:6] == [2] * 6  # one scan may miss a face
    assert counts[-5:] == [1] * 5


def test_a_regained_live_face_may_be_missed_once_more(scene: Scene, detector: Detector) -> None:
    blinded = Blinded(detector)
    tracker = Tracker(blinded, ScanPace(every=5), scans_ahead=True)  # type: ignore[arg-type]
    cards = [(scene.card(), 120.0, 135.0), (scene.card(mirrored=True), 350.0, 135.0)]
    ids = []
    for index in range(24):
        blinded.edge_x = 230 if 3 <= index <= 11 or 18 <= index <= 22 else np.inf
        ids.append(
            [face.track_id for face in tracker.update(scene.frame(*cards), index / FRAMES_PER_S).faces]
        )
        tracker.scan_ahead()
    assert ids[12] == [1] and ids[17:] == [[1, 2]] * 7


def test_a_fast_live_newcomer_is_found_after_a_slow_scan(scene: Scene, detector: Detector) -> None:
    tracker = Tracker(detector, ScanPace(every=5), scans_ahead=True)
    card, other = scene.card(0.25), scene.card(0.25, mirrored=True)
    for index in (0, 1, 2, 3, 4, 5, 8):  # two frames were dropped while the scan ran
        faces = (
            tracker.update(
                scene.frame((card, 80, 135), (other, 180 + 13 * index, 135)), index / FRAMES_PER_S
            ).faces
            if index >= 5
            else tracker.update(scene.frame((card, 80, 135)), index / FRAMES_PER_S).faces
        )
        tracker.scan_ahead()
    assert len(faces) == 2
    assert abs(centre_x(faces[1]) - (180 + 13 * 8)) < 15


@pytest.mark.parametrize("scans_ahead", [False, True])
def test_the_only_face_is_found_as_soon_as_it_is_back(
    scene: Scene, detector: Detector, scans_ahead: bool
) -> None:
    tracker = Tracker(detector, scans_ahead=scans_ahead)
    seen = []
    for index in range(12):
        placed = [] if index in (3, 4) else [(scene.card(), 200.0, 135.0)]
        seen.append(len(tracker.update(scene.frame(*placed), index / FRAMES_PER_S).faces))
        tracker.scan_ahead()
    assert seen == [1, 1, 1, 0, 0, *[1] * 7]


def test_scans_come_closer_together_in_a_crowd(scene: Scene, counting: CountingDetector) -> None:
    cards = [(scene.card(0.2), x, y) for x in (90.0, 240.0, 390.0) for y in (70.0, 200.0)]
    for count, scans in ((1, 2), (6, 5)):
        counting.scans = 0
        tracker = Tracker(counting, first_index=0)  # type: ignore[arg-type]
        for index in range(20):
            faces = tracker.update(scene.frame(*cards[:count]), index / FRAMES_PER_S).faces
            assert len(faces) == count
        assert counting.scans == scans


def test_scans_are_at_least_the_gap_apart(scene: Scene, counting: CountingDetector) -> None:
    tracker = Tracker(counting, ScanPace(every=8, gap=8))  # type: ignore[arg-type]
    card, other, scanned = scene.card(), scene.card(mirrored=True), []
    for index in range(24):
        empty = index < 3
        hidden = 11 <= index < 19  # the first face is lost, which would bring a scan at once
        placed = [(card, 120.0, 135.0)] * (not empty and not hidden) + [(other, 350.0, 135.0)] * (not empty)
        tracked = tracker.update(scene.frame(*placed), index / FRAMES_PER_S)
        faces = tracked.faces
        if tracked.scanned:
            scanned.append(index)
        expected = [] if index < 8 else [2] if 11 <= index < 24 else [1, 2]
        assert [face.track_id for face in faces] == expected, index
    assert scanned == [0, 8, 16]
    assert counting.scans == 3


def test_a_lost_face_is_found_nearby_without_a_scan(scene: Scene, counting: CountingDetector) -> None:
    tracker = Tracker(counting, ScanPace(every=50))  # type: ignore[arg-type]
    card, x = scene.card(), 120.0
    for index in range(6):
        x += 40 * (index == 4)  # too far to be followed
        (face,) = tracker.update(scene.frame((card, x, 135)), index / FRAMES_PER_S).faces
        assert face.track_id == 1
        assert abs(centre_x(face) - x) < 15
    assert counting.scans == 1
    assert counting.searches >= 1


def test_a_scan_tells_apart_two_faces_whose_boxes_are_on_one(
    scene: Scene, counting: CountingDetector
) -> None:
    tracker = Tracker(counting, ScanPace(every=50))  # type: ignore[arg-type]
    frame = scene.frame((scene.card(), 120, 135), (scene.card(mirrored=True), 360, 135))
    first, second = tracker.update(frame, 0.0).faces
    refined = counting.refine

    def drifted(image_bgr: np.ndarray, boxes_xyxy: np.ndarray) -> Detections:
        return refined(image_bgr, boxes_xyxy[[1, 1]])

    counting.refine = drifted  # type: ignore[method-assign]
    again = tracker.update(frame, 0.04).faces
    assert [face.track_id for face in again] == [first.track_id, second.track_id]
    assert [centre_x(face) for face in again] == pytest.approx([centre_x(first), centre_x(second)], abs=5)
    assert (counting.scans, counting.searches) == (2, 0)


@pytest.mark.parametrize(("lost_at", "scans"), [(3, 2), (4, 1)])
def test_a_face_lost_just_before_a_due_scan_brings_no_other_scan(
    scene: Scene, counting: CountingDetector, lost_at: int, scans: int
) -> None:
    tracker = Tracker(counting, ScanPace(every=5), first_index=0)  # type: ignore[arg-type]
    card, other = scene.card(), scene.card(mirrored=True)
    for index in range(lost_at):
        tracker.update(scene.frame((card, 120, 135), (other, 360, 135)), index / FRAMES_PER_S)
    tracked = tracker.update(scene.frame((other, 360, 135)), lost_at / FRAMES_PER_S)
    assert len(tracked.faces) == 1
    assert counting.scans == scans


def test_the_first_face_is_found_in_its_first_frame(scene: Scene, tracker: Tracker) -> None:
    assert tracker.update(scene.frame(), 0.0).faces == ()
    assert tracker.update(scene.frame(), 0.04).faces == ()
    assert [face.track_id for face in tracker.update(scene.frame((scene.card(), 200, 135)), 0.08).faces] == [
        1
    ]


@pytest.mark.parametrize("kind", ["jitter", "equal", "backwards", "slow"])
def test_odd_times_do_no_harm(scene: Scene, tracker: Tracker, kind: str) -> None:
    card, random = scene.card(), np.random.default_rng(11)
    for index in range(30):
        time_s = {
            "jitter": index / FRAMES_PER_S + random.uniform(-0.035, 0.035),
            "equal": 3.0,
            "backwards": 100 - index / FRAMES_PER_S,
            "slow": 2.5 * index,
        }[kind]
        faces = tracker.update(scene.frame((card, 100 + 4 * index, 135)), time_s).faces
        assert [face.track_id for face in faces] == [1]
        assert abs(centre_x(faces[0]) - (100 + 4 * index)) < 15


def test_new_faces_are_numbered_from_left_to_right(scene: Scene, tracker: Tracker) -> None:
    faces = tracker.update(scene.frame((scene.card(), 380, 130), (scene.card(0.25), 90, 140)), 0.0).faces
    assert [face.track_id for face in faces] == [1, 2]
    assert centre_x(faces[0]) < centre_x(faces[1])


def test_a_picture_without_faces_gives_none(tracker: Tracker) -> None:
    random = np.random.default_rng(2)
    for index in range(4):
        noise = random.integers(0, 256, (90, 120, 3), np.uint8)
        assert tracker.update(noise, index / FRAMES_PER_S).faces == ()


def test_a_long_video_of_passers_by_takes_no_more_memory(scene: Scene, tracker: Tracker) -> None:
    card = scene.card()
    for index in range(40):  # a new face every other second
        placed = [(card, 100.0 + 300 * (index % 4 == 1), 135.0)] * (index % 2)
        tracker.update(scene.frame(*placed), 2.0 * index)
    assert len(tracker._tracks) <= 2


def test_matching_takes_the_best_overlap_first_and_each_box_once() -> None:
    expected = np.array([[0, 0, 10, 10], [4, 0, 14, 10], [50, 50, 60, 60]], np.float32)
    found = np.array([[3, 0, 13, 10], [70, 70, 80, 80]], np.float32)
    assert match(expected, found) == [(1, 0)]
    assert match(expected, np.zeros((0, 4), np.float32)) == []
    assert match(np.zeros((0, 4), np.float32), found) == []
