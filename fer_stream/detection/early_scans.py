"""Scan frames of a recording in other threads, before the tracker gets to them.

A due scan does not depend on earlier frames. So frames are read ahead, and those at which a scan will
probably be due are scanned while the tracker is still busy with earlier ones. The result is the same as
without early scans. Whether a scan is due depends on the number of faces in the frame before, which is not
known yet. So a few scans are wasted when people come or go.

`inference.threads` says how many frames are scanned at the same time, and why.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from fer_stream.detection.detector import FaceDetector
from fer_stream.detection.pace import CROWD_EVERY, ScanPace
from fer_stream.system.memory import EARLY_BYTES, frames_ahead
from fer_stream.system.thread_pool import ThreadPool
from fer_stream.types import Detections, Frame

if TYPE_CHECKING:
    from concurrent.futures import Future


@dataclass(eq=False)
class _FrameAhead:
    frame: Frame
    scan: Future[Detections] | None = None


class EarlyScans:
    """A detector that scans frames before it is asked to. Implements `FaceDetector`.

    Args:
        detector: The detector. Unless `threads` is 0, several threads must be able to scan with it while
            another one calls `search` and `refine`.
        pace: Rate of scans.
        threads: Number of threads that scan; 0 for no early scans.
    """

    def __init__(self, detector: FaceDetector, pace: ScanPace, threads: int) -> None:
        self._detector, self._pace = detector, pace
        self._pool = ThreadPool(threads) if threads else None
        self._most_scans = threads + 1  # one is queued, so a thread that finishes has the next one at once
        self._most_ahead = CROWD_EVERY * self._most_scans
        self._ahead: deque[_FrameAhead] = deque()
        self._current: _FrameAhead | None = None  # the frame that was handed out last
        self._followed = 1  # faces in the latest frame that was tracked; a guess before the first one

    def frames(self, frames: Iterable[Frame]) -> Iterator[Frame]:
        """Pass frames on, and scan those that are due early.

        Up to 16 frames are read ahead, or fewer if they are large; see `memory.EARLY_BYTES`.
        """
        if self._pool is None:
            yield from frames
            return
        for frame in frames:
            self._ahead.append(_FrameAhead(frame))
            self._start_scans(self._pool)
            if len(self._ahead) > frames_ahead(self._most_ahead, frame.bgr.nbytes, EARLY_BYTES):
                yield self._next()
        while self._ahead:
            self._start_scans(self._pool)
            yield self._next()

    def note_faces(self, count: int) -> None:
        """Note the number of faces in the latest frame, which sets the pace of the scans."""
        self._followed = count

    def _start_scans(self, pool: ThreadPool) -> None:
        """Start the next scans that are probably due, and cancel those that no longer are."""
        due = [
            ahead
            for ahead in self._ahead
            # Without a face to follow, every frame is scanned.
            if not self._followed or self._pace.is_due_at(ahead.frame.index, self._followed)
        ][: self._most_scans]
        for ahead in self._ahead:
            if ahead in due and ahead.scan is None:
                ahead.scan = pool.submit(self._detector.scan, ahead.frame.bgr)
            elif ahead not in due and ahead.scan is not None and ahead.scan.cancel():
                ahead.scan = None

    def _next(self) -> Frame:
        self._current = self._ahead.popleft()
        return self._current.frame

    def scan(self, image_bgr: np.ndarray, known_xyxy: np.ndarray | None = None) -> Detections:
        """Return the early scan of this frame if there is one and no face is known, or else scan now.

        See `Detector.scan`. An error of the early scan is raised here.
        """
        current = self._current
        if known_xyxy is None and current is not None and current.frame.bgr is image_bgr and current.scan:
            return current.scan.result()
        return self._detector.scan(image_bgr, known_xyxy)

    def search(self, image_bgr: np.ndarray, box_xyxy: np.ndarray) -> Detections:
        """Search for a lost face around its box; see `Detector.search`."""
        return self._detector.search(image_bgr, box_xyxy)

    def refine(self, image_bgr: np.ndarray, boxes_xyxy: np.ndarray) -> Detections:
        """Look for known faces near their last boxes; see `Detector.refine`."""
        return self._detector.refine(image_bgr, boxes_xyxy)

    def __enter__(self) -> EarlyScans:
        return self

    def __exit__(self, *_: object) -> None:
        """Cancel the scans that have not begun, and wait for the others."""
        if self._pool is not None:
            self._pool.close()
