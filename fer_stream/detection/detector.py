"""facenet-pytorch's MTCNN as a detector: `scan` a picture, `refine` known boxes.

Source: Zhang et al., Joint Face Detection and Alignment using Multi-task Cascaded Convolutional
Networks, 2016. Weights and arithmetic are facenet-pytorch's, but faster:

- For a scan, the picture is summed once (an integral image). All scales of the pyramid and all crops come
  from the sums, with the same averages that MTCNN computes by reading the whole frame for each.
- A known face needs no scan: O-Net around its last box gives its new box. Only that square is summed.

MTCNN's conventions end here: RGB in -1..1, and pixels that count from 1.
"""

from __future__ import annotations

import copy
import threading
from collections.abc import Sequence
from contextlib import nullcontext
from typing import NamedTuple, Protocol

import numpy as np

from fer_stream.detection.cascade import Cascade, Pixels, Use, load_cascade
from fer_stream.detection.geometry import (
    clipped,
    iou_matrix,
    non_maximum_suppression,
    squared,
    suppress_nested,
)
from fer_stream.detection.mtcnn import P_NET_INPUT, P_NET_STRIDE
from fer_stream.types import Detections

PYRAMID_FACTOR = 0.709  # about the square root of one half: each level has half the pixels
P_NET_THRESHOLD, R_NET_THRESHOLD, O_NET_THRESHOLD = 0.6, 0.7, 0.7
# These also find faces in profile, and hair and coats. Lower thresholds would add more coats than faces.
CAUTIOUS_R_NET_THRESHOLD, CAUTIOUS_O_NET_THRESHOLD = 0.6, 0.5
MAX_CANDIDATES = 1000  # so that a picture full of texture does not keep the later stages busy for ever
SEARCH_REACH = 3.0  # side of the area searched for a lost face, relative to its box
SEARCH_SIZES = 2.0  # factor by which it may have grown or shrunk
# If R-Net sees a known face at several places, O-Net looks only at the best few.
KNOWN_IOU, MOST_PER_KNOWN = 0.5, 2
REFINE_MARGIN = 1.1  # side of O-Net's crop, relative to the longer side of the last box


class FaceDetector(Protocol):
    """Finds faces in pictures, and known faces near their last places. `Detector` is the built-in one."""

    def scan(self, image_bgr: np.ndarray, known_xyxy: np.ndarray | None = None) -> Detections:
        """Find every face in a picture; see `Detector.scan`."""
        ...

    def search(self, image_bgr: np.ndarray, box_xyxy: np.ndarray) -> Detections:
        """Search for a lost face around its box; see `Detector.search`."""
        ...

    def refine(self, image_bgr: np.ndarray, boxes_xyxy: np.ndarray) -> Detections:
        """Look for known faces near their last boxes; see `Detector.refine`."""
        ...


