"""`--blur`: hide faces right after the analysis, so that no later stage ever sees them.

A face is replaced by a few colours, each the mean of a large patch, so that it can't be recovered.
`detection.hiding` decides which places are hidden, and for how long before and after a face is found there. A
face that is never found is never hidden.
"""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np

from fer_stream.types import AnalyzedFrame

# Size of the hidden patch relative to the face's box, so that hair, ears and chin are hidden too.
MARGIN = 1.4
# Patches across a face. With 5 the detector still finds a face in the picture; with 4 or fewer it does not.
PATCHES = 3
ROUNDNESS = 3.0  # exponent of the superellipse: 2 is an ellipse, and from 2.1 on the box lies within it


def hide_faces(analyzed: AnalyzedFrame) -> AnalyzedFrame:
    """Return the frame with a copy of its picture in which every place of a possible face is hidden."""
    places = [*analyzed.possible_faces_xyxy, *(face.box_xyxy for face in analyzed.faces)]
    if not places:
        return analyzed
    bgr = analyzed.frame.bgr.copy()
    for box in places:
        hide(bgr, box)
    return replace(analyzed, frame=replace(analyzed.frame, bgr=bgr))


def hide(bgr: np.ndarray, box_xyxy: np.ndarray) -> None:
    """Hide a face in place: replace a rounded patch around it by a blur of a few mean colours.

    Args:
        bgr: uint8 (H, W, 3).
        box_xyxy: The face's box, float32 (4,) px; may lie partly outside.
    """
    height, width = bgr.shape[:2]
    center_xy = (box_xyxy[:2] + box_xyxy[2:]) / 2
    half_wh = np.maximum((box_xyxy[2:] - box_xyxy[:2]) / 2 * MARGIN, 2.0)
    left, top = np.maximum(np.floor(center_xy - half_wh), 0).astype(int).tolist()
    right, bottom = np.minimum(np.ceil(center_xy + half_wh), (width, height)).astype(int).tolist()
    if left >= right or top >= bottom:
        return
    region = bgr[top:bottom, left:right]
    size_wh = right - left, bottom - top
    patch_px = max(float(half_wh.min()) * 2 / MARGIN / PATCHES, 2.0)
    patches_wh = tuple(max(1, round(side / patch_px)) for side in size_wh)
    patches = cv2.resize(region, patches_wh, interpolation=cv2.INTER_AREA)
    # The blur is for looks only. It reveals no more than the patches do.
    blurred = cv2.resize(patches, size_wh, interpolation=cv2.INTER_LINEAR)
    x = np.abs((np.arange(left, right) + 0.5 - center_xy[0]) / half_wh[0]) ** ROUNDNESS
    y = np.abs((np.arange(top, bottom) + 0.5 - center_xy[1]) / half_wh[1]) ** ROUNDNESS
    inside = (x[None, :] + y[:, None] <= 1).astype(np.uint8)
    cv2.copyTo(blurred, inside, region)
