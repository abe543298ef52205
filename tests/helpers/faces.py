"""Make faces and frames by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from fer_stream.expressions import EXPRESSIONS, UNSURE
from fer_stream.types import AnalyzedFrame, Face, Frame


def make_face(face_id: int, label: str = "happy", confidence: float = 0.88, box=(8, 8, 40, 40)) -> Face:
    """Return a face with one expression. With the label `unsure`, the expression is neutral."""
    probabilities = np.full(7, (1 - confidence) / 6, np.float32)
    probabilities[EXPRESSIONS.index("neutral" if label == UNSURE else label)] = confidence
    left, top, right, bottom = box
    points = [(0.3, 0.4), (0.7, 0.4), (0.5, 0.6), (0.35, 0.8), (0.65, 0.8)]  # eyes, nose, mouth
    landmarks_xy = np.array([(left + x * (right - left), top + y * (bottom - top)) for x, y in points])
    return Face(
        face_id,
        np.array(box, np.float32),
        landmarks_xy.astype(np.float32),
        0.95,
        probabilities,
        unsure=label == UNSURE,
    )


def make_frame(
    index: int, time_s: float, *faces: Face, bgr: np.ndarray | None = None, source: str = "clip.mp4"
) -> AnalyzedFrame:
    picture = np.full((48, 64, 3), 90, np.uint8) if bgr is None else bgr
    return AnalyzedFrame(Frame(picture, index, time_s, source), faces)


def make_frames(labels: list[dict[int, str]], *, rate: float = 10.0, start_s: float = 0.0):
    """Yield a frame for each dict, with a face for each id and label in it."""
    for index, shown in enumerate(labels):
        faces = [make_face(face_id, label) for face_id, label in sorted(shown.items())]
        yield make_frame(index, start_s + index / rate, *faces)


def face_at(face_id: int, box_xyxy, label: str = "happy", confidence: float = 0.87) -> Face:
    """Return a face at a place. Below 0.4, it is unsure."""
    face = make_face(face_id, label, confidence, box_xyxy)
    return replace(face, unsure=confidence < 0.4)


def blank_frame(size_wh: tuple[int, int], faces, index: int = 0, *, shade: int = 120) -> AnalyzedFrame:
    """Return a grey frame of a recording at 25 frames per second."""
    grey = np.full((size_wh[1], size_wh[0], 3), shade, np.uint8)
    return AnalyzedFrame(Frame(grey, index, index / 25, "clip"), tuple(faces))
