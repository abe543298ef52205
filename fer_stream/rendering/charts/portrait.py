"""Pictures of one face near the peak of each expression, for the timeline."""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np

from fer_stream.rendering.charts.face_pose import area_px, frontality
from fer_stream.types import AnalyzedFrame, Face

SIDE_PX = 96
SCALE = 1.24  # side of a picture over the longer side of the face's box
SAME_PEAK = 0.001  # probabilities that differ by less look equal in a chart; the better view of them wins
NEAR_S, NEAR_PEAK = 0.5, 0.02  # so close to the peak in time and probability, the better view wins too
BETTER_LOOK = 1.15  # a new picture must be better by this factor, so that not every frame gives one


@dataclass(frozen=True, eq=False)
class Portrait:
    """A picture of a face.

    Attributes:
        rgb: uint8 (S, S, 3), S at most `SIDE_PX`.
        time_s: Time of its frame.
        probability: Probability of the label's expression in that frame; 0 if the face is unsure.
        quality: Quality of the view: size, detection score and pose.
    """

    rgb: np.ndarray
    time_s: float
    probability: float
    quality: float


@dataclass
class _Peak:
    """The highest probability of a label so far, and when it was first reached."""

    probability: float
    time_s: float

    def is_near(self, probability: float, time_s: float) -> bool:
        """Return whether a frame is at the peak, or close enough to show it."""
        below = self.probability - probability
        return below < SAME_PEAK or (below < NEAR_PEAK and abs(time_s - self.time_s) <= NEAR_S)


class Portraits:
    """Keeps the best view of one face near the peak of each label."""

    def __init__(self) -> None:
        self.by_label: dict[str, Portrait] = {}
        self._peaks: dict[str, _Peak] = {}

    def look(self, analyzed: AnalyzedFrame, face: Face) -> None:
        """Keep the face's picture if it is near the peak of its label and a better view than the last one."""
        time_s = analyzed.frame.time_s
        probability = 0.0 if face.unsure else face.confidence
        peak = self._peaks.setdefault(face.label, _Peak(probability, time_s))
        if probability > peak.probability:
            peak.probability, peak.time_s = probability, time_s
        if not peak.is_near(probability, time_s):
            return
        quality = math.sqrt(area_px(face)) * face.detection_score * frontality(face)
        best = self.by_label.get(face.label)
        if (
            best is not None
            and peak.is_near(best.probability, best.time_s)
            and quality < BETTER_LOOK * best.quality
        ):
            return
        self.by_label[face.label] = Portrait(_square_rgb(analyzed, face), time_s, probability, quality)


def square_in_frame(face: Face, scale: float, frame_wh: tuple[int, int]) -> tuple[float, float, float]:
    """Return a square around a face, moved into its frame, and no larger than the frame.

    Args:
        face: The face.
        scale: Side of the square over the longer side of the face's box.
        frame_wh: Size of the frame in px.

    Returns:
        The left edge, the top edge and the side, in px.
    """
    left, top, right, bottom = face.box_xyxy.tolist()
    width, height = frame_wh
    side = min(scale * max(right - left, bottom - top, 1.0), width, height)
    x = min(max((left + right - side) / 2, 0.0), width - side)
    y = min(max((top + bottom - side) / 2, 0.0), height - side)
    return x, y, side


def _square_rgb(analyzed: AnalyzedFrame, face: Face) -> np.ndarray:
    """Cut a face out of its frame, as a square with some margin, uint8 (S, S, 3)."""
    x, y, side = square_in_frame(face, SCALE, analyzed.frame.size_wh)
    x0, y0, size = int(x), int(y), max(int(side), 1)
    crop = analyzed.frame.bgr[y0 : y0 + size, x0 : x0 + size, ::-1]
    side = min(size, SIDE_PX)
    return cv2.resize(np.ascontiguousarray(crop), (side, side), interpolation=cv2.INTER_AREA)
