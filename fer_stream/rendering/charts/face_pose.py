"""Measure the size and pose of a face, to choose which faces and pictures to show."""

from __future__ import annotations

import numpy as np

from fer_stream.types import Face


def area_px(face: Face) -> float:
    """Return the area of a face's box, in square pixels."""
    left, top, right, bottom = face.box_xyxy.tolist()
    return max(right - left, 0.0) * max(bottom - top, 0.0)


def frontality(face: Face) -> float:
    """Return 1 if the nose is midway between the eyes, and less (at least 0.3) for a turned head."""
    left_eye, right_eye, nose = face.landmarks_xy[:3]
    eye_distance_px = float(np.linalg.norm(right_eye - left_eye))
    if eye_distance_px < 1:
        return 0.3
    offset = abs(float(np.dot(nose - (left_eye + right_eye) / 2, right_eye - left_eye))) / eye_distance_px**2
    return max(0.3, 1 - offset)
