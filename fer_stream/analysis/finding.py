"""The first stage of the analysis: find the faces in each frame and follow them."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from threading import Event

from fer_stream.detection.backfill import Backfill, FoundEarlier
from fer_stream.detection.detector import FaceDetector
from fer_stream.detection.early_scans import EarlyScans
from fer_stream.detection.pace import LivePace, ScanEvery, ScanPace
from fer_stream.detection.tracker import TrackedFrame, Tracker
from fer_stream.profiling import Profile
from fer_stream.system.error_last import ErrorLast
from fer_stream.system.memory import frames_together
from fer_stream.types import Frame


@dataclass(frozen=True, eq=False)
class FoundFrame:
    """A frame whose faces are found but not yet read.

    Attributes:
        frame: The frame.
        tracked: Its faces.
        earlier: Its new faces in earlier frames, see `Backfill`.
    """

    frame: Frame
    tracked: TrackedFrame
    earlier: tuple[FoundEarlier, ...] = ()


def find_in_picture(frame: Frame, detector: FaceDetector, profile: Profile) -> FoundFrame:
    """Find the faces in a picture that has nothing to do with the previous one."""
    with profile.stage("detect"):
        return FoundFrame(frame, Tracker(detector).update(frame.bgr, frame.time_s))


def find_in_recording(
    frames: Iterable[Frame],
    detector: FaceDetector,
    scan_every: ScanEvery,
    *,
    batch: int,
    enough_faces: int,
    early_scan_threads: int,
    abandoned: Event,
    profile: Profile,
) -> Iterator[list[FoundFrame]]:
    """Find the faces in every frame of a recording.

    Args:
        frames: The frames, in order.
        detector: Finds the faces.
        scan_every: See `Analyzer`.
        batch: Maximum number of frames to yield at once.
        enough_faces: Yield fewer frames once they hold this many faces.
        early_scan_threads: Number of threads that scan frames early, see `EarlyScans`.
        abandoned: Once this is set, finish the frame in progress and drop those that were read ahead.
        profile: Receives the time of each frame. Early scans count only while a frame waits for them.

    Yields:
        The next few frames. An error comes after all frames that were found before it.
    """
    pace = _pace(scan_every)
    with EarlyScans(detector, pace, early_scan_threads) as early:
        found = ErrorLast(_found_one_by_one(frames, early, pace, abandoned, profile))
        together: list[FoundFrame] = []
        faces = 0
        for each in found:
            together.append(each)
            faces += len(each.tracked.faces) + len(each.earlier)
            if faces >= enough_faces or len(together) >= frames_together(batch, each.frame.bgr.nbytes):
                yield together
                together, faces = [], 0
        if together:
            yield together
        found.raise_error()


def _found_one_by_one(
    frames: Iterable[Frame], early: EarlyScans, pace: ScanPace, abandoned: Event, profile: Profile
) -> Iterator[FoundFrame]:
    """Yield the frames of a recording with their faces."""
    error_last = ErrorLast(frames)
    backfill = Backfill(early)
    tracker: Tracker | None = None
    for frame in early.frames(error_last):
        if abandoned.is_set():
            return
        tracker = tracker or Tracker(early, pace, first_index=frame.index)
        with profile.stage("detect"):
            tracked = tracker.update(frame.bgr, frame.time_s)
            found = FoundFrame(frame, tracked, backfill.earlier(frame, tracked))
        early.note_faces(len(tracked.faces))
        yield found
    error_last.raise_error()


class LiveFinder:
    """Finds the faces of a live source, a frame at a time, and scans as often as there is time for it.

    Args:
        detector: Finds the faces.
        scan_every: See `Analyzer`.
        profile: Receives the time of each frame.
    """

    def __init__(self, detector: FaceDetector, scan_every: ScanEvery, profile: Profile) -> None:
        self._detector = detector
        self._profile = profile
        self._live_pace = LivePace() if scan_every == "auto" else None
        self._pace = self._live_pace or _pace(scan_every)
        self._tracker: Tracker | None = None

    def find(self, frame: Frame) -> FoundFrame:
        """Find the faces of the next frame."""
        if self._tracker is None:
            self._tracker = Tracker(
                self._detector,
                self._pace,
                # If the pace changes, the frames to scan are not fixed.
                first_index=None if self._live_pace else frame.index,
                scans_ahead=self._live_pace is not None,
            )
        with self._profile.stage("detect"):
            return FoundFrame(frame, self._tracker.update(frame.bgr, frame.time_s))

    def scan_ahead(self, found: FoundFrame, analysis_s: float) -> None:
        """Make the scan that is due, for use in the next frame. Call it when this frame has been handed out.

        Args:
            found: The frame.
            analysis_s: Time that its analysis took, which sets the pace of the next scans.
        """
        if self._live_pace is None or self._tracker is None:
            return
        began_s = time.perf_counter()
        scanned_ahead = self._tracker.scan_ahead()
        ahead_s = time.perf_counter() - began_s
        self._profile.add("scan ahead", ahead_s)
        scanned = found.tracked.scanned or scanned_ahead
        self._live_pace.note(found.frame, analysis_s + ahead_s, scanned=scanned)


def _pace(scan_every: ScanEvery) -> ScanPace:
    return ScanPace(None if scan_every == "auto" else scan_every)
