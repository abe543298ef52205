"""Arithmetic with boxes: float32 (N, 4), left, top, right, bottom in px."""

from __future__ import annotations

import cv2
import numpy as np


def iou_matrix(a_xyxy: np.ndarray, b_xyxy: np.ndarray) -> np.ndarray:
    """Return intersection over union of every pair, float32 (len(a), len(b))."""
    overlap = _intersections(a_xyxy, b_xyxy)
    union = areas(a_xyxy)[:, None] + areas(b_xyxy)[None, :] - overlap
    return np.where(union > 0, overlap / np.maximum(union, 1e-9), 0).astype(np.float32)


def overlap_of_smaller(a_xyxy: np.ndarray, b_xyxy: np.ndarray) -> np.ndarray:
    """Return intersection over the smaller area of every pair, float32 (len(a), len(b))."""
    smaller = np.minimum(areas(a_xyxy)[:, None], areas(b_xyxy)[None, :])
    return (_intersections(a_xyxy, b_xyxy) / np.maximum(smaller, 1e-9)).astype(np.float32)


def areas(boxes_xyxy: np.ndarray) -> np.ndarray:
    """Return the areas in px², (N,)."""
    return np.maximum(boxes_xyxy[:, 2] - boxes_xyxy[:, 0], 0) * np.maximum(
        boxes_xyxy[:, 3] - boxes_xyxy[:, 1], 0
    )


def non_maximum_suppression(boxes_xyxy: np.ndarray, scores: np.ndarray, iou: float) -> np.ndarray:
    """Return the indexes of the boxes to keep, best first. Drop boxes that overlap a better one too much.

    Args:
        boxes_xyxy: (N, 4) px.
        scores: (N,), above 0.
        iou: Highest IoU to keep.
    """
    boxes_xywh = boxes_xyxy.astype(np.float64)
    boxes_xywh[:, 2:] -= boxes_xywh[:, :2]
    return np.asarray(cv2.dnn.NMSBoxes(boxes_xywh, scores, 0.0, iou), np.int64).reshape(-1)  # type: ignore[arg-type]


def suppress_nested(boxes_xyxy: np.ndarray, scores: np.ndarray, share: float) -> np.ndarray:
    """Return the indexes of the boxes to keep, best first, so that none lies mostly within another.

    Args:
        boxes_xyxy: (N, 4) px.
        scores: (N,).
        share: A box goes if it shares more than this part of the smaller area with a better one.
    """
    overlap = overlap_of_smaller(boxes_xyxy, boxes_xyxy)
    keep: list[int] = []
    for index in np.argsort(scores, kind="stable")[::-1]:  # of two equal ones the later first, like MTCNN
        if not (overlap[index, keep] > share).any():
            keep.append(int(index))
    return np.array(keep, np.int64)


def squared(boxes_xyxy: np.ndarray, margin: float = 1.0) -> np.ndarray:
    """Return squares with the same centres. Their side is the longer side times `margin`."""
    half = np.maximum(boxes_xyxy[:, 2] - boxes_xyxy[:, 0], boxes_xyxy[:, 3] - boxes_xyxy[:, 1]) * margin / 2
    x, y = (boxes_xyxy[:, 0] + boxes_xyxy[:, 2]) / 2, (boxes_xyxy[:, 1] + boxes_xyxy[:, 3]) / 2
    return np.stack([x - half, y - half, x + half, y + half], axis=1).astype(np.float32)


def clipped(boxes_xyxy: np.ndarray, size_wh: tuple[int, int]) -> np.ndarray:
    """Return the boxes clipped to a picture, at least 1 px wide and high if possible."""
    width, height = size_wh
    boxes = boxes_xyxy.astype(np.float32).copy()
    boxes[:, 0] = boxes[:, 0].clip(0, max(width - 1, 0))
    boxes[:, 1] = boxes[:, 1].clip(0, max(height - 1, 0))
    boxes[:, 2] = np.maximum(boxes[:, 2].clip(0, width), boxes[:, 0] + 1)
    boxes[:, 3] = np.maximum(boxes[:, 3].clip(0, height), boxes[:, 1] + 1)
    return boxes


def _intersections(a_xyxy: np.ndarray, b_xyxy: np.ndarray) -> np.ndarray:
    corners_low = np.maximum(a_xyxy[:, None, :2], b_xyxy[None, :, :2])
    corners_high = np.minimum(a_xyxy[:, None, 2:], b_xyxy[None, :, 2:])
    sides = np.maximum(corners_high - corners_low, 0)
    return sides[..., 0] * sides[..., 1]
