"""Synthetic video of real faces, and detectors that count their calls or miss faces."""

from __future__ import annotations

import cv2
import numpy as np

from fer_stream.detection.detector import Detector
from fer_stream.types import Detections

FRAME_WH = (480, 270)
BACKGROUND = 128


class Scene:
    """Draws cards with a face at given centres."""

    def __init__(self, photograph_bgr: np.ndarray) -> None:
        self._card = photograph_bgr[40:400, 110:420]

    def card(self, scale: float = 0.3, *, mirrored: bool = False) -> np.ndarray:
        card = self._card[:, ::-1] if mirrored else self._card
        return cv2.resize(card, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)

    def frame(self, *placed: tuple[np.ndarray, float, float], background: int = BACKGROUND) -> np.ndarray:
        """Return a frame with each card at (x, y). Later cards cover earlier ones."""
        width, height = FRAME_WH
        frame = np.full((height, width, 3), background, np.uint8)
        for card, x, y in placed:
            left, top = round(x - card.shape[1] / 2), round(y - card.shape[0] / 2)
            part = card[max(-top, 0) : max(height - top, 0), max(-left, 0) : max(width - left, 0)]
            frame[max(top, 0) :, max(left, 0) :][: part.shape[0], : part.shape[1]] = part
        return frame


class CountingDetector:
    """A detector that counts its calls."""

    def __init__(self, detector: Detector) -> None:
        self._detector = detector
        self.scans = self.refines = self.searches = 0

    def scan(self, image_bgr: np.ndarray, known_xyxy: np.ndarray | None = None) -> Detections:
        self.scans += 1
        return self._detector.scan(image_bgr, known_xyxy)

    def refine(self, image_bgr: np.ndarray, boxes_xyxy: np.ndarray) -> Detections:
        self.refines += 1
        return self._detector.refine(image_bgr, boxes_xyxy)

    def search(self, image_bgr: np.ndarray, box_xyxy: np.ndarray) -> Detections:
        self.searches += 1
        return self._detector.search(image_bgr, box_xyxy)


class Blinded:
    """A detector whose scans do not find faces right of an edge."""

    def __init__(self, detector: Detector) -> None:
        self._detector, self.edge_x = detector, np.inf

    def scan(self, image_bgr: np.ndarray, known_xyxy: np.ndarray | None = None) -> Detections:
        found = self._detector.scan(image_bgr, known_xyxy)
        return found[found.boxes_xyxy[:, 0] < self.edge_x]

    def __getattr__(self, name: str) -> object:
        return getattr(self._detector, name)