class Detector:
    """Finds faces in pictures.

    Several threads may scan at once, while another one calls `search` and `refine`. On a GPU, scans take
    turns.

    Args:
        device: `cpu` or `cuda:N`, as `devices.pick_device` returns it.
        min_face: Side in px of the smallest face to find.
        threads: CPU threads; 0 for one per core.
        cautious: Also return weak detections, with a score of `O_NET_THRESHOLD` or less.
    """

    def __init__(
        self, device: str = "cpu", *, min_face: int = 40, threads: int = 0, cautious: bool = False
    ) -> None:
        self.min_face = max(int(min_face), P_NET_INPUT)
        self._r_threshold = CAUTIOUS_R_NET_THRESHOLD if cautious else R_NET_THRESHOLD
        self._o_threshold = CAUTIOUS_O_NET_THRESHOLD if cautious else O_NET_THRESHOLD
        self._scan_turn = nullcontext() if device == "cpu" else threading.Lock()
        self._cascade: Cascade = load_cascade(device, threads)

    def scan(self, image_bgr: np.ndarray, known_xyxy: np.ndarray | None = None) -> Detections:
        """Find every face of at least `min_face` px in a picture.

        Args:
            image_bgr: uint8 (H, W, 3).
            known_xyxy: (N, 4) px, where faces are expected. With these a scan takes less time, and their new
                boxes are a little less exact.
        """
        with self._scan_turn:
            pixels = self._cascade.read(image_bgr, Use.SCAN)
            return self._detect(pixels, self._scales(pixels.size_wh), known_xyxy)

    def search(self, image_bgr: np.ndarray, box_xyxy: np.ndarray) -> Detections:
        """Search for a lost face around its box, for faces of about its size.

        Args:
            image_bgr: uint8 (H, W, 3).
            box_xyxy: (4,) px, where the face was or is expected.

        Returns:
            The faces there. They may be other faces than the lost one, or none.
        """
        height, width = image_bgr.shape[:2]
        region = np.trunc(squared(box_xyxy[None], SEARCH_REACH)[0]).astype(int)
        part = region.clip(0, (width, height, width, height))
        if (part[2:] <= part[:2]).any():
            return Detections.none()
        side = float((box_xyxy[2:] - box_xyxy[:2]).max())
        scales = [
            scale
            for scale in self._scales((width, height))
            if side / SEARCH_SIZES <= P_NET_INPUT / scale <= side * SEARCH_SIZES
        ]
        return self._detect(self._cascade.read_part(image_bgr, part), scales)

    def refine(self, image_bgr: np.ndarray, boxes_xyxy: np.ndarray) -> Detections:
        """Look for known faces near their last boxes.

        Args:
            image_bgr: uint8 (H, W, 3).
            boxes_xyxy: (N, 4) px, where the faces were or are expected.

        Returns:
            N detections, in the order of the boxes. A low score means that the face is gone; see
            `association.STILL_THERE_SCORE`.
        """
        if not len(boxes_xyxy):
            return Detections.none()
        squares = squared(boxes_xyxy, REFINE_MARGIN)
        pixels = self._cascade.read(image_bgr, Use.REFINE)
        return _clipped_to_frame(self._o_stage(pixels, squares), pixels)

    def unsplit(self) -> Detector:
        """Return a detector with the same networks that splits no frame over CPU threads.

        Use it to scan as many frames at the same time as there are cores. The two detectors may be used side
        by side, under the same rules as one.
        """
        other = copy.copy(self)
        other._cascade = self._cascade.unsplit()
        return other

    def _scales(self, size_wh: tuple[int, int]) -> list[float]:
        """Return the scales of the pyramid. P-Net's input is the smallest face that is found at each."""
        scales = [P_NET_INPUT / self.min_face]
        while min(size_wh) * scales[-1] >= P_NET_INPUT:
            scales.append(scales[-1] * PYRAMID_FACTOR)
        return scales[:-1]

    def _detect(
        self,
        pixels: Pixels,
        scales: Sequence[float],
        known_xyxy: np.ndarray | None = None,
    ) -> Detections:
        """Run the three networks, one after the other, over some scales.

        Args:
            pixels: A frame, or a part of one.
            scales: Scales of the pyramid.
            known_xyxy: See `scan`.
        """
        boxes = np.zeros((0, 4), np.float32)
        if scales:
            boxes = self._propose(pixels, scales)
        if len(boxes):
            boxes = self._r_stage(pixels, squared(boxes))
        if known_xyxy is not None and len(known_xyxy):
            boxes = boxes[_limit_per_known_face(boxes, known_xyxy)]
        if not len(boxes):
            return Detections.none()
        found = self._o_stage(pixels, squared(boxes))
        found = found[found.scores > self._o_threshold]
        found = found[suppress_nested(found.boxes_xyxy, found.scores, 0.7)]
        return _clipped_to_frame(found, pixels)

    def _propose(self, pixels: Pixels, scales: Sequence[float]) -> np.ndarray:
        """Return the most probable places by P-Net over the pyramid, regressed, float32 (N, 4) px."""
        of_levels = self._cascade.p_net(pixels, scales, _places)
        if not of_levels:
            return np.zeros((0, 4), np.float32)
        best = _joined([_joined(of_strips).best(0.5) for of_strips in of_levels]).best(0.7)
        return _shifted(best.boxes_xyxy, best.shifts, pixel=0).astype(np.float32)

    def _r_stage(self, pixels: Pixels, squares_xyxy: np.ndarray) -> np.ndarray:
        """Return the boxes that pass R-Net, regressed, (M, 4) px, the best first."""
        shifts, probabilities = self._cascade.r_net(pixels, squares_xyxy)
        passed = np.flatnonzero(probabilities[:, 1] > self._r_threshold)
        keep = passed[non_maximum_suppression(squares_xyxy[passed], probabilities[passed, 1], 0.7)]
        return _shifted(squares_xyxy[keep], shifts[keep], pixel=1)

    def _o_stage(self, pixels: Pixels, squares_xyxy: np.ndarray) -> Detections:
        """Return O-Net's detection for each square, with any score."""
        shifts, points, probabilities = self._cascade.o_net(pixels, squares_xyxy)
        sides = squares_xyxy[:, 2:] - squares_xyxy[:, :2] + 1
        landmarks = np.stack([points[:, :5], points[:, 5:]], axis=2)
        landmarks = landmarks * sides[:, None, :] + squares_xyxy[:, None, :2] - 1
        return Detections(
            _shifted(squares_xyxy, shifts, pixel=1).astype(np.float32),
            probabilities[:, 1].astype(np.float32),
            landmarks.astype(np.float32),
        )


