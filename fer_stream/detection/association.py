"""Match detections with known faces, and find boxes that have drifted onto the same face."""

from __future__ import annotations

import numpy as np

from fer_stream.detection.geometry import iou_matrix, overlap_of_smaller
from fer_stream.types import Detections

MATCH_IOU = 0.25  # least overlap of a detection with the expected box of the same face
DUPLICATE_OVERLAP = 0.7  # two followed boxes that overlap this much have drifted onto the same face
REGAIN_DISTANCE = 1.0  # in sizes of the face: a face that overlaps nothing is searched for this far away
REGAIN_SIZE_RATIO = 0.6  # least ratio of the smaller to the larger side for the same face
CROWDED_IOU = 0.1  # boxes that overlap more disturb each other, so their motion is not measured
# Between scans, a followed face counts as still there from this score on. A scan requires a higher score
# (`detector.O_NET_THRESHOLD`). With 0.7 here as well, flickering faces would cause half of the scans of a
# crowd.
STILL_THERE_SCORE = 0.45


def match(expected_xyxy: np.ndarray, found_xyxy: np.ndarray) -> list[tuple[int, int]]:
    """Pair expected boxes with found ones, best overlap first, each at most once.

    Args:
        expected_xyxy: (N, 4) px.
        found_xyxy: (M, 4) px.

    Returns:
        Pairs of an index into `expected_xyxy` and one into `found_xyxy`.
    """
    return best_pairs(iou_matrix(expected_xyxy, found_xyxy), MATCH_IOU)


def nearness(expected_xyxy: np.ndarray, last_xyxy: np.ndarray, found_xyxy: np.ndarray) -> np.ndarray:
    """Rate how near found boxes are to faces of about their size that they do not overlap.

    This is for faces that were hidden or moved unexpectedly.

    Args:
        expected_xyxy: (N, 4) px, where each face should be now.
        last_xyxy: (N, 4) px, where each face was last seen.
        found_xyxy: (M, 4) px.

    Returns:
        float (N, M): at least 0 if the box may be the face, higher if it is nearer; otherwise at most -1.
    """
    sides = (last_xyxy[:, 2:] - last_xyxy[:, :2]).max(axis=1, initial=1)[:, None]
    found_sides = (found_xyxy[:, 2:] - found_xyxy[:, :2]).max(axis=1, initial=1)[None, :]
    distance = np.minimum(_distances(expected_xyxy, found_xyxy), _distances(last_xyxy, found_xyxy)) / sides
    same_size = np.minimum(sides, found_sides) >= REGAIN_SIZE_RATIO * np.maximum(sides, found_sides)
    near = REGAIN_DISTANCE - distance
    return np.where(same_size & (near >= 0), near, -1.0)


def best_pairs(likeness: np.ndarray, least: float) -> list[tuple[int, int]]:
    """Return pairs (row, column), the most similar first, with each row and column at most once.

    Args:
        likeness: Similarities, (N, M).
        least: Least similarity of a pair.
    """
    likeness, pairs = likeness.copy(), []
    while likeness.size and likeness.max() >= least:
        row, column = np.unravel_index(likeness.argmax(), likeness.shape)
        pairs.append((int(row), int(column)))
        likeness[row, :] = likeness[:, column] = -np.inf
    return pairs


def crowded(boxes_xyxy: np.ndarray) -> np.ndarray:
    """Return for each box whether another one overlaps it, bool (N,)."""
    overlap = iou_matrix(boxes_xyxy, boxes_xyxy)
    np.fill_diagonal(overlap, 0)
    return overlap.max(axis=1, initial=0) > CROWDED_IOU


def duplicates(boxes_xyxy: np.ndarray) -> np.ndarray:
    """Return which pairs of followed boxes have drifted onto the same face, bool (N, N)."""
    overlap = overlap_of_smaller(boxes_xyxy, boxes_xyxy)
    np.fill_diagonal(overlap, 0)
    return overlap > DUPLICATE_OVERLAP


def still_there(found: Detections, preference: np.ndarray | None = None) -> np.ndarray:
    """Return which followed boxes still hold a face that no better box holds, bool (N,).

    Args:
        found: A detection for each followed face.
        preference: (N,). If several boxes are on one face, the one with the highest value stays. None uses
            the scores.
    """
    best_first = np.argsort(-(found.scores if preference is None else preference), kind="stable")
    rank = np.argsort(best_first)
    is_face = found.scores >= STILL_THERE_SCORE
    better = duplicates(found.boxes_xyxy) & (rank[None, :] < rank[:, None]) & is_face[None, :]
    return is_face & ~better.any(axis=1)


def _distances(a_xyxy: np.ndarray, b_xyxy: np.ndarray) -> np.ndarray:
    """Return the distances of the centres in px, (len(a), len(b))."""
    a_xy, b_xy = (a_xyxy[:, :2] + a_xyxy[:, 2:]) / 2, (b_xyxy[:, :2] + b_xyxy[:, 2:]) / 2
    return np.linalg.norm(a_xy[:, None] - b_xy[None, :], axis=2)
