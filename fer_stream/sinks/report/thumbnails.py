"""Keep the best pictures of each person for a report."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from fer_stream.recognition.preprocessing import cut
from fer_stream.rendering.charts.face_pose import frontality
from fer_stream.rendering.charts.portrait import square_in_frame

if TYPE_CHECKING:
    from fer_stream.types import AnalyzedFrame, Face

THUMBNAIL_PX = 112
THUMBNAIL_SCALE = 1.5  # side of a thumbnail over the longer side of the face's box, for hair and chin
_CLEARLY_BETTER = 1.05
_LARGE_FACE_PX = 160.0  # a face larger than this makes no better thumbnail


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
