"""Make tracked faces for tests without a detector."""

from __future__ import annotations

import numpy as np

from fer_stream.analysis.lookahead import ReadFace, ReadFrame
from fer_stream.detection.tracker import TrackedFace
from fer_stream.types import Frame

TINY_BGR = np.zeros((4, 4, 3), np.uint8)


def look(seed: int) -> np.ndarray:
    """Return the appearance of a person, unlike that of any other seed."""
    drawn = np.zeros(96, np.float32)
    drawn[16 * (seed % 6) : 16 * (seed % 6) + 16] = 0.25
    return drawn


def tracked(
    track_id: int, x: float = 100.0, y: float = 100.0, *, side: float = 50.0, looks: int | None = None
) -> TrackedFace:
    """Return a face centred at (x, y). Its appearance follows from the track id unless `looks` is given."""
    box = np.array([x - side / 2, y - side / 2, x + side / 2, y + side / 2], np.float32)
    described = look(track_id if looks is None else looks)
    return TrackedFace(track_id, box, np.zeros((5, 2), np.float32), 0.99, (described,))


def read_frame(
    index: int,
    *faces: TrackedFace,
    frames_per_s: float = 25.0,
    probabilities: np.ndarray | None = None,
    scene: int = 0,
) -> ReadFrame:
    """Return a frame with these faces, all with the same probabilities."""
    read = np.full(7, 1 / 7, np.float32) if probabilities is None else probabilities
    frame = Frame(TINY_BGR, index, index / frames_per_s)
    return ReadFrame(frame, tuple(ReadFace(face, read) for face in faces), scene)