def _limit_per_known_face(boxes_xyxy: np.ndarray, known_xyxy: np.ndarray) -> np.ndarray:
    """Return a mask of the boxes (best first) that are on no known face or among the best few on it."""
    overlap = iou_matrix(boxes_xyxy.astype(np.float32), known_xyxy)
    keep = np.ones(len(boxes_xyxy), bool)
    for known in range(len(known_xyxy)):
        on_it = (overlap.argmax(axis=1) == known) & (overlap[:, known] > KNOWN_IOU)
        keep[np.flatnonzero(on_it)[MOST_PER_KNOWN:]] = False
    return keep


def _places(
    shifts: np.ndarray, probabilities: np.ndarray, scale: float, before_xy: tuple[int, int]
) -> _Places:
    """Return the places where P-Net sees a face, in a strip of one frame at one scale.

    Args:
        shifts: float32 (4, height, width), how the box of each place should move.
        probabilities: float32 (2, height, width), of no face and of a face.
        scale: Scale of the level relative to the frame.
        before_xy: Number of places to the left of the strip, and above it.
    """
    rows, columns = np.nonzero(probabilities[1] >= P_NET_THRESHOLD)
    left, above = before_xy
    # In single precision like MTCNN, because in double precision some whole numbers are rounded differently.
    corners = (np.stack([columns + left, rows + above], axis=1) * P_NET_STRIDE).astype(np.float32)
    boxes = np.concatenate([corners + 1, corners + P_NET_INPUT], axis=1) / np.float32(scale)
    return _Places(np.floor(boxes), probabilities[1, rows, columns], shifts[:, rows, columns].T)


class _Places(NamedTuple):
    """Places where P-Net sees a face.

    Attributes:
        boxes_xyxy: float32 (N, 4) px.
        scores: float32 (N,).
        shifts: float32 (N, 4), how the boxes should move.
    """

    boxes_xyxy: np.ndarray
    scores: np.ndarray
    shifts: np.ndarray

    def best(self, iou: float) -> _Places:
        """Return the places that no better one overlaps by more than this, the best first."""
        keep = non_maximum_suppression(self.boxes_xyxy, self.scores, iou)[:MAX_CANDIDATES]
        return _Places(*(values[keep] for values in self))


def _joined(parts: Sequence[_Places]) -> _Places:
    return _Places(*map(np.concatenate, zip(*parts, strict=True)))


def _shifted(boxes_xyxy: np.ndarray, shifts: np.ndarray, pixel: int) -> np.ndarray:
    """Return the boxes moved by the network's regression, which is in units of their sides.

    R-Net and O-Net include the last pixel in a side, so `pixel` is 1 for them, and 0 for P-Net.
    """
    sides = boxes_xyxy[:, 2:] - boxes_xyxy[:, :2] + pixel
    return boxes_xyxy + shifts * np.concatenate([sides, sides], axis=1)


def _clipped_to_frame(found: Detections, pixels: Pixels) -> Detections:
    return Detections(clipped(found.boxes_xyxy, pixels.size_wh), found.scores, found.landmarks_xy)
