"""Scan frames of a recording in other threads, before the tracker gets to them.

A due scan does not depend on earlier frames. So on a machine with cores to spare, frames are read ahead, and
those at which a scan will probably be due are scanned at once. The tracker then finds the result ready, and
it is the same as without. Whether a scan is due depends on the number of faces in the frame, which is not
known yet, so a few scans are in vain.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass

import numpy as np

from fer_stream.detection.detector import FaceDetector
from fer_stream.detection.pace import CROWD_EVERY, ScanPace
from fer_stream.system.background import thread_pool
from fer_stream.system.memory import frames_ahead
from fer_stream.types import Detections, Frame


@dataclass(eq=False)
class _FrameAhead:
    frame: Frame
    scan: Future[Detections] | None = None


class EarlyScans:
    """A detector that has scanned the next frames already. Implements `FaceDetector`.

    Args:
        detector: The detector. Unless `threads` is 0, several threads must be able to scan with it while
            another one calls `search` and `refine`.
        pace: Rate of scans.
        threads: Number of early scans at the same time; 0 for none.

    Attributes:
        faces: Number of faces in the latest frame that was tracked; None before the first one.
    """

    def __init__(self, detector: FaceDetector, pace: ScanPace, threads: int) -> None:
        self.faces: int | None = None
        self._detector, self._pace = detector, pace
        self._pool = thread_pool(threads) if threads else None
        self._most_ahead = CROWD_EVERY * (threads + 1)
        self._ahead: deque[_FrameAhead] = deque()
        self._current: _FrameAhead | None = None  # the frame that was handed out last

    def frames(self, frames: Iterable[Frame]) -> Iterator[Frame]:
        """Pass frames on. If there are threads, read some frames ahead and scan those due."""
        if self._pool is None:
            yield from frames
            return
        for frame in frames:
            self._ahead.append(_FrameAhead(frame))
            if len(self._ahead) > frames_ahead(self._most_ahead, frame.bgr.nbytes):
                yield self._next()
        while self._ahead:
            yield self._next()

    def _next(self) -> Frame:
        assert self._pool is not None
        for ahead in self._ahead:
            if ahead.scan is None and self._is_probably_due(ahead.frame.index):
                ahead.scan = self._pool.submit(self._detector.scan, ahead.frame.bgr)
        self._current = self._ahead.popleft()
        return self._current.frame

    def _is_probably_due(self, index: int) -> bool:
        if self.faces == 0:
            return True  # without a face to follow, every frame is scanned
        return index % self._pace.due_after(self.faces or 0) == 0

    def scan(self, image_bgr: np.ndarray, known_xyxy: np.ndarray | None = None) -> Detections:
        """Return the result of the early scan, or scan now; see `Detector.scan`."""
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
        """Drop the scans that have not begun, and wait for the others."""
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)
