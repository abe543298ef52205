"""Finding the faces of a recording, a few frames at a time."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Iterable, Iterator

import numpy as np
import pytest
from helpers.cards import Scene
from helpers.waiting import wait_until

from fer_stream.analysis.finding import FoundFrame, find_in_recording
from fer_stream.detection.detector import Detector, FaceDetector
from fer_stream.detection.early_scans import EarlyScans
from fer_stream.detection.pace import ScanPace
from fer_stream.detection.tracker import TrackedFrame
from fer_stream.errors import SourceError
from fer_stream.profiling import Profile
from fer_stream.system.background import a_thread_runs
from fer_stream.types import Detections, Frame


class FindsNothing:
    """A detector that sees no face."""

    def scan(self, image_bgr: np.ndarray, known_xyxy: np.ndarray | None = None) -> Detections:
        return Detections.none()

    def search(self, image_bgr: np.ndarray, box_xyxy: np.ndarray) -> Detections:
        return Detections.none()

    def refine(self, image_bgr: np.ndarray, boxes_xyxy: np.ndarray) -> Detections:
        return Detections.none()


def batches(
    frames: Iterable[Frame],
    detector: FaceDetector,
    threads: int = 0,
    batch: int = 4,
    abandoned: threading.Event | None = None,
) -> Iterator[list[FoundFrame]]:
    return find_in_recording(
        frames,
        detector,
        "auto",
        batch=batch,
        enough_faces=100,
        early_scan_threads=threads,
        abandoned=abandoned or threading.Event(),
        profile=Profile(),
    )


@pytest.mark.parametrize(("size_wh", "together"), [((1920, 1080), [12, 3]), ((3840, 2160), [2] * 7 + [1])])
def test_a_batch_is_as_large_as_asked_for_below_4k(size_wh: tuple[int, int], together: list[int]) -> None:
    bgr = np.zeros((size_wh[1], size_wh[0], 3), np.uint8)
    frames = [Frame(bgr, index, index / 25) for index in range(15)]
    found = batches(frames, FindsNothing(), batch=12)
    assert [len(batch) for batch in found] == together


def tracked(frames: Iterable[Frame], detector: FaceDetector, threads: int) -> list[TrackedFrame]:
    found_batches = batches(frames, detector, threads)
    return [found.tracked for batch in found_batches for found in batch]


def test_early_scans_change_nothing_in_the_result(detector: Detector, scene: Scene) -> None:
    card = scene.card()
    people = [0, 0, 1, 2, 3, 3, 3, 2, 1, 0, 0, 3, 3, 1, 1] * 3  # so that the pace changes
    frames = [
        Frame(
            scene.frame(*((card, 80 + 150 * place + index % 5, 130) for place in range(count))),
            index,
            index / 25,
        )
        for index, count in enumerate(people)
    ]
    expected, early = tracked(frames, detector, 0), tracked(frames, detector, 3)
    assert max(len(frame.faces) for frame in expected) == 3
    assert [frame.scanned for frame in early] == [frame.scanned for frame in expected]
    for one, other in zip(early, expected, strict=True):
        assert [face.track_id for face in one.faces] == [face.track_id for face in other.faces]
        for face, same in zip(one.faces, other.faces, strict=True):
            np.testing.assert_array_equal(face.box_xyxy, same.box_xyxy)
            np.testing.assert_array_equal(face.landmarks_xy, same.landmarks_xy)
            assert face.score == same.score


class Scanning(FindsNothing):
    """A detector that notes the threads that scan.

    Each scan but the first waits until this many run at once.
    """

    def __init__(self, *, at_once: int) -> None:
        self.threads: list[int] = []
        self._at_once = threading.Barrier(at_once, timeout=10)

    def scan(self, image_bgr: np.ndarray, known_xyxy: np.ndarray | None = None) -> Detections:
        self.threads.append(threading.get_ident())
        if len(self.threads) > 1:
            self._at_once.wait()
        return Detections.none()


def small_frames(count: int) -> Iterator[Frame]:
    for index in range(count):
        yield Frame(np.zeros((40, 40, 3), np.uint8), index, index / 25)


def test_two_frames_are_scanned_at_the_same_time() -> None:
    detector = Scanning(at_once=2)
    assert len(tracked(small_frames(3), detector, 2)) == 3
    assert threading.get_ident() not in detector.threads


def test_without_early_scans_everything_happens_in_the_callers_thread() -> None:
    detector = Scanning(at_once=1)
    tracked(small_frames(2), detector, 0)
    assert detector.threads == [threading.get_ident()] * 2


def test_frames_that_were_read_ahead_come_before_the_error_of_the_source() -> None:
    def source() -> Iterator[Frame]:
        yield from small_frames(5)
        raise SourceError("the disk is gone")

    found = batches(source(), FindsNothing(), 2)
    assert [each.frame.index for batch in itertools.islice(found, 2) for each in batch] == [*range(5)]
    with pytest.raises(SourceError, match="the disk is gone"):
        next(found)
    assert not a_thread_runs()


class Counting(FindsNothing):
    """A detector that counts its scans."""

    def __init__(self) -> None:
        self.scans = 0

    def scan(self, image_bgr: np.ndarray, known_xyxy: np.ndarray | None = None) -> Detections:
        self.scans += 1
        return Detections.none()


def test_frames_that_were_read_ahead_are_not_searched_once_nobody_wants_them() -> None:
    detector, abandoned = Counting(), threading.Event()
    found = batches(small_frames(100), detector, 2, batch=1, abandoned=abandoned)
    next(found)
    abandoned.set()
    assert next(found, None) is None
    assert detector.scans <= 4  # of ten frames that were read
    assert not a_thread_runs()


def test_an_error_comes_after_the_frames_that_were_found_before_it() -> None:
    class Breaking(FindsNothing):
        def __init__(self) -> None:
            self.scans = 0

        def scan(self, image_bgr: np.ndarray, known_xyxy: np.ndarray | None = None) -> Detections:
            self.scans += 1
            if self.scans == 7:
                raise RuntimeError("the GPU is gone")
            return Detections.none()

    for threads in (0, 2):
        found = batches(small_frames(20), Breaking(), threads)
        indices = []
        with pytest.raises(RuntimeError, match="the GPU is gone"):
            for batch in found:
                indices += [each.frame.index for each in batch]
        assert indices[:5] == [*range(5)]
        assert threads or indices == [*range(6)]  # other threads may scan the frames in another order
    assert not a_thread_runs()


def test_only_the_next_few_frames_are_scanned_early() -> None:
    detector = Counting()
    with EarlyScans(detector, ScanPace(), threads=2) as early:
        early.note_faces(0)  # now every frame is scanned
        next(early.frames(small_frames(100)))
        wait_until(lambda: detector.scans == 3)
        time.sleep(0.05)
        assert detector.scans == 3  # ten frames were read


def test_an_early_scan_that_is_no_longer_due_is_cancelled() -> None:
    may_scan = threading.Event()
    scanned = []

    class Waiting(FindsNothing):
        def scan(self, image_bgr: np.ndarray, known_xyxy: np.ndarray | None = None) -> Detections:
            may_scan.wait(10)
            scanned.append(int(image_bgr[0, 0, 0]))
            return Detections.none()

    frames = (Frame(np.full((40, 40, 3), index, np.uint8), index, index / 25) for index in range(9))
    with EarlyScans(Waiting(), ScanPace(), threads=1) as early:
        early.note_faces(0)  # now every frame is scanned
        in_order = early.frames(frames)
        next(in_order)
        early.note_faces(1)  # now a scan is due every ten frames
        next(in_order)
        may_scan.set()
        wait_until(lambda: scanned)
        time.sleep(0.05)
        assert scanned == [0]


def test_an_abandoned_search_leaves_no_thread() -> None:
    found = batches(small_frames(40), FindsNothing(), 2)
    next(found)
    assert a_thread_runs()
    found.close()  # type: ignore[attr-defined]
    assert not a_thread_runs()
