"""Turn frames upright with their display matrix, which says how the phone was held."""

from __future__ import annotations

from typing import cast

import cv2
import numpy as np
from av.sidedata.sidedata import SideData
from av.video.frame import VideoFrame

DisplayMatrix = tuple[int, int, int, int]


def display_matrix(frame: VideoFrame) -> DisplayMatrix:
    """Return (a, b, c, d): a point (x, y) of the coded picture is shown at (a x + c y, b x + d y).

    See libavutil's display.h. The result for an upright picture is (1, 0, 0, 1).
    """
    side_data = frame.side_data.get("DISPLAYMATRIX")
    if side_data is None:
        return 1, 0, 0, 1
    matrix = np.frombuffer(bytes(cast(SideData, side_data)), np.int32)
    a, b, c, d = (int(matrix[position]) for position in (0, 1, 3, 4))
    return a, b, c, d


def swaps_axes(matrix: DisplayMatrix) -> bool:
    """Return whether the matrix turns the picture by 90 or 270 degrees."""
    a, b, c, d = matrix
    return abs(b) + abs(c) > abs(a) + abs(d)


def upright(bgr: np.ndarray, matrix: DisplayMatrix) -> np.ndarray:
    """Turn and flip a picture by its display matrix, to the nearest quarter turn."""
    a, b, c, d = matrix
    if swaps_axes(matrix):
        bgr = cv2.transpose(bgr)
        flip_x, flip_y = c < 0, b < 0
    else:
        flip_x, flip_y = a < 0, d < 0
    if flip_x and flip_y:
        return cv2.flip(bgr, -1)
    if flip_x:
        return cv2.flip(bgr, 1)
    if flip_y:
        return cv2.flip(bgr, 0)
    return bgr
