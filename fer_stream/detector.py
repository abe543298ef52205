"""facenet-pytorch's MTCNN as a detector: `scan` a picture, `refine` known boxes.

Source: Zhang et al., Joint Face Detection and Alignment using Multi-task Cascaded Convolutional
Networks, 2016. Weights and arithmetic are facenet-pytorch's; what differs is where the time goes:

- the picture is reduced once, to the largest scale that P-Net reads, and the pyramid is built from
  that, instead of resizing the whole frame for every scale;
- a known face needs no scan: R-Net and O-Net round its last box give its new one.

MTCNN's habits end here: it wants RGB in -1..1, trains with x and y swapped, and counts from 1.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from fer_stream.geometry import clipped, non_maximum_suppression, squared
from fer_stream.runtime import ModuleSpec, Network, load_network
from fer_stream.types import Detections
from fer_stream.weights import file_hash

if TYPE_CHECKING:
    from torch import nn

P_NET_INPUT = 12  # side in px of the face that P-Net recognises
R_NET_INPUT = 24
O_NET_INPUT = 48
P_NET_STRIDE = 2
PYRAMID_FACTOR = 0.709  # about the square root of one half: each level has half the pixels
P_NET_THRESHOLD, R_NET_THRESHOLD, O_NET_THRESHOLD = 0.6, 0.7, 0.7
MAX_CANDIDATES = 1000  # a picture of nothing but texture can't make the later stages run for ever
REFINE_MARGIN = 1.1  # side of what O-Net looks at over the longer side of the last box


class Detector:
    """Finds faces in pictures. Not for use by two threads at once.

    Args:
        device: `cpu` or `cuda:N`, as `runtime.pick_device` returns it.
        min_face: Side in px of the smallest face to find.
        threads: CPU threads for one run of a network; 0 takes one a core.
    """

    def __init__(self, device: str = "cpu", *, min_face: int = 40, threads: int = 0) -> None:
        self.min_face = max(int(min_face), P_NET_INPUT)
        self._p_net = _load("PNet", device, threads)
        self._r_net = _load("RNet", device, threads)
        self._o_net = _load("ONet", device, threads)

    def scan(self, image_bgr: np.ndarray) -> Detections:
        """Finds every face of at least `min_face` px in a picture, uint8 (H, W, 3)."""
        candidates = self._propose(image_bgr)
        if not len(candidates):
            return Detections.none()
        boxes = self._r_stage(image_bgr, squared(candidates))
        if not len(boxes):
            return Detections.none()
        found = self._o_stage(image_bgr, squared(boxes))
        found = found[found.scores > O_NET_THRESHOLD]
        found = found[
            non_maximum_suppression(found.boxes_xyxy, found.scores, R_NET_THRESHOLD, of_smaller=True)
        ]
        return _inside(found, image_bgr)

    def refine(self, image_bgr: np.ndarray, boxes_xyxy: np.ndarray) -> Detections:
        """Looks for known faces near their last boxes.

        Args:
            image_bgr: uint8 (H, W, 3).
            boxes_xyxy: (N, 4) px, where the faces were or are expected.

        Returns:
            N detections, in the order of the boxes. A score under `O_NET_THRESHOLD` says that
            there is no face any more.
        """
        if not len(boxes_xyxy):
            return Detections.none()
        return _inside(self._o_stage(image_bgr, squared(boxes_xyxy, REFINE_MARGIN)), image_bgr)

    def _propose(self, image_bgr: np.ndarray) -> np.ndarray:
        """P-Net over the pyramid: returns float32 (N, 4) px, regressed, of the most probable places."""
        height, width = image_bgr.shape[:2]
        scale = P_NET_INPUT / self.min_face
        level = image_bgr
        all_boxes, all_scores, all_shifts = [], [], []
        while min(height, width) * scale >= P_NET_INPUT:
            size_wh = (int(width * scale + 1), int(height * scale + 1))
            # From the full picture only once; each level then from the one before.
            level = cv2.resize(level, size_wh, interpolation=cv2.INTER_AREA)
            shifts, probabilities = self._p_net(_normalised(level)[None])
            rows, columns = np.nonzero(probabilities[0, 1] >= P_NET_THRESHOLD)
            if len(rows):
                scores = probabilities[0, 1, rows, columns]
                corners = np.stack([columns, rows], axis=1) * P_NET_STRIDE
                boxes = np.concatenate(
                    [np.floor((corners + 1) / scale), np.floor((corners + P_NET_INPUT) / scale)], axis=1
                )
                keep = non_maximum_suppression(boxes, scores, 0.5)[:MAX_CANDIDATES]
                all_boxes.append(boxes[keep])
                all_scores.append(scores[keep])
                all_shifts.append(shifts[0][:, rows, columns].T[keep])
            scale *= PYRAMID_FACTOR
        if not all_boxes:
            return np.zeros((0, 4), np.float32)
        boxes, shifts = np.concatenate(all_boxes), np.concatenate(all_shifts)
        keep = non_maximum_suppression(boxes, np.concatenate(all_scores), 0.7)[:MAX_CANDIDATES]
        return _shifted(boxes[keep], shifts[keep], pixel=0).astype(np.float32)

    def _r_stage(self, image_bgr: np.ndarray, squares_xyxy: np.ndarray) -> np.ndarray:
        """R-Net: returns the boxes that pass, regressed, (M, 4) px."""
        crops, squares = _crops(image_bgr, squares_xyxy, R_NET_INPUT)
        shifts, probabilities = self._r_net(crops)
        passed = probabilities[:, 1] > R_NET_THRESHOLD
        boxes, scores, shifts = squares[passed], probabilities[passed, 1], shifts[passed]
        keep = non_maximum_suppression(boxes, scores, 0.7)
        return _shifted(boxes[keep], shifts[keep], pixel=1)

    def _o_stage(self, image_bgr: np.ndarray, squares_xyxy: np.ndarray) -> Detections:
        """O-Net: returns a detection a square, whatever its score."""
        crops, squares = _crops(image_bgr, squares_xyxy, O_NET_INPUT)
        shifts, points, probabilities = self._o_net(crops)
        sides = squares[:, 2:] - squares[:, :2] + 1
        landmarks = np.stack([points[:, :5], points[:, 5:]], axis=2)
        landmarks = landmarks * sides[:, None, :] + squares[:, None, :2] - 1
        return Detections(
            _shifted(squares, shifts, pixel=1).astype(np.float32),
            probabilities[:, 1].astype(np.float32),
            landmarks.astype(np.float32),
        )


def _shifted(boxes_xyxy: np.ndarray, shifts: np.ndarray, pixel: int) -> np.ndarray:
    """Returns the boxes moved by the network's regression, which is in units of their sides."""
    sides = boxes_xyxy[:, 2:] - boxes_xyxy[:, :2] + pixel
    return boxes_xyxy + shifts * np.concatenate([sides, sides], axis=1)


