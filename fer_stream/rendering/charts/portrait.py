"""Pictures of one face at the peak of each expression, for the timeline."""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np

from fer_stream.rendering.charts.face_pose import area_px, frontality
from fer_stream.types import AnalyzedFrame, Face

SIDE_PX = 96
STEP = 0.01  # probabilities that round to the same percent are equal peaks; the better view of them wins
BETTER_LOOK = 1.15  # a new picture must be better by this factor, so that not every frame gives one


@dataclass(frozen=True, eq=False)
class Portrait:
    """A picture of a face.

    Attributes:
        rgb: uint8 (S, S, 3), S at most `SIDE_PX`.
        time_s: Time of its frame.
        probability: Probability of the label's expression in that frame.
        rank: The probability in steps of `STEP`, rounded.
        quality: Quality of the view: size, detection score and pose.
    """

    rgb: np.ndarray
    time_s: float
    probability: float
    rank: int
    quality: float


class Portraits:
    """Keeps the picture of one face at the peak of each label."""

    def __init__(self) -> None:
        self.by_label: dict[str, Portrait] = {}

    def look(self, analyzed: AnalyzedFrame, face: Face) -> None:
        """Keep the face's picture if it is the peak of its label, or an equal peak with a better view."""
        best = self.by_label.get(face.label)
        rank = 0 if face.unsure else round(face.confidence / STEP)
        if best is not None and rank < best.rank:
            return
        quality = math.sqrt(area_px(face)) * face.detection_score * frontality(face)
        if best is not None and rank == best.rank and quality < BETTER_LOOK * best.quality:
            return
        rgb = _square_rgb(analyzed, face)
        self.by_label[face.label] = Portrait(rgb, analyzed.frame.time_s, face.confidence, rank, quality)


def _square_rgb(analyzed: AnalyzedFrame, face: Face) -> np.ndarray:
    """Cut a face out of its frame, as a square with some margin, uint8 (S, S, 3)."""
    left, top, right, bottom = face.box_xyxy.tolist()
    center_x, center_y = (left + right) / 2, (top + bottom) / 2
    half = 0.62 * max(right - left, bottom - top)
    width, height = analyzed.frame.size_wh
    half = min(half, width / 2, height / 2)
    # Move the square into the frame instead of clipping it, so that it stays square.
    center_x = min(max(center_x, half), width - half)
    center_y = min(max(center_y, half), height - half)
    x0, y0 = max(int(center_x - half), 0), max(int(center_y - half), 0)
    size = max(int(2 * half), 1)
    crop = analyzed.frame.bgr[y0 : y0 + size, x0 : x0 + size, ::-1]
    side = min(size, SIDE_PX)
    return cv2.resize(np.ascontiguousarray(crop), (side, side), interpolation=cv2.INTER_AREA)
