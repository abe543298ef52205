"""Collect each person's curve and thumbnails for a report, in bounded memory."""

from __future__ import annotations

import base64
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from fer_stream.expressions import EXPRESSIONS
from fer_stream.recognition.preprocessing import cut
from fer_stream.rendering.charts.face_pose import frontality
from fer_stream.rendering.charts.portrait import square_in_frame

if TYPE_CHECKING:
    from fer_stream.types import AnalyzedFrame, Face

FIRST_STEP_S = 0.04
MOST_POINTS = 150_000  # in all curves together; a point takes 11 bytes, and a third more in base64
THUMBNAIL_PX = 112
THUMBNAIL_SCALE = 1.5  # side of a thumbnail over the longer side of the face's box, for hair and chin
_LAST_STEP = 2**32 - 1  # the page holds the steps as uint32
_CLEARLY_BETTER = 1.05
_LARGE_FACE_PX = 160.0  # a face larger than this makes no better thumbnail


class Curves:
    """The probabilities of every face over time, averaged over steps.

    When there are too many steps, or the time is too long for them, they double in length.

    Args:
        most_points: Maximum number of steps of all faces together.
        first_step_s: Length of a step at first, in seconds.

    Attributes:
        step_s: Length of a step now, in seconds.
    """

    def __init__(self, most_points: int = MOST_POINTS, first_step_s: float = FIRST_STEP_S) -> None:
        self.step_s = first_step_s
        self._most_points = most_points
        self._count = 0
        self._faces: dict[int, _Curve] = {}

    def add(self, analyzed: AnalyzedFrame) -> None:
        """Add one frame."""
        for face in analyzed.faces:
            self.add_reading(face.id, analyzed.frame.time_s, face.probabilities)

    def add_reading(self, face_id: int, time_s: float, probabilities: np.ndarray) -> None:
        """Add one reading of one face."""
        while time_s / self.step_s > _LAST_STEP:
            self._halve()
        step = int(max(time_s, 0.0) / self.step_s)
        self._count += self._faces.setdefault(face_id, _Curve()).add(step, probabilities)
        if self._count > self._most_points:
            self._halve()

    def _halve(self) -> None:
        self.step_s *= 2
        for curve in self._faces.values():
            curve.halve()
        self._count = sum(len(curve.steps) for curve in self._faces.values())

    def face_ids(self) -> list[int]:
        """Return the faces that have a curve."""
        return sorted(self._faces)

    def encoded(self, face_id: int) -> dict[str, str]:
        """Return one face's curve in base64: `steps` uint32, `values` uint8 (points, 7), 255 is certainty."""
        curve = self._faces[face_id]
        values = np.array(curve.values, np.float32).reshape(-1, len(EXPRESSIONS))
        values_uint8 = np.rint(values * 255).astype(np.uint8)
        steps = np.array(curve.steps, "<u4")
        return {
            "steps": base64.b64encode(steps.tobytes()).decode(),
            "values": base64.b64encode(values_uint8.tobytes()).decode(),
        }


@dataclass
class _Curve:
    """One face's steps, in order, and the mean probabilities and number of readings in each."""

    steps: list[int] = field(default_factory=list)
    values: list[np.ndarray] = field(default_factory=list)
    readings: list[int] = field(default_factory=list)

    def add(self, step: int, values: np.ndarray, readings: int = 1) -> int:
        """Add readings to their step. Return the number of points by which the curve grew."""
        if self.steps and step <= self.steps[-1]:
            total = self.readings[-1] + readings
            self.values[-1] = self.values[-1] + (values - self.values[-1]) * (readings / total)
            self.readings[-1] = total
            return 0
        self.steps.append(step)
        self.values.append(values)
        self.readings.append(readings)
        return 1

    def halve(self) -> None:
        old = zip(self.steps, self.values, self.readings, strict=True)
        self.steps, self.values, self.readings = [], [], []
        for step, values, readings in old:
            self.add(step // 2, values, readings)


@dataclass
class Thumbnail:
    """A picture of one face.

    Attributes:
        score: Quality, for comparison with others.
        time_s: Time of its frame in the source.
        label: The expression that the face shows, or `unsure`.
        jpeg: The picture, `THUMBNAIL_PX` wide and high.
    """

    score: float
    time_s: float
    label: str
    jpeg: bytes

    def as_dict(self) -> dict[str, Any]:
        """Return the thumbnail in the form that the page takes."""
        address = f"data:image/jpeg;base64,{base64.b64encode(self.jpeg).decode()}"
        return {"time_s": round(self.time_s, 3), "label": self.label, "src": address}


class Thumbnails:
    """The best picture of each face, and the clearest of each of its expressions."""

    def __init__(self) -> None:
        self._best: dict[int, Thumbnail] = {}
        self._by_label: dict[int, dict[str, Thumbnail]] = {}

    def add(self, analyzed: AnalyzedFrame) -> None:
        """Add a frame. A thumbnail is made only if it is clearly better than the last one."""
        for face in analyzed.faces:
            quality = picture_quality(face)
            by_label = self._by_label.setdefault(face.id, {})
            best, clearest = self._best.get(face.id), by_label.get(face.label)
            clarity = quality * face.confidence**2
            is_best = best is None or quality > best.score * _CLEARLY_BETTER
            is_clearest = clearest is None or clarity > clearest.score * _CLEARLY_BETTER
            if not (is_best or is_clearest):
                continue
            jpeg = _jpeg(analyzed.frame.bgr, face)
            if is_best:
                self._best[face.id] = Thumbnail(quality, analyzed.frame.time_s, face.label, jpeg)
            if is_clearest:
                by_label[face.label] = Thumbnail(clarity, analyzed.frame.time_s, face.label, jpeg)

    def best(self, face_id: int) -> Thumbnail:
        """Return the best picture of a face."""
        return self._best[face_id]

    def of_label(self, face_id: int, label: str) -> Thumbnail:
        """Return the clearest picture of a face with one of the labels that it has shown."""
        return self._by_label[face_id][label]


def picture_quality(face: Face) -> float:
    """Return how well a picture shows a face, 0 to 1. Large, certain and frontal faces are best."""
    left, top, right, bottom = (float(value) for value in face.box_xyxy)
    size = min(max(right - left, bottom - top) / _LARGE_FACE_PX, 1.0)
    return float(face.detection_score) * size**0.5 * frontality(face)


def _jpeg(bgr: np.ndarray, face: Face) -> bytes:
    x, y, side = square_in_frame(face, THUMBNAIL_SCALE, (bgr.shape[1], bgr.shape[0]))
    picture = cut(bgr, np.array([x, y, x + side, y + side]), THUMBNAIL_PX)
    return cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, 82])[1].tobytes()