def _crops(image_bgr: np.ndarray, squares_xyxy: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Cuts squares as MTCNN does: whole pixels, counted from 1, cut off at the border.

    Returns:
        float32 (N, 3, size, size), and the squares. A square outside the picture gives zeros, in
        which no face is found.
    """
    height, width = image_bgr.shape[:2]
    batch = np.zeros((len(squares_xyxy), size, size, 3), np.uint8)
    whole = np.trunc(squares_xyxy).astype(np.int64)
    lows, highs = np.maximum(whole[:, :2], 1) - 1, np.minimum(whole[:, 2:], (width, height))
    for position, ((left, top), (right, bottom)) in enumerate(zip(lows, highs, strict=True)):
        if right > left and bottom > top:
            cv2.resize(
                image_bgr[top:bottom, left:right],
                (size, size),
                dst=batch[position],
                interpolation=cv2.INTER_AREA,
            )
    return _normalised(batch), squares_xyxy


def _normalised(pixels_bgr: np.ndarray) -> np.ndarray:
    """Returns uint8 (..., H, W, 3) BGR as float32 (..., 3, H, W) RGB in -1..1."""
    rgb_first = np.moveaxis(pixels_bgr[..., ::-1], -1, -3)
    return np.ascontiguousarray((rgb_first.astype(np.float32) - 127.5) * 0.0078125)


def _inside(found: Detections, image_bgr: np.ndarray) -> Detections:
    boxes = clipped(found.boxes_xyxy, (image_bgr.shape[1], image_bgr.shape[0]))
    return Detections(boxes, found.scores, found.landmarks_xy)


def _load(name: str, device: str, threads: int) -> Network:
    """Loads one of PNet, RNet and ONet with facenet-pytorch's weights."""
    # Found without importing the package, which would import torch.
    package = importlib.util.find_spec("facenet_pytorch")
    assert package is not None and package.origin is not None
    weights_path = Path(package.origin).parent / "data" / f"{name.lower()}.pt"

    def build() -> tuple[nn.Module, dict[str, Any]]:
        from facenet_pytorch.models import mtcnn

        return getattr(mtcnn, name)().eval(), {}

    spec = ModuleSpec(
        name=name.lower(),
        key=(importlib.metadata.version("facenet-pytorch"), file_hash(weights_path)),
        build=build,
        example_shape={
            "PNet": (1, 3, 64, 96),
            "RNet": (2, 3, R_NET_INPUT, R_NET_INPUT),
            "ONet": (2, 3, O_NET_INPUT, O_NET_INPUT),
        }[name],
        dynamic_axes=(2, 3) if name == "PNet" else (),
        outputs=3 if name == "ONet" else 2,
    )
    return load_network(spec, device, threads)[0]
