"""Describe the appearance of a person in a few numbers: the colours of head and shoulders."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

BINS = 16  # of lightness, and of each of the two colour axes
# Half the range of L, a and b of Lab around their middle of 128. Most clothes are near grey.
SPANS = np.array([128, 24, 24], np.float32)
SAMPLE_PX = 16  # side to which a part of the picture is reduced
# Parts of a person in widths and heights of the face, from the centre of its box: left, top, right, bottom.
PARTS = np.array([(-0.75, -0.95, 0.75, 0.55), (-1.0, 0.7, 1.0, 1.7)], np.float32)
_FIRST_BINS = np.arange(3) * BINS


def appearance(image_bgr: np.ndarray, box_xyxy: np.ndarray) -> np.ndarray:
    """Describe head and shoulders by their histograms of lightness and colour.

    Args:
        image_bgr: uint8 (H, W, 3).
        box_xyxy: (4,) px, the face.

    Returns:
        float32 (96,), the square roots of six histograms, of length 1: the scalar product of two of them is
        their mean Bhattacharyya coefficient. Shoulders outside the picture are left out.
    """
    height, width = image_bgr.shape[:2]
    center_xy = (box_xyxy[:2] + box_xyxy[2:]) / 2
    corners = np.tile(center_xy, 2) + PARTS * np.tile(box_xyxy[2:] - box_xyxy[:2], 2)
    corners = np.clip(corners, 0, (width, height, width, height)).astype(int)
    described = np.zeros((len(PARTS), 3 * BINS), np.float32)
    for part, (left, top, right, bottom) in enumerate(corners):
        if right - left < 2 or bottom - top < 2:
            continue
        step = max(1, min(right - left, bottom - top) // (2 * SAMPLE_PX))
        region = image_bgr[top:bottom:step, left:right:step]
        small = cv2.resize(region, (SAMPLE_PX, SAMPLE_PX), interpolation=cv2.INTER_AREA)
        lab = cv2.cvtColor(small, cv2.COLOR_BGR2Lab).reshape(-1, 3).astype(np.float32)
        # Each value counts for the two nearest bins, so that small changes of light change little.
        place = np.clip((lab - 128 + SPANS) / SPANS * (BINS / 2) - 0.5, 0, BINS - 1)
        lower = np.minimum(place.astype(np.int64), BINS - 2)
        upper_share = place - lower
        bins = np.concatenate([lower + _FIRST_BINS, lower + _FIRST_BINS + 1]).reshape(-1)
        described[part] = np.bincount(
            bins, np.concatenate([1 - upper_share, upper_share]).reshape(-1), 3 * BINS
        )
    roots = np.sqrt(described.reshape(-1))
    return roots / max(float(np.linalg.norm(roots)), 1e-6)


def likeness(ones: Sequence[np.ndarray], others: Sequence[np.ndarray]) -> float:
    """Return the similarity of two people, 0 to 1, from one or more descriptions of each."""
    one, other = np.mean(ones, axis=0), np.mean(others, axis=0)
    return float(one @ other / max(float(np.linalg.norm(one) * np.linalg.norm(other)), 1e-6))
